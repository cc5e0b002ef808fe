"""Stores that are cut, altered or made to hurt: a named error each time, in bounded time and memory (T31)."""

from __future__ import annotations

import random
from dataclasses import replace
from hashlib import pbkdf2_hmac
from typing import TYPE_CHECKING, Any

import pytest

from countersign.ca.stores import (
    CertificateEntry,
    DigestWrong,
    Form,
    Scheme,
    Store,
    StoreError,
    StoreType,
    StructureBroken,
    TooCostly,
    UnknownAlgorithm,
    UnknownType,
    read_store,
    write_store,
)
from countersign.ca.stores.model import KeyEntry, SecretEntry
from countersign.ca.stores.pbe import MOST_ROUNDS, Secret
from countersign.ca.stores.pkcs12 import LEGACY
from countersign.ca.stores.reading import LARGEST
from countersign.recorder import der
from tests.ca.stores.made_stores import MADE, PASSWORD, QUICK, QUICK_BCFKS, certificate, entries, key

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.peers.certs import Lab

# A secret key as a JVM wrote it: a serialised SealedObjectForKeyProtector.
_SEALED_OBJECT = bytes.fromhex(
    "aced000573720033636f6d2e73756e2e63727970746f2e70726f76696465722e5365616c65644f626a656374466f724b657950726f74"
    "6563746f72cd57ca59e730bb53020000787200196a617661782e63727970746f2e5365616c65644f626a6563743e363da6c3b7547002"
    "00045b000d656e636f646564506172616d737400025b425b0010656e63727970746564436f6e74656e7471007e00024c000970617261"
    "6d73416c677400124c6a6176612f6c616e672f537472696e673b4c00077365616c416c6771007e00037870757200025b42acf317f806"
    "0854e0020000787000000011300f0408f67dc5779e7524120203030d407571007e0005000000a0a5f069cf330322e5ca8d5d432f0074"
    "3c03f0ce066ff4bbe5234d270f4aed1c511b9ecfaca3a6ffb4e5d3de0c3961bce5752e6879b3f40bd62e0f456e49fc3a502ec78818a4"
    "a0b4a578864902e0da0901a2fee77830b2daf357607ee9492ebb607ac7f1094dbba1c1ea2284b29031c86d015ad17ab175102b939e53"
    "0f11e27811587a6434f05cf34a088e55b54e5197d4de302c90d1b1e61ef2d510d91e8828a0740016504245576974684d4435416e6454"
    "7269706c65444553740016504245576974684d4435416e64547269706c65444553"
)


def small(lab: Lab) -> dict[str, bytes]:
    """A small store of every type, its passwords quick to check; PEM without a password, to see changes at all."""
    rsa, ec, _, root = entries(lab)
    assert isinstance(root, CertificateEntry)
    secret = SecretEntry("secret", StoreType.JCEKS, _SEALED_OBJECT, MADE)
    return {
        "jks": write_store(StoreType.JKS, [rsa, root], PASSWORD, now=MADE),
        "jceks": write_store(StoreType.JCEKS, [root, secret], PASSWORD, now=MADE),
        "pkcs12": write_store(StoreType.PKCS12, [rsa, ec, root], PASSWORD, form=QUICK),
        "pkcs12-clear": write_store(StoreType.PKCS12, [root], form=Form(None, None, None)),
        "bcfks": write_store(StoreType.BCFKS, [rsa, root], PASSWORD, form=QUICK_BCFKS, now=MADE),
        "pkcs7": write_store(StoreType.PKCS7, [root]),
        "der": write_store(StoreType.DER, [root]),
        "pem": write_store(StoreType.PEM, [ec, root]),
    }


KINDS = ("jks", "jceks", "pkcs12", "pkcs12-clear", "bcfks", "pkcs7", "der", "pem")
GUARDED = ("jks", "jceks", "pkcs12", "bcfks")


@pytest.fixture(scope="module")
def made(lab: Lab) -> dict[str, bytes]:
    return small(lab)


def opened(data: bytes) -> Store | StoreError:
    """The store, or the error with a name of its own; nothing else may come out."""
    try:
        return read_store(data, PASSWORD)
    except StoreError as error:
        found = error
    assert type(found) is not StoreError
    assert str(found).isprintable()
    return found


