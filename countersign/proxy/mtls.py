"""A target that asks for a client certificate, and what becomes of that.

Interception ends a TLS connection and begins another, and what proves the client's identity in the first proves nothing
in the second: the client's signature is over the wrong transcript (RFC 8446 4.4.3, RFC 5246 7.4.8), and only the client
has the key. What products do about that, and what can be chosen here (:class:`~countersign.proxy.settings.Mtls`):

*relay*: when the target's CertificateRequest has come, the server leg waits. The client leg begins, and asks the
client under the same names of authorities, byte for byte and in order, and for the same signature schemes. The
certificate that the client proves to own is signed again under our client CA (:mod:`countersign.ca.client`), and with
that the server leg goes on; a client that shows none has none shown. Nothing is presented before the client's
CertificateVerify has been checked, or whoever knows a certificate could use it. Who has issued it is not judged here.

*present*: one that was given. *strip*: none, and the client never hears of it. *bypass*: the connection is closed and
made again with the client's own hello, to pass through; the target is remembered, so that the next one is not made
twice. *block*: the client is refused.

*When the target refuses.* Below TLS 1.3 it does so before its Finished, so the client's last flight, from its
ChangeCipherSpec on, is kept from the client leg until the target has answered, and the target's alert becomes ours. In
TLS 1.3 a target says nothing when it accepts, and its refusal comes when the client has long finished: the client leg
is cut off then without a close_notify, for OpenSSL can send no alert of another's once a handshake is over.

*What cannot be mirrored.* OpenSSL has one list for the schemes that it asks for and those that it signs with itself, so
where the target's list has none for our own leaf, one is added. Certificate types (TLS 1.2) follow from the schemes; no
other extensions of a CertificateRequest than these two can be sent. Both requests are compared as they were sent, and
what differs is on the recording.

*Ordered.* A client can be asked whatever the target asks (:class:`~countersign.proxy.orders.ClientAuthOrders`),
under names that are not the target's, and its certificate be judged as servers do. What the target is shown is another
matter, which can be ordered as well (:class:`~countersign.proxy.orders.TargetOrders`).

*Asked later.* A target may ask in mid-connection, too, as web servers do that want a certificate for one folder: by
post-handshake authentication in TLS 1.3 (RFC 8446 4.6.2, offered to the target where the client offers it), below by a
renegotiation. With *relay* the client is asked in the same way then (:mod:`.asked_later`); *present* answers with what
was given, all others with none, and *bypass* remembers the target. What was asked last is on the recording.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from countersign.ca import ClientMint
from countersign.ca.assemble import name_der
from countersign.errors import UserError
from countersign.proxy._openssl import ClientJudging, TlsTrouble, own_schemes, signature_name
from countersign.proxy.leg import HandshakeEnded
from countersign.proxy.settings import Mtls
from countersign.recorder.certificates import cut_certificate, read_certificate
from countersign.recorder.der import DerError
from countersign.recorder.recording import Ending, LegRole
from countersign.recorder.wire import codes, records
from countersign.recorder.wire.events import Problem, Side
from countersign.recorder.wire.extensions import CertificateAuthorities, distinguished_name
from countersign.recorder.wire.messages import (
    CertificateRequest10,
    CertificateRequest12,
    CertificateRequest13,
    DecodeContext,
    decode_message,
)
from countersign.recorder.wire.names import (
    CLIENT_CERTIFICATE_TYPES,
    TLS12,
    TLS13,
    extension_name,
    signature_scheme_name,
    version_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from countersign.ca import Authority, Minted
    from countersign.proxy._openssl import ClientIdentity, Offer
    from countersign.proxy.context import Context
    from countersign.proxy.leg import TlsLeg
    from countersign.proxy.orders import ClientAuthOrders
    from countersign.proxy.settings import Address, Settings
    from countersign.recorder.wire.reading import HelloSummary

_NAMED_AT_MOST = 100  # names of authorities, and certificates, on a recording
_REMEMBERED = 1000  # targets that are passed through
_REMEMBERED_FOR = 600.0  # seconds
_IDENTITIES = 256
_SIGNATURE_ALGORITHMS = 13
_POST_HANDSHAKE_AUTH = 49
_LONGEST_RECORD = 5 + 16384 + 2048  # RFC 5246 6.2.3
_IMPLIED_SCHEMES = (0x0201, 0x0203)  # RFC 5246 7.4.1.4.1: what a client that names none can check


@dataclass(frozen=True, slots=True)
class Request:
    """A CertificateRequest: the names (DER) and schemes in their order, the types and the other extensions."""

    version: int
    names: tuple[bytes, ...]
    schemes: tuple[int, ...]
    types: tuple[int, ...]
    others: tuple[int, ...]

    @classmethod
    def of(cls, raw: bytes, version: int) -> Request:
        """What of it can be read; OpenSSL refuses one that cannot."""
        value = decode_message(raw, DecodeContext(version, None, Side.SERVER)).value
        match value:
            case CertificateRequest13():  # RFC 8446 4.3.2
                named = [each for each in value.extensions if isinstance(each, CertificateAuthorities)]
                asked = [each for each in value.extensions if each.code == _SIGNATURE_ALGORITHMS]
                schemes = tuple(scheme for each in asked for scheme in getattr(each, "schemes", ()))
                others = tuple(each.code for each in value.extensions if each not in named and each not in asked)
                return cls(version, tuple(name for each in named for name in each.authorities), schemes, (), others)
            case CertificateRequest12():  # RFC 5246 7.4.4
                types = value.certificate_types
                return cls(version, value.certificate_authorities, value.signature_algorithms, types, ())
            case CertificateRequest10():
                return cls(version, value.certificate_authorities, (), value.certificate_types, ())
        return cls(version, (), (), (), ())

    def to_json(self) -> dict[str, Any]:
        """For the recording; of the names the first hundred."""
        shown = [distinguished_name(name) for name in self.names[:_NAMED_AT_MOST]]
        return {
            "version": version_name(self.version),
            "certificate_authorities": shown,
            "certificate_authorities_count": len(self.names),
            "signature_algorithms": [signature_scheme_name(scheme) for scheme in self.schemes],
            "certificate_types": [_type_name(kind) for kind in self.types],
            "other_extensions": [extension_name(code) for code in self.others],
        }

    def differs(self, ours: Request) -> list[str]:
        """What is otherwise in our own request."""
        found = [] if self.names == ours.names else ["certificate_authorities"]
        for what, theirs, mine, name in (
            ("signature_algorithms", self.schemes, ours.schemes, signature_scheme_name),
            ("certificate_types", self.types, ours.types, _type_name),
            ("extensions", self.others, ours.others, extension_name),
        ):
            missing = [name(each) for each in theirs if each not in mine]
            added = [name(each) for each in mine if each not in theirs]
            if missing:
                found.append(f"{what}: without {', '.join(missing)}")
            if added:
                found.append(f"{what}: with {', '.join(added)}")
            if not missing and not added and theirs != mine:
                found.append(f"{what}: in another order")
        return found


def _type_name(kind: int) -> str:
    return CLIENT_CERTIFICATE_TYPES.get(kind, str(kind))


@dataclass(frozen=True, slots=True)
class Asking:
    """What a client leg was made with, as far as it takes that to ask the client again: the offer, what the client
    signs with, our own chain and key, and what its sessions are good for.
    """

    offer: Offer
    takes: tuple[int, ...] | None
    chain: tuple[bytes, ...]
    key: PrivateKeyTypes | bytes
    scope: bytes


class ClientCertificates:
    """What an engine keeps for its sessions: the client CA's certificates, and whom to pass through."""

    def __init__(self, settings: Settings, authority: Authority | None, *, monotonic: Callable[[], float]) -> None:
        if settings.mtls_mode is Mtls.RELAY and authority is None:
            raise UserError("--mtls relay needs a client CA to sign clients' certificates with; give the engine one")
        self.mint = None if authority is None else ClientMint(authority)
        self._monotonic = monotonic
        self._passed: OrderedDict[object, float] = OrderedDict()
        self._identities: OrderedDict[bytes, ClientIdentity] = OrderedDict()

    def remember(self, target: object) -> None:
        """Pass through to a target that asks for certificates, for the next ten minutes."""
        self._passed[target] = self._monotonic() + _REMEMBERED_FOR
        self._passed.move_to_end(target)
        if len(self._passed) > _REMEMBERED:
            self._passed.popitem(last=False)

    def passes(self, target: object) -> bool:
        """Whether this target is known to ask for certificates, and to be passed through for it."""
        return self._passed.get(target, 0.0) > self._monotonic()

    def identity(self, context: Context, minted: Minted) -> ClientIdentity:
        """OpenSSL's form of a certificate to present, kept. Raises :class:`IdentityRefused`."""
        place = sha256(b"".join(minted.chain)).digest()
        found = self._identities.get(place)
        if found is None:
            found = self._identities[place] = context.engine.client_side.identity(minted.chain, minted.key)
            if len(self._identities) > _IDENTITIES:
                self._identities.popitem(last=False)
        else:
            self._identities.move_to_end(place)
        return found


