"""A recording in which hosts, names and addresses are others, each time the same.

A pseudonym is as long as what it stands for and is made of the same kinds of characters, so that every length in a
hello or a certificate stays right, and the messages can be read, compared and drawn as before. It follows from the name
and a key that never leaves the home: the same host is the same pseudonym in every bundle, whoever gets two of them can
compare them, and nobody without the key can try names out.

It is made word by word (``mid.corp.example`` and ``*.corp.example`` keep their relation), and words that say what an
authority is for stay as they are. Of an address it is made bit by bit, each drawn by those before it: what is in one
network stays in one, so a CA may speak for the same as before, and what is private stays private.

What is replaced is looked for first, in everything that reading the recording gives; then each of these strings is
replaced wherever it stands, in messages as bytes (also inside a compressed certificate, whose length then is another)
and elsewhere as text. Signatures over what was replaced do not hold any more, and hashes of certificates are others;
the bundle says so.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import zlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from countersign.ca.limits import constraints_of
from countersign.findings.diagnosing.case import REDACTED, View
from countersign.findings.diagnosing.chain import broken_signatures
from countersign.findings.diagnosing.inspection import is_root_of_a_product, words_of_products
from countersign.findings.diagnosing.signing import signature_holds
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.messages import MAX_DECOMPRESSED, decompress

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from countersign.recorder.certificates import CertificateFacts
    from countersign.recorder.recording import Leg, Recording
    from countersign.recorder.wire.events import Message
    from countersign.recorder.wire.told import Told

_WORD = re.compile(r"[^\W_]+")
_ATTRIBUTE = re.compile(r"(?:^|[,+])(?P<name>[A-Za-z0-9.]+)=(?P<value>(?:\\.|[^,+\\])*)")
_SAYS_NOTHING = frozenset(
    """ca root intermediate issuing authority certificate certification inspection server client tls ssl trust public
    services service global class the and of for inc ltd llc gmbh corp sub countersign
    com net org edu gov int mil io test local localhost example invalid lan home arpa""".split()  # noqa: SIM905
)
_ADDRESS = "address"
_IN_CERTIFICATE = "name in a certificate"
_NOT_REPLACED = {"C"}  # a country is nobody
_NAMING = ("subject", "issuer", "san", "ocsp", "ca_issuers", "crl", "problems")  # of what was told of a certificate
_COMPRESSED_CERTIFICATE = 25
_PACKED_AT = 12  # bytes of header, algorithm and two lengths before the compressed data
_SHORTEST = 4  # bytes that are looked for as they are; what is shorter only with its tag and length before it
_KEPT_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
         "224.0.0.0/4", "240.0.0.0/4", "::/96", "::ffff:0:0/96", "fc00::/7", "fe80::/10", "ff00::/8"),
    )
)  # fmt: skip
"""Networks that are for one use (RFC 6890): what is in one stays in it."""
_TEXT_TAGS = (0x0C, 0x13, 0x16, 0x14, 0x81, 0x82, 0x00)
"""UTF8String, PrintableString, IA5String, T61String; mail and DNS names among alternative names (RFC 5280 4.2.1.6); the
first byte of the two that are the length of a server name (RFC 6066 3)."""


class Pseudonyms:
    """Makes pseudonyms under one ``key``; ``counts`` says how many different things of each kind were replaced."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.counts: Counter[str] = Counter()

    def redacted(self, recording: Recording) -> Recording:
        """The recording under pseudonyms; its judgement stays what it was."""
        found = dict(self._strings(recording))
        names = {name: self._name(name, kind) for name, kind in found.items()}
        self.counts = Counter(found[name] for name, new in names.items() if name != new)
        swap = _Swap(names, {name for name in names if is_root_of_a_product(f"CN={name}") or words_of_products(name)})
        return replace(
            recording,
            client=swap.text(recording.client),
            target=swap.text(recording.target),
            sni=swap.text(recording.sni),
            label=None if recording.label is None else self._name(recording.label, "label"),
            outcome=replace(recording.outcome, text=swap.text(recording.outcome.text) or ""),
            legs=tuple(_leg(leg, swap) for leg in recording.legs),
            problems=tuple(
                (role, replace(one, got=swap.text(one.got) or "", expected=swap.text(one.expected) or ""))
                for role, one in recording.problems
            ),
            failures=tuple(replace(one, text=swap.text(one.text) or "") for one in recording.failures),
            prelude={**swap.values(recording.prelude), REDACTED: _signatures(recording)},
            http=tuple(swap.values(one) for one in recording.http),
            mtls=swap.values(_without_der(recording.mtls)),
            not_mirrored=tuple(swap.text(one) or "" for one in recording.not_mirrored),
            findings=(),
            log=swap.values(recording.log),
        )

    def _name(self, name: str, kind: str) -> str:
        if kind == _ADDRESS:
            return self._address(name)
        if is_root_of_a_product(f"CN={name}"):
            return name  # a product's own root, as everybody has it who has the product
        new, at = "", 0
        for begins, ends in words_of_products(name) if kind == _IN_CERTIFICATE else ():
            new += _WORD.sub(lambda word: self._word(word[0]), name[at:begins]) + name[begins:ends]
            at = ends
        return new + _WORD.sub(lambda word: self._word(word[0]), name[at:])

    def _word(self, word: str) -> str:
        if word.lower() in _SAYS_NOTHING or word.isdigit():
            return word
        drawn = hmac.digest(self._key, word.lower().encode(), "sha256")
        while len(drawn) < len(word):
            drawn += hmac.digest(self._key, drawn, "sha256")
        return "".join(_like(old, new) for old, new in zip(word, drawn, strict=False))

    def _address(self, text: str) -> str:
        """Of an address, or of a network as :attr:`Constraints.networks` has it, whose mask stays."""
        place, slash, mask = text.partition("/")
        address = ipaddress.ip_address(place)
        if address.is_loopback:
            return text
        moved = self._moved(address)
        if slash:
            kept = _mask(mask, address.max_prefixlen)
            moved &= kept if int(address) & kept == int(address) else (1 << address.max_prefixlen) - 1
        return f"{type(address)(moved)}{slash}{mask}"

    def _moved(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
        """Two addresses have as many first bits in common as their pseudonyms have."""
        size, number, moved = address.max_prefixlen, int(address), 0
        kept = [(int(one.network_address), one.prefixlen) for one in _KEPT_NETWORKS if one.max_prefixlen == size]
        for place in range(size):
            before = number >> size - place
            stays = any(length > place and base >> size - place == before for base, length in kept)
            drawn = 0 if stays else hmac.digest(self._key, f"{size} {place} {before}".encode(), "sha256")[0] & 1
            moved = moved << 1 | (number >> size - place - 1 & 1) ^ drawn
        return moved

    # -- what there is to replace

    def _strings(self, recording: Recording) -> Iterator[tuple[str, str]]:
        for place in (recording.client, recording.target, recording.sni):
            yield from _host(place)
        for leg in recording.legs:
            reading = leg.read()
            yield from _host(reading.sni)
            for sent in reading.certificates:
                yield from _certificate(sent.facts)
                constraints = constraints_of(sent.der) if sent.der else None
                for host in constraints.hosts if constraints is not None else ():
                    yield from _host(host)
                for network in constraints.networks if constraints is not None else ():
                    yield network, _ADDRESS
            for name in reading.requested_ca_texts or ():
                yield from _distinguished(name)
        for key in ("chosen", "presented"):
            chain = recording.mtls.get(key)
            if isinstance(chain, dict):
                yield from _distinguished(chain.get("subject"))
                yield from _distinguished(chain.get("issuer"))
        for value in _deep([recording.prelude, recording.http]):
            yield from _host(value, dotted=True)


def _like(old: str, new: int) -> str:
    """A character of the kind that the old one is, drawn by ``new``."""
    if old.isdigit():
        return chr(48 + new % 10)
    letter = chr(97 + new % 26)
    match len(old.encode()):
        case 1:
            return letter.upper() if old.isupper() else letter
        case 2:
            return chr(0xE0 + new % 23)  # one byte in Latin-1 as well
        case 3:
            return chr(0x4E00 + new)
        case _:
            return chr(0x20000 + new)


def _host(place: object, *, dotted: bool = False) -> Iterator[tuple[str, str]]:
    """The host of ``host``, ``host:port`` or ``[host]:port``; ``dotted``: what has no point in it may be any word."""
    if not isinstance(place, str) or not place:
        return
    host = place
    if place.startswith("["):
        host = place[1:].partition("]")[0]
    elif place.count(":") == 1:
        host = place.partition(":")[0]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if re.fullmatch(rf"[\w*-]+(?:\.[\w*-]+){'+' if dotted else '*'}\.?", host):
            yield host.removeprefix("*."), "host name"
        return
    yield host, _ADDRESS


def _certificate(facts: CertificateFacts) -> Iterator[tuple[str, str]]:
    yield from _distinguished(facts.subject)
    yield from _distinguished(facts.issuer)
    for name in facts.san:
        kind, _, value = name.partition(":")
        if kind == "URI":
            yield from _url(value)
        elif kind == "email":
            yield value, "mail address"
        else:
            yield from _host(value)
    for url in (*facts.ocsp, *facts.crl, *facts.ca_issuers):
        yield from _url(url)


def _url(url: str) -> Iterator[tuple[str, str]]:
    try:
        yield from _host(urlsplit(url).hostname)
    except ValueError:
        return


def _distinguished(name: str | None) -> Iterator[tuple[str, str]]:
    """The values of an RFC 4514 name."""
    for attribute in _ATTRIBUTE.finditer(name or ""):
        value = re.sub(r"\\(.)", r"\1", attribute["value"])
        if value and attribute["name"] not in _NOT_REPLACED:
            yield value, _IN_CERTIFICATE


def _deep(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _deep(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _deep(one)


def _without_der(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without what holds names in a form that is not looked through."""
    return {
        key: _without_der(one) if isinstance(one, dict) else one
        for key, one in value.items()
        if key not in {"der", "raw"}
    }


class _Swap:
    """Replaces strings by strings, in text and in bytes; the longest first, so that no part is taken for the whole."""

    def __init__(self, names: Mapping[str, str], kept: Collection[str] = ()) -> None:
        """``kept`` are those that stay whole although a part of them may be another name."""
        changed = {old: new for old, new in names.items() if old != new or old in kept}
        self._ordered = sorted(changed.items(), key=lambda pair: len(pair[0]), reverse=True)
        self._text = {old.lower(): new for old, new in self._ordered}
        pattern = "|".join(_whole_if_short(old) for old, _ in self._ordered)
        self._pattern = re.compile(pattern, re.IGNORECASE) if pattern else None
        self._bytes = dict(_encoded(changed))
        longest = sorted(self._bytes, key=len, reverse=True)
        self._raw = re.compile(b"|".join(re.escape(one) for one in longest)) if longest else None

    def text(self, value: str | None) -> str | None:
        if value is None or self._pattern is None:
            return value
        return self._pattern.sub(self._new, value)

    def _new(self, found: re.Match[str]) -> str:
        """``re`` takes more letters for the same than ``lower`` does: the long s for an s, the dotless i for an i."""
        known = self._text.get(found[0].lower())
        if known is None:
            known = next(new for old, new in self._ordered if re.fullmatch(re.escape(old), found[0], re.IGNORECASE))
        return known

    def values(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.values(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.values(one) for one in value]
        return value

    def facts(self, value: Any) -> Any:
        return tuple(self.text(one) or "" for one in value) if isinstance(value, tuple) else self.text(value)

    def raw(self, data: bytes) -> bytes:
        """As long as it was."""
        return data if self._raw is None else self._raw.sub(lambda found: self._bytes[found[0]], data)


def _whole_if_short(name: str) -> str:
    """What is as short as a part of any word stands for itself only where it is a word."""
    return re.escape(name) if len(name) >= _SHORTEST else rf"(?<![^\W_]){re.escape(name)}(?![^\W_])"


def _mask(text: str, size: int) -> int:
    """``16`` or ``255.0.255.0`` as a number."""
    return (1 << size) - (1 << size - int(text)) if text.isdigit() else int(ipaddress.ip_address(text))


def _packed(place: str) -> bytes:
    """An address or a network, as a GeneralName has it (RFC 5280 4.2.1.6, 4.2.1.10). Raises :class:`ValueError`."""
    text, slash, mask = place.partition("/")
    address = ipaddress.ip_address(text)
    if not slash:
        return address.packed
    return address.packed + _mask(mask, address.max_prefixlen).to_bytes(len(address.packed), "big")


def _encoded(changed: Mapping[str, str]) -> Iterator[tuple[bytes, bytes]]:
    """Each string in the forms in which messages have it, with its pseudonym in the same form and length."""
    for old, new in changed.items():
        try:
            before, after = _packed(old), _packed(new)
        except ValueError:
            pass
        else:
            head = bytes([0x87, len(before)])
            yield head + before, head + after
            continue
        for variant, drawn in {old: new, old.lower(): new.lower(), old.upper(): new.upper()}.items():
            for coding in ("utf-8", "utf-16-be", "latin-1"):
                try:
                    before, after = variant.encode(coding), drawn.encode(coding)
                except UnicodeEncodeError:
                    continue
                if len(before) != len(after):
                    continue
                if len(before) >= _SHORTEST:
                    yield before, after
                elif coding == "utf-8":
                    yield from (
                        (bytes([tag, len(before)]) + before, bytes([tag, len(before)]) + after) for tag in _TEXT_TAGS
                    )


def _signatures(recording: Recording) -> dict[str, Any]:
    """What is known of each leg's signatures, as :data:`REDACTED` has it: no one can try them later."""
    views = [View(recording, leg) for leg in recording.legs]
    return {
        view.role.value: {
            "handshake": signature_holds(view),
            **{side.value: [list(both) for both in _broken(view, side)] for side in Side},
        }
        for view in views
    }


def _broken(view: View, side: Side) -> Iterable[tuple[int, int]]:
    known = view.broken(side)
    return broken_signatures(view.chain(side)) if known is None else sorted(known)


def _leg(leg: Leg, swap: _Swap) -> Leg:
    verification = leg.verification
    if verification is not None:
        verification = replace(verification, error=swap.text(verification.error))
    return replace(
        leg,
        messages=tuple(_message(one, swap) for one in leg.messages),
        secrets=(),
        verification=verification,
        faults=tuple(swap.values(one) for one in leg.faults),
        revocation=tuple(swap.values(one) for one in leg.revocation),
    )


def _message(message: Message, swap: _Swap) -> Message:
    if message.told is not None:
        return replace(message, told=_told(message.told, swap))
    if message.is_handshake(_COMPRESSED_CERTIFICATE):
        raw = _repacked(message.raw, swap)
        return replace(message, raw=raw, length=message.length if len(raw) < _PACKED_AT else len(raw), digest="")
    raw = swap.raw(message.raw)
    return message if raw == message.raw else replace(message, raw=raw, digest="")


def _told(told: Told, swap: _Swap) -> Told:
    return replace(
        told,
        form=swap.raw(told.form),
        certificates=tuple(
            replace(facts, **{name: swap.facts(getattr(facts, name)) for name in _NAMING})
            for facts in told.certificates
        ),
        authorities=None if told.authorities is None else tuple(swap.values(told.authorities)),
    )


def _repacked(raw: bytes, swap: _Swap) -> bytes:
    """A CompressedCertificate (RFC 8879 4) with other names in it, so of another length.

    Of one that cannot be opened only the beginning is kept: what is in it, nobody can say.
    """
    algorithm, size = int.from_bytes(raw[4:6], "big"), int.from_bytes(raw[6:9], "big")
    packed = raw[_PACKED_AT:]
    if size > MAX_DECOMPRESSED or int.from_bytes(raw[9:12], "big") != len(packed):
        return raw[: _PACKED_AT - 1]
    body, fault = decompress(algorithm, packed, size)
    if fault is not None:
        return raw[: _PACKED_AT - 1]
    other = swap.raw(body)
    if other == body:
        return raw
    packed = _compress(algorithm, other)
    return raw[:1] + (8 + len(packed)).to_bytes(3, "big") + raw[4:9] + len(packed).to_bytes(3, "big") + packed


def _compress(algorithm: int, body: bytes) -> bytes:
    """By the algorithm, one of those that :func:`decompress` knows."""
    if algorithm == 1:
        return zlib.compress(body)
    if algorithm == 2:
        import brotli  # type: ignore[import-untyped]

        return bytes(brotli.compress(body))
    import zstandard

    return zstandard.ZstdCompressor().compress(body)
