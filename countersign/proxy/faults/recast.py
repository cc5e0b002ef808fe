"""A handshake with a transcript of our own, so that a changed message is all that is wrong with it.

Every handshake message is in the transcript, and the server's CertificateVerify and Finished are over it. A message
that is changed on its way from OpenSSL to the client therefore breaks what OpenSSL signs behind it, and a client that
takes the change fails all the same, a moment later. What a client really does with, say, a certificate that OpenSSL
cannot serve, or an extension that it has not asked for, shows only where the rest of the handshake is right.

*TLS 1.3.* The keys of application data follow from the transcript, too, and from the secret that the key shares make,
which no key log tells (RFC 8446 7.1). So the key share in the ServerHello is replaced by one of ours: then there are
two conversations, the client's with us and ours with OpenSSL, with the same messages but for the changed ones. The
client's key schedule is ours from end to end; OpenSSL's is known from its key log, which is enough to speak with it.
The CertificateVerify is signed again with the leaf's key, both sides' Finished are made anew, and records go from the
one set of keys to the other. The tickets that OpenSSL gives are left out: the client could not resume with them.

*TLS 1.2.* Here the keys follow from the two randoms and the premaster secret alone, as long as there is no extended
master secret (RFC 7627), which the engine does not offer then. So both conversations have the same keys, and only the
two Finished are made anew (RFC 5246 7.4.9).

It is not done where it cannot be: in a handshake that resumes a session, with a group or a key that we cannot use,
with suites below TLS 1.3 that have no AEAD. A client that shows a certificate signs the transcript that it knows, and
OpenSSL refuses that.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mlkem, padding, rsa, x448, x25519

from countersign.proxy.sealer import APPLICATION, Keyring, finished_of
from countersign.recorder.wire import secrets
from countersign.recorder.wire.codes import FATAL
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.extensions import (
    ExtendedMasterSecret,
    KeyShare,
    KeyShareChosen,
    PreSharedKeyChosen,
)
from countersign.recorder.wire.keyschedule import hkdf_expand_label, prf
from countersign.recorder.wire.messages import (
    Certificate,
    Certificate13,
    CertificateEntry,
    CertificateVerify,
    ClientHello,
    DecodeContext,
    Finished,
    ServerHello,
    decode_message,
)
from countersign.recorder.wire.names import TLS12, TLS13
from countersign.recorder.wire.protection import TLS13_PROTECTIONS, tls12_protection
from countersign.recorder.wire.records import HANDSHAKE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from countersign.proxy.faults.items import Item
    from countersign.proxy.faults.kinds import MessageWorker

_INTERNAL_ERROR = 80
_SIGNED = b" " * 64 + b"TLS 1.3, server CertificateVerify\0"
_HASHES: dict[int, hashes.HashAlgorithm] = {
    0x0403: hashes.SHA256(), 0x0503: hashes.SHA384(), 0x0603: hashes.SHA512(), 0x081A: hashes.SHA256(),
    0x081B: hashes.SHA384(), 0x081C: hashes.SHA512(), 0x0804: hashes.SHA256(), 0x0805: hashes.SHA384(),
    0x0806: hashes.SHA512(), 0x0809: hashes.SHA256(), 0x080A: hashes.SHA384(), 0x080B: hashes.SHA512(),
}  # fmt: skip
_CURVES: dict[int, type[ec.EllipticCurve]] = {0x0017: ec.SECP256R1, 0x0018: ec.SECP384R1, 0x0019: ec.SECP521R1}
_SIGNING = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
_POINT = (serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


class Transcript:
    """The handshake messages of one conversation in their order (RFC 8446 4.4.1)."""

    def __init__(self) -> None:
        self._messages: list[bytes] = []

    def add(self, name: str, data: bytes, hash_name: str) -> None:
        """The next message. Before a HelloRetryRequest the first hello shrinks to its hash."""
        if name == "hello_retry_request":
            first = hashlib.new(hash_name, b"".join(self._messages)).digest()
            self._messages = [b"\xfe\0\0" + bytes([len(first)]) + first]
        self._messages.append(data)

    def digest(self, hash_name: str) -> bytes:
        """The hash of all of them."""
        return hashlib.new(hash_name, b"".join(self._messages)).digest()


class _Schedule13:
    """The key schedule of the conversation with the client (RFC 8446 7.1), without a pre-shared key."""

    def __init__(self, shared: bytes, hash_name: str) -> None:
        self._hash = hash_name
        self._size = hashlib.new(hash_name).digest_size
        early = hmac.digest(bytes(self._size), bytes(self._size), hash_name)
        self.secret = hmac.digest(self._derived(early), shared, hash_name)

    def _derived(self, secret: bytes) -> bytes:
        return self.derive("derived", hashlib.new(self._hash).digest(), of=secret)

    def derive(self, label: str, transcript_hash: bytes, *, of: bytes | None = None) -> bytes:
        """Derive-Secret."""
        return hkdf_expand_label(of or self.secret, label, transcript_hash, self._size, self._hash)

    def to_master(self) -> None:
        """From here on secrets are those of application data."""
        self.secret = hmac.digest(self._derived(self.secret), bytes(self._size), self._hash)


class _Take(Protocol):
    def __call__(self, item: Item) -> Iterable[Item]: ...


class _Stage:
    """One place in a way where a recast handshake looks at what passes."""

    def __init__(self, take: _Take) -> None:
        self.take = take

    def rest(self) -> Iterable[Item]:
        """Nothing is kept back here."""
        return ()


class Recast:
    """The two conversations of one client leg, from the ServerHello on.

    ``key`` is that of the leaf; ``chain``, where it is given, is shown in the place of OpenSSL's. ``shown`` is called
    then, and ``cannot`` where that is impossible. ``source`` has OpenSSL's secrets; ``tell`` gets those of the client's
    conversation. ``on`` is None until the ServerHello has come: then it is true, or false where it cannot be done, and
    ``decided`` is called.
    """

    def __init__(
        self,
        *,
        key: PrivateKeyTypes | bytes | None,
        chain: tuple[bytes, ...] | None,
        source: Keyring,
        tell: Callable[[str, bytes], None],
        decided: Callable[[], None],
        shown: Callable[[], None],
        cannot: Callable[[], None],
    ) -> None:
        self.on: bool | None = None
        self._key = key
        self._chain = chain
        self._source = source
        self._tell = tell
        self._decided = decided
        self._shown = shown
        self._cannot = cannot
        self._agreed = source.agreed
        self._ours, self._theirs = Transcript(), Transcript()
        self._offered: ClientHello | None = None
        self._schedule: _Schedule13 | None = None
        self._secrets: dict[str, bytes] = {}

    # -- the four places ------------------------------------------------------------------------------------------

    @property
    def out_first(self) -> MessageWorker:
        """What OpenSSL sends, as it comes from it."""
        return _Stage(self._from_openssl)

    @property
    def out_last(self) -> MessageWorker:
        """What goes to the client."""
        return _Stage(self._to_client)

    @property
    def into_first(self) -> MessageWorker:
        """What the client sends, as it comes from it."""
        return _Stage(self._from_client)

    @property
    def into_last(self) -> MessageWorker:
        """What goes to OpenSSL."""
        return _Stage(self._to_openssl)

    def _from_client(self, item: Item) -> Iterable[Item]:
        if item.name == "client_hello":
            value = decode_message(item.data).value
            self._offered = value if isinstance(value, ClientHello) else self._offered
        if item.name == "finished" and self.on:
            right = self._verify_data(Side.CLIENT, self._ours, ours=True)
            self._add(self._ours, item)
            if item.data[4:] == right:  # else OpenSSL sees a wrong one, which it is
                item = item.with_data(Finished(self._verify_data(Side.CLIENT, self._theirs, ours=False)).build())
            return (item,)
        self._add(self._ours, item)
        return (item,)

    def _to_openssl(self, item: Item) -> Iterable[Item]:
        self._add(self._theirs, item)
        return (item,)

    def _from_openssl(self, item: Item) -> Iterable[Item]:
        if item.content_type != HANDSHAKE or not item.opened:
            return (item,)
        theirs = item
        if item.name == "server_hello" and self.on is None:
            item = self._answer(item)
        elif item.name == "certificate" and self._chain is not None:
            if not self.on:  # what OpenSSL has to show is no chain for anybody
                self._cannot()
                return (item.alert(FATAL, _INTERNAL_ERROR, epoch=item.epoch), item.end())
            item = self._certificate(item, self._chain)
        elif self.on and item.name == "certificate_verify" and self._agreed.tls13:
            item = self._signed(item)
        elif self.on and item.name == "finished":
            item = item.with_data(Finished(self._verify_data(Side.SERVER, self._ours, ours=True)).build())
        elif self.on and item.name == "new_session_ticket" and self._agreed.tls13:
            return ()
        self._add(self._theirs, theirs)
        return (item,)

    def _to_client(self, item: Item) -> Iterable[Item]:
        self._add(self._ours, item)
        if self.on and self._agreed.tls13 and self._schedule is not None:
            if item.name == "server_hello":
                self._new_secrets(self._schedule, "hs", self._labels_of_handshake)
            elif item.name == "finished" and item.epoch != APPLICATION:
                self._schedule.to_master()
                self._new_secrets(self._schedule, "ap", self._labels_of_data)
        return (item,)

    _labels_of_handshake = (secrets.CLIENT_HANDSHAKE_TRAFFIC_SECRET, secrets.SERVER_HANDSHAKE_TRAFFIC_SECRET)
    _labels_of_data = (secrets.CLIENT_TRAFFIC_SECRET_0, secrets.SERVER_TRAFFIC_SECRET_0)

    def _new_secrets(self, schedule: _Schedule13, epoch: str, labels: tuple[str, str]) -> None:
        for label, side in zip(labels, "cs", strict=True):
            secret = schedule.derive(f"{side} {epoch} traffic", self._ours.digest(self._hash))
            self._secrets[label] = secret
            self._tell(label, secret)

    # -- what is made anew ----------------------------------------------------------------------------------------

    @property
    def _hash(self) -> str:
        agreed = self._agreed
        if agreed.tls13:
            return TLS13_PROTECTIONS[agreed.suite].hash_name
        protection = tls12_protection(agreed.suite)
        return "sha256" if protection is None else protection.hash_name

    def _add(self, transcript: Transcript, item: Item) -> None:
        if self._agreed.tls13 and item.epoch == APPLICATION:
            return  # tickets and key updates, and what a fault has put there
        if item.content_type == HANDSHAKE and item.opened and item.name not in {"", "hello_request"}:
            hash_name = "sha256"
            if item.name == "hello_retry_request" and self._agreed.suite in TLS13_PROTECTIONS:
                hash_name = self._hash
            transcript.add(item.name, item.data, hash_name)

    def _answer(self, item: Item) -> Item:
        """The ServerHello, with a key share of ours in TLS 1.3; decides whether there are to be two conversations."""
        hello = decode_message(item.data).value
        answer = None
        if isinstance(hello, ServerHello) and self._may(hello):
            answer = self._answer_13(hello) if self._agreed.tls13 else item.data
        self.on = answer is not None
        self._decided()
        return item if answer is None or answer == item.data else item.with_data(answer)

    def _may(self, hello: ServerHello) -> bool:
        extensions, agreed = hello.extensions or (), self._agreed
        if agreed.version == TLS13:
            resumes = any(isinstance(each, PreSharedKeyChosen) for each in extensions)
            return not resumes and agreed.suite in TLS13_PROTECTIONS and can_sign(self._key)
        extended = any(isinstance(each, ExtendedMasterSecret) for each in extensions)
        return agreed.version == TLS12 and not extended and self._source.may_come

    def _answer_13(self, hello: ServerHello) -> bytes | None:
        chosen = [each.group for each in hello.extensions or () if isinstance(each, KeyShareChosen)]
        offered = {
            entry.group: entry.key_exchange
            for each in (self._offered.extensions or () if self._offered else ())
            if isinstance(each, KeyShare)
            for entry in each.entries
        }
        for group in [*chosen, *offered]:
            made = agree(group, offered.get(group, b""))
            if made is not None:
                break
        else:
            return None
        share, shared = made
        self._schedule = _Schedule13(shared, self._hash)
        kept = tuple(
            KeyShareChosen(group, share) if isinstance(each, KeyShareChosen) else each
            for each in hello.extensions or ()
        )
        return ServerHello(
            hello.legacy_version,
            hello.random,
            hello.session_id,
            hello.cipher_suite,
            hello.compression_method,
            kept,
        ).build()

    def _certificate(self, item: Item, chain: tuple[bytes, ...]) -> Item:
        context = DecodeContext(self._agreed.version, self._agreed.suite, Side.SERVER)
        value = decode_message(item.data, context).value
        if isinstance(value, Certificate13):
            beside = value.entries[0].extensions if value.entries else ()
            entries = [CertificateEntry(one, beside if place == 0 else ()) for place, one in enumerate(chain)]
            data = Certificate13(value.context, tuple(entries)).build()
        else:
            data = Certificate(chain).build()
        self._shown()
        return item.with_data(data)

    def _signed(self, item: Item) -> Item:
        value = decode_message(item.data, DecodeContext(TLS13, None, Side.SERVER)).value
        if not isinstance(value, CertificateVerify):
            return item
        signature = sign(self._key, value.algorithm, _SIGNED + self._ours.digest(self._hash))
        return item if signature is None else item.with_data(CertificateVerify(value.algorithm, signature).build())

    def _verify_data(self, side: Side, transcript: Transcript, *, ours: bool) -> bytes:
        """What the Finished of this side has to say, in the client's conversation (``ours``) or in OpenSSL's."""
        digest = transcript.digest(self._hash)
        if self._agreed.tls13:
            label = self._labels_of_handshake[0 if side is Side.CLIENT else 1]
            secret = self._secrets.get(label) if ours else self._source.secret(label)
            return b"" if secret is None else finished_of(secret, digest, self._hash)
        master = self._source.master
        label_of = b"client finished" if side is Side.CLIENT else b"server finished"
        return b"" if master is None else prf(TLS12, master, label_of, digest, 12, hash_name=self._hash)


def agree(group: int, theirs: bytes) -> tuple[bytes, bytes] | None:
    """Our key share for the client's, and the secret that the two make (RFC 8446 7.4, RFC 9954); None if we cannot."""
    try:
        if group in _CURVES:
            curve = _CURVES[group]()
            mine = ec.generate_private_key(curve)
            peer = ec.EllipticCurvePublicKey.from_encoded_point(curve, theirs)
            return mine.public_key().public_bytes(*_POINT), mine.exchange(ec.ECDH(), peer)
        if group == 0x001D:
            return _x25519(theirs)
        if group == 0x001E:
            own = x448.X448PrivateKey.generate()
            return own.public_key().public_bytes_raw(), own.exchange(x448.X448PublicKey.from_public_bytes(theirs))
        if group == 0x11EC:  # X25519MLKEM768: the encapsulation key first, then the point
            shared, sealed = mlkem.MLKEM768PublicKey.from_public_bytes(theirs[:1184]).encapsulate()
            share, point_secret = _x25519(theirs[1184:])
            return sealed + share, shared + point_secret
    except (ValueError, UnsupportedAlgorithm):  # a share that is none, a build of OpenSSL without the group
        return None
    return None


