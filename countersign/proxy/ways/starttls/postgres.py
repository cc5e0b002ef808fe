"""TLS in PostgreSQL: the SSLRequest before the startup message.

https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL. The client may ask first for GSSAPI
encryption and, declined, for TLS; since version 17 it may also begin TLS at once (``sslnegotiation=direct``). The
server answers with one byte. A startup message in clear ends the matter: TLS cannot begin behind it.

Bytes behind the SSLRequest were believed by servers (CVE-2021-23214), bytes behind the answer by clients
(CVE-2021-23222); both are what the base class never passes on.
"""

from __future__ import annotations

from typing import ClassVar, Final

from countersign.proxy.ways.starttls.dialect import Dialect
from countersign.proxy.ways.starttls.events import Event, Said
from countersign.recorder.wire.dialogue import POSTGRES_ANSWERS, POSTGRES_REQUESTS
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.redaction import REDACTED

_HEAD: Final = 8
_CANCEL: Final = 80877102
_LONGEST: Final = 10_000  # MAX_STARTUP_PACKET_LENGTH of the server


class Postgres(Dialect):
    """PostgreSQL, up to its startup message."""

    name: ClassVar[str] = "postgres"
    server_first: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self._head = bytearray()  # the first eight bytes of a request: length and code
        self._request = ""  # the one that waits for its answer

    def _between_units(self) -> bool:
        return not self._head

    def _client(self, data: bytes, events: list[Event]) -> int:
        taken = min(_HEAD - len(self._head), len(data))
        self._head += data[:taken]
        length = int.from_bytes(self._head[:4], "big")
        if len(self._head) >= 4 and not _HEAD <= length <= _LONGEST:
            self._lose(Side.CLIENT, "request", f"a length of {_HEAD} to {_LONGEST}", str(length), events)
            return taken
        if len(self._head) < _HEAD:
            return taken
        head, code = bytes(self._head), int.from_bytes(self._head[4:], "big")
        self._head.clear()
        if head in POSTGRES_REQUESTS:
            self._request = POSTGRES_REQUESTS[head]
            events.append(Said(Side.CLIENT, self._request))
            self._ask(events)
        elif code == _CANCEL:
            events.append(Said(Side.CLIENT, f"CancelRequest {REDACTED}"))
            self._settle("the client cancels a query, in clear", events)
        elif code >> 16 in {2, 3}:
            events.append(Said(Side.CLIENT, f"StartupMessage of protocol {code >> 16}.{code & 0xFFFF}"))
            self._settle("the client goes on in clear", events)
        else:
            self._lose(Side.CLIENT, "request", "SSLRequest or StartupMessage", f"code {code}", events)
        return taken

    def _server(self, data: bytes, events: list[Event]) -> int:
        answer = data[:1]
        if not self._asked:
            self._lose(Side.SERVER, "answer", "silence before the client's request", repr(answer), events)
            return len(data)
        events.append(Said(Side.SERVER, POSTGRES_ANSWERS.get(answer, f"{answer!r} and more")))
        if answer == b"S" and self._request == "SSLRequest":
            self._agree(events)
            return 1
        if answer == b"N":
            self._decline(f"N to the {self._request}", events)
        elif answer == b"G" and self._request == "GSSENCRequest":
            self._settle("both sides go on with GSSAPI encryption", events)
        elif answer == b"E":  # an ErrorResponse: of servers before 7.0, or because there are too many connections
            self._decline("an error message", events)
            self._settle("the server ends the conversation with an error", events)
        else:
            self._lose(Side.SERVER, "answer", f"one byte that answers the {self._request}", repr(answer), events)
        return len(data)