class Exchange:
    """What is said of client certificates in one session. Hears the messages of both legs and notes them as they pass.

    ``request`` is the target's, once it has asked.
    """

    def __init__(self, context: Context, target: Address) -> None:
        self._context = context
        self._target = target
        self._certificates = context.engine.certificates
        self._ordered = None if context.orders.target is None else context.orders.target.certificate
        self.mode = context.conduct.mtls
        self.request: Request | None = None
        self._ours: Request | None = None
        self._chosen: tuple[bytes, ...] = ()
        self._proven = False
        self._over = False
        self._server: TlsLeg | None = None
        self._offers_later = False  # the client can be asked after a handshake of TLS 1.3
        self._presented = False
        self.asking: Asking | None = None
        """How the client can be asked again, where it is to be."""
        self.answered = False
        """The client has said all that it has to say to what it was asked last."""

    @property
    def _noted(self) -> dict[str, Any]:
        self._context.recording.changed = True
        return self._context.recording.mtls

    # -- the server leg

    def watch_server(self, leg: TlsLeg, summary: HelloSummary) -> None:
        """Hear what the target asks and what it gets; where the client decides about that, wait for it."""
        if _POST_HANDSHAKE_AUTH in summary.extensions:
            if self.mode in {Mtls.PRESENT, Mtls.RELAY, Mtls.BYPASS} and self._ordered is None:
                self._offers_later = True
                leg.connection.offer_post_handshake_auth()
            else:
                self._context.recording.not_mirrored.append("extensions: post_handshake_auth")
        self._server = leg
        leg.connection.tap_only(codes.CERTIFICATE_REQUEST, self._asked, written=False)
        leg.connection.tap_only(codes.CERTIFICATE, self._answered, written=True)
        if self.mode in {Mtls.RELAY, Mtls.BYPASS, Mtls.BLOCK} or self._ordered is not None:
            leg.connection.wait_when_asked()

    @property
    def ordered(self) -> ClientIdentity | None:
        """What the target is to be shown by order. Raises :class:`IdentityRefused` where OpenSSL cannot show it."""
        return None if self._ordered is None else self._certificates.identity(self._context, self._ordered)

    def _answered(self, data: bytes) -> None:
        if self.request is not None:
            self._noted["presented"] = _chain_json(_chain_in(data, self._version))
        if self._over:
            self._await_requests()  # the next may have come already

    def _asked(self, data: bytes) -> None:
        if self.request is not None or self._over:
            self._asked_again(Request.of(data, self._version))
            return
        self.request = Request.of(data, self._version)
        self._noted.update(mode=self.mode.value, asked=self.request.to_json(), asked_of_client=None)
        if self.mode is Mtls.STRIP:
            self._noted["why"] = "the target's request was answered with no certificate; the client was not asked"
        elif self.mode is Mtls.PRESENT:
            self._noted["why"] = "the target is shown the certificate that was given; the client was not asked"

    def _asked_again(self, request: Request) -> None:
        assert self._server is not None
        noted = self._noted
        noted["mode"] = self.mode.value
        if self._relays_later:
            self.request, self._ours, self._chosen, self._proven = request, None, (), False
            for old in ("differs", "chosen", "resigned", "presented", "why"):
                noted.pop(old, None)
            noted.update(asked=request.to_json(), asked_of_client=None)
            self._server.connection.keeps_session = False  # it stands for this client from here on, and for no other
        elif "asked_again" not in noted:
            if self.request is None:
                self.request = request
                noted.update(asked=request.to_json(), asked_of_client=None)
            if self.mode is not Mtls.PRESENT:
                expected = "no CertificateRequest once the handshake is over: the client is not asked then"
                got = "one; its answer is that of the first handshake, or no certificate where there was none"
                problem = Problem(self._context.clock(), Side.SERVER, "certificate_request", 0, expected, got)
                self._context.recording.problems.append((LegRole.SERVER, problem))
            if self.mode is Mtls.BYPASS:
                self._certificates.remember((self._target, self._context.recording.sni))
                noted["why"] = "the target asked in mid-connection, too late to pass through: it was answered with no"
                noted["why"] += " certificate, and the next connection to it passes through"
        noted["asked_again"] = True

    @property
    def _relays_later(self) -> bool:
        return self.mode is Mtls.RELAY and self._ordered is None

    def handshake_over(self) -> None:
        """The server leg stands: what it is asked from now on waits for the client, or has the answer that it had."""
        self._over = True
        self._await_requests()

    def _await_requests(self) -> None:
        assert self._server is not None
        self._server.connection.answer = -1 if self._relays_later else 1

    @property
    def _version(self) -> int:
        assert self._server is not None
        return self._server.connection.version

    # -- the client leg

    @property
    def holder(self) -> bytes | None:
        """The SHA-256 of the certificate that the client has proven to own."""
        return sha256(self._chosen[0]).digest() if self._chosen and self._proven else None

    def offer(self, offer: Offer, takes: tuple[int, ...] | None, key: PrivateKeyTypes | bytes) -> Offer:
        """The client leg's offer with the schemes that are asked for; one that our own leaf needs behind them.

        ``takes`` are those of the client, ``key`` is our leaf's.
        """
        ordered = self._context.orders.client_auth
        if ordered is not None and ordered.signature_algorithms is not None:
            wanted = ordered.signature_algorithms
        elif self.request is not None and ordered is None:
            wanted = self.request.schemes
        else:
            return offer
        if offer.versions[0] < TLS12:
            return offer
        schemes = [scheme for scheme in wanted if signature_name(scheme) is not None]
        takes = takes or (_IMPLIED_SCHEMES if offer.versions[0] == TLS12 else ())
        mine = own_schemes(key).get(offer.versions[0]) or takes
        able = [scheme for scheme in takes if scheme in mine or scheme in _IMPLIED_SCHEMES]
        if not set(able) & set(schemes):
            schemes += [scheme for scheme in able if signature_name(scheme) is not None][:1]
        return replace(offer, signatures=tuple(schemes) or None)

    def watch_client(self, leg: TlsLeg) -> None:
        """Hear what the client is asked and what it answers."""
        leg.connection.tap_only(codes.CERTIFICATE_REQUEST, partial(self._client_asked, leg), written=True)
        leg.connection.tap_only(codes.CERTIFICATE, partial(self._client_shows, leg), written=False)
        leg.connection.tap_only(codes.CERTIFICATE_VERIFY, self._client_proves, written=False)
        leg.connection.tap_only(codes.FINISHED, self._client_finishes, written=False)

    def ask_again(self, leg: TlsLeg) -> bool:
        """Ask the client what the target has asked in mid-connection; False where it cannot be.

        Raises :class:`TlsTrouble` where OpenSSL can ask nothing such.
        """
        assert self.request is not None
        asking = self.asking
        if asking is None or leg.armed or (leg.connection.version == TLS13 and not self._offers_later):
            self._noted["why"] = "the target asked in mid-connection, where this client cannot be asked"
            return False
        if not leg.connection.hears(codes.CERTIFICATE, written=False):
            self.watch_client(leg)
        self.answered = False
        self._context.engine.server_side.ask_later(
            leg.connection,
            self.offer(asking.offer, asking.takes, asking.key),
            chain=asking.chain,
            key=asking.key,
            under=self.request.names,
            scope=asking.scope,
        )
        return True

    def give_up(self, why: str) -> None:
        """The client has not answered; the target gets no certificate."""
        self._chosen, self._proven = (), False
        self._noted["why"] = f"the target asked in mid-connection, and the client {why}"

    def _client_asked(self, leg: TlsLeg, data: bytes) -> None:
        self._ours = ours = Request.of(data, leg.connection.version)
        self._noted.setdefault("mode", self.mode.value)
        self._noted.update(asked_of_client=ours.to_json())
        if self.request is not None:
            self._noted.update(differs=self.request.differs(ours))

    def _client_shows(self, leg: TlsLeg, data: bytes) -> None:
        self._chosen = _chain_in(data, leg.connection.version)
        self._proven = not self._chosen
        self._noted["chosen"] = _chain_json(self._chosen)
        if self.request is not None and self._context.orders.client_auth is None:
            self._noted["why"] = _why(self._chosen, self.request, "the target")
        elif self._ours is not None:
            self._noted["why"] = _why(self._chosen, self._ours, "the proxy")

    def _client_proves(self, _data: bytes) -> None:
        self._proven = True

    def _client_finishes(self, _data: bytes) -> None:
        self.answered = True

    async def client_answers(self, leg: TlsLeg, limit: float) -> None:
        """The client leg's handshake up to where the client has proven what it shows.

        In TLS 1.3 that is all of it; below, the client's ChangeCipherSpec and what is behind it are still unread.
        Raises :class:`TlsTrouble` and :class:`HandshakeEnded` as :meth:`TlsLeg.handshake` does.
        """
        assert self.request is not None
        if self.request.version == TLS13:
            await leg.handshake(limit)
            return
        held = bytearray()
        try:
            async with asyncio.timeout(limit):
                while True:
                    try:
                        while (size := _first_record(held)) and not (
                            held[0] == records.CHANGE_CIPHER_SPEC and self._proven
                        ):
                            leg.feed(bytes(held[:size]))
                            del held[:size]
                            leg.connection.handshake()
                        leg.connection.handshake()
                    finally:
                        leg.flush()
                    if held and held[0] == records.CHANGE_CIPHER_SPEC and self._proven:
                        leg.stream.unread(bytes(held))
                        return
                    data = await leg.stream.read()
                    if not data:
                        assert leg.stream.ending is not None
                        raise HandshakeEnded(leg.stream.ending)
                    held += data
        except TimeoutError:
            raise HandshakeEnded(Ending.SILENT) from None

    async def answer(self, server: TlsLeg) -> None:
        """Give the server leg what the client has shown, signed again.

        Raises :class:`AuthorityError`, :class:`CannotMimic` and :class:`IdentityRefused` where that cannot be done.
        """
        if not self._chosen:
            server.connection.present(self._context.engine.client_side.nobody if self._presented else None)
            return
        assert self._proven, "a certificate is presented only for a client that has proven to own it"
        assert self._certificates.mint is not None
        minted = await self._certificates.mint.certificate_for(self._chosen[0])
        self._noted["resigned"] = {
            "by": read_certificate(minted.chain[0]).issuer,
            "left_out": list(minted.left_out),
            "certificates": f"{len(self._chosen)} from the client, {len(minted.chain)} to the target",
        }
        server.connection.present(self._certificates.identity(self._context, minted))
        self._presented = True

    def refuse(self, server: TlsLeg) -> None:
        """There will be no answer: the target is told ``internal_error``, for the fault is not its own."""
        server.connection.refuse_to_present()
        with contextlib.suppress(TlsTrouble):
            server.connection.handshake()
        server.flush()


