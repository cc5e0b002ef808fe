"""What the readers of the three forms of log say: frozen events, in the order of the lines.

``own`` is True for what the JVM that wrote the log sent, False for what it got. A thread is named by a string that
tells it from the others of its log; None where the form does not name threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from countersign.recorder.recording import Ending
    from countersign.recorder.wire.events import Content, Side
    from countersign.recorder.wire.told import Told


@dataclass(frozen=True, slots=True)
class At:
    """Where it stood: the line, the thread, the time as it was printed, the prefix."""

    line: int
    form: str
    thread: str | None
    time: str | None
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class MessageTold:
    """A message that was printed. ``kind`` tells which of the prints of the same message it is.

    ``raw`` is set where its bytes are known. ``own`` or ``side`` may be None, not both; ``doubts`` are sentences.
    """

    at: At
    kind: str
    content: Content
    code: int
    own: bool | None = None
    side: Side | None = None
    told: Told | None = None
    raw: bytes = b""
    doubts: tuple[str, ...] = ()
    cut: bool = False


@dataclass(frozen=True, slots=True)
class BytesDumped:
    """Bytes of a hex dump: of the socket (``socket``), of decrypted records (``plain``), of messages (``messages``)."""

    at: At
    kind: str
    own: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class RecordNamed:
    """A record that was read or written, by type and length. ``twice``: the form may name the same record again."""

    at: At
    own: bool
    content_type: int
    length: int
    twice: bool = False


@dataclass(frozen=True, slots=True)
class AlertUnsent:
    """The alert that was raised before did not go out."""

    at: At


@dataclass(frozen=True, slots=True)
class Said:
    """Something that was said and is no message; ``causes`` is the exception and what caused it, outermost first."""

    at: At
    kind: str
    text: str
    causes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """The bytes of a side ended."""

    at: At
    own: bool
    how: Ending


@dataclass(frozen=True, slots=True)
class NotTls:
    """The peer answered with what is no TLS."""

    at: At


@dataclass(frozen=True, slots=True)
class Begun:
    """A conversation begins of which no hello is printed; ``name`` is what the log calls it."""

    at: At
    side: Side
    name: str = ""


Event = MessageTold | BytesDumped | RecordNamed | AlertUnsent | Said | Ended | NotTls | Begun
