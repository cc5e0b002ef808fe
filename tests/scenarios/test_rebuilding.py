"""A client meets a scenario; what is made of the recording does the same to it again."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from countersign.errors import UserError
from countersign.proxy import Action, Address, Engine, Mtls, Settings
from countersign.recorder.files.importing import import_files
from countersign.recorder.files.pcapng import export_pcapng
from countersign.recorder.recording import LegRole, Recording
from countersign.scenarios.model import ClientAuth
from countersign.scenarios.reading import Source, read_scenario, to_toml
from countersign.scenarios.rebuilding import Rebuilt, rebuild
from countersign.scenarios.running.clients import Way
from countersign.scenarios.running.matrix import held_to
from countersign.scenarios.running.stage import Props, Stage
from countersign.scenarios.running.verdict import Kind
from tests.findings.test_comparing import recorded
from tests.peers.openssl import OpensslServer, openssl_client
from tests.peers.process import run
from tests.proxy.running import AUTHORITY, Kept, RunningProxy
from tests.recorder.transcripts import NAMES, transcript
from tests.scenarios.running.playing import CURL, WITH_CERTIFICATE, known, playing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from countersign.scenarios.model import Scenario
    from countersign.scenarios.running.results import Matrix
    from tests.peers.certs import Lab

AGAIN = (
    "missing-intermediate", "issuer-name-differs", "leaf-issued-by-a-leaf",
    "expired", "not-yet-valid", "intermediate-expired", "intermediate-not-yet-valid", "dates-reversed", "month-13",
    "other-name", "no-name", "wildcard-too-shallow", "name-with-nul",
    "server-shows-client-certificate", "any-purpose", "code-signing-certificate", "intermediate-for-clients",
    "intermediate-is-no-ca", "intermediate-may-not-sign", "unknown-critical-extension", "names-twice", "precertificate",
    "path-length-exceeded", "name-constraints-violated",
    "rsa-1024", "signed-with-sha1", "signed-with-md5", "signature-broken",
    "self-signed", "loop", "unknown-root", "zscaler-root-not-imported", "fortigate-root-not-imported",
    "alert-handshake-failure", "alert-unrecognized-name", "cut-before-certificate", "garbage", "block-page-of-zscaler",
    "client-certificate-expired", "client-shows-server-certificate", "client-sends-leaf-only",
    "tls12-only", "p-521-only", "three-intermediates", "inspected-by-zscaler", "leaf-is-a-ca",
)  # fmt: skip
"""Scenarios whose recordings have all that it takes."""

NOT_IN_A_CAPTURE = {"cut-before-certificate", "garbage", "block-page-of-zscaler"}
"""Ends that we made ourselves and bytes that are no TLS are not in the packets that an export makes up."""


def from_the_recording(recording: Recording, _: Path) -> Rebuilt:
    return rebuild(recording, name=f"again-{recording.scenario}")


def without_ours(data: bytes) -> Iterator[bytes]:
    """The blocks of a pcapng, without the custom ones, in which the recording itself is."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        if kind not in {0x00000BAD, 0x40000BAD}:
            yield data[at : at + size]
        at += size


def from_its_capture(recording: Recording, folder: Path) -> Rebuilt:
    """Written as a pcapng without the recording itself, as Wireshark would have it, and imported again."""
    return rebuild(through_a_capture(recording, folder), name=f"again-{recording.scenario}")


def through_a_capture(recording: Recording, folder: Path) -> Recording:
    file = folder / f"{recording.id}.pcapng"
    file.write_bytes(b"".join(without_ours(export_pcapng(recording))))
    again = next(iter(import_files([file])))  # the client's conversation; a second one is with the target
    assert isinstance(again, Recording)
    return again


@pytest.mark.peer("curl")
@pytest.mark.parametrize("source", [from_the_recording, from_its_capture])
async def test_what_was_recorded_happens_again(source: Callable[[Recording, Path], Rebuilt], tmp_path: Path) -> None:
    names = [name for name in AGAIN if source is from_the_recording or name not in NOT_IN_A_CAPTURE]
    kept = Kept()
    async with playing((*CURL, *WITH_CERTIFICATE), keeper=kept, timeout=20.0) as runner:
        before = await runner.matrix([known().open(name) for name in names], jobs=2)
        first: dict[str, Recording] = {}
        for recording in kept.finished:
            if recording.scenario is not None:
                first.setdefault(recording.scenario, recording)
        made = [source(first[name], tmp_path) for name in names]
        after = await runner.matrix(written_and_read(made), jobs=2)
    was = {result.scenario: result.verdict.kind in {Kind.ACCEPTED, Kind.ACCEPTED_WRONGLY} for result in before.results}
    assert_again(was, made, after, count=len(names))
    assert len(names) >= 30


def written_and_read(made: Sequence[Rebuilt]) -> list[Scenario]:
    written = [read_scenario(Source(to_toml(one.scenario), name="again.toml", id="again")) for one in made]
    assert written == [one.scenario for one in made]
    return written


