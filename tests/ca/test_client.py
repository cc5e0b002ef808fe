"""A client's certificate signed again: it says what it said, and what was wrong with it stays wrong (T19)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from countersign.ca import Authority, AuthorityError, CannotMimic, ClientMint, Minted, Plan
from countersign.recorder.certificates import cut_certificate

if TYPE_CHECKING:
    from tests.peers.certs import Issued, Lab

AUTHORITY = Authority.make(Plan(name="clients"))


def signed_again(issued: Issued, mint: ClientMint | None = None) -> tuple[bytes, Minted]:
    """What the client has (DER), and what is presented."""
    der = issued.certificate.public_bytes(Encoding.DER)
    return der, asyncio.run((mint or ClientMint(AUTHORITY)).certificate_for(der))


def test_it_says_what_it_said(lab: Lab) -> None:
    der, minted = signed_again(lab.issue("client.lab.test", usages=("client", "server")))
    theirs, ours = cut_certificate(der), cut_certificate(minted.chain[0])
    assert (ours.subject, ours.validity) == (theirs.subject, theirs.validity)
    assert (ours.issuer, minted.chain[1:]) == (AUTHORITY.issuer.subject, AUTHORITY.chain)
    before, after = x509.load_der_x509_certificate(der), x509.load_der_x509_certificate(minted.chain[0])
    for kind in (x509.SubjectAlternativeName, x509.ExtendedKeyUsage, x509.KeyUsage, x509.BasicConstraints):
        assert after.extensions.get_extension_for_class(kind) == before.extensions.get_extension_for_class(kind)


@pytest.mark.parametrize("days", [-10, 10])
def test_it_is_never_valid_where_the_clients_was_not(lab: Lab, days: int) -> None:
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    for signer in ("intermediate", None):
        issued = lab.issue(common_name="then", usages=("client",), not_before=start, days=5, signer=signer)
        der, minted = signed_again(issued)
        assert cut_certificate(minted.chain[0]).validity == cut_certificate(der).validity


def test_one_that_signed_itself_does_so_again(lab: Lab) -> None:
    der, minted = signed_again(lab.issue(common_name="alone", usages=("client",), signer=None))
    (alone,) = minted.chain
    made = x509.load_der_x509_certificate(alone)
    made.verify_directly_issued_by(made)
    assert cut_certificate(alone).public_key != cut_certificate(der).public_key
    key = made.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    issuer = made.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert key == issuer


def test_the_same_certificate_is_signed_once(lab: Lab) -> None:
    mint = ClientMint(AUTHORITY)
    assert signed_again(lab.client, mint)[1] is signed_again(lab.client, mint)[1]


def test_what_is_no_certificate_is_refused() -> None:
    with pytest.raises(CannotMimic, match="the client's certificate"):
        asyncio.run(ClientMint(AUTHORITY).certificate_for(b"\x30\x03\x02\x01\x00"))


def test_an_expired_client_ca_signs_nothing(lab: Lab) -> None:
    late = ClientMint(AUTHORITY, clock=lambda: datetime.now(UTC) + timedelta(days=1000))
    for signer in ("intermediate", None):
        issued = lab.issue(common_name="late", usages=("client",), signer=signer)
        with pytest.raises(AuthorityError):
            signed_again(issued, late)
