"""One whole handshake with the machine's own OpenSSL, decoded from its bytes and its key log like any capture.

Nothing is verified while it goes on: a chain that is refused is to be looked at all the same. Who the client is, is
said once more on the recording: mode ``probe``, one leg that is seen from outside.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
import time
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from countersign.errors import UserError, words_of
from countersign.findings.probing.clear import in_place_of_tls
from countersign.findings.probing.reaching import reach
from countersign.recorder.live import LiveRecording
from countersign.recorder.recording import Ending, Failure, FailureCode, LegRole, Party
from countersign.recorder.wire import codes
from countersign.recorder.wire.events import Content, Message, Side
from countersign.recorder.wire.leg import LegDecoder
from countersign.recorder.wire.records import looks_like_http_answer, looks_like_tls
from countersign.recorder.wire.secrets import KeyLog
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from countersign.findings.probing.model import Plan
    from countersign.recorder.recording import Recording

_BITE = 16 * 1024
_ANSWERS = frozenset({Content.HANDSHAKE, Content.ALERT})
_FATAL = bytes((codes.FATAL,))
_FIRST_BYTES = 64
_LONGEST_ANSWER = 64 * 1024  # of what is no message
_LISTEN = 0.3  # seconds after the handshake in which tickets and refusals come
_MODE = "probe"


class Speaker(Protocol):
    """What of :class:`ssl.SSLObject` is made use of, with the same errors."""

    def do_handshake(self) -> None: ...
    def read(self, count: int) -> bytes: ...
    def write(self, data: bytes) -> int: ...
    def unwrap(self) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the client behaves, beyond what it is. ``versions`` are the lowest and the highest that it speaks, ``alpn``
    what it offers. ``cut`` makes of its first bytes, the ClientHello, the pieces that are sent one after the other, and
    ``cut_on`` the same of all that it sends later. ``another``: what ``cut`` gives is a hello with other words, so
    nothing can come of it but an answer, behind which the client leaves. ``without`` are options of OpenSSL that it has
    by itself. ``speaks`` is who speaks TLS, where the machine's OpenSSL cannot say what is to be said.
    What it ``says`` when the handshake is done is answered within ``listens`` seconds, or is not.
    """

    versions: tuple[ssl.TLSVersion, ssl.TLSVersion] | None = None
    alpn: tuple[str, ...] = ("h2", "http/1.1")
    cut: Callable[[bytes], Sequence[bytes]] | None = None
    cut_on: Callable[[bytes], Sequence[bytes]] | None = None
    another: bool = False
    without: int = 0
    speaks: Callable[[Plan, Manner, ssl.MemoryBIO, ssl.MemoryBIO, Path], Speaker] | None = None
    says: bytes = b""
    listens: float = _LISTEN


PLAINLY = Manner()


def handshake(plan: Plan, *, label: str | None = None) -> Recording:
    """The recording of one handshake with the server. Raises :class:`EnvironmentFault` where there is no way to it."""
    return converse(plan, PLAINLY, label=label)[0]


def converse(plan: Plan, manner: Manner, *, label: str | None = None) -> tuple[Recording, bytes]:
    """The same in another manner, and the beginning of what the server said inside."""
    connection = reach(plan)
    with connection, tempfile.TemporaryDirectory(prefix="countersign-") as folder:
        keys = Path(folder) / "keys"
        keys.touch(mode=0o600)
        conversation = _Handshake(plan, connection, keys, label, manner)
        return conversation.run(), bytes(conversation.heard)