def assert_again(was: Mapping[str, bool], made: Sequence[Rebuilt], after: Matrix, *, count: int) -> None:
    """Who accepted accepts, who refused refuses, and what is ordered was on the wire."""
    stories = {one.scenario.id: one.scenario.story for one in made}
    wrong = {
        result.scenario: f"{result.verdict}; {stories[result.scenario]}"
        for result in after.results
        if result.verdict.kind is not (Kind.ACCEPTED if was[result.scenario.removeprefix("again-")] else Kind.REFUSED)
    }
    assert not wrong
    assert len(after.results) == count


async def passed_through(scenario: Scenario, props: Props) -> tuple[bool, Recording]:
    """Whether curl took it, and what somebody between it and the server saw, who has no keys."""
    kept = Kept()
    async with Stage(scenario, props, way=Way.REVERSE, own_names=True) as stage:
        place = stage.place()
        settings = Settings(
            listen=Address("127.0.0.1", 0), target=Address("127.0.0.1", place.port), action=Action.PASSTHROUGH
        )
        async with Engine(settings, AUTHORITY, kept) as between:
            there = f"{place.host}:{between.ports[0]}"
            shows = ("--cert", place.client_cert, "--key", place.client_key)
            where = (f"https://{there}/", "--connect-to", f"{there}:127.0.0.1:{between.ports[0]}")
            done = await asyncio.to_thread(run, "curl", "-sS", "--cacert", place.ca, *shows, *where)
            await stage.settle()
    return done.returncode == 0, kept.finished[0]


SOME = (
    "missing-intermediate", "expired", "other-name", "unknown-root", "alert-unrecognized-name",
    "cut-before-certificate", "client-certificate-expired", "three-intermediates",
)  # fmt: skip
IN_CLEAR = tuple(name for name in AGAIN if name != "names-twice")
"""That one is spoken in TLS 1.3 alone, for OpenSSL itself does not serve such a certificate."""


@pytest.mark.peer("curl")
@pytest.mark.parametrize("names", [SOME, pytest.param(IN_CLEAR, marks=pytest.mark.long)], ids=["some", "all"])
async def test_what_passed_through_without_keys_happens_again(names: Sequence[str], tmp_path: Path) -> None:
    """TLS 1.2, of which all that a server shows is in clear."""
    was, made = {}, []
    async with Props() as props:
        for name in names:
            was[name], recording = await passed_through(held_to(known().open(name), "TLSv1.2"), props)
            seen = recording if name in NOT_IN_A_CAPTURE else through_a_capture(recording, tmp_path)
            made.append(rebuild(seen, name=f"again-{name}"))
    async with playing((*CURL, *WITH_CERTIFICATE), timeout=20.0) as runner:
        after = await runner.matrix(written_and_read(made), jobs=2)
    assert_again(was, made, after, count=len(names))


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("shows", [True, False], ids=["shown", "none"])
async def test_a_servers_request_is_made_again_with_its_names_and_schemes_in_their_order(
    version: str,
    shows: bool,  # noqa: FBT001 - a parameter of the test
    lab: Lab,
    tmp_path: Path,
) -> None:
    """As s_server made it; our client CA's names stand for those that the client's chain led to. Told by a recording,
    its capture, and what passed through.
    """
    other = lab.issue(common_name="Some Other CA", signer=None, ca=True)
    asked = tmp_path / "asked.pem"
    asked.write_bytes(b"".join(each.cert_pem.read_bytes() for each in (lab.intermediate, other, lab.root)))
    chain = ("-cert", lab.client.cert_pem, "-key", lab.client.key_pem, "-cert_chain", lab.client.chain_pem)
    schemes = ("rsa_pss_rsae_sha256", "ecdsa_secp256r1_sha256")
    ask = ("-verify", "5", "-CAfile", asked, "-client_sigalgs", ":".join(schemes))
    recordings = []
    with OpensslServer(lab.server, *ask, version=version) as server:
        target = Address("127.0.0.1", server.port)
        roots = (lab.root.certificate.public_bytes(Encoding.DER),)
        for settings in ({"mtls": Mtls.RELAY, "roots": roots, "clients": AUTHORITY}, {"action": Action.PASSTHROUGH}):
            with RunningProxy(target=target, **settings) as proxy:
                root = proxy.root_file(tmp_path) if "mtls" in settings else lab.root_pem
                args = chain if shows else ()
                openssl_client(f"127.0.0.1:{proxy.port}", *args, ca=root, send=b"ping\n", until="gnip")
                recordings.append(proxy.recording())
    seen, passed = recordings
    of_other = other.certificate.subject.public_bytes().hex()
    of_lab = [each.certificate.subject.public_bytes().hex() for each in (lab.intermediate, lab.root)]
    listed = ("intermediates", of_other, "roots") if shows else (of_lab[0], of_other, of_lab[1])
    met = [seen, through_a_capture(seen, tmp_path), *([passed] if version == "TLSv1.2" else [])]
    for recording in met:
        rebuilt = rebuild(recording)
        assert rebuilt.notes == ()
        made = read_scenario(Source(to_toml(rebuilt.scenario), name="x.toml", id="x"))
        assert made.client_auth == ClientAuth(names=listed, signature_algorithms=schemes, required=shows)
        assert made.expect.right == "accept"
    words = ("openssl", "s_client", "-connect", "{host}:{port}", "-servername", "{host}", "-ign_eof", "-brief")
    async with playing((*words, *(CLIENT if shows else ())), timeout=20.0) as runner:
        (result,) = (await runner.matrix([made], jobs=1)).results
    assert result.verdict.kind is Kind.ACCEPTED, result.verdict
    hidden = rebuild(passed)
    if version == "TLSv1.3":
        assert (hidden.scenario.client_auth, hidden.scenario.wire) == (None, None)
        assert hidden.scenario.expect.right == "accept"
        assert "the chain is not in it" in hidden.notes[0]


