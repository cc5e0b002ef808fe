"""One handshake message of a JSSE log entry, put in wire form again as far as it was printed.

JSSE prints nearly all that a message holds, with the numbers of suites and extensions beside their names, so most come
out whole: a ClientHello is byte for byte what went over the wire. Where it leaves something out, or prints it in a form
that cannot be turned back (the DER of certificates, an OCSP response, the age of a ticket, what an extension's own
printer made of a body that it could not read), a stand-in takes its place and its path is noted
(:class:`~countersign.recorder.wire.told.Told`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from countersign.recorder.files.javalog import printed, words
from countersign.recorder.files.javalog.distinguished import read_name, split_names
from countersign.recorder.wire import codes, extensions as e, messages as m, names
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.extensions import Where
from countersign.recorder.wire.told import Told

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from countersign.recorder.certificates import CertificateFacts
    from countersign.recorder.files.javalog.outline import Node

_EXTENSION = re.compile(r"(.*) \(([\d,]+)\)$")
_HOST = re.compile(r"type=host_name \(0\), value=(.*)")
_EMPTY_MESSAGES: Final = {"ServerHelloDone": 14, "HelloRequest": 0}

CODES: Final = {
    "HelloRequest": 0,
    "ClientHello": codes.CLIENT_HELLO,
    "ServerHello": codes.SERVER_HELLO,
    "HelloRetryRequest": codes.SERVER_HELLO,
    "NewSessionTicket": codes.NEW_SESSION_TICKET,
    "EncryptedExtensions": codes.ENCRYPTED_EXTENSIONS,
    "Certificate": codes.CERTIFICATE,
    "ServerKeyExchange": 12,
    "CertificateRequest": codes.CERTIFICATE_REQUEST,
    "ServerHelloDone": 14,
    "CertificateVerify": 15,
    "ClientKeyExchange": 16,
    "Finished": codes.FINISHED,
    "CertificateStatus": 22,
    "KeyUpdate": codes.KEY_UPDATE,
}
"""Handshake types by the last word of what JSSE calls a message."""

SENDERS: Final = {
    "HelloRequest": Side.SERVER,
    "ClientHello": Side.CLIENT,
    "ServerHello": Side.SERVER,
    "HelloRetryRequest": Side.SERVER,
    "NewSessionTicket": Side.SERVER,
    "EncryptedExtensions": Side.SERVER,
    "ServerKeyExchange": Side.SERVER,
    "CertificateRequest": Side.SERVER,
    "ServerHelloDone": Side.SERVER,
    "ClientKeyExchange": Side.CLIENT,
    "CertificateStatus": Side.SERVER,
}
"""Who sends what only one side sends."""


@dataclass(slots=True)
class Rebuilt:
    """A message in the making. ``doubts`` are sentences about what is not certain of it."""

    form: bytes = b""
    absent: list[str] = field(default_factory=list)
    certificates: list[CertificateFacts] = field(default_factory=list)
    authorities: tuple[str, ...] | None = None
    doubts: list[str] = field(default_factory=list)

    def told(self) -> Told:
        return Told(self.form, tuple(self.absent), tuple(self.certificates), self.authorities)

    def build(self, message: m.HandshakeMessage | None) -> None:
        """Put the message in wire form; what fits in none (a list that is too long for its length) has no form."""
        try:
            self.form = b"" if message is None else message.build()
        except OverflowError:
            self.form = b""

    def octets(self, text: str | None, name: str, *, size: int | None = None) -> bytes:
        """A field of bytes that was printed as hex; a stand-in where it was not."""
        data = None if text is None else words.hexadecimal(text)
        if data is None or (size is not None and len(data) != size):
            self.absent.append(name)
            return bytes(size or 0)
        return data

    def number(self, value: int | None, name: str) -> int:
        if value is None:
            self.absent.append(name)
            return 0
        return value

    def numbers(self, value: tuple[int, ...] | None, name: str) -> tuple[int, ...]:
        if value is None:
            self.absent.append(name)
            return ()
        return value

    def dump(self, node: Node | None, name: str) -> bytes:
        """The bytes of a hex dump."""
        if node is None:
            self.absent.append(name)
            return b""
        return bytes(node.data)


def rebuild(name: str, root: Node, known_names: Collection[str] = ()) -> Rebuilt:
    """The message of this name from the tree of its entry's body. ``known_names`` help to cut a list of CA names."""
    made = Rebuilt()
    if name in _EMPTY_MESSAGES:
        made.form = bytes([_EMPTY_MESSAGES[name], 0, 0, 0])
        return made
    body = next(iter(root.children), None)
    reader = _READERS.get(name)
    if body is not None and reader is not None:
        made.build(reader(body, made, known_names))
    return made


