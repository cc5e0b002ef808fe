"""How a JVM's trust store is written to, as far as it is known which JVM that is.

A cure says ``{keytool}`` and ``{cacerts}`` where it means them. keytool knows the store of the JVM that it belongs to
(``-cacerts``) since Java 9; Java 8 has to be told the file, which in a JDK lies in its ``jre``.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import PurePath

_OF_JAVA_8 = '-keystore "$JAVA_HOME/jre/lib/security/cacerts"'
_WHICH = f" keytool is that of the JVM in which the client runs; where that is Java 8: {_OF_JAVA_8}."
_SINCE = 9  # -cacerts


@dataclass(frozen=True, slots=True)
class Jvm:
    """``home`` is its java.home, ``major`` the number of its release; None where that is not known."""

    home: PurePath | None = None
    major: int | None = None

    def filled(self, cure: str) -> str:
        """A cure with the commands for this JVM, and with what there is to choose where it is not known."""
        which = _WHICH if "{cacerts}" in cure and self.home is None and self.major is None else ""
        cure = cure.replace("{keytool}", self._keytool).replace("{cacerts}", self._cacerts)
        return f"{cure.rstrip('.')}.{which}" if which else cure

    @property
    def _keytool(self) -> str:
        if self.home is None:
            return "keytool"
        return _quoted(self.home / "bin" / ("keytool.exe" if isinstance(self.home, PureWindowsPath) else "keytool"))

    @property
    def _cacerts(self) -> str:
        if self.home is not None:
            return f"-keystore {_quoted(self.home / 'lib' / 'security' / 'cacerts')}"
        return "-cacerts" if self.major is None or self.major >= _SINCE else _OF_JAVA_8


ANY = Jvm()
OF_A_MID = Jvm(PurePosixPath("agent/jre"))
"""The one that a MID Server brings, from the folder that it is installed in."""


def of_family(family: str) -> Jvm:
    """What a family of clients tells of its JVM."""
    return OF_A_MID if family == "mid" else ANY


def by_user_agent(text: str) -> Jvm:
    """``Java/1.8.0_252``, ``Java/17.0.15``: how HttpURLConnection names the JVM."""
    found = re.match(r"Java/(?:1\.)?(\d{1,3})\b", text)
    return Jvm(major=int(found[1])) if found else ANY


def _quoted(path: PurePath) -> str:
    if isinstance(path, PureWindowsPath):
        return f'"{path}"' if " " in str(path) else str(path)
    return shlex.quote(str(path))
