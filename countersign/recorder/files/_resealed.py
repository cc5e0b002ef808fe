"""From the messages of a leg to records again: the encrypted ones are sealed anew under keys made up for the file.

A recording holds what was said, not the ciphertext, and by default none of the secrets. To show the encrypted
messages to a dissector all the same, they are encrypted once more, here, under secrets that are no secrets: they come
out of a constant of this module by HKDF, and go into the file beside what they open. They open nothing else; what
they protect stands in clear in the recording.

For TLS 1.3 the made-up traffic secrets depend on the leg's client random and the label alone, and below it one
master secret is used for everything. So two exports agree where they speak of the same connection, and a resumed
session has the master secret of the one that it resumes: dissectors look it up by session id.

What changes keys is what changes them on the wire (RFC 8446 7.2 and 4.6.3, RFC 5246 7.1): ServerHello, Finished,
EndOfEarlyData and KeyUpdate in TLS 1.3, change-cipher-spec below. One thing is done as Wireshark has it and not as the
RFC: it takes the Finished of a client that authenticates later (RFC 8446 4.6.2) for that of the handshake, and starts
again from the first application secret. So the client's keys do that here.

Record boundaries are not those of the wire: each message has records to itself. Where there is nothing to seal with (a
suite that no sealer knows, a ServerHello that was not kept) or nothing to seal (a message that nobody opened), a record
of zeros of the right kind and length stands for it, as for each record that nobody opened. Application data was never
kept: one record stands for all that one side sent. A message that a log told of is put together from what was told;
without its certificates it would be another, so then it is left out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from hashlib import sha256, sha384
from typing import TYPE_CHECKING

from countersign.recorder.wire import codes
from countersign.recorder.wire.events import Content, Message, Side
from countersign.recorder.wire.extensions import EncryptThenMac, SelectedVersion
from countersign.recorder.wire.keyschedule import hkdf_expand_label
from countersign.recorder.wire.messages import (
    ClientHello,
    ServerHello,
    Sslv2ClientHello,
    decode_message,
    looks_like_sslv2_hello,
)
from countersign.recorder.wire.names import TLS10, TLS12, cipher_suite_name, is_tls13
from countersign.recorder.wire.records import APPLICATION_DATA, MAX_PLAINTEXT
from countersign.recorder.wire.sealing import (
    Sealer,
    Tls13Sealer,
    tls12_sealers,
    tls13_sealer,
    tls13_secret_size,
)
from countersign.recorder.wire.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.recorder.recording import DataCount, Leg
    from countersign.recorder.wire.events import EncryptedRecord

_CONTENT = {content: number for number, content in codes.CONTENTS.items()}

_RANDOM = 32  # bytes
_MADE_UP = b"countersign made-up secret: it opens what countersign exported and nothing else"
_MASTER = sha384(_MADE_UP).digest()
_MOST_FILLED = 1 << 20  # of a message whose end was not kept
_STAND_IN = 64  # bytes of the record that stands for application data that nobody opened


@dataclass(frozen=True, slots=True)
class Sent:
    """Whole records that one side sent. ``message`` is the number of the message in them, None for data."""

    t: float
    sender: Side
    data: bytes
    message: int | None = None
    note: str = ""


class ResealedLeg:
    """The records of one leg, in order. Iterate first; ``secrets`` and ``notes`` are complete afterwards."""

    def __init__(self, leg: Leg) -> None:
        self._leg = leg
        self.secrets: list[Secret] = []
        self.notes: list[str] = []
        self._opened = any(message.encrypted and message.form for message in leg.messages)
        self._early = any(_is(message, codes.END_OF_EARLY_DATA) for message in leg.messages)
        self._client_random = b""
        self._version = 0
        self._suite = 0
        self._now: dict[Side, Sealer] = {}
        self._next: dict[Side, Sealer] = {}

    def __iter__(self) -> Iterator[Sent]:
        waiting = [(side, count) for side in Side if (count := self._leg.count(side)).records or count.length]
        closed = list(self._leg.encrypted_records)
        for number, message in enumerate(self._leg.messages):
            for side, count in [entry for entry in waiting if _before(entry[1], message)]:
                waiting.remove((side, count))
                yield self._data(side, count)
            while closed and closed[0].t < message.t:
                yield self._unopened(closed.pop(0))
            yield self._message(number, message)
        for record in closed:
            yield self._unopened(record)
        end = self._leg.messages[-1].t if self._leg.messages else 0.0
        for side, count in sorted(waiting, key=lambda entry: end if entry[1].first is None else entry[1].first):
            yield self._data(side, count)

    # -- one message ---------------------------------------------------------------------------------------------

    def _message(self, number: int, message: Message) -> Sent:
        content = _CONTENT[message.content]
        if not message.raw and message.digest:
            note = f"message {number} of {message.length} bytes was not kept and is left out: {message.digest}"
            return Sent(message.t, message.sender, b"", number, note)
        if message.told is not None and (not message.form or message.told.certificates):
            note = f"message {number} is left out: a log tells of it, and not its bytes"
            return Sent(message.t, message.sender, b"", number, note)
        message, told = _put_together(message)
        plaintext, note = self._plaintext(message)
        note = note or told
        sealer = self._now.get(message.sender)
        if not message.encrypted:
            data = self._plain(message, content, plaintext)
        elif not message.raw:
            data = _zeros(content, self._record_version, message.length)
            note = "was not opened: zeros stand for it"
        elif sealer is None:
            # With an AEAD below TLS 1.3 an explicit nonce and a tag (RFC 5288 3), in TLS 1.3 the inner type and a tag.
            outer, more = (APPLICATION_DATA, 17) if is_tls13(self._version) else (content, 24)
            data = _zeros(outer, self._record_version, len(plaintext) + more)
            note = "was encrypted with what cannot be sealed here: zeros stand for it"
        else:
            data = b"".join(sealer.seal(content, piece) for piece in _fragments(plaintext))
        self._follow(message)
        return Sent(message.t, message.sender, data, number, note and f"message {number} {note}")

    def _plaintext(self, message: Message) -> tuple[bytes, str]:
        """The message's bytes. The end that was not kept becomes zeros, so that what comes after it is found."""
        missing = message.length - len(message.raw)
        if missing <= 0 or message.content is not Content.HANDSHAKE:
            return message.raw, ""
        all_kept = message.sha256 == sha256(message.raw).hexdigest()
        if all_kept or missing > _MOST_FILLED:
            return message.raw, f"is cut short: {len(message.raw)} of {message.length} bytes"
        return message.raw + bytes(missing), f"was kept up to byte {len(message.raw)}: zeros stand for the rest"

    def _plain(self, message: Message, content: int, plaintext: bytes) -> bytes:
        if looks_like_sslv2_hello(message.raw):
            return plaintext  # it has its record header with it (RFC 5246 E.2)
        # RFC 8446 5.1: the first ClientHello goes out as TLS 1.0
        version = self._record_version if self._client_random else TLS10
        return b"".join(struct.pack("!BHH", content, version, len(piece)) + piece for piece in _fragments(plaintext))

    # -- application data ----------------------------------------------------------------------------------------

    def _data(self, sender: Side, count: DataCount) -> Sent:
        t = count.first if count.first is not None else 0.0
        held = f"{count.length} bytes in {count.records} records, not kept"
        sealer = self._now.get(sender)
        if sealer is None or not self._opened:
            size = min(count.length, _STAND_IN)
            note = f"encrypted records that were not opened: {held}; one record of {size} zeros stands for them"
            return Sent(t, sender, _zeros(APPLICATION_DATA, self._record_version, size), note=note)
        size = min(count.length, 1)
        note = f"application data: {held}; one record of {'a zero' if size else 'nothing'} stands for it"
        return Sent(t, sender, sealer.seal(APPLICATION_DATA, bytes(size)), note=note)

    def _unopened(self, record: EncryptedRecord) -> Sent:
        data = _zeros(record.content_type, self._record_version, record.length)
        return Sent(record.t, record.sender, data, note="an encrypted record that was not opened: zeros stand for it")

    # -- the keys ------------------------------------------------------------------------------------------------

    @property
    def _record_version(self) -> int:
        return min(self._version or TLS12, TLS12)

    def _follow(self, message: Message) -> None:
        """Change keys where the message says so."""
        side = message.sender
        if message.content is Content.CHANGE_CIPHER_SPEC:
            if not is_tls13(self._version):
                self._turn(side)
        elif _is(message, codes.CLIENT_HELLO):
            self._client_hello(message)
        elif _is(message, codes.SERVER_HELLO):
            self._server_hello(message)
        elif is_tls13(self._version):
            if _is(message, codes.FINISHED):
                self._now |= self._traffic(**{side.value: f"{side.name}_TRAFFIC_SECRET_0"})
            elif _is(message, codes.END_OF_EARLY_DATA) and side is Side.CLIENT:
                self._now |= self._traffic("CLIENT_HANDSHAKE_TRAFFIC_SECRET")
            elif _is(message, codes.KEY_UPDATE) and isinstance(sealer := self._now.get(side), Tls13Sealer):
                self._now[side] = sealer.updated()

    def _turn(self, side: Side) -> None:
        """From now on this side's records are under its next keys, or under none that we have."""
        self._now.pop(side, None)
        if side in self._next:
            self._now[side] = self._next.pop(side)

    def _client_hello(self, message: Message) -> None:
        hello = decode_message(message.raw).value
        if isinstance(hello, ClientHello | Sslv2ClientHello):
            self._client_random = hello.random
        if self._early and not self._now:
            # Early data goes out before the ServerHello that tells the suite; theirs are the same (RFC 8446 4.2.10).
            answers = (_read_server_hello(answer) for answer in self._leg.messages if _is(answer, codes.SERVER_HELLO))
            self._suite = next((answer.cipher_suite for answer in answers if answer), 0)
            self._now = self._traffic("CLIENT_EARLY_TRAFFIC_SECRET")

    def _server_hello(self, message: Message) -> None:
        hello = _read_server_hello(message)
        if hello is None:
            return
        self._version, self._suite = _version(hello), hello.cipher_suite
        if not self._opened or len(self._client_random) != _RANDOM:
            return
        if is_tls13(self._version):
            handshake = self._traffic("CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET")
            self._now = handshake | (self._now if self._early else {})
            return
        sealers = tls12_sealers(
            version=self._version,
            suite=self._suite,
            master=_MASTER,
            client_random=self._client_random,
            server_random=hello.random,
            encrypt_then_mac=any(isinstance(extension, EncryptThenMac) for extension in hello.extensions or ()),
        )
        if hello.compression_method:
            sealers = None
        self._next = sealers or {}
        if sealers is None:
            self.notes.append(f"{cipher_suite_name(self._suite)}: its encrypted messages could not be sealed")
        else:
            self._keep("CLIENT_RANDOM", _MASTER)

    def _traffic(self, client: str = "", server: str = "") -> dict[Side, Sealer]:
        """Sealers of TLS 1.3 under the secrets with these labels, which are noted; none for an unknown suite."""
        size = tls13_secret_size(self._suite)
        if size is None:
            return {}
        sealers: dict[Side, Sealer] = {}
        for side, label in ((Side.CLIENT, client), (Side.SERVER, server)):
            if label:
                secret = hkdf_expand_label(_MASTER, label.lower(), self._client_random, size, "sha384")
                self._keep(label, secret)
                sealers[side] = tls13_sealer(self._suite, secret)
        return sealers

    def _keep(self, label: str, secret: bytes) -> None:
        kept = Secret(label, self._client_random, secret)
        if kept not in self.secrets:
            self.secrets.append(kept)


