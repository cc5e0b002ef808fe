"""The parameters of ``config.xml``: ``<parameter name="..." value="..."/>`` and nothing else of XML.

The file may come from anybody, so entities and document types are refused before anything is expanded.
"""

from __future__ import annotations

import re
from xml.parsers import expat

from countersign.errors import UserError

_SECRET = re.compile(
    r"(?i)passw(?:or)?d|pwd|passphrase|secret|token|credential|private|(?:^|[._-])(?:pass|pin)(?:$|[._-])"
)
_MARKED = ("secure", "encrypt", "encrypted")  # attributes by which a MID Server knows what it has to keep to itself
_ENCRYPTED = "encrypted:"
_LOGIN = re.compile(r"(?<=//)[^/?#\s]*@")
_MOST = 10_000


def read_parameters(data: bytes) -> dict[str, str]:
    """Name -> value, the last one where a name stands twice. Values of secrets are not kept, only that there is one.

    Raises :class:`UserError` with the line of what is wrong.
    """
    found: dict[str, str] = {}
    parser = expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        name = attributes.get("name")
        if tag != "parameter" or not name or len(found) >= _MOST:
            return
        value = attributes.get("value", "")
        marked = any(is_true(attributes.get(mark)) for mark in _MARKED) or value.lower().startswith(_ENCRYPTED)
        hidden = marked or is_secret(name)
        found[name] = ("(set)" if value else "") if hidden else _LOGIN.sub("(redacted)@", value)

    def refuse(*_: object) -> None:
        raise UserError(
            f"the file config.xml, line {parser.CurrentLineNumber}: it declares a document type or an entity, which no "
            "MID Server's does"
        )

    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as wrong:
        raise UserError(
            f"the file config.xml, line {wrong.lineno}: it is no XML ({expat.errors.messages[wrong.code]})"
        ) from None
    except (ValueError, LookupError) as wrong:
        raise UserError(f"the file config.xml: its encoding cannot be read ({wrong})") from None
    return found


def is_secret(name: str) -> bool:
    """Whether a parameter of this name holds something that must not be shown."""
    return _SECRET.search(name) is not None


def is_true(value: str | None) -> bool | None:
    """``true`` and ``false`` as a MID Server reads them; None where it says neither."""
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(
        (value or "").strip().lower()
    )
