"""What is written is what is read, for every type of store and whatever is in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from countersign.ca.pem import blocks_in
from countersign.ca.stores import (
    CLEAR,
    CertificateEntry,
    Entry,
    KeyEntry,
    StoreType,
    detect,
    entries_for,
    read_store,
    write_store,
)
from countersign.ca.stores.fields import decode_utf, encode_utf
from tests.ca.stores.made_stores import (
    FORMS,
    MADE,
    PASSWORD,
    QUICK,
    QUICK_BCFKS,
    ascii_passwords,
    entries,
    passwords,
    stores,
)

if TYPE_CHECKING:
    from countersign.ca.stores import Form
    from tests.peers.certs import Lab


def with_password(kind: StoreType, meant: tuple[Entry, ...], password: str, form: Form | None = None) -> None:
    """Written and read again: the same, known for what it is, its digest checked."""
    data = write_store(kind, meant, password, form=form, now=MADE)
    assert detect(data) is kind
    store = read_store(data, password)
    assert (store.kind, store.entries, store.verified) == (kind, meant, True)


@given(stores(), passwords)
def test_jks(meant: tuple[Entry, ...], password: str) -> None:
    with_password(StoreType.JKS, meant, password)


@given(stores(dated=False), passwords)
def test_pkcs12(meant: tuple[Entry, ...], password: str) -> None:
    """Certificates of their own have no date in it."""
    with_password(StoreType.PKCS12, meant, password, QUICK)


@given(stores(), passwords)
def test_bcfks(meant: tuple[Entry, ...], password: str) -> None:
    with_password(StoreType.BCFKS, meant, password, QUICK_BCFKS)


@given(stores(), ascii_passwords)
def test_jceks(meant: tuple[Entry, ...], password: str) -> None:
    """Its 200,000 rounds over each key's password are for the one test below: here keys are what JKS calls sealed."""
    certificates = tuple(entry for entry in meant if isinstance(entry, CertificateEntry))
    if certificates:
        with_password(StoreType.JCEKS, certificates, password)


@given(stores(dated=False))
def test_pkcs12_without_a_password(meant: tuple[Entry, ...]) -> None:
    certificates = tuple(entry for entry in meant if isinstance(entry, CertificateEntry))
    store = read_store(write_store(StoreType.PKCS12, certificates, form=CLEAR))
    assert (store.entries, store.verified, store.form) == (certificates, False, CLEAR)


@given(stores(dated=False))
def test_pem(meant: tuple[Entry, ...]) -> None:
    """It has no dates; a key of a kind that nobody knows gets the certificate of its name."""
    undated = tuple(
        replace(entry, created=None, key=None) if isinstance(entry, KeyEntry) else entry
        for entry in meant
        if entry.alias.isprintable() and entry.alias == entry.alias.strip()
    )
    certificates = tuple(entry for entry in undated if isinstance(entry, CertificateEntry))
    data = write_store(StoreType.PEM, certificates)
    if certificates:
        assert read_store(data).entries == certificates
    assert len(list(blocks_in(data))) == len(certificates)


@given(stores(dated=False))
def test_pkcs7_and_der(meant: tuple[Entry, ...]) -> None:
    """They hold certificates and nothing about them."""
    certificates = [entry for entry in meant if isinstance(entry, CertificateEntry)]
    for armour in (False, True):
        data = write_store(StoreType.PKCS7, certificates, armour=armour)
        assert detect(data) is StoreType.PKCS7
        assert set(read_store(data).certificates) == {entry.certificate for entry in certificates}
    for entry in certificates:
        data = write_store(StoreType.DER, [entry])
        assert (detect(data), data) == (StoreType.DER, entry.certificate)
        assert read_store(data).certificates == (entry.certificate,)


@pytest.fixture(scope="module")
def real(lab: Lab) -> tuple[Entry, ...]:
    return entries(lab)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_with_real_keys(name: str, real: tuple[Entry, ...]) -> None:
    kind, form = FORMS[name]
    meant = real
    if kind is StoreType.PKCS12:
        meant = (*meant[:-1], replace(meant[-1], created=None))
    with_password(kind, meant, PASSWORD, form)
    assert read_store(write_store(kind, meant, PASSWORD, form=form), PASSWORD).form == form


@pytest.mark.parametrize("password", [None, PASSWORD])
def test_pem_with_real_keys(password: str | None, real: tuple[Entry, ...]) -> None:
    meant = tuple(replace(entry, created=None) for entry in real if not isinstance(entry, CertificateEntry))
    data = write_store(StoreType.PEM, meant, password)
    assert (b"ENCRYPTED" in data) is (password is not None)
    assert read_store(data, password).entries == meant


def around(steps: int) -> list[tuple[str, str]]:
    """Each form with the one so many steps further, so that each is read and written."""
    names = list(FORMS)
    return [(name, names[(at + steps) % len(names)]) for at, name in enumerate(names)]


@pytest.mark.parametrize(("source", "target"), [*around(1), *around(3)])
def test_every_type_becomes_another(source: str, target: str, real: tuple[Entry, ...]) -> None:
    kind, form = FORMS[source]
    other, other_form = FORMS[target]
    meant = (real[0], real[-1])
    store = read_store(write_store(kind, meant, PASSWORD, form=form), PASSWORD)
    made = write_store(other, entries_for(store, other), "another", form=other_form, now=MADE)
    again = read_store(made, "another")

    def essence(entry: Entry) -> object:
        held = (entry.key, entry.chain) if isinstance(entry, KeyEntry) else getattr(entry, "certificate", None)
        return entry.alias, held

    assert sorted(map(repr, map(essence, again.entries))) == sorted(map(repr, map(essence, meant)))


@given(passwords)
def test_javas_own_utf_8_is_undone(text: str) -> None:
    assert decode_utf(encode_utf(text)) == text
    assert b"\x00" not in encode_utf(text)
