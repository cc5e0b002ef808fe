"""What our own hello offers the target: nothing that the client did not offer; what could not be repeated is named."""

from __future__ import annotations

import contextlib
import os
import ssl
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings, strategies as st

from countersign.proxy import Identity
from countersign.proxy._openssl import signature_name
from countersign.proxy.offer import _groups, _offered
from countersign.recorder.recording import LegRole, Party, Recording, Status, to_json
from countersign.recorder.wire.names import (
    GREASE,
    SIGNATURE_SCHEMES,
    extension_name,
    signature_scheme_name,
    version_name,
)
from countersign.recorder.wire.reading import HelloSummary, summarize_client_hello
from tests.peers.openssl import openssl_client
from tests.proxy.running import RunningProxy
from tests.proxy.wire import (
    SCHEMES,
    TLS10,
    TLS11,
    TLS12,
    TLS13,
    Target,
    alert,
    ask,
    client_context,
    client_hello,
    echo,
    in_records,
    send,
    server_context,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from tests.peers.certs import Issued, KeyType, Lab

VERSIONS = (TLS10, TLS11, TLS12, TLS13)
SUBSETS = [subset for count in range(1, 5) for subset in combinations(VERSIONS, count)]
ANY_VERSION = (0x1301, 0xC02F, 0xC013, 0x002F)  # suites for each of them
SUPPORTED_VERSIONS, SIGNATURE_ALGORITHMS = 43, 13


def der(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(Encoding.DER)


class Listening:
    """A target that keeps the hellos that it gets and answers none, and a proxy in front of it."""

    def __init__(self, **settings: Any) -> None:
        self.hellos: list[bytes] = []
        self._stack = contextlib.ExitStack()
        self._settings = settings

    def __enter__(self) -> Self:
        target = self._stack.enter_context(Target(self._listen))
        self.proxy = self._stack.enter_context(
            RunningProxy(target=target.address, **{"verify": False, **self._settings})
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _listen(self, connection: socket.socket) -> None:
        data = b""
        while len(data) < 5 or len(data) < 5 + int.from_bytes(data[3:5]):
            more = connection.recv(65536)
            if not more:
                return
            data += more
        self.hellos.append(data[5:])

    def offer(self, hello: bytes) -> tuple[bytes, HelloSummary | None, Recording]:
        """Our answer to the client, our hello to the target (none when we made none), and the recording."""
        before, heard = len(self.proxy.kept.finished), len(self.hellos)
        answer = send(self.proxy, in_records(hello), finish=False)
        recording = self.proxy.recordings(before + 1)[-1]
        ours = self.hellos[heard:]
        return answer, summarize_client_hello(ours[0]) if ours else None, recording


@pytest.fixture(scope="module")
def listening() -> Iterator[Listening]:
    with Listening() as running:
        yield running


def test_a_client_with_many_key_shares_is_followed_with_the_four_that_openssl_takes() -> None:
    groups = (0x11EC, 0x001D, 0x0017, 0x0018, 0x0019)
    summary = replace(summarize_client_hello(client_hello()), groups=groups, key_share_groups=groups)
    offered = _groups(_offered(summary)).split(":")
    assert len(offered) == 5
    assert [name.count("*") for name in offered] == [1, 1, 1, 1, 0]


# -- versions (T22) ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("versions", SUBSETS, ids=lambda subset: "+".join(map(version_name, subset)))
def test_no_version_is_offered_that_the_client_left_out_and_its_highest_is(
    listening: Listening, versions: tuple[int, ...]
) -> None:
    _, ours, recording = listening.offer(client_hello(versions=reversed(versions), suites=ANY_VERSION))
    assert ours is not None
    offered = set(ours.versions) if SUPPORTED_VERSIONS in ours.extensions else {ours.legacy_version}
    assert offered <= set(versions)
    assert max(versions) in offered
    run = {version for version in versions if all(between in versions for between in range(version, max(versions)))}
    missing = [version_name(version) for version in reversed(versions) if version not in run]
    noted = [text.removeprefix("versions: ") for text in recording.not_mirrored if text.startswith("versions: ")]
    assert noted == ([", ".join(missing)] if missing else [])


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"])
def test_a_target_of_each_version_is_reached_where_the_client_has_no_hole(lab: Lab, version: str) -> None:
    with (
        Target(echo(server_context(lab.server, version=version))) as target,
        RunningProxy(target=target.address, roots=(der(lab.root),)) as proxy,
    ):
        context = client_context(proxy.authority.root_pem.decode())
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            context.minimum_version = ssl.TLSVersion.TLSv1
        assert ask(proxy, context) == b"good morning\n"
        recording = proxy.recording()
    assert recording.outcome.status is Status.ESTABLISHED
    assert not [text for text in recording.not_mirrored if text.startswith("versions")]


# -- signature schemes (T22) -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("versions", "offered", "ours"),
    [
        ((TLS13, TLS12), SCHEMES, SCHEMES[:-2]),
        ((TLS13, TLS12), (0x0805, 0x0403, 0x0601), (0x0805, 0x0403, 0x0601)),
        ((TLS13, TLS12), (0x7A7A, 0x0403, 0xFE00, 0x0420, 0x0804), (0x0403, 0x0804)),
        ((TLS13,), (0x0403, 0x0403, 0x0401), (0x0403, 0x0401)),
        ((TLS12, TLS11, TLS10), SCHEMES, SCHEMES),  # at security level 0, where SHA-1 may be offered
        ((TLS12,), (0x0201, 0x0203), (0x0201, 0x0203)),  # nothing but SHA-1
        ((TLS12,), None, (0x0201, 0x0203, 0x0202)),  # RFC 5246 7.4.1.4.1
        ((TLS11, TLS10), SCHEMES, ()),
        ((TLS11, TLS10), None, ()),
        ((TLS12, TLS11), (0x0840, 0x0841), ()),  # GOST alone: TLS 1.1 does without
    ],
    ids=range(10),
)
def test_no_scheme_is_offered_that_the_client_did_not_offer_and_their_order_is_kept(
    listening: Listening, versions: tuple[int, ...], offered: tuple[int, ...] | None, ours: tuple[int, ...]
) -> None:
    _, hello, recording = listening.offer(client_hello(versions=versions, suites=ANY_VERSION, signatures=offered))
    assert hello is not None
    assert hello.signature_algorithms == ours
    missing = [scheme for scheme in dict.fromkeys(offered or ()) if scheme not in ours and scheme not in GREASE]
    if max(versions) >= TLS12 and ours:
        noted = [text for text in recording.not_mirrored if text.startswith("signature_algorithms")]
        names = ", ".join(map(signature_scheme_name, missing))
        assert noted == ([f"signature_algorithms: {names}"] if missing else [])


def test_a_client_of_which_no_scheme_can_be_spoken_is_refused_with_their_names(listening: Listening) -> None:
    answer, ours, recording = listening.offer(client_hello(signatures=(0x0840, 0x0911, 0xFE00)))
    assert ours is None
    assert answer == alert("handshake_failure")
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.FAILED, Party.PROXY)
    for name in ("gostr34102012_256", "slhdsa_sha2_128s", "0xfe00", "no signature scheme of these", "--passthrough"):
        assert name in recording.outcome.text


def test_a_tls13_hello_without_schemes_is_not_answered_with_schemes_of_ours(listening: Listening) -> None:
    """RFC 8446 9.2: the extension has to be there. What remains of the offer is TLS 1.2 with its implied ones."""
    _, ours, recording = listening.offer(client_hello(versions=(TLS13, TLS12), signatures=None))
    assert ours is not None
    assert SUPPORTED_VERSIONS not in ours.extensions
    assert "versions: TLSv1.3" in recording.not_mirrored
    answer, ours, _ = listening.offer(client_hello(versions=(TLS13,), signatures=None))
    assert (answer, ours) == (alert("handshake_failure"), None)


@pytest.mark.parametrize("kind", ["ec-p256", "ec-p384", "rsa-2048", "ed25519"])
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_client_certificate_is_shown_by_a_scheme_of_its_own(lab: Lab, kind: KeyType, version: str) -> None:
    """Even where the client has offered none that fits its key; the recording says that it was added."""
    identity = lab.issue(common_name="mid", usages=("client",), key=kind)
    context = server_context(lab.server, version=version)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(lab.root_pem)
    shown = Identity((der(identity), der(lab.intermediate)), identity.key)
    with (
        Target(echo(context)) as target,
        RunningProxy(target=target.address, roots=(der(lab.root),), identity=shown) as proxy,
    ):
        root = proxy.root_file(lab.directory)
        args = ("-sigalgs", "ecdsa_secp521r1_sha512:ecdsa_secp256r1_sha256")
        client = openssl_client(f"127.0.0.1:{proxy.port}", *args, ca=root, send=b"good morning\n", until="good morning")
        recording = proxy.recording()
    assert recording.outcome.status is Status.ESTABLISHED, (recording.outcome, client.output)
    leg = recording.leg(LegRole.SERVER)
    assert leg is not None
    ours = summarize_client_hello(leg.messages[0].raw).signature_algorithms
    added = [text for text in recording.not_mirrored if text.endswith("offered for the client certificate given")]
    assert ours[:2] == (0x0603, 0x0403)
    assert len(added) == (0 if kind == "ec-p256" else 1)
    assert bool(ours[2:]) == bool(added)


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize(
    ("kind", "schemes", "chosen"),
    [
        ("rsa-2048", "rsa_pss_rsae_sha512:rsa_pss_rsae_sha256", ("RSA-PSS", "SHA512")),
        ("rsa-2048", "ecdsa_secp256r1_sha256:rsa_pss_rsae_sha384", ("RSA-PSS", "SHA384")),
        ("ec-p256", "rsa_pss_rsae_sha384:ecdsa_secp256r1_sha256", ("ECDSA", "SHA256")),
        ("ed25519", "ecdsa_secp256r1_sha256:ed25519", ("ed25519", None)),
    ],
    ids=range(4),
)
def test_the_client_gets_a_signature_that_it_offered(
    lab: Lab, kind: KeyType, schemes: str, chosen: tuple[str, str | None], version: str
) -> None:
    server = lab.issue("localhost", key=kind)
    with (
        Target(echo(server_context(server))) as target,
        RunningProxy(target=target.address, roots=(der(lab.root),)) as proxy,
    ):
        root = proxy.root_file(lab.directory)
        client = openssl_client(f"127.0.0.1:{proxy.port}", "-sigalgs", schemes, ca=root, version=version)
    signature, digest = chosen
    assert f"Peer signature type: {signature}" in client.output, client.output
    if digest is not None:
        assert f"Peer signing digest: {digest}" in client.output


# -- what OpenSSL has nothing of ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", [0x0081, 0x0083, 0xC100, 0xC101, 0xC102, 0xFF85, 0xFF87])
@pytest.mark.parametrize("versions", [None, (TLS13, TLS12)], ids=["up to 1.2", "1.3"])
def test_gost_is_named_and_laid_to_the_proxy(
    listening: Listening, suite: int, versions: tuple[int, ...] | None
) -> None:
    answer, ours, recording = listening.offer(client_hello(versions=versions, suites=(suite,)))
    assert (answer, ours) == (alert("handshake_failure"), None)
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.FAILED, Party.PROXY)
    assert "GOST" in recording.outcome.text or "0xff8" in recording.outcome.text
    assert "no cipher suite of these" in recording.outcome.text
    assert [failure.code for failure in recording.failures] == ["unsupported-offer"]


