"""Certificates from nothing: a right one with the smallest call, ``issue(authority, "host")``."""

from __future__ import annotations

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from countersign.ca import assemble, keys, pieces
from countersign.ca.draft import Draft, part, parts_of
from countersign.ca.leaf import Minted
from countersign.errors import UserError
from countersign.recorder import der
from countersign.recorder.certificates import describe_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from countersign.ca.authority import Authority
    from countersign.ca.randomness import Rng
    from countersign.ca.signer import Signer

_LONGEST = 36_500  # days

Purpose = Literal["server", "client", "both", "none"]

_PURPOSES: dict[Purpose, tuple[str, ...]] = {
    "server": ("serverAuth",),
    "client": ("clientAuth",),
    "both": ("serverAuth", "clientAuth"),
    "none": (),
}
_SKEW = timedelta(hours=1)


def issue(
    authority: Authority,
    *names: str,
    purpose: Purpose = "server",
    common_name: str | None = None,
    key: str = "ec:P-256",
    days: int = 90,
    now: datetime | None = None,
    rng: Rng = os.urandom,
) -> Minted:
    """A leaf for these DNS names and addresses (all of them in the SAN, the first as common name), with a new key.

    It is valid from an hour ago for ``days`` days, at most as long as the authority. Raises :class:`AuthorityError`
    when that has expired and :class:`UserError` for a name that is neither an address nor a DNS name, or one that the
    authority may not speak for.
    """
    now = now or datetime.now(UTC)
    authority.check(now)
    authority.check_names(names)
    signer = keys.new_signer(keys.key_kind(key), rng)
    draft = draft_leaf(
        authority, names, signer=signer, purpose=purpose, common_name=common_name, days=days, now=now, rng=rng
    )
    return Minted(signer.served, (draft.sign(authority.issuer.signer), *authority.chain))


def draft_leaf(
    authority: Authority,
    names: Iterable[str],
    *,
    signer: Signer,
    purpose: Purpose = "server",
    common_name: str | None = None,
    days: int = 90,
    now: datetime,
    rng: Rng = os.urandom,
) -> Draft:
    """The same before it is signed, for the key of ``signer``."""
    if not 1 <= days <= _LONGEST:
        raise UserError(f"cannot issue a certificate for {days} days: expected 1 to {_LONGEST}")
    names = tuple(names)
    now = now.astimezone(UTC).replace(microsecond=0)
    usage = ["digitalSignature", *(["keyEncipherment"] if describe_key(signer.public_key).startswith("RSA ") else [])]
    extensions = [
        part(assemble.BASIC_CONSTRAINTS, der.encode(der.SEQUENCE), critical=True),
        part(assemble.KEY_USAGE, assemble.key_usage_value(usage), critical=True),
        part(assemble.SKI, assemble.key_id_value(signer.key_id)),
        part(assemble.AKI, assemble.issuer_key_id_value(authority.issuer.signer.key_id)),
    ]
    if _PURPOSES[purpose]:
        extensions.append(part(assemble.EXTENDED_KEY_USAGE, pieces.extended_key_usage(_PURPOSES[purpose])))
    if names:
        extensions.append(part(assemble.SAN, der.encode(der.SEQUENCE, *map(_general_name, names))))
    return Draft(
        serial=assemble.new_serial(rng),
        issuer=authority.issuer.subject,
        validity=assemble.validity_der(
            max(now - _SKEW, authority.not_before), min(now + timedelta(days=days), authority.not_after)
        ),
        subject=_subject(common_name or (names[0] if names else "countersign")),
        public_key=signer.public_key,
        extensions=[*extensions, *parts_of(authority.points)],
    )


def _subject(common_name: str) -> bytes:
    """A common name has at most 64 characters (A.1), a host name up to 253; SAN alone counts anyway (RFC 9525 2)."""
    return assemble.name_der(**({"CN": common_name} if len(common_name) <= 64 else {"O": "countersign"}))


def _general_name(name: str) -> bytes:
    """4.2.1.6: an iPAddress or a dNSName."""
    try:
        return der.encode(0x87, ipaddress.ip_address(name).packed)
    except ValueError:
        pass
    try:
        return der.encode(0x82, name.encode("ascii"))
    except UnicodeEncodeError:
        raise UserError(f"cannot issue a certificate for {name!r}: write the name in its ASCII (xn--) form") from None
