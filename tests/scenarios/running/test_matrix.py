"""A client under scenarios: real clients, the embedded target, everything on loopback."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from countersign.ca import Authority
from countersign.ca.presets import presets
from countersign.errors import EnvironmentFault, UserError
from countersign.lab.target import EmbeddedTarget, Pki
from countersign.proxy import Address
from countersign.recorder.recording import LegRole, Party, Recording
from countersign.recorder.wire.events import Side
from countersign.scenarios.clock import Clock
from countersign.scenarios.model import Certificate, Duration, Scenario, Step
from countersign.scenarios.running.clients import Place, Way
from countersign.scenarios.running.matrix import _not_plain, held_to
from countersign.scenarios.running.results import Result
from countersign.scenarios.running.stage import Props, Stage, Target
from countersign.scenarios.running.trigger import Trigger
from countersign.scenarios.running.verdict import Kind, Verdict
from tests.peers.java import BOUNCY_CASTLE, BOUNCY_CASTLE_PROVIDER
from tests.scenarios.running.playing import CARELESS, CURL, WITH_CERTIFICATE, client, java, known, playing, scenarios

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PYTHON_SSL = """
import socket, ssl, sys
context = ssl.create_default_context()
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as plain:
    with context.wrap_socket(plain, server_hostname=sys.argv[1]) as tls:
        tls.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        assert tls.recv(100)
"""
AIOHTTP = """
import asyncio, sys, aiohttp
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session, session.get(sys.argv[1]) as answer:
        answer.raise_for_status()