@pytest.mark.parametrize(
    "hello",
    [
        client_hello(versions=(TLS11, TLS10), suites=(0x009C,)),  # of TLS 1.2
        client_hello(versions=(TLS12,), suites=(0x009C,), signatures=(0x0403,)),  # RSA, of ECDSA alone
        client_hello(versions=(TLS12,), suites=(0xC0AE,), signatures=(0x0401,)),  # ECDSA, of RSA alone
        client_hello(versions=(TLS13,), groups=None),
        client_hello(versions=(TLS13,), groups=(0x0015,), shares=()),
        client_hello(versions=(TLS13,), suites=(0xC02F,)),
        client_hello(versions=(TLS12,), suites=(0x1301,)),
    ],
    ids=range(7),
)
def test_a_combination_that_openssl_does_not_take_is_laid_to_the_proxy(listening: Listening, hello: bytes) -> None:
    answer, ours, recording = listening.offer(hello)
    assert (answer, ours) == (alert("handshake_failure"), None)
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.FAILED, Party.PROXY)
    assert [failure.code for failure in recording.failures] == ["unsupported-offer"]


def test_what_is_left_out_of_suites_and_groups_is_named_and_grease_is_not(listening: Listening) -> None:
    hello = client_hello(suites=(0x2A2A, 0x1301, 0xC02F, 0x000A, 0x0005), groups=(0x3A3A, 0x001D, 0x0015))
    _, ours, recording = listening.offer(hello)
    assert ours is not None
    assert recording.not_mirrored == (
        "cipher_suites: TLS_RSA_WITH_3DES_EDE_CBC_SHA, TLS_RSA_WITH_RC4_128_SHA",
        "supported_groups: secp224r1",
        "signature_algorithms: ecdsa_sha1, rsa_pkcs1_sha1",
        "extensions: psk_key_exchange_modes, added",
    )


