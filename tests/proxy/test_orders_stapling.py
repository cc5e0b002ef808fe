"""OCSP responses that come with our certificate, right and wrong, and the target's own, judged by real clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from countersign.ca import Authority, issue
from countersign.ca.keeping import key_to_pem
from countersign.ca.pem import to_pem
from countersign.ca.recipes import catalogue
from countersign.ca.revocation import Reason, Register, entry_for, named, parse_fault, stapler
from countersign.errors import UserError
from countersign.proxy import Address
from countersign.proxy.orders import ChainOrders, Orders, StaplingOrders
from countersign.proxy.stapling import asking_for_status, judged, like
from countersign.recorder.recording import LegRole
from countersign.recorder.wire.reading import summarize_client_hello
from tests.peers.curl import curl
from tests.peers.openssl import OpensslServer, openssl_client
from tests.peers.process import run
from tests.proxy.ordered import HOST, Scripted
from tests.proxy.running import AUTHORITY, RunningProxy
from tests.proxy.wire import client_hello

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.ca import Minted
    from countersign.recorder.recording import Recording

INVALID_STATUS = 91  # CURLE_SSL_INVALIDCERTSTATUS
VERSIONS = ("TLSv1.2", "TLSv1.3")


def stapling(*words: str, **more: Any) -> Orders:
    return Orders(stapling=StaplingOrders(faults=tuple(parse_fault(f"ocsp:{word}") for word in words), **more))


def curl_asking(proxy: RunningProxy, root: Path, version: str = "TLSv1.3") -> tuple[int, str]:
    """What curl makes of the response that it has asked for."""
    number = version.removeprefix("TLSv")
    answer = curl(
        f"https://{HOST}:{proxy.port}/", "--resolve", f"{HOST}:{proxy.port}:127.0.0.1", "--cert-status",
        f"--tlsv{number}", "--tls-max", number, ca=root,
    )  # fmt: skip
    return answer.exit_code, answer.error


@pytest.mark.peer("curl")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 0, ""),
        (("revoked=keyCompromise",), INVALID_STATUS, "revocation reason: keyCompromise"),
        (("unknown",), INVALID_STATUS, "verification FAILED"),
        (("expired",), INVALID_STATUS, "expired"),
        (("future",), INVALID_STATUS, "not yet valid|expired"),
        (("tryLater",), INVALID_STATUS, "trylater"),
        (("wrong-signer",), INVALID_STATUS, "verification failed"),
        (("bad-signature",), INVALID_STATUS, "verification failed"),
        (("wrong-serial",), INVALID_STATUS, "verification failed"),
        (("malformed",), INVALID_STATUS, "Invalid OCSP response"),
        (("truncated",), INVALID_STATUS, "Invalid OCSP response"),
        (("wrong-issuer",), INVALID_STATUS, "verification failed"),
        (("empty",), INVALID_STATUS, "No OCSP response received"),
    ],
)
def test_curl_makes_of_what_is_stapled_what_is_wrong_with_it(
    tmp_path: Path, words: tuple[str, ...], code: int, said: str, version: str
) -> None:
    with RunningProxy(orders=stapling(*words)) as proxy:
        got, error = curl_asking(proxy, proxy.root_file(tmp_path), version)
        recording = proxy.recording()
    assert got == code, error
    assert not said or any(each in error for each in said.split("|")), error
    assert recording.prelude["inspection"]["stapled"] == (", ".join(words) or "good")


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("version", VERSIONS)
def test_who_does_not_ask_gets_none_and_given_bytes_go_out_as_they_are(tmp_path: Path, version: str) -> None:
    body = bytes.fromhex("30 03 0a 01 03")  # tryLater
    with RunningProxy(orders=Orders(stapling=StaplingOrders(body=body))) as proxy:
        root = proxy.root_file(tmp_path)
        quiet, asking = (
            openssl_client(f"127.0.0.1:{proxy.port}", *args, ca=root, name=HOST, version=version)
            for args in ((), ("-status",))
        )
    assert not any(body in message.raw for message in quiet.messages)
    assert any(body in message.raw for message in asking.messages)


@pytest.mark.peer("openssl")
def test_a_response_to_what_was_not_asked_is_refused_by_openssl(tmp_path: Path) -> None:
    """RFC 5246 7.4.1.4: an extension that the client has not offered."""
    with RunningProxy(orders=stapling(unasked=True)) as proxy:
        root = proxy.root_file(tmp_path)
        client = openssl_client(f"127.0.0.1:{proxy.port}", ca=root, name=HOST, version="TLSv1.2")
        assert "unsolicited extension" in client.completed.stderr + client.output
        recording = proxy.recording()
    assert recording.outcome.alert == "unsupported_extension"


def test_a_hello_that_asks_for_a_status_is_the_same_otherwise() -> None:
    hello = client_hello(padding=20_000)
    records = asking_for_status(hello)
    at, message = 0, b""
    while at < len(records):
        size = int.from_bytes(records[at + 3 : at + 5])
        message += records[at + 5 : at + 5 + size]
        at += 5 + size
    before, after = summarize_client_hello(hello), summarize_client_hello(message)
    assert after.well_formed
    assert not before.has_status_request
    assert after.has_status_request
    assert after.extensions == (*before.extensions, 5)
    assert (after.ciphers, after.random, after.sni) == (before.ciphers, before.random, before.sni)


@pytest.mark.peer("gnutls-cli")
def test_gnutls_takes_a_must_staple_certificate_only_with_a_response(tmp_path: Path) -> None:
    recipe = ChainOrders(recipe=catalogue()["leaf-must-staple"])
    orders = [Orders(chain=recipe), Orders(chain=recipe, stapling=StaplingOrders())]
    with RunningProxy(director=Scripted(orders)) as proxy:
        without, with_it = (
            run(
                "gnutls-cli", "--x509cafile", proxy.root_file(tmp_path), "--port", str(proxy.port),
                "--sni-hostname", HOST, "--verify-hostname", HOST, "127.0.0.1", stdin=b"", timeout=20,
            )
            for _ in range(2)
        )  # fmt: skip
    assert "requires the server to include an OCSP status" in without.stdout + without.stderr
    assert without.returncode != 0
    assert "Handshake was completed" in with_it.stdout, with_it.stdout + with_it.stderr


@pytest.mark.peer("curl")
def test_a_leaf_that_is_revoked_in_the_register_is_revoked_in_what_is_stapled(tmp_path: Path) -> None:
    register = Register()
    with RunningProxy(orders=stapling(), register=register) as proxy:
        root = proxy.root_file(tmp_path)
        assert curl_asking(proxy, root)[0] == 0
        leaf = leaf_of(proxy.recording())
        entry = entry_for(named(AUTHORITY), leaf, "intermediate-1", proxy.engine.now())
        register.revoke(entry)
        proxy.engine.staples.forget()
        code, error = curl_asking(proxy, root)
    assert code == INVALID_STATUS
    assert "revocation reason" in error


def leaf_of(recording: Recording) -> bytes:
    leg = recording.leg(LegRole.CLIENT)
    assert leg is not None
    return next(one.der for one in leg.read().certificates)


# -- the target's ------------------------------------------------------------------------------------------------


@dataclass
class Files:
    """A server's certificate as the peers take it."""

    cert_pem: Path
    key_pem: Path
    chain_pem: Path


