"""The parameters of ``config.xml``: ``<parameter name="..." value="..."/>`` and nothing else of XML.

The file may come from anybody, so entities and document types are refused before anything is expanded.
"""

from __future__ import annotations

from xml.parsers import expat

from countersign.errors import UserError

_SECRET = ("password", "passwd", "secret", "token", "passphrase", "credential")
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
        found[name] = ("(set)" if value else "") if is_secret(name) else value

    def refuse(*_: object) -> None:
        raise UserError(
            f"config.xml, line {parser.CurrentLineNumber}: it declares a document type or an entity, which no MID "
            f"Server's does"
        )

    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as wrong:
        raise UserError(
            f"config.xml, line {wrong.lineno}: it is no XML ({expat.errors.messages[wrong.code]})"
        ) from None
    except (ValueError, LookupError) as wrong:
        raise UserError(f"config.xml: its encoding cannot be read ({wrong})") from None
    return found


def is_secret(name: str) -> bool:
    """Whether a parameter of this name holds something that must not be shown."""
    lower = name.lower()
    return any(word in lower for word in _SECRET)


def is_true(value: str | None) -> bool | None:
    """``true`` and ``false`` as a MID Server reads them; None where it says neither."""
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(
        (value or "").strip().lower()
    )