def names_of(orders: ClientAuthOrders) -> tuple[bytes, ...]:
    """The names (DER) under which the client is asked by order."""
    if isinstance(orders.names, tuple):
        return orders.names
    issuers = [cut_certificate(each) for each in orders.authorities]
    match orders.names:
        case "roots":
            return tuple(each.subject for each in issuers if each.issuer == each.subject)
        case "intermediates":
            return tuple(each.subject for each in issuers if each.issuer != each.subject)
        case "others":
            return tuple(name_der(O="countersign", CN=f"an authority of somebody else {n}") for n in range(1, 4))
        case "empty":
            return ()
    return tuple(each.subject for each in issuers)


_DATES = frozenset({9, 10})  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_USAGE = frozenset({26})  # X509_V_ERR_INVALID_PURPOSE


def judging_of(orders: ClientAuthOrders) -> ClientJudging:
    """What is expected of the client's certificate by order."""
    forgiven = (frozenset() if orders.dates else _DATES) | (frozenset() if orders.usage else _USAGE)
    return ClientJudging(orders.required, orders.trusted, forgiven)


def _first_record(held: bytearray) -> int:
    """The size of the first record (RFC 5246 6.2.1) if all of it is there; of what is no record, OpenSSL gets all."""
    if len(held) < 5:
        return 0
    size = 5 + int.from_bytes(held[3:5])
    if size > _LONGEST_RECORD or not 20 <= held[0] <= 23:
        return len(held)
    return size if len(held) >= size else 0


