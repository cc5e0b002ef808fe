"""The record sealer: opens the records of one direction and seals them again, from the secrets of the key log.

OpenSSL has no call for the wrong message at the right time, nor for an alert of our choice. But it gives its secrets
away, by the key log callback, so what it has sealed can be opened, changed and sealed again before it goes out. From
the first record that is put in, left out or made longer, all that follow have another sequence number (RFC 8446 5.3),
so they are sealed again, too: :class:`~countersign.proxy.faults.records.Writer` does that.

A nonce is never used for two plaintexts on the same wire: what is sealed again takes the place of what was not sent.
Below TLS 1.3 there is AEAD alone (RFC 5246 6.2.3.3): suites with CBC or RC4 are left alone.

The secrets are in memory only, for as long as the connection lives; what a recording keeps of them is another matter.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag

from countersign.recorder.wire import secrets
from countersign.recorder.wire.codes import FATAL
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.keyschedule import hkdf_expand_label, next_traffic_secret, traffic_key
from countersign.recorder.wire.names import TLS12, TLS13
from countersign.recorder.wire.protection import (
    TLS13_PROTECTIONS,
    Protection,
    aead,
    mac_header,
    nonce,
    tls12_keys,
    tls12_protection,
)
from countersign.recorder.wire.records import ALERT, APPLICATION_DATA

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.recorder.wire.keyschedule import DirectionKeys
    from countersign.recorder.wire.messages import ClientHello

CLEAR, HANDSHAKE, APPLICATION = range(3)
"""Epochs of a direction: in clear; under handshake keys, or, below TLS 1.3, under the only ones; under the rest."""

_COUNTED = 1 << 20
_header = struct.Struct("!BHH").pack
_LABELS = {
    (Side.CLIENT, HANDSHAKE): secrets.CLIENT_HANDSHAKE_TRAFFIC_SECRET,
    (Side.SERVER, HANDSHAKE): secrets.SERVER_HANDSHAKE_TRAFFIC_SECRET,
    (Side.CLIENT, APPLICATION): secrets.CLIENT_TRAFFIC_SECRET_0,
    (Side.SERVER, APPLICATION): secrets.SERVER_TRAFFIC_SECRET_0,
}


class RecordKey13:
    """One traffic secret of TLS 1.3 at work, to open or to seal; ``count`` is the number of the next record."""

    __slots__ = ("_aead", "_iv", "_protection", "_secret", "count")
    explicit = 0
    """Bytes of nonce ahead of the ciphertext."""

    def __init__(self, protection: Protection, secret: bytes) -> None:
        key, iv = traffic_key(secret, protection.key_length, protection.hash_name)
        self._aead = aead(protection, key)
        self._iv = int.from_bytes(iv, "big")
        self._protection = protection
        self._secret = secret
        self.count = 0

    def seal(self, content_type: int, version: int, data: bytes, padding: int = 0) -> bytes:  # noqa: ARG002 - outside it is fixed
        """The whole record (RFC 8446 5.2)."""
        header = _header(APPLICATION_DATA, TLS12, len(data) + 1 + padding + self._protection.tag)
        sealed = self._aead.encrypt(nonce(self._iv, self.count), data + bytes([content_type]) + bytes(padding), header)
        self.count += 1
        return header + sealed

    def open(self, raw: bytes) -> tuple[int, bytes, int] | None:
        """Type, what is in it, and how much padding; None where it does not open, and then it is not counted."""
        try:
            inner = self._aead.decrypt(nonce(self._iv, self.count), raw[5:], raw[:5])
        except (InvalidTag, ValueError):
            return None
        self.count += 1
        content = inner.rstrip(b"\0")
        return (content[-1], content[:-1], len(inner) - len(content)) if content else (0, inner, 0)

    def updated(self) -> RecordKey13:
        """The key after a KeyUpdate (RFC 8446 7.2)."""
        return RecordKey13(self._protection, next_traffic_secret(self._secret, self._protection.hash_name))


class RecordKey12:
    """The key of one direction of TLS 1.2 with AEAD (RFC 5246 6.2.3.3, RFC 7905)."""

    __slots__ = ("_aead", "_iv", "count", "explicit")

    def __init__(self, protection: Protection, keys: DirectionKeys) -> None:
        self._aead = aead(protection, keys.key)
        self._iv = keys.iv
        self.explicit = 8 if len(keys.iv) == 4 else 0
        self.count = 0

    def seal(self, content_type: int, version: int, data: bytes, padding: int = 0) -> bytes:  # noqa: ARG002 - there is none
        """The whole record; its explicit nonce, where it has one, is its number (RFC 5288 3)."""
        explicit = self.count.to_bytes(8) if self.explicit else b""
        additional = mac_header(self.count, content_type, version, len(data))
        payload = explicit + self._aead.encrypt(self._nonce(explicit), data, additional)
        self.count += 1
        return _header(content_type, version, len(payload)) + payload

    def open(self, raw: bytes) -> tuple[int, bytes, int] | None:
        """As :meth:`RecordKey13.open`; there is no padding."""
        explicit = raw[5 : 5 + self.explicit]
        sealed = raw[5 + len(explicit) :]
        version = int.from_bytes(raw[1:3])
        try:
            additional = mac_header(self.count, raw[0], version, len(sealed) - 16)
            data = self._aead.decrypt(self._nonce(explicit), sealed, additional)
        except (InvalidTag, ValueError, struct.error):
            return None
        self.count += 1
        return raw[0], data, 0

    def _nonce(self, explicit: bytes) -> bytes:
        return self._iv + explicit if explicit else nonce(int.from_bytes(self._iv, "big"), self.count)


RecordKey = RecordKey13 | RecordKey12


@dataclass(slots=True, kw_only=True)
class Agreed:
    """What the hellos of one conversation say that keys, and some faults, depend on."""

    client_hello: ClientHello | None = None
    client_random: bytes = b""
    server_random: bytes = b""
    version: int | None = None
    suite: int = 0

    @property
    def tls13(self) -> bool:
        return self.version == TLS13

    @property
    def hash_name(self) -> str:
        """Of TLS 1.3: that of its suite, which is one of the five."""
        return TLS13_PROTECTIONS[self.suite].hash_name


class Keyring:
    """The secrets of one conversation, as the key log gives them. Never shown.

    Below TLS 1.3 OpenSSL logs the master secret only with its own Finished; ``fetch`` gives it before.
    """

    def __init__(self, agreed: Agreed, *, fetch: Callable[[], bytes | None] = lambda: None) -> None:
        self.agreed = agreed
        self._fetch = fetch
        self._secrets: dict[str, bytes] = {}

    def add(self, label: str, secret: bytes) -> None:
        """A secret of this conversation."""
        self._secrets[label] = secret

    def secret(self, label: str) -> bytes | None:
        return self._secrets.get(label)

    @property
    def master(self) -> bytes | None:
        """The master secret, below TLS 1.3."""
        return self.secret(secrets.CLIENT_RANDOM) or self._fetch()

    def key(self, side: Side, epoch: int) -> RecordKey | None:
        """A fresh key for what this side sends; None where its secret is not known yet, or there cannot be one."""
        agreed = self.agreed
        if agreed.tls13:
            secret, protection = self.secret(_LABELS[side, epoch]), TLS13_PROTECTIONS.get(agreed.suite)
            return None if secret is None or protection is None else RecordKey13(protection, secret)
        master = self.master
        if master is None or agreed.version != TLS12:
            return None
        found = tls12_keys(
            version=TLS12,
            suite=agreed.suite,
            master=master,
            client_random=agreed.client_random,
            server_random=agreed.server_random,
        )
        if found is None or found[0].tag != 16:
            return None
        return RecordKey12(found[0], found[1][side])

    @property
    def may_come(self) -> bool:
        """Whether keys for this conversation can be made once its secrets are known."""
        agreed = self.agreed
        if agreed.tls13:
            return agreed.suite in TLS13_PROTECTIONS
        protection = tls12_protection(agreed.suite)
        return agreed.version == TLS12 and protection is not None and protection.tag == 16


class LateAlert:
    """Seals one alert behind what OpenSSL has sent as a TLS 1.3 server, for it sends none of our choice.

    A refusal of the target can come when the client's handshake is done (RFC 8446 4.4.2.4). What it takes to pass it on
    is the traffic secret and the number of records so far, so these are counted; the alert of a target that refuses
    comes early, and behind a megabyte nobody counts any more.
    """

    __slots__ = ("_count", "_header", "_left", "_secret", "_sent")

    def __init__(self) -> None:
        self._secret: bytes | None = None
        self._count: int | None = None  # None until the flight with the Finished has been sent
        self._left = 0  # of the payload of the record that is being sent
        self._header = b""  # of the next one, as far as it has been sent
        self._sent = 0

    def hear(self, line: bytes) -> None:
        """A line of the key log."""
        if line.startswith(b"SERVER_TRAFFIC_SECRET_0 "):
            found = secrets.parse_line(line)
            self._secret = None if found is None else found.secret

    def sent(self, out: bytes | memoryview) -> bool:
        """Count what goes out; the secret comes with the flight that ends with Finished. False: nobody counts now."""
        if self._secret is None:
            return True
        if self._count is None:
            self._count = 0
            return True
        self._sent += len(out)
        at = self._left
        while at < len(out):
            header = self._header + bytes(out[at : at + 5 - len(self._header)])
            at += len(header) - len(self._header)
            self._header = header if len(header) < 5 else b""
            if len(header) == 5:
                at += int.from_bytes(header[3:])
                self._count += 1
        self._left = at - len(out)
        return self._sent < _COUNTED

    def seal(self, suite: int | None, description: int) -> bytes | None:
        """The record with this fatal alert; None where it cannot be."""
        protection = TLS13_PROTECTIONS.get(suite or 0)
        if self._secret is None or self._count is None or self._left or self._header or protection is None:
            return None
        key = RecordKey13(protection, self._secret)
        key.count = self._count
        return key.seal(ALERT, TLS12, bytes((FATAL, description)))


def finished_of(secret: bytes, transcript_hash: bytes, hash_name: str) -> bytes:
    """The verify_data of a Finished of TLS 1.3 under a handshake traffic secret (RFC 8446 4.4.4)."""
    key = hkdf_expand_label(secret, "finished", b"", len(secret), hash_name)
    return hmac.digest(key, transcript_hash, hash_name)