# -- hellos ------------------------------------------------------------------------------------------------------


def _client_hello(body: Node, made: Rebuilt, _: Collection[str]) -> m.ClientHello:
    suites = words.numbers(words.listed(body.get("cipher suites") or ""), words.suite)
    return m.ClientHello(
        made.number(words.version(body.get("client version") or ""), "legacy_version"),
        made.octets(body.get("random"), "random", size=32),
        made.octets(body.get("session id"), "session_id"),
        made.numbers(suites if body.child("cipher suites") else None, "cipher_suites"),
        tuple(made.octets(body.get("compression methods"), "compression_methods")),
        _block(body.child("extensions"), Where.CLIENT_HELLO, made, optional=True),
    )


def _server_hello(body: Node, made: Rebuilt, _: Collection[str]) -> m.ServerHello | m.HelloRetryRequest:
    random = made.octets(body.get("random"), "random", size=32)
    retry = random == m.HELLO_RETRY_REQUEST_RANDOM
    compression = made.octets(body.get("compression methods"), "compression_method", size=1)
    where = Where.HELLO_RETRY_REQUEST if retry else Where.SERVER_HELLO
    return (m.HelloRetryRequest if retry else m.ServerHello)(
        made.number(words.version(body.get("server version") or ""), "legacy_version"),
        random,
        made.octets(body.get("session id"), "session_id"),
        made.number(words.suite(body.get("cipher suite") or ""), "cipher_suite"),
        compression[0],
        _block(body.child("extensions"), where, made, optional=True),
    )


def _encrypted_extensions(body: Node, made: Rebuilt, _: Collection[str]) -> m.EncryptedExtensions:
    return m.EncryptedExtensions(_block(body, Where.ENCRYPTED_EXTENSIONS, made) or ())


# -- certificates ------------------------------------------------------------------------------------------------


def _certificate(body: Node, made: Rebuilt, _: Collection[str]) -> m.Certificate | m.Certificate13 | None:
    if body.key == "Certificates":  # RFC 5246 7.4.2
        made.certificates += [printed.from_jsse(one) for one in body.all("certificate")]
        return None if made.certificates else m.Certificate(())
    entries: list[m.CertificateEntry] = []
    for entry in (body.child("certificate_list") or body).children:  # RFC 8446 4.4.2
        certificate = entry.child("certificate")
        if certificate is None:
            continue
        made.certificates.append(printed.from_jsse(certificate))
        at = f"entries[{len(entries)}]."
        entries.append(m.CertificateEntry(b"", _block(entry.child("extensions"), Where.CERTIFICATE, made, at=at) or ()))
    return m.Certificate13(made.octets(body.get("certificate_request_context"), "context"), tuple(entries))


def _certificate_request(
    body: Node, made: Rebuilt, known: Collection[str]
) -> m.CertificateRequest10 | m.CertificateRequest12 | m.CertificateRequest13:
    if body.child("certificate types") is None:
        context = made.octets(body.get("certificate_request_context"), "context")
        return m.CertificateRequest13(context, _block(body.child("extensions"), Where.CERTIFICATE_REQUEST, made) or ())
    types = words.numbers(words.listed(body.get("certificate types") or ""), words.certificate_type)
    certificate_types = made.numbers(types, "certificate_types")
    _authorities_in_one_line(body.get("certificate authorities"), made, known)
    algorithms = body.get("supported signature algorithms")
    if algorithms is None:
        return m.CertificateRequest10(certificate_types, ())
    schemes = made.numbers(words.numbers(words.listed(algorithms), words.scheme), "signature_algorithms")
    return m.CertificateRequest12(certificate_types, schemes, ())