def _chain_in(raw: bytes, version: int) -> tuple[bytes, ...]:
    value = decode_message(raw, DecodeContext(version, None, Side.CLIENT)).value
    return tuple(getattr(value, "certificates", ()))


def _chain_json(chain: Sequence[bytes]) -> dict[str, Any]:
    if not chain:
        return {"certificates": 0}
    facts = read_certificate(chain[0])
    return {
        "certificates": len(chain),
        "subject": facts.subject,
        "issuer": facts.issuer,
        "not_before": facts.not_before,
        "not_after": facts.not_after,
        "sha256": sha256(chain[0]).hexdigest(),
        "der": base64.b64encode(chain[0]).decode("ascii"),
    }


def _why(chain: Sequence[bytes], request: Request, who: str) -> str:
    """Why the client chose as it did, as far as names tell (RFC 8446 4.2.4, RFC 5246 7.4.6)."""
    count = len(request.names)
    asked = f"{count} name{'s' if count != 1 else ''} of authorities" if count else "no names of authorities"
    if not chain:
        return f"the client sent no certificate; {who} had asked with {asked}"
    for depth, certificate in enumerate(chain[:_NAMED_AT_MOST]):
        try:
            issuer = cut_certificate(certificate).issuer
        except DerError:
            continue
        if issuer in request.names:
            name = distinguished_name(issuer)["text"]
            whose = "its leaf" if depth == 0 else f"certificate {depth} of its chain"
            place = f"name {request.names.index(issuer) + 1} of {count}"
            return f"{who} asked for {name}, which is the issuer of {whose} ({place})"
    if not count:
        return f"{who} named no authority, so any certificate would do"
    return f"{who} asked with {asked}, and none of them is an issuer in the chain that the client sent"