class _Handshake:
    def __init__(self, plan: Plan, connection: socket.socket, keys: Path, label: str | None, manner: Manner) -> None:
        self.heard = bytearray()
        self._manner = manner
        self._cut = manner.cut
        self._asked = False  # whether anything of ours has gone out
        self._first, self._spoke = b"", 0.0  # how the server's bytes began, and when
        self._begun = 0  # bytes of the server's behind its last whole message
        self._answered = self._alerted = False  # whether an answer has come, and one that ends it
        self._connection = connection
        self._keys = keys
        self._keylog = KeyLog()
        self._read = 0
        self._decoder = LegDecoder(keylog=self._keylog)
        self._began = time.monotonic()
        self._seconds = plan.seconds
        self._upgraded = plan.starttls is not None
        host, port = connection.getsockname()[:2]
        self._recording = LiveRecording(
            started=datetime.now(UTC),
            mode=_MODE,
            action="passthrough",
            client=f"{host}:{port}",
            target=printable(plan.place),
            label=label,
        )
        self._recording.sni = plan.name or None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: Speaker
        if manner.speaks is not None:
            self._tls = manner.speaks(plan, manner, self._incoming, self._outgoing, keys)
        else:
            context = _context(plan, keys, manner)
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=plan.name or None)

    def run(self) -> Recording:
        try:
            self._converse()
        except TimeoutError:
            if self._begun:
                text = f"was not done with its answer when its {self._seconds:g} s were over: {self._begun} bytes"
                self._fail(FailureCode.SILENT, f"{text} had come behind its last whole message")
            self._recording.end(LegRole.THROUGH, Side.SERVER, Ending.SILENT, self._t())
        except OSError:
            self._recording.end(LegRole.THROUGH, Side.SERVER, Ending.RESET, self._t())
        self._learn()
        self._recording.add(LegRole.THROUGH, self._decoder.end(Side.SERVER, self._t()))
        if not self._answered and self._first and looks_like_tls(self._first) is False:
            code = FailureCode.PLAIN_HTTP if looks_like_http_answer(self._first) else FailureCode.NOT_TLS
            self._fail(code, in_place_of_tls(self._first, upgraded=self._upgraded), at=self._spoke)
        if not self._recording.leg(LegRole.THROUGH).ends:
            self._recording.end(LegRole.THROUGH, Side.CLIENT, Ending.FIN, self._t())
        return self._recording.finished(datetime.now(UTC))

    def _t(self) -> float:
        return time.monotonic() - self._began

    def _converse(self) -> None:
        """All of it. That the server goes is noted where it is seen; who is left at the end goes first."""
        if self._manner.another:
            self._ask()
            return
        try:
            if not self._shake():
                return
            self._say()
            self._listen()
        except ssl.SSLError as wrong:
            self._broken(wrong)
        self._say_goodbye()

    def _broken(self, wrong: ssl.SSLError) -> None:
        """Why we do not go on, where neither an alert of the server's says it nor bytes that are no TLS."""
        words = printable(words_of(wrong).replace("_", " "), limit=100)
        if not self._asked:
            self._fail(FailureCode.CANNOT_BEGIN, f"cannot begin the handshake: OpenSSL says {words!r}", by=Party.CLIENT)
        elif not self._alerted and (self._answered or looks_like_tls(self._first)):
            self._fail(FailureCode.BROKEN_MESSAGE, f"sent something that cannot be taken: OpenSSL says {words!r}")

    def _fail(self, code: FailureCode, text: str, *, by: Party = Party.TARGET, at: float | None = None) -> None:
        t = self._t() if at is None else at
        self._recording.fail(Failure(t, LegRole.THROUGH, by, code=code, text=text))

    def _ask(self) -> None:
        """Send the hello, and take the beginning of what comes back, a message or an alert at least."""
        deadline = self._began + self._seconds
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self._send()
        while not self._answered and looks_like_tls(self._first) is not False:
            if self._recording.from_target > _LONGEST_ANSWER:
                text = f"answered the ClientHello with {self._recording.from_target} bytes, and no message among them"
                self._fail(FailureCode.BROKEN_MESSAGE, text)
                return
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._connection.settimeout(left)
            if not self._receive():
                return

    def _shake(self) -> bool:
        """Whether it was done before the server went."""
        deadline = self._began + self._seconds
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            else:
                self._send()
                return True
            self._send()
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._connection.settimeout(left)
            if not self._receive():
                return False

    def _say(self) -> None:
        if self._manner.says:
            self._tls.write(self._manner.says)
            self._send()

    def _listen(self) -> None:
        """For tickets, a late refusal, or a goodbye; a server that talks on is not heard out."""
        deadline = time.monotonic() + self._seconds
        self._connection.settimeout(self._manner.listens)
        with contextlib.suppress(TimeoutError):
            while self._receive() and time.monotonic() <= deadline:
                try:
                    while piece := self._tls.read(_BITE):
                        self.heard += piece[: _BITE - len(self.heard)]
                    if self._manner.says:
                        return  # it has said goodbye
                except ssl.SSLWantReadError:
                    if self.heard and self._manner.says:
                        return  # this is the answer

    def _say_goodbye(self) -> None:
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass
        self._send()

    def _send(self) -> None:
        data = self._outgoing.read()
        if not data:
            return
        self._learn()
        self._asked = True
        cut, self._cut = self._cut, self._manner.cut_on
        for piece in (data,) if cut is None else cut(data):
            self._recording.add(LegRole.THROUGH, self._decoder.receive(Side.CLIENT, piece, self._t()))
            self._connection.sendall(piece)

    def _receive(self) -> bool:
        data = self._connection.recv(_BITE)
        if not data:
            self._recording.end(LegRole.THROUGH, Side.SERVER, Ending.FIN, self._t())
            self._incoming.write_eof()
            return False
        if not self._first:
            self._spoke = self._t()
        self._first += data[: _FIRST_BYTES - len(self._first)]
        self._recording.from_target += len(data)
        self._begun += len(data)
        self._learn()
        for event in (events := self._decoder.receive(Side.SERVER, data, self._t())):
            if isinstance(event, Message):
                self._answered = self._answered or event.content in _ANSWERS
                self._begun = 0
                ends = event.content is Content.ALERT and (event.raw[:1] == _FATAL or event.code == codes.CLOSE_NOTIFY)
                self._alerted = self._alerted or ends
        self._recording.add(LegRole.THROUGH, events)
        self._incoming.write(data)
        return True

    def _learn(self) -> None:
        """The secrets that OpenSSL has written since."""
        with self._keys.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        self._read += len(new)
        if new:
            self._keylog.add_text(new)


def _context(plan: Plan, keys: Path, manner: Manner) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that old versions are old is why they are tried
        context.minimum_version, context.maximum_version = manner.versions or (
            ssl.TLSVersion.MINIMUM_SUPPORTED,
            ssl.TLSVersion.MAXIMUM_SUPPORTED,
        )
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.options &= ~(ssl.OP_NO_TICKET | manner.without)
    if plan.starttls is None:
        context.set_alpn_protocols(list(manner.alpn))
    context.keylog_filename = os.fspath(keys)
    if plan.certificate is not None:
        try:
            context.load_cert_chain(plan.certificate, plan.key)
        except (OSError, ssl.SSLError) as wrong:
            shown = printable(str(plan.certificate))
            where = "" if plan.key is not None else "; its key has to be in the same file, or named by --client-key"
            raise UserError(f"cannot use the client certificate {shown}: {printable(words_of(wrong))}{where}") from None
    return context
