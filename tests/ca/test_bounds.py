"""What is too much: lifetimes, files, recipes, iterations. Each is a sentence, soon, and nothing is made of it."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from countersign.ca import Authority, KeyPairError, issue, load_key_pair, load_roots
from countersign.ca.keeping import key_to_pem
from countersign.ca.pem import blocks_in, to_pem
from countersign.ca.recipes import RecipeError, load_recipes, read_recipes
from countersign.ca.stores import pbe
from countersign.ca.stores.model import Scheme
from countersign.ca.trust import TrustError
from countersign.errors import CountersignError, UserError
from countersign.recorder import der
from countersign.recorder.private_files import FileFault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AUTHORITY = Authority.make()


@pytest.mark.parametrize("days", [-1, 0, 36_501, 10**9, 10**30])
def test_a_lifetime_that_no_certificate_has_is_refused(days: int) -> None:
    other = Authority.make()
    with pytest.raises(UserError, match=r"expected 1 to 36500"):
        issue(AUTHORITY, "host", days=days)
    if days:
        with pytest.raises(UserError, match="expected 0 to 36500"):
            AUTHORITY.rotate("root", overlap=timedelta(days=max(-1, min(days, 10**6))))
    with pytest.raises(UserError, match="expected at most 36500"):
        AUTHORITY.cross_sign(other, days=days)


READERS: list[tuple[Callable[[Path], Any], type[CountersignError]]] = [
    (load_roots, TrustError),
    (load_key_pair, KeyPairError),
    (load_recipes, RecipeError),
]


@pytest.mark.parametrize(("read", "fault"), READERS)
def test_a_file_that_has_no_end_is_not_waited_for(
    read: Callable[[Path], Any], fault: type[CountersignError], tmp_path: Path
) -> None:
    pipe, large, missing = tmp_path / "pipe", tmp_path / "large", tmp_path / "missing"
    os.mkfifo(pipe)
    with large.open("wb") as file:
        file.truncate(1 << 40)
    for path in (pipe, large, tmp_path, missing):
        with pytest.raises(fault, match=r"regular file|larger than|no such file|is a directory"):
            read(path)


def test_a_certificate_of_the_home_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    kept = AUTHORITY.keep(tmp_path / "ca")
    assert kept.directory is not None
    (kept.directory / "root.pem").unlink()
    os.mkfifo(kept.directory / "root.pem")
    with pytest.raises(FileFault, match="not a regular file"):
        Authority.load(kept.directory)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("send.count = 1000000000", "send.count is 1000000000, expected 0 to 1000"),
        ("send.size = 10000000000", "send.size is 10000000000"),
        ("send.unrelated = -1", "send.unrelated is -1"),
        ("leaf.more_names = 1000000000", "more_names = 1000000000: expected 0 to 100000"),
        ("leaf.scts = 1000000000", "scts = 1000000000: expected 0 to 1000"),
        ("\n".join(f'other.c{n}.issuer = "root"' for n in range(201)), "201 other certificates"),
        (f'leaf.extra = [{{ oid = "1.{"9" * 5000}" }}]', "expected numbers with dots"),
        (f'leaf.extra = [{{ oid = "1{".1" * 5000}" }}]', "expected numbers with dots"),
        ("x = " + "[" * 50_000, "too deep"),
    ],
)
def test_a_recipe_of_a_few_words_makes_nothing_without_measure(text: str, said: str) -> None:
    with pytest.raises(RecipeError) as wrong:
        read_recipes(f"[mine]\n{text}\n")
    assert said in str(wrong.value)
    assert len(str(wrong.value)) < 500


def test_a_file_of_very_many_recipes_is_refused() -> None:
    with pytest.raises(RecipeError, match="there are 2001, expected at most 2000"):
        read_recipes("".join(f"[r{n}]\n" for n in range(2001)))


def test_headers_without_end_in_a_pem_block_are_read_once() -> None:
    """The rest was copied for each of them once: a million took minutes, and the suite would not end."""
    data = b"-----BEGIN CERTIFICATE-----\n" + b"A: b\n" * 1_000_000 + b"-----END CERTIFICATE-----"
    (block,) = blocks_in(data)
    assert block.headers == {"A": "b"}
    assert block.data == b""


ROUNDS = [
    Scheme("aes-256-cbc", "pbkdf2", 2_000_000_000, "sha256"),
    Scheme("aes-256-cbc", "scrypt", 1 << 24, block=8),
]


@pytest.mark.parametrize("scheme", ROUNDS, ids=str)
@pytest.mark.parametrize("encoding", ["pem", "der"])
def test_a_key_that_asks_for_two_thousand_million_rounds_is_not_opened(
    scheme: Scheme, encoding: str, tmp_path: Path
) -> None:
    algorithm = pbe.algorithm_der(pbe.new_algorithm(scheme, os.urandom))
    sealed = der.encode(der.SEQUENCE, algorithm, der.encode(der.OCTET_STRING, bytes(144)))
    certificate, file = tmp_path / "cert.pem", tmp_path / "key"
    certificate.write_bytes(to_pem(issue(AUTHORITY, "host").chain[0]))
    file.write_bytes(sealed if encoding == "der" else der.to_pem(sealed, "ENCRYPTED PRIVATE KEY"))
    with pytest.raises(KeyPairError, match=r"iterations over its password|asks scrypt for"):
        load_key_pair(certificate, file, passphrase="pw")


def test_a_passphrase_may_be_any_bytes(tmp_path: Path) -> None:
    """What openssl and this program encrypt under is bytes; only key stores want text."""
    passphrase = b"\xff\x00\x80"
    kept = AUTHORITY.keep(tmp_path / "ca", passphrase=passphrase)
    assert Authority.load(tmp_path / "ca", passphrase=passphrase).issuer == kept.issuer
    both = tmp_path / "both.pem"
    both.write_bytes(key_to_pem(AUTHORITY.issuer.signer.key, passphrase) + to_pem(AUTHORITY.issuer.der))
    assert Authority.given(both, passphrase=passphrase).issuer.der == AUTHORITY.issuer.der
    with pytest.raises(KeyPairError, match="passphrase is wrong"):
        Authority.given(both, passphrase=b"\xfe")