def test_each_extension_that_is_not_there_or_only_there_is_named(listening: Listening) -> None:
    """Whatever is told elsewhere (names, sessions) or means the same (RFC 5746 3.3) is not; nor GREASE and padding."""
    strange = [(0x1A1A, b""), (18, b""), (28, b"\x40\1"), (27, b"\2\0\2"), (65281, b"\0"), (23, b""), (35, b"")]
    hello = client_hello(alpn=(b"h2",), extra=strange, padding=9)
    _, ours, recording = listening.offer(hello)
    assert ours is not None
    theirs = summarize_client_hello(hello)
    silent = {0x1A1A, 21, 65281}
    missing = [extension_name(code) for code in theirs.extensions if code not in {*ours.extensions, *silent}]
    added = [extension_name(code) for code in ours.extensions if code not in theirs.extensions]
    named = [text for text in recording.not_mirrored if text.startswith("extensions: ")]
    assert named == [f"extensions: {', '.join(missing)}", f"extensions: {', '.join(added)}, added"]
    assert missing == ["signed_certificate_timestamp", "record_size_limit", "compress_certificate"]


def test_groups_that_openssl_does_not_have_are_not_replaced_by_its_own(listening: Listening) -> None:
    """Those for DHE are offered by OpenSSL as well (RFC 7919 4), and suites that need another group are left out."""
    _, ours, recording = listening.offer(
        client_hello(versions=(TLS12,), groups=(0x0015,), shares=(), suites=(0x009E, 0xC02F))
    )
    assert ours is not None
    assert (ours.groups, set(ours.ciphers) - {0x00FF}) == ((), {0x009E})
    assert "supported_groups: secp224r1" in recording.not_mirrored