def _authorities_in_one_line(text: str | None, made: Rebuilt, known: Collection[str]) -> None:
    inner = None if text is None else text.strip().removeprefix("[").removesuffix("]").strip()
    if inner is not None and inner.endswith(", ..."):
        inner = inner.removesuffix(", ...")
        made.doubts.append("a list that somebody has cut short: there were more")
    split = None if inner is None else split_names(inner, known)
    if split is None:
        made.absent.append("certificate_authorities")
        return
    found, certain = split
    if not found:
        return  # an empty list is whole as it is
    made.authorities = found
    if not certain:
        made.doubts.append(f"one line in which commas separate names and their parts alike, cut into {len(found)}")


def _certificate_verify(body: Node, made: Rebuilt, _: Collection[str]) -> m.CertificateVerify | m.CertificateVerify10:
    signature = made.dump(body.child("signature"), "signature")
    algorithm = body.get("signature algorithm")
    if algorithm is None:
        return m.CertificateVerify10(signature)
    return m.CertificateVerify(made.number(words.scheme(algorithm), "algorithm"), signature)


def _certificate_status(body: Node, made: Rebuilt, _: Collection[str]) -> m.CertificateStatus:
    made.absent.append("response")
    kinds = {name: number for number, name in names.CERTIFICATE_STATUS_TYPES.items()}
    return m.CertificateStatus(made.number(kinds.get(body.get("type") or ""), "status_type"), b"")


# -- key exchange ------------------------------------------------------------------------------------------------


def _server_key_exchange(body: Node, made: Rebuilt, _: Collection[str]) -> m.ServerKeyExchange | None:
    parameters = body.child("parameters")
    if parameters is None:
        return None
    params: m.EcdhParams | m.DhParams | m.RsaParams
    if parameters.child("ecdh public"):
        curve = made.number(words.group(parameters.get("named group") or ""), "named_curve")
        params = m.EcdhParams(3, curve, made.dump(parameters.child("ecdh public"), "public"))
    elif parameters.child("dh_p"):
        params = m.DhParams(*(made.dump(parameters.child(key), key.lower()) for key in ("dh_p", "dh_g", "dh_Ys")))
    elif parameters.child("rsa_modulus"):
        params = m.RsaParams(*(made.dump(parameters.child(key), key) for key in ("rsa_modulus", "rsa_exponent")))
    else:
        return None
    signed = body.child("digital signature")
    if signed is not None and signed.child("signature algorithm"):
        algorithm = made.number(words.scheme(signed.get("signature algorithm") or ""), "algorithm")
        return m.ServerKeyExchange(params, m.Signature(algorithm, made.dump(signed.child("signature"), "signature")))
    old = (signed or body).child("signature")
    return m.ServerKeyExchange(params, None if old is None else m.Signature10(bytes(old.data)))


def _client_key_exchange(
    body: Node, made: Rebuilt, _: Collection[str]
) -> m.ClientKeyExchangeEcdh | m.ClientKeyExchangeDh | m.ClientKeyExchangeRsa | None:
    if point := body.child("ecdh public"):
        return m.ClientKeyExchangeEcdh(bytes(point.data)) if point.data else None
    if public := (body.child("parameters") or body).child("dh_Yc"):
        return m.ClientKeyExchangeDh(bytes(public.data))
    if encrypted := body.child("encrypted"):
        return m.ClientKeyExchangeRsa(made.dump(encrypted, "encrypted_pre_master_secret"))
    return None


# -- finished, after ---------------------------------------------------------------------------------------------


def _finished(body: Node, made: Rebuilt, _: Collection[str]) -> m.Finished:
    return m.Finished(made.dump(body.child("verify data"), "verify_data"))


def _new_session_ticket(body: Node, made: Rebuilt, _: Collection[str]) -> m.NewSessionTicket | m.NewSessionTicket13:
    lifetime = words.number(body.get("ticket_lifetime") or "")
    ticket = body.child("ticket")
    if body.child("ticket_nonce") is None:
        return m.NewSessionTicket(made.number(lifetime, "ticket_lifetime_hint"), made.dump(ticket, "ticket"))
    return m.NewSessionTicket13(
        made.number(lifetime, "ticket_lifetime"),
        made.number(words.number(body.get("ticket_age_add") or ""), "ticket_age_add"),
        made.octets(body.get("ticket_nonce"), "ticket_nonce"),
        made.dump(ticket, "ticket"),
        _block(body.child("extensions"), Where.NEW_SESSION_TICKET, made) or (),
    )


