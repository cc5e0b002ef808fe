"""The log of BCJSSE, Bouncy Castle's JSSE, through ``java.util.logging`` or whatever takes its place.

It prints no messages. What it tells is what was agreed on (at FINE), and the alerts that it raised and received:

    Nov 21, 2026 1:30:41 PM org.bouncycastle.jsse.provider.ProvTlsClient notifyAlertRaised
    INFO: Client raised fatal(2) certificate_unknown(46) alert: Failed to read record
    org.bouncycastle.tls.TlsFatalAlert: certificate_unknown(46)

Older versions do not say which connection a line is about, so their lines are taken for one connection at a time; newer
ones begin with ``[client #1 @1a2b3c]``. The time, the level's word and the line above depend on the handler and the
language, so only the message is looked for, anywhere in a line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from countersign.recorder.files.javalog import exceptions, words
from countersign.recorder.files.javalog.events import At, Begun, Event, MessageTold, Said
from countersign.recorder.wire import extensions as e, messages as m, names
from countersign.recorder.wire.events import Content, Side
from countersign.recorder.wire.told import Told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.recorder.files.javalog.lines import Prefix

FORM: Final = "bcjsse"

_WHO = r"(?:\[(?P<role>client|server) (?P<name>#\d+(?: @[0-9a-fA-F]+)?)\]:?|(?P<plain>Client|Server))"
_ALERT = re.compile(
    _WHO
    + r" (?P<way>raised|received) (?P<level>warning|fatal)\(\d+\) \w+\((?P<number>\d{1,3})\) alert(?:: (?P<why>.*))?"
)
_CHOSEN = re.compile(_WHO + r" (?:notified of )?selected (?P<what>protocol version|cipher suite): (?P<value>\S+)")
_SESSION = re.compile(r"Server specified new session: (?P<id>[0-9a-fA-F]{2,64})\b")
_CREDENTIALS = re.compile(
    r"(?:Client|Server) \(1\.[23]\) (?:did not select any credentials|found no usable signature schemes)"
)
_STATE = re.compile(
    _WHO
    + r" (?P<state>opening connection to|established connection with|disconnected from|accepting connection from) \S+"
)
_HEAD = re.compile(r"(?P<time>\S.{5,60}?) (?P<class>org\.bouncycastle\.[\w.$]+) \w+\s*$")


class BouncyReader:
    """Give it lines that name Bouncy Castle or an alert."""

    def __init__(self) -> None:
        self._time: str | None = None
        self._version: int | None = None
        self._session_id = b""

    def line(self, number: int, text: str, prefix: Prefix) -> Iterator[Event]:
        """What this line says of a connection."""
        if head := _HEAD.match(text):
            self._time = head["time"]
            return
        if found := _ALERT.search(text):
            yield from self._alert(number, found, prefix)
        elif found := _CHOSEN.search(text):
            yield from self._chosen(number, found, prefix)
        elif found := _SESSION.search(text):
            self._session_id = words.hexadecimal(found["id"]) or b""
        elif found := _STATE.search(text):
            at = self._at(number, found, prefix)
            if found["state"].startswith(("opening", "accepting")):
                yield Begun(at, _side(found), found["name"] or "")
            kind = "established" if found["state"].startswith("established") else "note"
            yield Said(at, kind, exceptions.kept(found[0]))
        elif found := _CREDENTIALS.search(text):
            yield Said(
                At(number, FORM, None, prefix.time or self._time, prefix.text), "note", exceptions.kept(found[0])
            )

    def _alert(self, number: int, found: re.Match[str], prefix: Prefix) -> Iterator[Event]:
        at = self._at(number, found, prefix)
        own = found["way"] == "raised"
        description = int(found["number"]) & 0xFF
        raw = bytes([2 if found["level"] == "fatal" else 1, description])
        side = _side(found) if own else _side(found).peer
        yield MessageTold(at, "told", Content.ALERT, description, own, side, raw=raw)
        if raw[0] == 2:
            yield Said(at, "fatal", exceptions.kept(found[0]))

    def _chosen(self, number: int, found: re.Match[str], prefix: Prefix) -> Iterator[Event]:
        """Version and suite together are what is known of a ServerHello."""
        if found["what"] == "protocol version":
            self._version, self._session_id = words.version(found["value"]), b""
            yield Begun(self._at(number, found, prefix), _side(found), found["name"] or "")
            return
        suite, version = words.suite(found["value"]), self._version
        if suite is None or version is None:
            return
        hello = m.ServerHello(
            min(version, names.TLS12),
            bytes(32),
            self._session_id,
            suite,
            0,
            (e.SelectedVersion(version),) if names.is_tls13(version) else None,
        )
        absent = ["random", "compression_method", "extensions"] + ([] if self._session_id else ["session_id"])
        side = _side(found)
        told = Told(hello.build(), tuple(absent))
        own = side is Side.SERVER
        yield MessageTold(self._at(number, found, prefix), "told", Content.HANDSHAKE, 2, own, Side.SERVER, told)

    def _at(self, number: int, found: re.Match[str], prefix: Prefix) -> At:
        return At(number, FORM, found["name"] or prefix.thread, prefix.time or self._time, prefix.text)


def _side(found: re.Match[str]) -> Side:
    return Side.CLIENT if (found["role"] or found["plain"].lower()) == "client" else Side.SERVER
