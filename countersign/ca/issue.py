"""Certificates from nothing: a right one with the smallest call, ``issue(authority, "host")``."""

from __future__ import annotations

import hashlib
import ipaddress
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from countersign.ca import assemble, keys
from countersign.ca.assemble import Signer
from countersign.ca.leaf import Minted
from countersign.errors import UserError
from countersign.recorder import der

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.ca.authority import Authority

Purpose = Literal["server", "client", "both", "none"]

_SERVER_AUTH, _CLIENT_AUTH = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"
_PURPOSES: dict[Purpose, tuple[str, ...]] = {
    "server": (_SERVER_AUTH,),
    "client": (_CLIENT_AUTH,),
    "both": (_SERVER_AUTH, _CLIENT_AUTH),
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
    rng: Callable[[int], bytes] = os.urandom,
) -> Minted:
    """A leaf for these DNS names and addresses (all of them in the SAN, the first as common name), with a new key.

    It is valid from an hour ago for ``days`` days, at most as long as the authority. Raises :class:`AuthorityError`
    when that has expired and :class:`UserError` for a name that is neither an address nor a DNS name.
    """
    now = (now or datetime.now(UTC)).replace(microsecond=0)
    authority.check(now)
    signer = Signer.of(keys.generate(keys.key_kind(key)))
    usage = ["digitalSignature", *(["keyEncipherment"] if key.startswith("rsa") else [])]
    extensions = [
        assemble.extension("2.5.29.19", der.encode(der.SEQUENCE), critical=True),
        assemble.key_usage(usage),
        assemble.subject_key_identifier(signer.key_id),
        assemble.authority_key_identifier(authority.issuer.signer.key_id),
    ]
    if _PURPOSES[purpose]:
        purposes = der.encode(der.SEQUENCE, *(der.encode_oid(oid) for oid in _PURPOSES[purpose]))
        extensions.append(assemble.extension(assemble.EXTENDED_KEY_USAGE, purposes))
    if names:
        alternatives = der.encode(der.SEQUENCE, *(_general_name(name) for name in names))
        extensions.append(assemble.extension(assemble.SAN, alternatives))
    made = assemble.assemble(
        authority.issuer.signer,
        serial=assemble.new_serial(rng),
        issuer=authority.issuer.subject,
        validity=assemble.validity_der(
            max(now - _SKEW, authority.not_before), min(now + timedelta(days=days), authority.not_after)
        ),
        subject=assemble.name_der(CN=common_name or (names[0] if names else "countersign")),
        public_key=signer.public_key,
        extensions=extensions,
    )
    return Minted(made, signer.key, (made, *authority.chain), (), hashlib.sha256(made).hexdigest())


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