asyncio.run(main())
"""
NODE = "require('https').get(process.argv[1], answer => answer.on('data', data => console.log(`${data}`)))"

CLIENTS: dict[str, Callable[[], tuple[str, ...]]] = {
    "curl": lambda: CURL,
    "curl, by the environment alone": lambda: ("sh", "-c", "curl -sS https://instance.lab.test:$PORT/"),
    "wget": lambda: ("wget", "-nv", "-O", "-", "--tries=1", "{url}"),
    "git": lambda: ("git", "ls-remote", "{url}"),
    "openssl": lambda: ("openssl", "s_client", "-connect", "{host}:{port}", "-verify_return_error", "-brief"),
    "gnutls-cli": lambda: ("gnutls-cli", "--x509cafile", "{ca}", "-p", "{port}", "{host}"),
    "node": lambda: ("node", "-e", NODE, "{url}"),
    "python ssl": lambda: (sys.executable, "-c", PYTHON_SSL, "{host}", "{port}"),
    "python urllib": lambda: (sys.executable, "-c", "import sys, urllib.request as u; u.urlopen(sys.argv[1])", "{url}"),
    "python aiohttp": lambda: (sys.executable, "-c", AIOHTTP, "{url}"),
    "python requests": lambda: (sys.executable, "-c", "import requests, sys; requests.get(sys.argv[1])", "{url}"),
    "python httpx": lambda: (sys.executable, "-c", "import httpx, sys; httpx.get(sys.argv[1])", "{url}"),
    "java HttpURLConnection": lambda: java("HandshakeClient", "{url}"),
    "java SSLSocket": lambda: java("HandshakeClient", "{host}:{port}"),
    "java HttpClient": lambda: java("HttpClientClient", "{url}"),
}
NEEDS = {"wget": "wget", "git": "git", "openssl": "openssl", "gnutls-cli": "gnutls-cli", "node": "node", "curl": "curl"}


def of_clients(*left_out: str) -> list[object]:
    """Each client, with the peer that it needs."""
    return of_some_clients(*(name for name in CLIENTS if name not in left_out))


def of_some_clients(*names: str) -> list[object]:
    return [
        pytest.param(name, id=name, marks=pytest.mark.peer(*(["java", "javac"] if "java" in name else _needed(name))))
        for name in names
    ]


def _needed(name: str) -> list[str]:
    return [peer for peer in (NEEDS.get(name.split(",", maxsplit=1)[0]),) if peer]


# -- every kind of client ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", of_clients("curl, by the environment alone"))
async def test_a_verifying_client_refuses_a_chain_with_a_gap_and_accepts_a_whole_one(name: str) -> None:
    async with playing(CLIENTS[name]()) as runner:
        made = await runner.matrix(scenarios("missing-intermediate", "root-sent", "unknown-root"), jobs=1)
    kinds = {result.scenario: result.verdict.kind for result in made.results}
    assert kinds == {
        "missing-intermediate": Kind.REFUSED,
        "root-sent": Kind.ACCEPTED,
        "unknown-root": Kind.REFUSED,
    }, made.results
    for result in made.results:
        if result.verdict.kind is Kind.REFUSED:
            assert result.verdict.said, "its own words are quoted"


@pytest.mark.peer("curl")
async def test_a_client_in_a_script_is_reached_by_its_environment_alone(tmp_path: Path) -> None:
    script = tmp_path / "client"
    script.write_text("#!/bin/sh\nexec curl -sS https://instance.lab.test:$1/\n")
    script.chmod(0o755)
    async with playing([str(script), "{port}"], way=Way.CONNECT) as runner:
        made = await runner.matrix(scenarios("expired"))
    assert made.results[0].verdict.kind is Kind.REFUSED


# -- what has to be there first ------------------------------------------------------------------------------------


@pytest.mark.peer("curl")
async def test_a_client_that_trusts_nothing_gets_no_verdict() -> None:
    async with playing(["curl", "-sS", "--cacert", "/etc/hostname", "{url}"]) as runner:
        with pytest.raises(EnvironmentFault, match="curl does not accept a proxy with nothing wrong: ") as caught:
            await runner.matrix(scenarios("missing-intermediate", "expired"))
    assert caught.value.exit_code == 3


@pytest.mark.peer("java", "javac")
async def test_a_jvm_that_trusts_nothing_gets_no_verdict(tmp_path: Path) -> None:
    """A trust store that is not there fails as an untrusted chain does."""
    nothing = f"-Djavax.net.ssl.trustStore={tmp_path / 'nothing'}"
    argv = java("HandshakeClient", "{url}")
    async with playing([argv[0], nothing, *argv[1:]]) as runner:
        with pytest.raises(EnvironmentFault, match=r"java does not accept .*: refused but should have accepted"):
            await runner.matrix(scenarios("expired"))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["true"], r"never connected: it ended with exit code 0; use \{url\}"),
        (["sh", "-c", "kill -SEGV $$"], "crashed: SIGSEGV ended it"),
        (["sleep", "60"], "hung: it was still running after .* give it more time with --timeout"),
        (["sh", "-c", "echo 'bind: Address already in use' >&2; exit 1"], "It said: bind: Address already in use"),
    ],
)
async def test_a_client_that_cannot_be_had_is_the_environments_fault(argv: list[str], said: str) -> None:
    async with playing(argv, timeout=0.4) as runner:
        with pytest.raises(EnvironmentFault, match=said):
            await runner.matrix(scenarios("expired"))


@pytest.mark.parametrize(
    ("sessions", "cure"), [(4, "give it more time with --timeout"), (5, "trigger what connects once")]
)
def test_a_daemon_that_connects_again_and_again_is_told_so(sessions: int, cure: str) -> None:
    daemon = client([], trigger=Trigger(url="http://127.0.0.1:9000/"))
    verdict = Verdict(kind=Kind.HUNG, text="hung: it did not end", sessions=sessions)
    result = Result(scenario="plain", tls=None, family="plain", title="", right="accept", verdict=verdict)
    assert cure in _not_plain(result, daemon, None, to_localhost=False)


async def test_a_client_that_there_is_not_is_a_mistake() -> None:
    async with playing(["no-such-client", "{url}"]) as runner:
        with pytest.raises(UserError, match="no program of that name"):
            await runner.matrix(scenarios("expired"))


# -- ways in -------------------------------------------------------------------------------------------------------


def test_where_a_client_is_sent_first_follows_from_what_it_asks_for() -> None:
    assert client(CURL).ways() == (Way.CONNECT, Way.REVERSE)
    assert client(["openssl", "{host}:{port}"]).ways() == (Way.REVERSE, Way.CONNECT)
    assert client(["./own", "{host}", "{port}"]).ways() == (Way.REVERSE, Way.CONNECT)
    assert client(["./own", "{proxy}", "{host}", "{port}"]).ways() == (Way.CONNECT, Way.REVERSE)
    assert client(["./own"]).ways() == (Way.CONNECT,)
    assert client(CURL, way=Way.REVERSE).ways() == (Way.REVERSE,)


@pytest.mark.peer("curl")
async def test_a_client_that_goes_past_the_proxy_is_sent_straight() -> None:
    async with playing(["curl", "-sS", "--noproxy", "*", "{url}"]) as runner:
        made = await runner.matrix(scenarios("expired", "connect-403"))
    assert made.way == "reverse"
    assert [result.verdict.kind for result in made.results] == [Kind.REFUSED, Kind.SKIPPED]
    assert "the client comes straight" in made.results[1].verdict.text


@pytest.mark.peer("curl")
async def test_a_client_that_is_sent_to_localhost_is_not_asked_about_domains() -> None:
    async with playing(CURL, way=Way.REVERSE) as runner:
        made = await runner.matrix(scenarios("wildcard"))
    assert made.results[0].verdict.kind is Kind.SKIPPED


@pytest.mark.peer("openssl")
async def test_a_client_that_waits_for_the_target_to_close_is_not_left_hanging() -> None:
    argv = ["openssl", "s_client", "-connect", "{host}:{port}", "-brief", "-ign_eof"]
    async with playing(argv, timeout=10) as runner:
        made = await runner.matrix(scenarios("root-sent"))
    assert made.results[0].verdict.kind is Kind.ACCEPTED


# -- certificates of clients ---------------------------------------------------------------------------------------


@pytest.mark.peer("curl")
async def test_a_client_without_a_certificate_is_not_asked_for_one() -> None:
    async with playing(CURL) as runner:
        made = await runner.matrix(scenarios("certificate-asked", "client-has-no-certificate"))
    asked, none = made.results
    assert asked.verdict.kind is Kind.SKIPPED
    assert "{client_cert}" in asked.verdict.text
    assert none.verdict.kind is Kind.REFUSED, "having none is what this one is about"


@pytest.mark.peer("curl")
async def test_a_client_certificate_of_the_right_ca_is_accepted_and_others_are_refused_late() -> None:
    names = ("certificate-asked", "client-certificate-expired", "client-shows-server-certificate")
    async with playing([*CURL, *WITH_CERTIFICATE]) as runner:
        made = await runner.matrix(scenarios(*names), tls=("TLSv1.2", "TLSv1.3"))
    kinds = [result.verdict.kind for result in made.results]
    assert kinds == [Kind.ACCEPTED, Kind.ACCEPTED, Kind.REFUSED, Kind.REFUSED, Kind.REFUSED, Kind.REFUSED]


# -- the target's side ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", of_some_clients("curl", "python ssl"))
async def test_what_breaks_behind_the_proxy_is_no_success_of_the_clients(name: str) -> None:
    """The client did nothing wrong, and what it wanted never came."""
    names = ("target-asks-and-gets-none", "target-leaves-after-the-request", "target-without-server-name")
    async with playing(CLIENTS[name]()) as runner:
        made = await runner.matrix(scenarios(*names, "target-asks-and-gets-the-right-certificate"), jobs=1)
    assert [result.verdict.kind for result in made.results] == [*[Kind.REFUSED] * 3, Kind.ACCEPTED], made.results


@pytest.mark.peer("curl")
async def test_what_the_proxy_has_to_show_is_the_scenarios_and_not_the_products() -> None:
    """Zscaler passes through where the target asks; here it is to have no certificate."""
    async with playing(CURL, props={"preset": presets()["zscaler"]}) as runner:
        made = await runner.matrix(scenarios("target-asks-and-gets-none", "target-asks-and-gets-the-right-certificate"))
    assert [result.verdict.kind for result in made.results] == [Kind.REFUSED, Kind.ACCEPTED], made.results


# -- versions, products, clocks ------------------------------------------------------------------------------------


def test_a_scenario_that_says_what_is_spoken_is_not_held_to_anything_else() -> None:
    plain, old = scenarios("plain", "tls10-only")
    assert held_to(plain, "TLSv1.2").scenes[0].protocol is not None
    assert held_to(old, "TLSv1.3").scenes[0].protocol == old.scenes[0].protocol


TWO_VERSIONS = ("TLSv1.2", "TLSv1.3")


@pytest.mark.peer("curl")
async def test_what_comes_before_there_is_a_version_is_proved_without_one() -> None:
    names = ("connect-403", "cut-before-server-hello", "version-not-offered", "target-closes", "target-hello-garbled")
    async with playing(CURL) as runner:
        made = await runner.matrix(scenarios(*names, "first-connection-only"), tls=TWO_VERSIONS)
    assert {result.verdict.kind for result in made.results} == {Kind.REFUSED}, made.results


@pytest.mark.long
@pytest.mark.peer("curl")
@pytest.mark.timeout(600)
async def test_every_scenario_is_proved_in_each_version_that_it_is_about() -> None:
    async with playing([*CURL, *WITH_CERTIFICATE], timeout=20.0) as runner:
        made = await runner.matrix(list(known().values()), tls=TWO_VERSIONS)
    assert [result.key for result in made.results if result.verdict.kind is Kind.UNPROVED] == []


@pytest.mark.peer("curl")
async def test_both_versions_are_really_spoken() -> None:
    kept: list[Recording] = []
    async with playing(CURL, keeper=_Keeper(kept)) as runner:
        made = await runner.matrix(scenarios("expired", "tls10-only"), tls=("TLSv1.2", "TLSv1.3"))
    assert [(result.key, result.verdict.kind) for result in made.results] == [
        ("expired@TLSv1.2", Kind.REFUSED),
        ("expired@TLSv1.3", Kind.REFUSED),
        ("tls10-only@TLSv1.2", Kind.SKIPPED),
        ("tls10-only@TLSv1.3", Kind.SKIPPED),
    ]
    spoken = [leg.read().version for each in kept if (leg := each.leg(LegRole.CLIENT)) and each.ended]
    assert sorted(map(str, spoken)) == ["TLSv1.2", "TLSv1.2", "TLSv1.3", "TLSv1.3"], "the plain one first, in each"


class _Keeper:
    def __init__(self, kept: list[Recording]) -> None:
        self.kept = kept

    def submit(self, recording: Recording) -> None:
        if recording.ended is not None:
            self.kept.append(recording)


@pytest.mark.peer("curl")
async def test_the_proxy_looks_like_the_product_that_is_named() -> None:
    kept: list[Recording] = []
    async with playing(CURL, props={"preset": presets()["zscaler"]}, keeper=_Keeper(kept)) as runner:
        made = await runner.matrix(scenarios("expired", "root-sent"))
    assert [result.verdict.kind for result in made.results] == [Kind.REFUSED, Kind.ACCEPTED]
    assert all(each.prelude["inspection"]["preset"] == "zscaler" for each in kept)


# -- steps ---------------------------------------------------------------------------------------------------------


@pytest.mark.peer("curl")
async def test_a_client_is_run_until_the_last_step_has_been_met() -> None:
    async with playing(CURL) as runner:
        made = await runner.matrix(scenarios("rotation-intermediate", "rotation-root"))
    live_on, break_off = made.results
    assert (live_on.verdict.kind, break_off.verdict.kind) == (Kind.ACCEPTED, Kind.REFUSED)
    assert live_on.verdict.sessions == break_off.verdict.sessions == 3


@pytest.mark.peer("curl")
async def test_two_weeks_are_waited_for_where_the_clock_is_fast_and_called_where_it_is_not() -> None:
    scenario = Scenario(
        id="two-weeks",
        steps=(Step(), Step(after=Duration(14 * 86400.0), certificate=Certificate(recipe="sent-leaf-only"))),
    )
    async with playing(CURL) as runner:
        called = await runner.matrix([scenario])
    async with playing(CURL, clock=Clock(14 * 86400 / 0.3)) as runner:
        waited = await runner.matrix([scenario])
    assert called.results[0].verdict.kind is waited.results[0].verdict.kind is Kind.REFUSED
    assert waited.results[0].seconds > 0.3


@pytest.mark.peer("java", "javac")
async def test_a_jvm_that_lives_through_a_rotation_of_the_root_is_seen_to_break(tmp_path: Path) -> None:
    """R20: the change breaks a client in mid-life, which had been getting through."""
    rotation = Scenario(id="mid-life", steps=(Step(), Step(connections=2, rotate="root")))
    argv = [*java("HandshakeClient", "{url}"), "--repeat", "4"]
    async with playing(argv) as runner:
        made = await runner.matrix([rotation])
    (result,) = made.results
    assert result.verdict.kind is Kind.REFUSED
    assert result.verdict.sessions >= 3


@pytest.mark.peer("java", "javac")
async def test_an_acceptance_that_resumes_an_earlier_session_is_said_to_be_one() -> None:
    """Tickets that outlive a rotation hide it from a JVM."""
    argv = [*java("HandshakeClient", "{host}:{port}"), "--repeat", "4"]
    async with playing(argv) as runner:
        made = await runner.matrix(scenarios("rotation-hidden-by-resumption"))
    (result,) = made.results
    assert result.verdict.kind is Kind.ACCEPTED, result.verdict
    assert result.verdict.resumed
    assert result.verdict.text.endswith("it resumed an earlier session, so it was shown no certificate")


# -- what is not on the wire ---------------------------------------------------------------------------------------


@pytest.mark.peer("curl")
async def test_a_scenario_that_was_not_on_the_wire_is_an_error_and_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is kept from doing what is ordered: the recording shows a whole chain."""
    (scenario,) = scenarios("missing-intermediate")
    blunt = replace(scenario, certificate=None)
    original = Stage.__init__

    def deceived(self: Stage, scenario: Scenario, props: Props, **settings: object) -> None:
        original(self, blunt if scenario.id == blunt.id else scenario, props, **settings)  # type: ignore[arg-type]
        self.scenario = scenario

    monkeypatch.setattr(Stage, "__init__", deceived)
    async with playing(CURL) as runner:
        made = await runner.matrix([scenario])
    assert made.results[0].verdict.kind is Kind.UNPROVED
    assert made.exit_code == 4