@pytest.mark.parametrize("name", KINDS)
def test_every_beginning_of_a_store_is_told_to_be_cut(name: str, made: dict[str, bytes]) -> None:
    whole = made[name]
    assert isinstance(opened(whole), Store)
    for length in range(len(whole)):
        found = opened(whole[:length])
        if name == "pem" and isinstance(found, Store):  # cut between two blocks
            assert b"BEGIN" not in whole[:length].rpartition(b"-----END ")[2].partition(b"-----")[2]
        elif length < 80:
            assert isinstance(found, StructureBroken | UnknownType), length
        elif name in {"jks", "jceks"} and length > len(whole) - 21:
            assert isinstance(found, StructureBroken | DigestWrong), length
        else:
            assert isinstance(found, StructureBroken), length
            assert found.offset <= length


@pytest.mark.parametrize("name", KINDS)
def test_a_flipped_bit_is_an_error_with_a_name(name: str, made: dict[str, bytes]) -> None:
    """Or nothing that matters, in a file that no digest guards, or outside of what the digest is over."""
    whole = made[name]
    right = read_store(whole, PASSWORD)
    dice = random.Random(name)
    for _ in range(500):
        bit = dice.randrange(8 * len(whole))
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        found = opened(bytes(data))
        if name in GUARDED and isinstance(found, Store) and found.verified:
            assert found.entries == right.entries, bit


@pytest.mark.parametrize("name", KINDS)
def test_bytes_put_in_and_taken_out_are_an_error_with_a_name(
    name: str, made: dict[str, bytes], scaled: Callable[[int], int]
) -> None:
    dice = random.Random(name)
    for _ in range(scaled(4000)):
        data = bytearray(made[name])
        for _ in range(dice.randrange(1, 5)):
            at = dice.randrange(len(data))
            match dice.randrange(4):
                case 0:
                    data[at:at] = dice.randbytes(dice.randrange(1, 9))
                case 1:
                    del data[at : at + dice.randrange(1, 40)]
                case 2:
                    data[at] = dice.choice((0, 1, 0x30, 0x7F, 0x80, 0x82, 0x84, 0xFF))
                case _:
                    data[at : at + 2] = dice.choice((b"\x30\x80", b"\x24\x80", b"\x00\x00", b"\xff\xff"))
        opened(bytes(data))


def test_the_secret_key_of_the_samples_is_one(made: dict[str, bytes]) -> None:
    assert [type(entry) for entry in read_store(made["jceks"], PASSWORD).entries] == [CertificateEntry, SecretEntry]


# -- what it may cost --------------------------------------------------------------------------------------------

_DEAR = 2**31 - 1


def replaced(data: bytes, rounds: int, by: int) -> bytes:
    """A count in DER replaced by one of the same length, or everything around it would change."""
    before, after = der.encode_integer(rounds), der.encode_integer(by)
    assert len(before) == len(after)
    assert data.count(before) >= 1
    return data.replace(before, after)