def _key_update(body: Node, made: Rebuilt, _: Collection[str]) -> m.KeyUpdate:
    known = {name: number for number, name in names.KEY_UPDATE_REQUESTS.items()}
    return m.KeyUpdate(made.number(known.get(body.get("request_update") or ""), "request_update"))


_READERS: Final[dict[str, Callable[[Node, Rebuilt, Collection[str]], m.HandshakeMessage | None]]] = {
    "ClientHello": _client_hello,
    "ServerHello": _server_hello,
    "HelloRetryRequest": _server_hello,
    "EncryptedExtensions": _encrypted_extensions,
    "Certificate": _certificate,
    "CertificateRequest": _certificate_request,
    "CertificateVerify": _certificate_verify,
    "CertificateStatus": _certificate_status,
    "ServerKeyExchange": _server_key_exchange,
    "ClientKeyExchange": _client_key_exchange,
    "Finished": _finished,
    "NewSessionTicket": _new_session_ticket,
    "KeyUpdate": _key_update,
}


# -- extensions --------------------------------------------------------------------------------------------------


def _block(
    node: Node | None, where: Where, made: Rebuilt, *, optional: bool = False, at: str = ""
) -> tuple[e.Extension, ...] | None:
    """The extensions in this bracket. Where a message may do without them (``optional``), none printed means that it
    has no block of them.
    """
    if node is None:
        made.absent.append(f"{at}extensions")
        return ()
    if optional and node.says_empty:
        return None
    found: list[e.Extension] = []
    for one in node.children:
        named = _EXTENSION.match(one.key)
        code = words.number(named[2]) if named else None
        if code is None:
            continue
        code &= 0xFFFF
        path = f"{at}extensions[{len(found)}]"
        extension = _extension(code, one, where, made, path)
        if extension is None:
            made.absent.append(path)
        found.append(e.UnknownExtension(code, bytes(one.data)) if extension is None else extension)
    return tuple(found)


def _extension(code: int, node: Node, where: Where, made: Rebuilt, path: str) -> e.Extension | None:
    """One extension as it was printed; None for what cannot be turned back."""
    in_hello = where is Where.CLIENT_HELLO
    match code:
        case 0 if in_hello:
            hosts = [found[1] for line in node.text if (found := _HOST.match(line))]
            entries = tuple(e.ServerNameEntry(0, host.encode("utf-8", "surrogateescape")) for host in hosts)
            return e.ServerName(entries) if hosts else None
        case 1 if node.text:
            length = words.fragment_length(node.text[0])
            return None if length is None else e.MaxFragmentLength(length)
        case 5 if in_hello:
            return e.StatusRequest(1, (), b"") if _plain_ocsp_request(node) else None
        case 10:
            groups = _printed(node, ("versions", "named groups"), words.group)
            return None if groups is None else e.SupportedGroups(groups)
        case 11:
            formats = _printed(node, ("formats",), words.point_format)
            return None if formats is None else e.EcPointFormats(formats)
        case 13 | 50:
            schemes = _printed(node, ("signature schemes",), words.scheme)
            form = e.SignatureAlgorithms if code == 13 else e.SignatureAlgorithmsCert
            return None if schemes is None else form(schemes)
        case 16 if node.text:
            protocols = tuple(one.encode("utf-8", "surrogateescape") for one in words.listed(node.text[0]))
            return e.Alpn(protocols) if protocols else None
        case 17 if in_hello:
            items = [one for one in node.children if one.key == "cert status request"]
            kinds = {name: number for number, name in names.CERTIFICATE_STATUS_TYPES.items()}
            types = [kinds.get(one.get("certificate status type") or "") for one in items]
            if not items or None in types or not all(map(_plain_ocsp_request, items)):
                return None
            plain = e.OcspStatusRequest((), b"")
            return e.StatusRequestV2(tuple(e.StatusRequestItem(kind or 0, plain) for kind in types))
        case 35:
            ticket = node.child("ticket")
            return None if ticket is None and not node.says_empty else e.SessionTicket(bytes((ticket or node).data))
        case 41:
            return _pre_shared_key(node, in_hello=in_hello, made=made, path=path)
        case 43:
            versions = _printed(node, ("versions", "selected version"), words.version)
            if versions is None:
                return None
            return e.SupportedVersions(versions) if in_hello else e.SelectedVersion(versions[0])
        case 44:
            cookie = node.child("cookie")
            return None if cookie is None else e.Cookie(bytes(cookie.data))
        case 45:
            modes = _printed(node, ("ke_modes",), words.psk_mode)
            return None if modes is None else e.PskKeyExchangeModes(modes)
        case 47:
            return _certificate_authorities(node, made, path)
        case 51:
            return _key_share(node)
        case 65281:
            printed_value = (node.get("renegotiated connection") or "").strip("[]")
            verified = b"" if printed_value.startswith("<") else words.hexadecimal(printed_value)
            return None if verified is None or not printed_value else e.RenegotiationInfo(verified)
        case _:
            # Without a printer of its own an extension is a dump; where it is empty, some say so and some do not.
            return e.UnknownExtension(code, bytes(node.data)) if node.data or node.says_empty else None


