"""Whether a chain that was recorded is the one that a recipe makes, as far as the recipe says anything.

The recipe is made again, with other keys, and the two chains are laid beside each other. Keys, serial numbers and
signatures differ, so what is compared is what the recipe is about:

- *how the chain hangs together*: how many certificates there are, which names which as its issuer, which key verifies
  which signature, which have the same name or key; what the client trusts belongs to it;
- *what each certificate says* where the recipe has it otherwise than right: those fields, byte for byte where no key is
  in them, and dates by how far they are from now.

So a chain without the fault is told from one with it by what the fault is, and the sentence says where they differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from countersign.ca import KeyPool
from countersign.ca.pieces import EXTENSIONS
from countersign.recorder.certificates import (
    CertificateParts,
    ExtensionPart,
    cut_certificate,
    cut_extensions,
    describe_algorithm,
    describe_key,
    read_validity,
    signed_by,
)
from countersign.recorder.der import DerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from countersign.ca import Authority
    from countersign.ca.recipes import CertSpec, Recipe

_KEYS = KeyPool()
"""Keys of chains that are made to be compared with, and for nothing else; RSA takes its time."""

_NEAR = timedelta(minutes=5)
_MARK = re.compile(rb"[0-9a-f]{6}")
_HASH = re.compile(r"md5|sha-?(?:1|224|256|384|512)|pss", re.IGNORECASE)
_EXTENSION_OF = {
    "san": "san", "more_names": "san", "basic_constraints": "basic_constraints", "key_usage": "key_usage",
    "more_key_usage": "key_usage", "extended_key_usage": "extended_key_usage", "ski": "ski", "aki": "aki",
    "name_constraints": "name_constraints", "policies": "policies", "ocsp": "aia", "ca_issuers": "aia", "crl": "crl",
    "must_staple": "must_staple",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """A chain that was shown: what was sent (DER, the leaf first), what the client trusts, and when that was."""

    chain: tuple[bytes, ...]
    anchors: tuple[bytes, ...]
    at: datetime


def unlike(recipe: Recipe, shown: Shown, *, base: Authority, target: bytes | None, host: str) -> str | None:
    """In what ``shown`` is not what the recipe makes; ``None`` where it is.

    ``base`` is an authority like the one that signed, ``target`` the certificate (DER) that the leaf mimics. What the
    client trusts is left out where nothing of it is shown.
    """
    now = datetime.now(UTC)
    recipe_made = recipe.make(base, target=target, name=host, now=now, pool=_KEYS)
    names = {der: name for name, der in recipe_made.certificates.items()}
    made = Shown(recipe_made.chain, recipe_made.anchors if shown.anchors else (), now)
    if len(shown.chain) != len(made.chain):
        return f"{_counted(len(shown.chain))} sent, expected {len(made.chain)}"
    if len(shown.anchors) != len(made.anchors):
        return f"the client trusts {len(shown.anchors)} roots, expected {len(made.anchors)}"
    labels = [names.get(each, "") for each in (*made.chain, *made.anchors)]
    try:
        ours, theirs = [[cut_certificate(each) for each in (*one.chain, *one.anchors)] for one in (made, shown)]
        return _hangs_otherwise(ours, theirs, labels) or _says_otherwise(recipe, made, shown, labels)
    except DerError as wrong:
        return f"a certificate of the chain cannot be read: {wrong}"


def _counted(count: int) -> str:
    return "1 certificate was" if count == 1 else f"{count} certificates were"


# -- how it hangs together ---------------------------------------------------------------------------------------


def related(chain: Sequence[CertificateParts]) -> list[list[tuple[bool, bool | None, bool, bool]]]:
    """Of each two: whether the one names the other as its issuer and is signed by its key, has its name, its key."""
    return [
        [
            (
                one.issuer == other.subject,
                signed_by(one, other.public_key) if one.issuer == other.subject else None,
                one.subject == other.subject,
                one.public_key == other.public_key,
            )
            for other in chain
        ]
        for one in chain
    ]


def _hangs_otherwise(
    ours: Sequence[CertificateParts], theirs: Sequence[CertificateParts], names: Sequence[str]
) -> str | None:
    words = ("names {} as its issuer", "is signed by the key of {}", "has the name of {}", "has the key of {}")
    expected, found = related(ours), related(theirs)
    for i, row in enumerate(expected):
        for j, pair in enumerate(row):
            for word, wanted, is_so in zip(words, pair, found[i][j], strict=True):
                if wanted is not is_so:
                    one, other = _named(names, i, len(ours)), _named(names, j, len(ours))
                    what = f"the {one} {word.format(f'the {other}')}"
                    return f"it should be {str(wanted).lower()} that {what}, and it is {str(is_so).lower()}"
    return None


def _named(names: Sequence[str], number: int, of: int) -> str:
    return names[number] or f"certificate {number + 1} of {of}"


# -- what each says ----------------------------------------------------------------------------------------------


def _says_otherwise(recipe: Recipe, made: Shown, shown: Shown, names: Sequence[str]) -> str | None:
    pairs = zip((*made.chain, *made.anchors), (*shown.chain, *shown.anchors), names, strict=True)
    for ours, theirs, name in pairs:
        spec = recipe.specs.get(name)
        for field in spec.changed if spec is not None else ():
            assert spec is not None
            wrong = _field_differs(field, spec, (ours, made.at), (theirs, shown.at))
            if wrong is not None:
                return f"the {name}'s {field.replace('_', ' ')} {wrong}"
    if recipe.send.size and sum(map(len, shown.chain)) < recipe.send.size:
        return f"{sum(map(len, shown.chain))} bytes of certificates were sent, expected {recipe.send.size} or more"
    return None


def _field_differs(  # one decision over all fields of a certificate
    field: str, spec: CertSpec, made: tuple[bytes, datetime], shown: tuple[bytes, datetime]
) -> str | None:
    """How a field of a certificate differs from what it should be, or that it does not."""
    ours, theirs = cut_certificate(made[0]), cut_certificate(shown[0])
    same = True
    match field:
        case "version" | "serial" | "public_key" | "subject":
            same = _bare(getattr(ours, field)) == _bare(getattr(theirs, field))
        case "issuer_name":
            same = ours.issuer == theirs.issuer
        case "not_before" | "not_after" | "validity":
            return _dates_differ(field, (ours.validity, made[1]), (theirs.validity, shown[1]))
        case "key":
            same = describe_key(ours.public_key) == describe_key(theirs.public_key)
        case "signature" | "outer_algorithm":
            said = getattr(spec, field)
            same = _hash(ours.algorithm, said) == _hash(theirs.algorithm, said)
        case "inner_algorithm":
            same = _hash(ours.inner_algorithm, spec.inner_algorithm) == _hash(
                theirs.inner_algorithm, spec.inner_algorithm
            )
        case "extensions":
            same = (ours.extensions is None) == (theirs.extensions is None)
        case "scts" | "extra" | "twice" | "critical" | "not_critical":
            same = _outline(ours, field, spec) == _outline(theirs, field, spec)
        case _ if field in _EXTENSION_OF:
            oid = EXTENSIONS[_EXTENSION_OF[field]]
            same = _values(ours, oid) == _values(theirs, oid)
    return None if same else "is not what the recipe makes it"


def _bare(value: bytes) -> bytes:
    """Without the digits that the names of our own authorities have from their keys."""
    return _MARK.sub(b"------", value)


def _hash(algorithm: bytes, said: str | bytes | None) -> list[str] | str:
    """The hash of a signature algorithm, whatever the key; the whole of it where the recipe says more than the hash."""
    name = describe_algorithm(algorithm)
    hashes = [each.lower() for each in _HASH.findall(name)]
    return hashes if hashes and isinstance(said, str) and ":" not in said else name


def _extensions(parts: CertificateParts) -> list[ExtensionPart]:
    return [] if parts.extensions is None else list(cut_extensions(parts.extensions))


def _values(parts: CertificateParts, oid: str) -> list[tuple[bool, bytes]]:
    return [(each.critical, each.value) for each in _extensions(parts) if each.oid == oid]


def _outline(parts: CertificateParts, field: str, spec: CertSpec) -> object:
    """What an extension says that keys and chance have no part in."""
    extensions = _extensions(parts)
    if field == "scts":
        return [len(each.value) for each in extensions if each.oid == EXTENSIONS["scts"]]
    if field == "extra":
        wanted = {each.oid for each in spec.extra}
        return [(each.oid, each.critical, each.value) for each in extensions if each.oid in wanted]
    if field == "twice":
        return sorted(each.oid for each in extensions)
    return [(each.oid, each.critical) for each in extensions]


def _dates_differ(field: str, made: tuple[bytes, datetime], shown: tuple[bytes, datetime]) -> str | None:
    """Dates are compared by how far they are from now, since a recipe counts them from there."""
    which = {"not_before": (0,), "not_after": (1,), "validity": (0, 1)}[field]
    ours, theirs = read_validity(made[0]), read_validity(shown[0])
    for each in which:
        one, other = ours[each], theirs[each]
        if not isinstance(one, datetime) or not isinstance(other, datetime):
            return None if made[0] == shown[0] else "is not what the recipe makes it"
        apart = abs((one - made[1]) - (other - shown[1]))
        if apart > max(_NEAR, abs(one - made[1]) / 20):
            return f"is {other:%Y-%m-%dT%H:%M:%SZ}, {_away(other - shown[1])}; expected {_away(one - made[1])}"
    return None


def _away(span: timedelta) -> str:
    seconds = abs(span.total_seconds())
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} {'ahead' if span > timedelta() else 'ago'}"
    return f"{seconds:.0f} seconds {'ahead' if span > timedelta() else 'ago'}"