@pytest.mark.peer("curl")
async def test_a_scenario_that_cannot_be_made_here_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Stage.place

    def placed(self: Stage) -> Place:
        if self.scenario.id == "expired":
            raise UserError("cannot make this here")
        return original(self)

    monkeypatch.setattr(Stage, "place", placed)
    async with playing(CURL) as runner:
        made = await runner.matrix(scenarios("expired", "root-sent"))
    assert [result.verdict.kind for result in made.results] == [Kind.UNPROVED, Kind.ACCEPTED]
    assert made.results[0].verdict.text == "the fault never was on the wire: cannot make this here"


@pytest.mark.peer("curl")
async def test_an_environment_that_breaks_in_the_middle_ends_it_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = Stage.place

    def placed(self: Stage) -> Place:
        if self.scenario.id == "expired":
            raise EnvironmentFault("no room on the disk")
        return original(self)

    monkeypatch.setattr(Stage, "place", placed)
    async with playing(CURL) as runner:
        with pytest.raises(EnvironmentFault, match="no room on the disk"):
            await runner.matrix(scenarios("root-sent", "expired", "self-signed"))


@pytest.mark.peer("curl")
async def test_faults_that_wait_for_a_question_are_proved_by_ours() -> None:
    async with playing(CURL) as runner:
        made = await runner.matrix(scenarios("ocsp-revoked", "ocsp-try-later"))
    for result in made.results:
        assert result.verdict.kind is not Kind.UNPROVED, result.verdict.text
        assert "it asked no responder and fetched no CRL" in result.verdict.notes