def _printed(node: Node, keys: tuple[str, ...], read: Callable[[str], int | None]) -> tuple[int, ...] | None:
    """The list under one of these keys as numbers, if there is one and all of it is known."""
    text = next((one.value for key in keys for one in node.all(key)), None)
    found = None if text is None else words.numbers(words.listed(text), read)
    return found or None


def _plain_ocsp_request(node: Node) -> bool:
    """Whether it asks for OCSP and names no responders."""
    request = node.child("OCSP status request")
    if request is None or (node.get("certificate status type") or "") not in {"ocsp", "ocsp_multi"}:
        return False
    wanted = request.child("request extensions")
    return request.get("responder_id") == "<empty>" and (wanted is None or wanted.says_empty)


def _key_share(node: Node) -> e.KeyShare | e.KeyShareChosen | e.KeyShareWanted | None:
    wanted = node.get("selected group")
    if wanted is not None:
        number = words.group(wanted.strip("[]"))
        return None if number is None else e.KeyShareWanted(number)
    chosen = node.child("server_share")
    if chosen is not None:
        share = _share(chosen)
        return None if share is None else e.KeyShareChosen(share.group, share.key_exchange)
    offered = node.child("client_shares")
    shares = None if offered is None else [_share(one) for one in offered.children if one.bracket == "{"]
    if shares is None or None in shares:
        return None
    return e.KeyShare(tuple(share for share in shares if share is not None))


def _share(node: Node) -> e.KeyShareEntry | None:
    number, key = words.group(node.get("named group") or ""), node.child("key_exchange")
    return None if number is None or key is None else e.KeyShareEntry(number, bytes(key.data))


def _pre_shared_key(
    node: Node, *, in_hello: bool, made: Rebuilt, path: str
) -> e.PreSharedKey | e.PreSharedKeyChosen | None:
    body = node.child("PreSharedKey")
    if body is None:
        return None
    if not in_hello:
        digits = words.hexadecimal((body.get("selected_identity") or "").removeprefix("0x"))
        return e.PreSharedKeyChosen(int.from_bytes(digits[:2], "big")) if digits else None
    offered = body.child("identities")
    identities = [] if offered is None else [bytes(one.data) for one in offered.children if one.data]
    binders = [words.hexadecimal(one) or b"" for one in re.findall(r"\{([0-9A-Fa-f ]+)\}", body.get("binders") or "")]
    if not identities or not binders:
        return None
    made.absent += [f"{path}.identities[{n}].obfuscated_ticket_age" for n in range(len(identities))]
    return e.PreSharedKey(tuple(e.PskIdentity(identity, 0) for identity in identities), tuple(binders))


def _certificate_authorities(node: Node, made: Rebuilt, path: str) -> e.CertificateAuthorities | None:
    listed = node.child("certificate authorities")
    if listed is None:
        return None
    found = [read_name(line.removesuffix("]")) for line in listed.text]
    if not found or None in found:
        return None
    made.authorities = tuple(name for name in found if name is not None)
    made.absent.append(f"{path}.authorities")
    return e.CertificateAuthorities(())
