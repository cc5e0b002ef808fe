"""The way of one connection, from accept to the finished recording. Each step is a method; ends are exceptions.

    accept -> prelude -> sniff the ClientHello -> decide -> dial -> the server leg -> mint -> the client leg -> relay

The target is spoken to first: the leaf that the client gets is made after the one that the target showed, and what the
target chose (version, suite, group, ALPN) is what the client gets. What ends a session early is noted on the recording
as a :class:`~countersign.recorder.recording.Failure` with who is at fault; nothing is only logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from countersign.ca import AuthorityError, CannotMimic
from countersign.proxy import prelude
from countersign.proxy._openssl import GROUP_NAMES, OPENSSL_VERSION, Offer, TlsTrouble
from countersign.proxy.dial import DialFailed, barred, dial, resolve
from countersign.proxy.leg import HandshakeEnded, TlsLeg
from countersign.proxy.relay import LastWords, RawDirection, Relay, TlsDirection
from countersign.proxy.settings import Action, Mode, SecretsKept, may_connect
from countersign.recorder.live import LiveLeg, LiveRecording
from countersign.recorder.recording import Ending, Failure, LegRole, Party, Verification
from countersign.recorder.wire.events import Content, EncryptedRecord, Event, Message, Problem, Side
from countersign.recorder.wire.leg import LegDecoder
from countersign.recorder.wire.messages import message_type
from countersign.recorder.wire.names import alert_name, alert_number, cipher_suite_name, group_name, version_name
from countersign.recorder.wire.reading import HelloSummary, read_leg, summarize_client_hello
from countersign.recorder.wire.records import looks_like_tls
from countersign.recorder.wire.secrets import parse_line
from countersign.recorder.wire.tap import LegTap
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from countersign.proxy.dial import SockAddr
    from countersign.proxy.engine import Engine
    from countersign.proxy.settings import Address
    from countersign.proxy.stream import Stream
    from countersign.recorder.recording import Recording

_CLIENT_HELLO = 1
_LAST_WORDS = 1.0  # seconds
_HELLO_AT_MOST = 256 * 1024
_NOT_TLS_KEPT = 64
_SUPPORTED_VERSIONS = 43
_HANDSHAKE_SECRETS = frozenset({"CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET"})
_DEFAULT_GROUPS = (0x11EC, 0x001D, 0x0017, 0x001E, 0x0018, 0x0019, 0x0100, 0x0101)  # OpenSSL's own order
_SECRET_LINES = re.compile(rb"(?i)((?:proxy-)?authorization:|cookie:)[^\r\n]*")  # HTTP
_SECRETS_FOLLOW = re.compile(  # SMTP, IMAP, POP3, FTP, Redis, XMPP, PostgreSQL, forms; an LDAP BindRequest
    rb"(?is)(\b(?:auth|authenticate|pass|passw(?:or)?d|login|user|token|secret|api_?key)\b|`.{1,5}\x02\x01[\x02\x03]).*"
)


class _Over(Exception):  # noqa: N818 - the session ends here; its failure is on the recording
    pass


class Session:
    """One client connection."""

    def __init__(self, engine: Engine, stream: Stream) -> None:
        self._engine = engine
        self._settings = engine.settings
        self._client = stream
        self._target_stream: Stream | None = None
        self._legs: list[TlsLeg] = []
        self._began = engine.monotonic()
        self._client_left = False
        self._sniffed: list[tuple[float, bytes]] = []  # the client's first bytes, while they are on no leg
        self._task: asyncio.Task[object] | None = None
        self.recording = LiveRecording(
            started=engine.now(),
            mode=self._settings.mode.value,
            action=self._settings.action.value,
            client=stream.peer(),
            target=str(self._settings.target) if self._settings.target else None,
            label=self._settings.label,
        )

    def clock(self) -> float:
        """Seconds since the session's start."""
        return self._engine.monotonic() - self._began

    async def run(self) -> None:
        """Everything, from accept to close. Raises nothing but cancellation."""
        self._task = asyncio.current_task()
        try:
            with contextlib.suppress(_Over):
                await self._go()
            await self._last_words()
        except asyncio.CancelledError:
            if self._client_left:
                self._note_client_left()
            else:
                self._stopped()
        finally:
            self._close()

    def _leave(self) -> None:
        """The client's bytes ended while the target was being spoken to: there is nobody left to do it for."""
        self._client_left = True
        if self._task is not None:
            self._task.cancel()

    def _note_client_left(self) -> None:
        ending = self._client.ending or Ending.RESET
        now = self.clock()
        self.recording.end(LegRole.CLIENT, Side.CLIENT, ending, now)
        how = "reset the connection" if ending is Ending.RESET else "closed the connection"
        text = f"{how} before the proxy had answered its ClientHello (the target had not finished its handshake)"
        self.recording.fail(Failure(now, LegRole.CLIENT, Party.CLIENT, "left", text))

    def _stopped(self) -> None:
        """The proxy is being stopped: both sides of every leg end by our hand."""
        self.recording.stopped = "was stopped"
        self._keep_sniffed(Ending.STOPPED)
        for leg in self.recording.legs.values():
            for side in Side:
                self.recording.end(leg.role, side, Ending.STOPPED, self.clock())

    async def _last_words(self) -> None:
        """Where one leg broke and the other stands, that one gets a second for what is still on its way.

        The target is told goodbye, for it has done nothing wrong. The client is not: what the target has cut off must
        not look to it like a regular end.
        """
        self._client.on_end = None
        waiting: list[asyncio.Future[None]] = []
        for leg in self._legs:
            if leg.stands and leg.stream.ending is None and not leg.stream.gone:
                words = LastWords(leg, buffers=self._engine.buffers)
                words.begin(goodbye=leg.role is LegRole.SERVER)
                waiting.append(words.over)
        if waiting:
            done, _ = await asyncio.wait(waiting, timeout=_LAST_WORDS)
            for over in done:
                over.result()

    def _close(self) -> None:
        for leg in self._legs:
            leg.close()
        for stream in (self._client, self._target_stream):
            if stream is not None:
                stream.close()
                self._engine.lingers(stream)
        self._count_bytes()

    def _count_bytes(self) -> None:
        self.recording.from_client = self._client.received
        if self._target_stream is not None:
            self.recording.from_target = self._target_stream.received

    def broke(self, error: BaseException) -> None:
        """A fault of our own ended the session; the recording says so."""
        text = f"broke on a fault of its own ({type(error).__name__}); its log has the details"
        self.recording.fail(Failure(self.clock(), None, Party.PROXY, "internal", text))

    def never_ran(self) -> None:
        """The proxy was stopped before the session's first step."""
        self._stopped()
        self._close()

    def snapshot(self) -> Recording:
        """The open session as it stands, with what there is of a ClientHello that is not whole yet."""
        self._count_bytes()
        recording = self.recording.snapshot()
        if self._sniffed and not recording.legs:
            role, events = self._read_sniffed(self.clock())
            begun = LiveLeg(role, messages=[event for event in events if isinstance(event, Message)])
            recording = replace(recording, legs=(begun.frozen(),))
        return recording

    # -- steps ---------------------------------------------------------------------------------------------------

    async def _go(self) -> None:
        if not may_connect(self._client.peer_host(), self._settings.allow):
            self.recording.action = "refuse"
            raise self._over(None, Party.PROXY, "not-allowed", "does not let this client in (--allow)")
        target, addresses = await self._prelude()
        if self._settings.mode is not Mode.REVERSE:
            # The client is told 200 only when the TCP connection stands, so a failed dial is an HTTP status.
            await self._dial_for_connect(target, addresses)
        first = await self._sniff()
        chunks = self._sniffed
        if first is None:
            await self._relay_not_tls(target, chunks)
        elif self._settings.action is Action.PASSTHROUGH:
            await self._pass_through(target, chunks)
        else:
            await self._intercept(target, chunks, first)

    def _over(self, leg: LegRole | None, by: Party, code: str, text: str, *, t: float | None = None) -> _Over:
        """``t``, of the end of bytes that this is about, where there is one."""
        self.recording.fail(Failure(self.clock() if t is None else t, leg, by, code, text))
        return _Over()

    def _refused(self, tap: LegTap, alert: str, leg: LegRole, by: Party, code: str, text: str) -> _Over:  # noqa: PLR0917
        """The same, and the client is told with an alert."""
        over = self._over(leg, by, code, text)
        self._alert_client(tap, alert)
        return over

    async def _prelude(self) -> tuple[Address, list[SockAddr]]:
        if self._settings.target is not None:
            return self._settings.target, []
        try:
            async with asyncio.timeout(self._settings.limits.hello):
                asked = await prelude.read_connect(self._client)
        except TimeoutError:
            raise self._over(None, Party.CLIENT, "silent", "connected and sent no CONNECT request in time") from None
        except prelude.PreludeFailed as failed:
            self.recording.prelude = failed.record
            raise self._over(None, Party.CLIENT, failed.code, failed.text) from None
        if asked is None:
            raise self._over(None, Party.CLIENT, "silent", "connected and closed without sending a CONNECT request")
        self.recording.prelude = asked.record
        self.recording.target = printable(str(asked.target))
        self.recording.changed = True
        try:
            addresses = await resolve(asked.target, limit=self._settings.limits.connect)
        except DialFailed as failed:
            self._refuse_dial(failed)
            raise self._over(None, failed.by, failed.code, failed.text) from None
        reason = barred(addresses, self._engine.ports)
        if reason is not None:
            self._answer(403, reason)
            raise self._over(None, Party.PROXY, "not-allowed", f"does not dial {asked.target}: {reason}")
        return asked.target, addresses

    def _answer(self, status: int, text: str = "") -> None:
        prelude.answer(self._client, status, text)
        self.recording.prelude["answer"] = status

    async def _dial_for_connect(self, target: Address, addresses: list[SockAddr]) -> None:
        try:
            await self._dial(target, addresses)
        except DialFailed as failed:
            self._refuse_dial(failed)
            raise self._over(None, failed.by, failed.code, failed.text) from None
        self._answer(200)

    def _refuse_dial(self, failed: DialFailed) -> None:
        self._answer(504 if failed.code == "connect-timeout" else 502, f"the {failed.by.value} {failed.text}")

    async def _dial(self, target: Address, addresses: list[SockAddr]) -> Stream:
        """The TCP connection to the target, made once. Raises :class:`DialFailed`."""
        if self._target_stream is None:
            found = addresses or await resolve(target, limit=self._settings.limits.connect)
            self._target_stream = await dial(
                target, found, buffer=self._engine.receive_buffer, limit=self._settings.limits.connect
            )
        return self._target_stream

    async def _sniff(self) -> Message | EncryptedRecord | None:
        """The first thing that the client says, which ought to be a ClientHello; none when it does not speak TLS."""
        decoder = LegDecoder()
        chunks = self._sniffed
        size = 0
        try:
            async with asyncio.timeout(self._settings.limits.hello):
                while True:
                    data = await self._client.read()
                    t = self.clock()
                    if not data:
                        break
                    chunks.append((t, data))
                    size += len(data)
                    self.recording.changed = True
                    events = decoder.receive(Side.CLIENT, data, t)
                    if decoder.is_tls is False:
                        return None
                    for event in events:
                        if isinstance(event, Message | EncryptedRecord):
                            return event
                    if size > _HELLO_AT_MOST:
                        break
        except TimeoutError:
            now = self._keep_sniffed(Ending.SILENT)
            said = "sent no ClientHello" if not chunks else f"sent only {size} bytes, not a whole ClientHello,"
            text = f"connected and {said} within {self._settings.limits.hello:g} s"
            raise self._over(None, Party.CLIENT, "silent", text, t=now) from None
        ending = self._client.ending or Ending.STOPPED
        now = self._keep_sniffed(ending)
        how = {Ending.RESET: "reset the connection", Ending.FIN: "closed the connection"}.get(ending, "went on")
        text = f"connected and {how} without sending a ClientHello"
        if chunks:
            text = f"sent {size} bytes and {how} in the middle of its ClientHello"
        raise self._over(None, Party.CLIENT, "cut-hello" if chunks else "no-hello", text, t=now)

    def _keep_sniffed(self, ending: Ending) -> float:
        """Record what there is of a ClientHello that never became whole, and how it ended; that was now."""
        now = self.clock()
        if self._sniffed:
            role, events = self._read_sniffed(now)
            self.recording.add(role, events)
            self.recording.end(role, Side.CLIENT, ending, now)
            self._sniffed = []
        return now

    def _read_sniffed(self, now: float) -> tuple[LegRole, list[Event]]:
        decoder = LegDecoder()
        events = [event for t, data in self._sniffed for event in decoder.receive(Side.CLIENT, data, t)]
        events += decoder.end(Side.CLIENT, now)
        return (LegRole.CLIENT if self._settings.action is Action.INTERCEPT else LegRole.THROUGH), events

    # -- not TLS, and passed through -----------------------------------------------------------------------------

    async def _relay_not_tls(self, target: Address, chunks: list[tuple[float, bytes]]) -> None:
        self._sniffed = []
        self.recording.not_tls = True
        self.recording.action = "relay"
        first = {Side.CLIENT: b"", Side.SERVER: b""}
        self.recording.prelude["not_tls"] = {"from_client": "", "from_target": ""}

        def keep(side: Side, data: bytes | memoryview) -> None:
            if len(first[side]) < _NOT_TLS_KEPT:
                first[side] += bytes(data[: _NOT_TLS_KEPT - len(first[side])])
                key = "from_client" if side is Side.CLIENT else "from_target"
                self.recording.prelude["not_tls"][key] = _redacted(first[side])
                self.recording.changed = True

        got = chunks[0][1]
        expected = "a TLS record of type handshake (0x16)"
        self.recording.problems.append(
            (LegRole.THROUGH, Problem(chunks[0][0], Side.CLIENT, "record.content_type", 0, expected, f"0x{got[0]:02x}"))
        )
        for _t, data in chunks:
            keep(Side.CLIENT, data)
        try:
            stream = await self._dial(target, [])
        except DialFailed as failed:
            raise self._over(None, failed.by, failed.code, failed.text) from None
        await self._relay_raw(stream, chunks, keep, lambda _side, _how: None)

    async def _pass_through(self, target: Address, chunks: list[tuple[float, bytes]]) -> None:
        decoder = LegDecoder()
        role = LegRole.THROUGH
        self._sniffed = []
        for t, data in chunks:
            self.recording.add(role, decoder.receive(Side.CLIENT, data, t))
        self._note_sni(role)
        try:
            stream = await self._dial(target, [])
        except DialFailed as failed:
            raise self._over(None, failed.by, failed.code, failed.text) from None

        def watch(side: Side, data: bytes | memoryview) -> None:
            self.recording.add(role, decoder.receive(side, data, self.clock()))

        def ended(side: Side, how: Ending) -> None:
            self.recording.add(role, decoder.end(side, self.clock()))
            self.recording.end(role, side, how, self.clock())

        await self._relay_raw(stream, chunks, watch, ended)

    def _note_sni(self, role: LegRole) -> None:
        messages = self.recording.leg(role).messages
        if messages and messages[0].content is Content.HANDSHAKE:
            self.recording.sni = summarize_client_hello(messages[0].raw).sni

    async def _relay_raw(self, stream: Stream, chunks: list[tuple[float, bytes]], watch: object, ended: object) -> None:
        assert callable(watch)
        assert callable(ended)
        relay = Relay(idle=self._settings.limits.idle)
        up = RawDirection(
            relay,
            self._client,
            stream,
            watch=lambda data: watch(Side.CLIENT, data),
            ended=lambda how: ended(Side.CLIENT, how),
        )
        down = RawDirection(
            relay,
            stream,
            self._client,
            watch=lambda data: watch(Side.SERVER, data),
            ended=lambda how: ended(Side.SERVER, how),
        )
        up.back, down.back = down, up
        for _t, data in chunks:
            stream.write(data)  # watched already
        self._client.pour_into(up)
        stream.pour_into(down)
        await self._until_finished(relay)

    async def _until_finished(self, relay: Relay) -> None:
        await relay.finished
        if relay.timed_out:
            now = self.clock()
            self.recording.stopped = (
                f"ended the session, in which nothing had moved for {self._settings.limits.idle:g} s"
            )
            through = self.recording.legs.get(LegRole.THROUGH)
            if through is not None and through.messages and Side.SERVER not in through.data:
                # Nothing of it is encrypted yet: whoever did not speak last has fallen silent.
                self.recording.end(LegRole.THROUGH, through.messages[-1].sender.peer, Ending.SILENT, now)
            for role in self.recording.legs:
                for side in Side:
                    self.recording.end(role, side, Ending.STOPPED, now)

    # -- intercepted ---------------------------------------------------------------------------------------------

    async def _intercept(
        self, target: Address, chunks: list[tuple[float, bytes]], first: Message | EncryptedRecord
    ) -> None:
        tap = LegTap()
        self._sniffed = []
        for t, data in chunks:
            self.recording.add(LegRole.CLIENT, tap.wire(Side.CLIENT, data, t))
        summary = self._read_hello(first, tap)
        if self._client.ending is not None:
            self._note_client_left()
            return
        self._client.on_end = self._leave
        server = await self._server_leg(target, summary, tap)
        chain = server.connection.peer_chain()
        self._note_mimicry(server)
        try:
            minted = await self._engine.mint.leaf_for(chain[0])
        except CannotMimic as reason:
            raise self._cannot_mimic(tap, str(reason)) from None
        except AuthorityError as reason:
            raise self._refused(tap, "internal_error", LegRole.CLIENT, Party.PROXY, "ca-expired", str(reason)) from None
        self.recording.not_mirrored += minted.left_out
        try:
            connection = self._engine.server_side.connection(
                _client_leg_offer(server, summary),
                chain=minted.chain,
                key=minted.key,
                alpn=server.connection.chosen_alpn,
            )
        except TlsTrouble as trouble:
            words = f"cannot mimic the target's certificate: {OPENSSL_VERSION} cannot serve such a one"
            raise self._cannot_mimic(tap, f"{words} ({trouble.reason})") from None
        self._client.on_end = None
        client = self._leg(LegRole.CLIENT, self._client, connection, tap)
        for _t, data in chunks:
            client.feed(data, seen=True)
        await self._shake(client, Party.CLIENT)
        await self._relay_tls(client, server)

    def _cannot_mimic(self, tap: LegTap, reason: str) -> _Over:
        text = f"{reason}. Use --passthrough for this target"
        return self._refused(tap, "internal_error", LegRole.CLIENT, Party.PROXY, "cannot-mimic", text)

    def _read_hello(self, hello: Message | EncryptedRecord, tap: LegTap) -> HelloSummary:
        """What the client offers. Ends the session when there is no hello, or none that OpenSSL can be shown."""
        if isinstance(hello, EncryptedRecord):
            text = "began with application data where a ClientHello belongs; none of it was passed on"
            raise self._refused(tap, "unexpected_message", LegRole.CLIENT, Party.CLIENT, "no-hello", text)
        if hello.content is not Content.HANDSHAKE or hello.code != _CLIENT_HELLO:
            kind = message_type(hello.content, hello.code, hello.raw)
            text = f"began with {kind} where a ClientHello belongs"
            raise self._refused(tap, "unexpected_message", LegRole.CLIENT, Party.CLIENT, "no-hello", text)
        summary = summarize_client_hello(hello.raw)
        self.recording.sni = summary.sni
        if summary.sslv2:
            text = f"cannot speak with a client that begins in SSLv2's form; {OPENSSL_VERSION} has that no more."
            text += " Use --passthrough for this client"
            raise self._refused(tap, "protocol_version", LegRole.CLIENT, Party.PROXY, "cannot-speak", text)
        if not _server_leg_offer(summary).speakable():
            if not summary.well_formed:
                text = "sent a ClientHello that cannot be read"
                raise self._refused(tap, "decode_error", LegRole.CLIENT, Party.CLIENT, "bad-hello", text)
            some_version = any(0x0300 < version <= 0x0304 for version in _versions(summary))
            answer = "handshake_failure" if some_version else "protocol_version"
            raise self._refused(tap, answer, LegRole.CLIENT, Party.PROXY, "cannot-speak", _unspeakable(summary))
        name = summary.sni_raw
        if name is not None and (b"\0" in name or not 0 < len(name) < 256):
            text = "sent a server name (SNI) that cannot be a host name's: "
            text += "a NUL byte is in it" if b"\0" in name else f"it has {len(name)} bytes"
            # The alert is the one that OpenSSL has for such a name.
            raise self._refused(tap, "unrecognized_name", LegRole.CLIENT, Party.CLIENT, "bad-hello", text)
        return summary

    def _leg(self, role: LegRole, stream: Stream, connection: object, tap: LegTap | None = None) -> TlsLeg:
        leg = TlsLeg(
            role,
            stream,
            connection,  # type: ignore[arg-type]
            self.recording,
            buffers=self._engine.buffers,
            clock=self.clock,
            tap=tap,
        )
        self._legs.append(leg)
        if self._settings.secrets is not SecretsKept.NONE:
            leg.connection.on_secret = lambda line: self._keep_secret(leg, line)
        return leg

    def _keep_secret(self, leg: TlsLeg, line: bytes) -> None:
        secret = parse_line(line.decode("ascii", "replace"))
        if secret is not None and (self._settings.secrets is SecretsKept.ALL or secret.label in _HANDSHAKE_SECRETS):
            leg.live.secrets.append(secret)
            self.recording.changed = True

    async def _server_leg(self, target: Address, summary: HelloSummary, tap: LegTap) -> TlsLeg:
        offer = _server_leg_offer(summary)
        try:
            stream = await self._dial(target, [])
        except DialFailed as failed:
            raise self._refused(tap, "internal_error", LegRole.SERVER, failed.by, failed.code, failed.text) from None
        try:
            connection = self._engine.client_side.connection(
                offer,
                name=summary.sni or target.host,
                sni=summary.sni_raw,
                alpn=summary.alpn_raw,
            )
        except TlsTrouble as trouble:
            whose = "" if self._settings.identity is None else ", which may be about the client certificate given to it"
            text = f"cannot begin TLS with the target: OpenSSL says {trouble.reason!r}{whose}"
            raise self._refused(tap, "internal_error", LegRole.SERVER, Party.PROXY, "cannot-speak", text) from None
        leg = self._leg(LegRole.SERVER, stream, connection)
        try:
            await leg.handshake(self._settings.limits.handshake)
        except (TlsTrouble, HandshakeEnded) as trouble:
            self._note_verification(leg)
            over = self._failed_handshake(leg, trouble, Party.TARGET)
            self._alert_client(tap, self._fitting_alert(leg, trouble))
            raise over from None
        self._note_verification(leg)
        return leg

    def _note_verification(self, leg: TlsLeg) -> None:
        error = leg.connection.verify_error
        if error is not None:
            leg.live.verification = Verification(
                trusted=False, error=error[0], depth=error[1], enforced=self._settings.verify
            )
        elif any(message.content is Content.HANDSHAKE and message.code == 11 for message in leg.live.messages):
            leg.live.verification = Verification(trusted=True, enforced=self._settings.verify)

    def _fitting_alert(self, leg: TlsLeg, trouble: TlsTrouble | HandshakeEnded) -> str:
        """What the client is told: the target's own fatal alert where it sent one."""
        if leg.peer_alert is not None:
            return alert_name(leg.peer_alert)
        return "handshake_failure" if isinstance(trouble, TlsTrouble) else "internal_error"

    def _alert_client(self, tap: LegTap, name: str) -> None:
        """A fatal alert in clear, before our ServerHello (RFC 8446 6.2)."""
        number = alert_number(name)
        record = bytes((21, 3, 3, 0, 2, 2, number if number is not None else 40))
        self.recording.add(LegRole.CLIENT, tap.wire(Side.SERVER, record, self.clock()))
        self._client.write(record)

    async def _shake(self, leg: TlsLeg, peer: Party) -> None:
        try:
            await leg.handshake(self._settings.limits.handshake)
        except (TlsTrouble, HandshakeEnded) as trouble:
            raise self._failed_handshake(leg, trouble, peer) from None

    def _failed_handshake(self, leg: TlsLeg, trouble: TlsTrouble | HandshakeEnded, peer: Party) -> _Over:
        if isinstance(trouble, HandshakeEnded):
            leg.ended(trouble.how)
            return _Over()
        if trouble.by_peer or leg.peer_alert is not None:
            return _Over()  # its alert is on the recording, and says more than OpenSSL's words
        error = leg.connection.verify_error
        if leg.role is LegRole.SERVER and error is not None and self._settings.verify:
            whose = "the leaf" if error[1] == 0 else f"certificate {error[1]} of the chain, counted from the leaf"
            return self._over(
                leg.role,
                Party.PROXY,
                "untrusted",
                f"does not trust the target's certificate: {error[0]} ({whose};"
                f" {'--upstream-ca' if self._settings.roots is not None else 'the system store'} is what it trusts)",
            )
        if leg.role is LegRole.SERVER and leg.first and looks_like_tls(leg.first) is False:
            line = leg.first.splitlines()[0].strip()
            said = (
                repr(_redacted(line))
                if line.isascii() and line.decode("ascii").isprintable()
                else leg.first[:16].hex(" ")
            )
            return self._over(
                leg.role, peer, "not-tls", f"does not speak TLS: it answered {said or leg.first[:16].hex(' ')}"
            )
        if trouble.reason == "unsupported protocol" and leg.role is LegRole.SERVER:
            version = read_leg(leg.live.messages).version
            return self._over(leg.role, peer, "version", f"answered with {version}, which was not offered")
        # On the server leg only what OpenSSL says before our hello is the proxy's own.
        if _nothing_shared(trouble.reason) and (leg.role is LegRole.CLIENT or not leg.live.messages):
            text = f"found nothing that both sides speak: OpenSSL says {trouble.reason!r}"
            return self._over(leg.role, Party.PROXY, "no-shared-parameters", text)
        text = f"sent something that cannot be taken: OpenSSL says {trouble.reason!r}"
        return self._over(leg.role, peer, "protocol", text)

    def _note_mimicry(self, server: TlsLeg) -> None:
        """What of the target's choices the client leg cannot follow."""
        group = server.connection.group
        if group is not None and not any(name.lower() == group.lower() for name in GROUP_NAMES.values()):
            self.recording.not_mirrored.append(f"group {group}")

    async def _relay_tls(self, client: TlsLeg, server: TlsLeg) -> None:
        relay = Relay(idle=self._settings.limits.idle)

        for source, destination in ((client, server), (server, client)):
            TlsDirection(relay, source, destination, buffers=self._engine.buffers, trouble=self._late_trouble).begin()
        await self._until_finished(relay)

    def _late_trouble(self, leg: TlsLeg, trouble: TlsTrouble) -> None:
        """After the handshake: an alert is on the recording already; anything else is the peer's doing."""
        leg.flush()
        if leg.peer_alert is None:
            peer = Party.CLIENT if leg.role is LegRole.CLIENT else Party.TARGET
            text = f"sent something after the handshake that cannot be taken: OpenSSL says {trouble.reason!r}"
            self.recording.fail(Failure(self.clock(), leg.role, peer, "protocol", text))