@pytest.mark.peer("java", "javac")
async def test_a_jvm_that_checks_revocation_finds_a_responder_in_every_scenario(tmp_path: Path) -> None:
    """R6: without one it refuses whatever it is shown, and every verdict would be about that."""
    properties = tmp_path / "security"
    properties.write_text("ocsp.enable=true\n")
    argv = java("HandshakeClient", "{url}")
    checks = ["-Dcom.sun.net.ssl.checkRevocation=true", f"-Djava.security.properties={properties}"]
    async with playing([argv[0], *checks, *argv[1:]]) as runner:
        made = await runner.matrix(scenarios("root-sent", "expired", "ocsp-revoked"))
    assert runner.asks
    accepted, expired, revoked = (result.verdict for result in made.results)
    assert (accepted.kind, expired.kind, revoked.kind) == (Kind.ACCEPTED, Kind.REFUSED, Kind.REFUSED)
    assert "certificate_revoked" in revoked.alerts
    assert "it asked no responder and fetched no CRL" not in revoked.notes


@pytest.mark.peer("java", "javac", "bcprov", "bctls")
async def test_a_jvm_with_bouncy_castle_says_which_of_two_things_is_wrong() -> None:
    """R1: where Sun's provider has one text, it tells whether an issuer is missing or a root on the wire is unknown."""
    argv = java("HandshakeClient", "{url}")
    path = ":".join([argv[argv.index("-cp") + 1], *map(str, BOUNCY_CASTLE)])
    line = [argv[0], "-Djdk.tls.namedGroups=secp256r1", "-cp", path, "HandshakeClient", "{url}"]
    async with playing([*line, "--provider", BOUNCY_CASTLE_PROVIDER]) as runner:
        made = await runner.matrix(
            scenarios("missing-intermediate", "unknown-root", "unknown-root-sent", "self-signed")
        )
    assert made.family == "java-bc"
    texts = ["No issuer certificate for certificate in certification path found"] * 2
    texts += ["Unable to find certificate chain"] * 2
    for result, text in zip(made.results, texts, strict=True):
        assert result.verdict.kind is Kind.REFUSED
        assert any(text in said.line for said in result.verdict.said), result.verdict
        assert not result.verdict.notes, "it is what the scenario expects of the family"