def test_a_client_that_names_no_group_is_offered_for_with_those_of_its_time(listening: Listening) -> None:
    """RFC 8422 4: it takes any; but one without the extension may be as old as RFC 4492, which had these."""
    _, ours, _ = listening.offer(client_hello(versions=(TLS12,), groups=None, suites=(0x009E, 0xC02F)))
    assert ours is not None
    assert ours.groups == (0x0017, 0x0018, 0x0019)


def some(*known: int) -> st.SearchStrategy[int]:
    return st.one_of(st.sampled_from(known), st.integers(0, 0xFFFF))


hellos = st.builds(
    client_hello,
    versions=st.none() | st.lists(some(*VERSIONS, 0x0300, 0x7A7A), max_size=6),
    suites=st.lists(some(*ANY_VERSION, 0xC0AE, 0x0081, 0xC100, 0x5600, 0x009E, 0x1304), max_size=12),
    groups=st.none() | st.lists(some(0x001D, 0x0017, 0x11EC, 0x0100, 0x0015), max_size=8),
    shares=st.just(()),
    signatures=st.none() | st.lists(st.sampled_from(sorted(SIGNATURE_SCHEMES)) | some(0x0403), max_size=10),
    alpn=st.lists(st.binary(max_size=30), max_size=5),
    legacy=some(TLS12, TLS10),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(hellos)
def test_no_offer_whatever_it_holds_is_an_internal_error(listening: Listening, hello: bytes) -> None:
    _, ours, recording = listening.offer(hello)
    assert not [failure for failure in recording.failures if failure.code == "internal"]
    to_json(recording)
    if ours is None:
        assert recording.outcome.broken_by in {Party.PROXY, Party.CLIENT}
        return
    theirs = summarize_client_hello(hello)
    assert set(ours.ciphers) - {0x00FF} <= set(theirs.ciphers)
    assert set(ours.groups) <= set(theirs.groups or (0x0017, 0x0018, 0x0019))
    if SIGNATURE_ALGORITHMS in theirs.extensions:
        assert set(ours.signature_algorithms) <= set(theirs.signature_algorithms)


def test_names_of_schemes_are_openssls_own() -> None:
    """A scheme that OpenSSL has under another name than IANA's would be left out in silence."""
    common = {0x0401, 0x0403, 0x0501, 0x0503, 0x0601, 0x0603, 0x0804, 0x0805, 0x0806, 0x0807, 0x0808, 0x0809, 0x080A}
    assert all(signature_name(scheme) == SIGNATURE_SCHEMES[scheme] for scheme in common)


# -- Diffie-Hellman without a file -------------------------------------------------------------------------------

DHE_CLIENT = """
import sys, tempfile
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from countersign.proxy import Identity
from tests.peers.certs import Lab
from tests.proxy.running import RunningProxy
from tests.proxy.wire import Target, ask, client_context, echo, server_context
lab = Lab(Path(sys.argv[2]), key="rsa-2048")
server = lab.issue("localhost", key="rsa-2048")
context = server_context(server, version="TLSv1_2")
context.load_dh_params(sys.argv[3])
context.set_ciphers("DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0")
with Target(echo(context)) as target, RunningProxy(target=target.address, verify=False) as proxy:
    asking = client_context(version="TLSv1_2")
    asking.set_ciphers("DHE-RSA-AES128-GCM-SHA256")
    answer, status = ask(proxy, asking), proxy.recording().outcome.status.value
sys.stderr.write(f"{answer} {status}\\n")
"""


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("place", ["absent", "a file"])
def test_a_client_of_dhe_alone_is_served_where_no_temporary_file_can_be_made(tmp_path: Path, place: str) -> None:
    parameters = tmp_path / "dh.pem"
    made = subprocess.run(
        ["openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048"],
        capture_output=True, check=True,
    )  # fmt: skip
    parameters.write_bytes(made.stdout)
    nowhere = tmp_path / "nowhere"
    if place == "a file":
        nowhere.touch()
    # tempfile falls back to /tmp, /var/tmp, /usr/tmp and the working directory: none of them may be used.
    guard = "import tempfile; tempfile._candidate_tempdir_list = lambda: [" + repr(str(nowhere)) + "]\n"
    done = subprocess.run(
        [sys.executable, "-c", guard + DHE_CLIENT, str(Path(__file__).parents[2]), str(tmp_path / "lab"), parameters],
        capture_output=True, text=True, env=os.environ | {"TMPDIR": str(nowhere)}, check=False, timeout=60,
    )  # fmt: skip
    assert "b'good morning\\n' established" in done.stderr, done.stderr[-2000:] + done.stdout[-2000:]