def files(minted: Minted, folder: Path) -> Files:
    made = Files(*(folder / f"target-{name}.pem" for name in ("leaf", "key", "chain")))
    assert not isinstance(minted.key, bytes)
    made.cert_pem.write_bytes(to_pem(minted.chain[0]))
    made.key_pem.write_bytes(key_to_pem(minted.key))
    made.chain_pem.write_bytes(b"".join(map(to_pem, minted.chain[1:])))
    return made


@pytest.mark.peer("curl", "openssl")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("word", "verdict", "code"),
    [("good", "good", 0), ("revoked", "revoked", INVALID_STATUS), ("expired", "unusable", INVALID_STATUS)],
)
def test_what_the_target_staples_is_noted_and_the_client_gets_the_same_of_ours(
    tmp_path: Path, word: str, verdict: str, code: int, version: str
) -> None:
    public = Authority.make()
    server = issue(public, HOST)
    response = stapler(public, faults=() if word == "good" else (parse_fault(f"ocsp:{word}"),)).staple(server.chain[0])
    stapled = tmp_path / "stapled.der"
    stapled.write_bytes(response)
    identity: Any = files(server, tmp_path)
    with (
        OpensslServer(identity, "-status_file", stapled, mode="www", version=version) as target,
        RunningProxy(target=Address("127.0.0.1", target.port), roots=(public.root.der,)) as proxy,
    ):
        got, error = curl_asking(proxy, proxy.root_file(tmp_path), version)
        recording = proxy.recording()
    assert got == code, error
    leg = recording.leg(LegRole.SERVER)
    assert leg is not None
    (noted,) = leg.revocation
    assert (noted["url"], noted["verdict"]) == ("stapled", verdict)
    assert noted["bytes"] == len(response)
    assert ("No OCSP response" in error) is (word == "expired"), "what cannot be believed is not passed on"


@pytest.mark.peer("openssl")
def test_a_target_is_asked_only_where_the_client_asks(tmp_path: Path) -> None:
    with RunningProxy() as proxy:
        for args in ((), ("-status",)):
            openssl_client(f"127.0.0.1:{proxy.port}", *args, ca=proxy.root_file(tmp_path), name=HOST)
        asked = []
        for recording in proxy.recordings(2):
            leg = recording.leg(LegRole.SERVER)
            assert leg is not None
            asked.append(5 in summarize_client_hello(leg.messages[0].raw).extensions)
    assert asked == [False, True]


def test_nothing_that_a_target_staples_breaks_what_judges_it() -> None:
    public = Authority.make()
    chain = issue(public, HOST).chain
    good = stapler(public).staple(chain[0])
    now = stapler(public).now()
    for body in (b"\0", good[:50], good + b"\0", b"\x30\x80" * 500, b"0" * 100_000, good.replace(b"\x80", b"\xa1")):
        answer = judged(body, chain, now)
        assert like(answer) is None
    assert like(judged(good, chain, now)) == StaplingOrders()
    assert like(judged(good, chain[:1], now)) is None, "who issued the leaf has to be known"


def test_a_revocation_without_a_reason_and_one_that_is_none_are_revocations() -> None:
    public = Authority.make()
    chain = issue(public, HOST).chain
    for reason in ("", "=keyCompromise"):
        body = stapler(public, faults=(parse_fault(f"ocsp:revoked{reason}"),)).staple(chain[0])
        orders = like(judged(body, chain, stapler(public).now()))
        assert orders is not None
        (fault,) = orders.faults
        assert fault.reason is (Reason.KEY_COMPROMISE if reason else Reason.UNSPECIFIED)


def test_a_given_response_has_no_faults() -> None:
    with pytest.raises(UserError, match="what is given is sent as it is"):
        StaplingOrders(body=b"x", faults=(parse_fault("ocsp:revoked"),))