@pytest.mark.parametrize(
    "form",
    [
        Form(QUICK.keys, QUICK.content, Scheme("hmac-sha256", "pkcs12", 0x7FFFFFF0)),
        Form(QUICK.keys, QUICK.content, Scheme("hmac-sha256", "pbkdf2", 0x7FFFFFF0, "sha256")),
    ],
)
def test_a_mac_that_asks_for_too_many_rounds_is_refused(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    few = Scheme(form.mac.cipher, form.mac.kdf, 0x70000001, form.mac.prf) if form.mac else None
    data = _without_paying(few, form, monkeypatch)
    with pytest.raises(TooCostly, match="iterations"):
        read_store(data, PASSWORD)


def _without_paying(scheme: Scheme | None, form: Form, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The store that a hostile writer makes: the count is in it, the work was never done."""
    assert form.mac is not None
    cheap = Form(form.keys, form.content, Scheme(form.mac.cipher, form.mac.kdf, 0x0A0B0C0D, form.mac.prf))
    with monkeypatch.context() as patch:
        patch.setattr("countersign.ca.stores.pbe.derive", lambda *_: bytes(32))
        patch.setattr("countersign.ca.stores.pbe.pkcs12_key", lambda *_, **__: bytes(32))
        data = write_store(StoreType.PKCS12, [CertificateEntry("a", certificate("a", "b", b""))], PASSWORD, form=cheap)
    return replaced(data, 0x0A0B0C0D, _DEAR)


@pytest.mark.parametrize("rounds", [MOST_ROUNDS + 1, _DEAR])
@pytest.mark.parametrize("kdf", ["pbkdf2", "pkcs12", "jceks"])
def test_a_key_that_asks_for_too_many_rounds_is_refused(kdf: str, rounds: int) -> None:
    salt = der.encode(der.OCTET_STRING, b"12345678")
    oid = {"pkcs12": "1.2.840.113549.1.12.1.3", "jceks": "1.3.6.1.4.1.42.2.19.1"}.get(kdf)
    if oid:
        algorithm = der.encode(
            der.SEQUENCE, der.encode_oid(oid), der.encode(der.SEQUENCE, salt, der.encode_integer(rounds))
        )
    else:
        algorithm = _pbes2("1.2.840.113549.1.5.12", der.encode(der.SEQUENCE, salt, der.encode_integer(rounds)))
    sealed = der.encode(der.SEQUENCE, algorithm, der.encode(der.OCTET_STRING, bytes(64)))
    with pytest.raises(TooCostly, match=str(rounds)):
        read_store(sealed, PASSWORD)


def _pbes2(kdf: str, parameters: bytes) -> bytes:
    iv = der.encode(der.OCTET_STRING, bytes(16))
    return der.encode(
        der.SEQUENCE,
        der.encode_oid("1.2.840.113549.1.5.13"),
        der.encode(
            der.SEQUENCE,
            der.encode(der.SEQUENCE, der.encode_oid(kdf), parameters),
            der.encode(der.SEQUENCE, der.encode_oid("2.16.840.1.101.3.4.1.42"), iv),
        ),
    )


@pytest.mark.parametrize(
    ("cost", "block", "parallel", "expected"),
    [
        (1 << 30, 8, 1, TooCostly),
        (1 << 10, 1 << 20, 1, TooCostly),
        (1 << 14, 8, 1 << 20, TooCostly),
        (1 << 14, 8, 64, TooCostly),
        (1 << 62, 1 << 40, 1 << 40, TooCostly),
        (1000, 8, 1, StructureBroken),
        (1, 8, 1, StructureBroken),
        (0, 8, 1, StructureBroken),
        (-4, 8, 1, StructureBroken),
    ],
)
def test_scrypt_may_not_ask_for_the_machine(cost: int, block: int, parallel: int, expected: type[StoreError]) -> None:
    values = (der.encode(der.OCTET_STRING, b"salt"), *map(der.encode_integer, (cost, block, parallel)))
    algorithm = _pbes2("1.3.6.1.4.1.11591.4.11", der.encode(der.SEQUENCE, *values))
    sealed = der.encode(der.SEQUENCE, algorithm, der.encode(der.OCTET_STRING, bytes(64)))
    with pytest.raises(expected):
        read_store(sealed, PASSWORD)


def test_many_keys_may_not_ask_for_much_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each under the limit of one; the file as a whole has one too."""
    dear: list[int] = []
    monkeypatch.setattr("countersign.ca.stores.pbe.PBKDF2HMAC", lambda *words: _Costless(words, dear))
    form = replace(QUICK, keys=Scheme("aes-256-cbc", "pbkdf2", MOST_ROUNDS, "sha256"))
    keys = [KeyEntry(f"k{n}", (certificate(f"c{n}", "d", b""),), key(bytes((n,)))) for n in range(20)]
    data = write_store(StoreType.PKCS12, keys, PASSWORD, form=form)
    assert len(read_store(data, PASSWORD, open_keys=False).entries) == 20
    few = write_store(StoreType.PKCS12, keys[:4], PASSWORD, form=form)
    assert all(entry.key for entry in read_store(few, PASSWORD).keys)
    dear.clear()
    with pytest.raises(TooCostly, match="in all"):
        read_store(data, PASSWORD)
    assert len(dear) == 4


class _Costless:
    """PBKDF2 that makes one round of however many, and notes when they were many."""

    def __init__(self, words: tuple[Any, ...], dear: list[int]) -> None:
        _, self._size, _, rounds = words
        if rounds > 1000:
            dear.append(rounds)

    def derive(self, secret: bytes) -> bytes:
        return pbkdf2_hmac("sha256", secret, b"", 1, self._size)


def test_much_data_under_a_slow_cipher_is_refused() -> None:
    held = [CertificateEntry(f"c{n}", certificate(f"c{n}", "d", bytes(30_000))) for n in range(40)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("countersign.ca.stores.rc2.encrypt", lambda _key, _bits, _iv, data: data)
        data = write_store(StoreType.PKCS12, held, PASSWORD, form=LEGACY)
    with pytest.raises(TooCostly, match="RC2"):
        read_store(data, PASSWORD)


def test_a_file_that_is_no_store_by_its_size_is_refused() -> None:
    with pytest.raises(TooCostly, match="16 MiB"):
        read_store(b"\xfe\xed\xfe\xed" + bytes(LARGEST))


# -- shapes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\x30\x80" * 5000,
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x82\xff\xff" * 20,
        b"\x30\x80\x02\x01\x03" + b"\x30\x80" * 40,
        der.encode(der.SEQUENCE, der.encode_integer(3), der.encode(der.SEQUENCE)),
        der.encode(der.SEQUENCE, der.encode_integer(3), b"\x30\x80" * 40 + b"\x00\x00" * 40),
        b"\xfe\xed\xfe\xed" + (2).to_bytes(4) + b"\xff\xff\xff\xff" + bytes(40),
        b"\xfe\xed\xfe\xed" + (2).to_bytes(4) + (1).to_bytes(4) + (1).to_bytes(4) + b"\xff\xff" + bytes(40),
        b"\xce\xce\xce\xce" + (3).to_bytes(4) + bytes(40),
        b"-----BEGIN CERTIFICATE-----\n" * 3000,
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n",
        b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: no\n\n-----END RSA PRIVATE KEY-----",
        b"-----BEGIN PKCS7-----\n!!\n-----END PKCS7-----\n",
    ],
    ids=lambda data: data[:12].hex(),
)
def test_shapes_that_hurt_careless_readers_are_errors_with_names(data: bytes) -> None:
    assert isinstance(opened(data), StoreError)


@pytest.mark.parametrize(
    "inside",
    [
        b"\x73" * 400,  # objects in objects
        b"\x75" * 400,
        b"\x71\x00\x7e\x00\x00",  # a reference to nothing
        b"\x73\x72\x00\x01a" + bytes(8) + b"\x02\xff\xff",  # 65535 fields
        b"\x73\x72\x00\x01a" + bytes(8) + b"\x04\x00\x00\x78\x70",  # a class that reads itself
        b"\x7c\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x75\x72\x00\x02[L" + bytes(8) + b"\x02\x00\x00\x78\x70\xff\xff\xff\xff" + b"\x70" * 100,
        b"\x73\x72\x00\x01a" + bytes(8) + b"\x03\x00\x00\x78\x70" + b"\x77\xff",
        b"\x7e\x00",  # an enum
    ],
    ids=lambda data: data[:8].hex(),
)
def test_a_serialised_object_is_walked_and_never_believed(inside: bytes) -> None:
    body = (3).to_bytes(4) + b"\x00\x01k" + bytes(8) + b"\xac\xed\x00\x05" + inside
    data = b"\xce\xce\xce\xce" + (2).to_bytes(4) + (1).to_bytes(4) + body + bytes(20)
    assert isinstance(opened(data), StructureBroken)


def test_ten_thousand_entries_of_one_name_are_told_apart_in_time() -> None:
    data = b"".join(
        write_store(StoreType.PEM, [CertificateEntry("x", certificate("same", "same", n.to_bytes(3)))])
        for n in range(9_000)
    )
    store = read_store(data)
    assert len({entry.alias for entry in store.entries}) == 9_000


def test_names_in_a_store_cannot_write_to_a_terminal(lab: Lab) -> None:
    """T9: an alias is whatever somebody chose."""
    hostile = "\x1b]52;c;!\x07\u202e\r\n"
    first, *_ = entries(lab)
    assert isinstance(first, KeyEntry)
    data = write_store(StoreType.JKS, [KeyEntry(hostile, first.chain, first.key, MADE)], PASSWORD, key_password="other")
    with pytest.raises(StoreError) as caught:
        read_store(data, PASSWORD)
    assert str(caught.value).isprintable()
    assert r"\x1b]52" in str(caught.value)


def test_no_password_and_no_key_is_in_an_error_or_a_representation(made: dict[str, bytes]) -> None:
    store = read_store(made["jks"], PASSWORD)
    assert store.keys[0].key is not None
    for text in (repr(store), repr(Secret("wrong-one")), repr(opened(made["jks"][:-1]))):
        assert "wrong-one" not in text
        assert PASSWORD not in text
        assert repr(store.keys[0].key)[2:40] not in text
    with pytest.raises(DigestWrong) as caught:
        read_store(made["jks"], "wrong-one")
    assert "wrong-one" not in f"{caught.value!r} {caught.value}"


def test_what_nobody_here_knows_is_named() -> None:
    algorithm = der.encode(der.SEQUENCE, der.encode_oid("1.2.3.4.5"), b"\x05\x00")
    sealed = der.encode(der.SEQUENCE, algorithm, der.encode(der.OCTET_STRING, key(b"")))
    with pytest.raises(UnknownAlgorithm, match=r"1\.2\.3\.4\.5"):
        read_store(sealed, PASSWORD)