def _read_server_hello(message: Message) -> ServerHello | None:
    """None for a HelloRetryRequest, which changes no keys."""
    hello = decode_message(message.form).value
    return hello if isinstance(hello, ServerHello) else None


def _version(hello: ServerHello) -> int:
    """What was chosen (RFC 8446 4.1.3): in an extension since TLS 1.3."""
    chosen = [
        extension.selected_version for extension in hello.extensions or () if isinstance(extension, SelectedVersion)
    ]
    return chosen[0] if chosen else hello.legacy_version


def _is(message: Message, code: int) -> bool:
    return message.is_handshake(code) and bool(message.form)


def _put_together(message: Message) -> tuple[Message, str]:
    """A message that was told of as if it were there, and what has to be said about that."""
    if message.told is None:
        return message, ""
    lacking = [*message.told.absent, *(["certificate_authorities"] if message.told.authorities else [])]
    note = "is put together from what a log tells of it"
    if lacking:
        note += f"; zeros or nothing stand for {', '.join(lacking)}"
    return replace(message, raw=message.form, length=len(message.form), told=None), note


def _before(count: DataCount, message: Message) -> bool:
    return count.first is not None and count.first < message.t


def _fragments(plaintext: bytes) -> list[bytes]:
    return [plaintext[start : start + MAX_PLAINTEXT] for start in range(0, len(plaintext), MAX_PLAINTEXT)]


def _zeros(content: int, version: int, length: int) -> bytes:
    length = min(length, MAX_PLAINTEXT + 256)
    return struct.pack("!BHH", content, version, length) + bytes(length)