# -- what is offered and followed ------------------------------------------------------------------------------------


def _server_leg_offer(summary: HelloSummary) -> Offer:
    """Our own hello, but nothing that the client did not offer: else the target's choice could not be followed."""
    groups = [group for group in _DEFAULT_GROUPS if group in summary.groups]
    groups = groups or [group for group in summary.groups if group in GROUP_NAMES]
    shares = set([group for group in groups if group in summary.key_share_groups][:4])  # OpenSSL takes no more
    names = [f"?{'*' if group in shares else ''}{GROUP_NAMES[group]}" for group in groups]
    versions, ciphers = _versions(summary), summary.ciphers
    if not groups:  # OpenSSL would offer its own: RFC 8446 9.2 wants the list, RFC 8422 4 does without
        versions = tuple(version for version in versions if version < 0x0304)
        if summary.groups:
            ciphers = tuple(cipher for cipher in ciphers if not cipher_suite_name(cipher).startswith("TLS_ECDH"))
    return Offer(versions, ciphers, ":".join(names))


def _versions(summary: HelloSummary) -> tuple[int, ...]:
    """Without supported_versions a hello means everything up to its version (RFC 8446 4.2.1)."""
    if _SUPPORTED_VERSIONS in summary.extensions:
        return summary.versions
    return tuple(version for version in (0x0301, 0x0302, 0x0303) if version <= summary.legacy_version)