CLIENT = ("-cert", "{client_cert}", "-cert_chain", "{client_cert}", "-key", "{client_key}")


@pytest.mark.peer("openssl", "curl")
@pytest.mark.parametrize(
    ("version", "scheme"),
    [("TLSv1.2", "rsa_pkcs1_sha512"), ("TLSv1.2", "rsa_pss_rsae_sha384"), ("TLSv1.3", "rsa_pss_rsae_sha512")],
)
async def test_a_server_signs_again_with_the_scheme_that_it_signed_with(
    version: str, scheme: str, lab: Lab, tmp_path: Path
) -> None:
    kept = Kept()
    with OpensslServer(lab.issue("localhost", key="rsa-2048"), "-sigalgs", scheme, version=version) as server:
        roots = (lab.root.certificate.public_bytes(Encoding.DER),)
        with RunningProxy(target=Address("127.0.0.1", server.port), roots=roots) as proxy:
            root = proxy.root_file(tmp_path)
            openssl_client(f"127.0.0.1:{proxy.port}", ca=root, send=b"ping\n", until="gnip")
            rebuilt = rebuild(proxy.recording(), role=LegRole.SERVER)
    assert rebuilt.scenario.protocol is not None
    assert rebuilt.scenario.protocol.signature_algorithms == (scheme,)
    async with playing(CURL, keeper=kept, timeout=20.0) as runner:
        (result,) = (await runner.matrix([rebuilt.scenario], jobs=1)).results
    assert result.verdict.kind is Kind.ACCEPTED, result.verdict
    again = next(each for each in kept.finished if each.scenario == rebuilt.scenario.id)
    made = rebuild(again).scenario.protocol
    assert made is not None
    assert made.signature_algorithms == (scheme,)


@pytest.mark.peer("openssl")
async def test_of_a_refusal_that_is_encrypted_nothing_is_made_up(lab: Lab, tmp_path: Path) -> None:
    """TLS 1.3 passed through: where the server ended it is not known, so nobody has to refuse what is made of it."""
    refusing = ("-Verify", "5", "-CAfile", lab.root_pem, "-verify_return_error")
    with OpensslServer(lab.server, *refusing, version="TLSv1.3") as server:
        target = Address("127.0.0.1", server.port)
        with RunningProxy(target=target, action=Action.PASSTHROUGH) as proxy:
            openssl_client(f"127.0.0.1:{proxy.port}", ca=lab.root_pem, send=b"ping\n", until="alert|closed|errno")
            recording = proxy.recording()
    for each in (recording, through_a_capture(recording, tmp_path)):
        rebuilt = rebuild(each)
        assert (rebuilt.scenario.wire, rebuilt.scenario.waits) == (None, False)
        assert rebuilt.scenario.expect.right == "either", rebuilt
        texts = {one.outcome.text.replace(str(target), "192.0.2.1:443") for one in (each, recording)}
        assert len(texts) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_is_made_of_every_kind_of_handshake_or_it_is_said_why_not(name: str) -> None:
    messages = transcript(name)
    for end in range(1, len(messages) + 1):
        rebuilt = rebuild(recorded(messages[:end]).recording)
        assert read_scenario(Source(to_toml(rebuilt.scenario), name="x.toml", id="x")) == rebuilt.scenario


@pytest.mark.peer("openssl")
def test_the_leg_that_is_named_is_the_one_whose_server_is_built_again(lab: Lab) -> None:
    with (
        OpensslServer(lab.server) as target,
        RunningProxy(target=Address("127.0.0.1", target.port), roots=()) as proxy,
    ):
        openssl_client(f"127.0.0.1:{proxy.port}", ca=lab.root_pem, until="alert|closed|errno")
        recording = proxy.recording()
    met, did = rebuild(recording), rebuild(recording, role=LegRole.SERVER)
    assert met.scenario.certificate is None  # the proxy did not trust the target and showed nothing
    assert f"the chain is not in it: the proxy sent none; the target's is in {recording.id}:server" in met.notes
    assert did.scenario.certificate is not None
    assert not did.scenario.wire
    with pytest.raises(UserError, match="there is no TLS in it"):
        rebuild(recording, role=LegRole.THROUGH)


def test_where_there_is_no_tls_there_is_no_scenario() -> None:
    with pytest.raises(UserError, match="there is no TLS in it"):
        rebuild(recorded([]).recording)