def _x25519(theirs: bytes) -> tuple[bytes, bytes]:
    own = x25519.X25519PrivateKey.generate()
    return own.public_key().public_bytes_raw(), own.exchange(x25519.X25519PublicKey.from_public_bytes(theirs))


def can_sign(key: PrivateKeyTypes | bytes | None) -> bool:
    """Whether this key can sign a CertificateVerify here."""
    return isinstance(key, _SIGNING)


def sign(key: PrivateKeyTypes | bytes | None, scheme: int, data: bytes) -> bytes | None:
    """A signature of this scheme (RFC 8446 4.2.3); None where the key does not fit it."""
    digest = _HASHES.get(scheme)
    match key:
        case rsa.RSAPrivateKey() if digest is not None and scheme >> 8 == 0x08:
            return key.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        case ec.EllipticCurvePrivateKey() if digest is not None:
            return key.sign(data, ec.ECDSA(digest))
        case ed25519.Ed25519PrivateKey() | ed448.Ed448PrivateKey():
            return key.sign(data)
    return None


@lru_cache(maxsize=64)
def stand_in(key: PrivateKeyTypes) -> bytes | None:
    """A certificate (DER) that OpenSSL takes, for a key whose own it does not take; None where there can be none."""
    if not can_sign(key):
        return None
    assert isinstance(key, _SIGNING)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "countersign stand-in, never sent")])
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=3650))
    return builder.sign(key, digest).public_bytes(serialization.Encoding.DER)