# -- targets -------------------------------------------------------------------------------------------------------


@pytest.mark.peer("curl")
async def test_a_target_that_is_named_is_asked_by_its_own_name() -> None:
    """R11: what another machine serves is behind the same scenarios."""
    pki = Pki.make("localhost")
    async with EmbeddedTarget(pki) as target:
        named = Target(address=Address("localhost", target.plain_port), roots=(pki.public.root.der,))
        async with playing(CURL, props={"target": named}) as runner:
            made = await runner.matrix(scenarios("expired", "root-sent", "target-asks-and-gets-none"))
        assert f"https://localhost:{target.plain_port}/" in made.results[0].argv
        assert target.requests == 2, "the plain scenario and the one that is accepted"
    assert [result.verdict.kind for result in made.results] == [Kind.REFUSED, Kind.ACCEPTED, Kind.SKIPPED]
    assert "a target of its own" in made.results[2].verdict.text


@pytest.mark.peer("curl")
async def test_a_target_that_is_not_trusted_is_the_environments_fault() -> None:
    pki = Pki.make("localhost")
    async with EmbeddedTarget(pki) as target:
        strange = Target(address=Address("localhost", target.plain_port), roots=(Authority.make().root.der,))
        async with playing(CURL, props={"target": strange}) as runner:
            with pytest.raises(
                EnvironmentFault, match=r"curl does not accept .*--upstream-ca.*The proxy does not trust the target"
            ):
                await runner.matrix(scenarios("expired"))


