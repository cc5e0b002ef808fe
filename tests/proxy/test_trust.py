"""Whom the proxy trusts: what OpenSSL's own client at its usual level trusts, neither more nor less (T17)."""

from __future__ import annotations

import ssl
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from countersign.proxy import _openssl
from countersign.proxy.measures import weakness
from countersign.recorder.recording import LegRole, Party, Verification
from tests.peers.openssl import openssl_client
from tests.proxy.running import RunningProxy
from tests.proxy.wire import (
    TLS10,
    TLS11,
    TLS12,
    TLS13,
    Target,
    ask,
    client_context,
    client_hello,
    connect,
    echo,
    in_records,
    server_context,
)

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from tests.peers.certs import Issued, Lab

LEVEL_2 = ("-cipher", "DEFAULT:@SECLEVEL=2")  # what Debian 12 has in its openssl.cnf
ANY_SUITE = (0x1301, 0xC02F, 0xC02B, 0xC013, 0xC009, 0x002F)

pytestmark = pytest.mark.peer("openssl")


@dataclass(frozen=True, slots=True)
class Chain:
    """Root, intermediate and leaf made by ``openssl``: a kind of key for each, a digest for each signature.

    A kind is what ``openssl genpkey`` is told; the root's digest is that of its own signature.
    """

    keys: tuple[str, str, str] = ("EC P-256", "EC P-256", "EC P-256")
    digests: tuple[str, str, str] = ("sha256", "sha256", "sha256")
    pss: bool = False