def _client_leg_offer(server: TlsLeg, summary: HelloSummary) -> Offer:
    """What the target chose first; the client's other suites stand behind it."""
    version = server.connection.version
    chosen = server.connection.chosen_cipher(summary.ciphers)
    group = server.connection.group
    others = [GROUP_NAMES[number] for number in _DEFAULT_GROUPS if GROUP_NAMES[number].lower() != (group or "").lower()]
    # Behind a slash stands what is taken only if the client knows nothing before it: a group that it made no key share
    # for brings it a HelloRetryRequest then, as the target did (SSL_set1_groups_list(3)).
    groups = (f"?{group}/" if group else "") + ":".join(f"?{name}" for name in others)
    ciphers = tuple(sorted(summary.ciphers, key=lambda cipher: cipher != chosen))
    return Offer((version,), ciphers, groups)


def _unspeakable(summary: HelloSummary) -> str:
    versions = ", ".join(version_name(version) for version in summary.versions) or "no version"
    suites = ", ".join(cipher_suite_name(suite) for suite in summary.ciphers[:6]) or "no suite"
    more = f" and {len(summary.ciphers) - 6} more" if len(summary.ciphers) > 6 else ""
    groups = "" if not summary.groups else f", groups {', '.join(group_name(group) for group in summary.groups[:4])}"
    return (
        f"cannot speak what the client offers: {versions} with {suites}{more}{groups};"
        f" {OPENSSL_VERSION} has none of it. Use --passthrough for this client"
    )


def _nothing_shared(reason: str) -> bool:
    return any(
        word in reason
        for word in (
            "no shared",
            "unsupported protocol",
            "no suitable",
            "no protocols available",
            "no ciphers available",
        )
    )


def _redacted(data: bytes) -> str:
    """The first bytes of a conversation that is not TLS, without credentials, as printable text."""
    data = _SECRETS_FOLLOW.sub(rb"\1 (redacted)", _SECRET_LINES.sub(rb"\1 (redacted)", data))
    return printable(data.decode("latin-1"))