@pytest.mark.peer("openssl")
async def test_a_client_that_obeys_no_proxy_is_told_that_it_asked_for_another_name() -> None:
    argv = ["openssl", "s_client", "-connect", "{host}:{port}", "-verify_hostname", "{host}", "-verify_return_error"]
    pki = Pki.make("elsewhere.lab.test")
    async with EmbeddedTarget(pki) as target:
        named = Target(address=Address("127.0.0.1", target.plain_port), roots=(pki.public.root.der,), verify=False)
        async with playing(argv, props={"target": named}) as runner:
            with pytest.raises(EnvironmentFault, match="it was sent to localhost, as it obeys no proxy"):
                await runner.matrix(scenarios("expired"))


async def test_what_a_client_says_reaches_nobodys_terminal_as_it_is() -> None:
    shouts = r"printf '\033[31merror: red\007\n' >&2; exit 1"
    async with playing(["sh", "-c", shouts]) as runner:
        with pytest.raises(EnvironmentFault) as caught:
            await runner.matrix(scenarios("expired"))
    assert "error: red" in str(caught.value)
    assert str(caught.value).isprintable()


async def test_a_target_that_cannot_be_reached_is_the_environments_fault(free_port: int) -> None:
    with pytest.raises(EnvironmentFault, match=f":{free_port}: connection refused"):
        async with playing(CURL, props={"target": Target(address=Address("127.0.0.1", free_port))}):
            pass