CHAINS = {
    "usual": Chain(),
    "RSA-2048": Chain(("RSA 2048",) * 3),
    "RSA-1024 leaf": Chain(("RSA 2048", "RSA 2048", "RSA 1024")),
    "RSA-1024 intermediate": Chain(("RSA 2048", "RSA 1024", "RSA 2048")),
    "RSA-1024 root": Chain(("RSA 1024", "RSA 2048", "RSA 2048")),
    "RSA-1024 both": Chain(("RSA 2048", "RSA 1024", "RSA 1024")),
    "RSA-1962 leaf": Chain(("RSA 2048", "RSA 2048", "RSA 1962")),
    "RSA-1963 leaf": Chain(("RSA 2048", "RSA 2048", "RSA 1963")),
    "P-192 intermediate": Chain(("EC P-256", "EC prime192v1", "EC P-256")),
    "P-192 leaf": Chain(("EC P-256", "EC P-256", "EC prime192v1")),
    "P-224 leaf": Chain(("EC P-256", "EC P-256", "EC secp224r1")),
    "sect163k1 intermediate": Chain(("EC P-256", "EC sect163k1", "EC P-256")),
    "sect233k1 intermediate": Chain(("EC P-256", "EC sect233k1", "EC P-256")),
    "SHA-1 root": Chain(digests=("sha1", "sha256", "sha256")),
    "SHA-1 intermediate": Chain(digests=("sha256", "sha1", "sha256")),
    "SHA-1 leaf": Chain(digests=("sha256", "sha256", "sha1")),
    "SHA-224 leaf": Chain(digests=("sha256", "sha256", "sha224")),
    "MD5 leaf": Chain(("RSA 2048",) * 3, ("sha256", "sha256", "md5")),
    "RIPEMD-160 leaf": Chain(("RSA 2048",) * 3, ("sha256", "sha256", "ripemd160")),
    "PSS with SHA-256": Chain(("RSA 2048",) * 3, pss=True),
    "PSS with SHA-1": Chain(("RSA 2048",) * 3, ("sha256", "sha256", "sha1"), pss=True),
    "Ed25519": Chain(("ED25519",) * 3),
    "Ed448": Chain(("ED448",) * 3),
}
ON_THE_WIRE = [
    "usual", "RSA-2048", "RSA-1024 leaf", "RSA-1024 intermediate", "RSA-1024 both", "RSA-1024 root",
    "P-192 intermediate", "SHA-1 root", "SHA-1 intermediate", "SHA-1 leaf", "Ed25519",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Files:
    root: Path
    chain: Path  # leaf and intermediate
    intermediate: Path
    leaf: Path
    key: Path
    ders: tuple[bytes, bytes, bytes] = field(repr=False)  # leaf first


def openssl(*words: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def new_key(kind: str, path: Path) -> Path:
    name, _, size = kind.partition(" ")
    options = {"RSA": ("-pkeyopt", f"rsa_keygen_bits:{size}"), "EC": ("-pkeyopt", f"ec_paramgen_curve:{size}")}
    openssl("genpkey", "-algorithm", name, *options.get(name, ()), "-out", path)
    return path


def make(chain: Chain, folder: Path) -> Files:
    subjects = ("/CN=Lab Root", "/CN=Lab Issuer", "/CN=localhost")
    extensions = ["basicConstraints=critical,CA:TRUE"] * 2 + ["subjectAltName=DNS:localhost"]
    paths = [folder / f"{name}.pem" for name in ("root", "intermediate", "leaf")]
    keys: list[Path] = []
    for number, (kind, digest) in enumerate(zip(chain.keys, chain.digests, strict=True)):
        keys.append(new_key(kind, folder / f"{number}.key"))
        request = folder / f"{number}.csr"
        openssl("req", "-new", "-key", keys[-1], "-subj", subjects[number], "-out", request)
        (folder / "extensions").write_text(extensions[number] + "\n")
        words: list[str | Path] = ["x509", "-req", "-in", request, "-days", "30", "-out", paths[number]]
        words += ["-extfile", folder / "extensions", "-set_serial", str(number + 1)]
        words += ["-signkey", keys[0]] if number == 0 else ["-CA", paths[number - 1], "-CAkey", keys[number - 1]]
        words += [] if kind.startswith("ED") else [f"-{digest}"]
        words += ["-sigopt", "rsa_padding_mode:pss"] if chain.pss else []
        openssl(*words)
    both = folder / "both.pem"
    both.write_bytes(paths[2].read_bytes() + paths[1].read_bytes())
    ders = tuple(ssl.PEM_cert_to_DER_cert(path.read_text()) for path in reversed(paths))
    return Files(paths[0], both, paths[1], paths[2], keys[2], (ders[0], ders[1], ders[2]))


def server(files: Files) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(files.chain, files.key)
    return context


def answer_to(proxy: RunningProxy, hello: bytes) -> bytes:
    """The beginning of it; the client leaves then."""
    with connect(proxy) as connection:
        connection.sendall(hello)
        return connection.recv(65536)


@pytest.mark.parametrize("kind", CHAINS)
def test_our_measure_of_a_chain_is_that_of_openssls_level_2(tmp_path: Path, kind: str) -> None:
    files = make(CHAINS[kind], tmp_path)
    words = ["openssl", "verify", "-auth_level", "2", "-CAfile", str(files.root), "-untrusted", str(files.intermediate)]
    verified = subprocess.run([*words, str(files.leaf)], capture_output=True, check=False, text=True)
    found = [weakness(der, depth=depth, anchor=depth == 2) for depth, der in enumerate(files.ders)]
    said = [text for text in found if text is not None]
    assert bool(said) == (verified.returncode != 0), (said, verified.stderr)
    assert not said or any(text in verified.stderr for text in said)


@pytest.mark.parametrize("versions", [(TLS13, TLS12), (TLS12, TLS11, TLS10)], ids=["level 2", "level 0"])
@pytest.mark.parametrize("kind", ON_THE_WIRE)
def test_what_we_trust_is_what_openssls_client_trusts(tmp_path: Path, kind: str, versions: tuple[int, ...]) -> None:
    files = make(CHAINS[kind], tmp_path)
    hello = in_records(client_hello(versions=versions, suites=ANY_SUITE, signatures=(0x0403, 0x0804, 0x0401, 0x0807)))
    settings: dict[str, Any] = {"roots": (files.ders[2],)}
    with Target(echo(server(files))) as target:
        with RunningProxy(target=target.address, **settings) as proxy:
            answer_to(proxy, hello)
            recording = proxy.recording()
        reference = openssl_client(str(target.address), *LEVEL_2, ca=files.root, send=b"hello\n", until="hello")
    leg = recording.leg(LegRole.SERVER)
    assert leg is not None
    assert leg.verification is not None
    assert leg.verification.trusted == (reference.verify_code == 0), (leg.verification, reference.output[-500:])
    if not leg.verification.trusted:
        assert recording.outcome.broken_by is Party.PROXY
        assert "does not trust" in recording.outcome.text


@pytest.mark.parametrize("versions", [(TLS13, TLS12), (TLS12, TLS11, TLS10)], ids=["level 2", "level 0"])
def test_let_through_a_weak_chain_is_noted_and_spoken_with(tmp_path: Path, versions: tuple[int, ...]) -> None:
    files = make(CHAINS["RSA-1024 both"], tmp_path)
    hello = in_records(client_hello(versions=versions, suites=ANY_SUITE))
    with (
        Target(echo(server(files))) as target,
        RunningProxy(target=target.address, roots=(files.ders[2],), verify=False) as proxy,
    ):
        answer_to(proxy, hello)
        recording = proxy.recording()
    leg = recording.leg(LegRole.SERVER)
    assert leg is not None
    assert isinstance(leg.verification, Verification)
    assert (leg.verification.trusted, leg.verification.enforced) == (False, False)
    assert "key too weak" in (leg.verification.error or "")
    assert leg.read().handshake_finished


def test_a_key_that_cannot_be_read_is_too_weak_to_trust() -> None:
    assert "cannot be read" in (weakness(b"\x30\x03\2\1\0", depth=0, anchor=False) or "")


def test_a_short_key_of_ours_may_be_shown_all_the_same(tmp_path: Path) -> None:
    """The level is for what the target shows; a client certificate of 1024 bits is its owner's affair."""
    from countersign.proxy import Identity

    files = make(CHAINS["usual"], tmp_path)
    key, certificate = old_identity()
    context = server(files)
    context.verify_mode = ssl.CERT_REQUIRED
    pem = certificate.public_bytes(Encoding.PEM)
    context.load_verify_locations(cadata=pem.decode())
    identity = Identity((certificate.public_bytes(Encoding.DER),), key)
    with (
        Target(echo(context)) as target,
        RunningProxy(target=target.address, roots=(files.ders[2],), identity=identity) as proxy,
    ):
        client = openssl_client(
            f"127.0.0.1:{proxy.port}", ca=proxy.root_file(tmp_path), send=b"hello\n", until="^hello", timeout=5
        )
        recording = proxy.recording()
    assert recording.outcome.broken_by is None, (recording.outcome, client.output[-300:])


@cache
def old_identity() -> tuple[Any, x509.Certificate]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "old client")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    return key, builder.sign(key, hashes.SHA256())


# -- verdicts that are remembered ----------------------------------------------------------------------------------


class Clock:
    """Stands in for the module ``time``."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(_openssl, "time", made)
    return made


def der(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(Encoding.DER)


def test_a_good_chain_is_good_for_a_minute_and_no_longer_than_it_is_valid(lab: Lab, clock: Clock) -> None:
    for days, holds in ((30.0, 60.0), (1 / 24 + 10 / 86400, 10.0)):  # from an hour ago
        verdicts = _openssl.Verdicts()
        chain = [der(lab.root), der(lab.intermediate), der(lab.issue("localhost", days=days))]
        verdicts.keep("a chain", chain)
        before = clock.now
        assert verdicts.knows("a chain")
        assert not verdicts.knows("another")
        clock.now = before + holds - 3
        assert verdicts.knows("a chain")
        clock.now = before + holds + 1
        assert not verdicts.knows("a chain")
        clock.now = before


def test_a_chain_whose_dates_cannot_be_read_is_verified_each_time(lab: Lab) -> None:
    verdicts = _openssl.Verdicts()
    unreadable = der(lab.server).replace(b"Z\x17\x0d", b"Z\x17\x0dx")[:-1]  # notAfter is shifted by a byte
    assert unreadable != der(lab.server)
    verdicts.keep("a chain", [unreadable])
    assert not verdicts.knows("a chain")


def test_only_the_latest_verdicts_are_kept(lab: Lab) -> None:
    verdicts = _openssl.Verdicts(size=2)
    for name in ("one", "two", "three"):
        verdicts.keep(name, [der(lab.root)])
    assert [verdicts.knows(name) for name in ("one", "two", "three")] == [False, True, True]


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_what_was_trusted_once_vouches_for_nothing_else(lab: Lab, version: str) -> None:
    """Not for another leaf of the same names, and not for the same chain under another name."""
    good, forged = server_context(lab.server, version=version), server_context(lab.issue("localhost", signer=None))
    asked = 0

    def serve(connection: socket.socket) -> None:
        nonlocal asked
        asked += 1
        echo(forged if asked == 3 else good)(connection)

    with Target(serve) as target, RunningProxy(target=target.address, roots=(der(lab.root),)) as proxy:
        context = client_context(proxy.authority.root_pem.decode())
        for _ in range(2):
            assert ask(proxy, context) == b"good morning\n"
        for name in ("localhost", "other.test"):
            with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
                ask(proxy, client_context(), name=name)
        assert ask(proxy, context) == b"good morning\n"
        recordings = proxy.recordings(5)
    trusted = [recording.leg(LegRole.SERVER).verification.trusted for recording in recordings]  # type: ignore[union-attr]
    assert trusted == [True, True, False, False, True]


def test_a_chain_that_was_let_through_is_judged_again_each_time(lab: Lab) -> None:
    leaf = lab.issue("localhost", signer=None)
    with (
        Target(echo(server_context(leaf))) as target,
        RunningProxy(target=target.address, roots=(der(lab.root),), verify=False) as proxy,
    ):
        for _ in range(3):
            assert ask(proxy, client_context()) == b"good morning\n"
        recordings = proxy.recordings(3)
    for recording in recordings:
        leg = recording.leg(LegRole.SERVER)
        assert leg is not None
        assert leg.verification is not None
        assert leg.verification.trusted is False