# -- the stage itself ----------------------------------------------------------------------------------------------


@pytest.mark.peer("curl")
async def test_the_files_for_a_client_are_private_and_gone_afterwards() -> None:
    async with Props() as props, Stage(known()["plain"], props) as stage:
        place = stage.place()
        files = [place.ca, place.trust_store, place.client_cert, place.client_key, place.client_store, place.wgetrc]
        for path in files:
            assert path.stat().st_mode & 0o777 == 0o600
        assert place.ca.read_bytes() == props.authority.root_pem
    assert not any(path.exists() for path in files)


@pytest.mark.peer("curl")
async def test_stages_leave_nothing_for_each_other_and_run_beside_each_other() -> None:
    names = ("expired", "plain", "unknown-root", "root-sent", "missing-intermediate", "self-signed") * 2
    wanted = [replace(each, id=f"{each.id}-{number}") for number, each in enumerate(scenarios(*names))]
    async with playing(CURL) as runner:
        made = await runner.matrix(wanted, jobs=6)
    for result in made.results:
        assert result.right_done, result
        (recording,) = result.recordings
        assert recording


@pytest.mark.peer("curl")
async def test_each_result_has_its_ladders_where_they_are_wanted() -> None:
    async with playing(CURL, ladders=True) as runner:
        made = await runner.matrix(scenarios("expired"))
    (ladder,) = made.results[0].ladders
    assert "certificate_expired" in ladder
    assert made.results[0].recordings[0] in ladder


@pytest.mark.peer("curl")
async def test_a_careless_client_is_caught_with_the_bytes_that_it_sent() -> None:
    kept: list[Recording] = []
    async with playing(CARELESS, keeper=_Keeper(kept)) as runner:
        made = await runner.matrix(scenarios("unknown-root"))
    (verdict,) = [result.verdict for result in made.results]
    leg = kept[-1].leg(LegRole.CLIENT)
    assert leg is not None
    assert verdict.kind is Kind.ACCEPTED_WRONGLY
    assert verdict.sent == leg.count(Side.CLIENT).length > 0
    assert f"(sent {verdict.sent} bytes of application data)" in verdict.text
    assert kept[-1].outcome.broken_by is not Party.CLIENT
