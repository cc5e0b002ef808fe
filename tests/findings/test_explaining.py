"""Error texts as programs really print them, one by one, and what is said of text that nobody knows."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countersign.findings.explaining import Explanation, Kind, explain, kinds, texts
from tests.cli.commands import countersign
from tests.peers.java import java_client
from tests.peers.openssl import OpensslServer
from tests.peers.process import run
from tests.peers.witness import jvm_trust

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.peers.certs import Lab

WORDINGS = {
    identity: wording
    for path in sorted(Path(__file__).with_name("wordings").glob("*.tsv"))
    for identity, _, wording in (line.partition("\t") for line in path.read_text(encoding="utf-8").splitlines())
}
EFFECTS = {"mid-request-not-sent"}
"""Texts whose wording holds its cause as well, which comes first then."""


def explained(text: str | bytes) -> Explanation:
    return explain(io.BytesIO(text.encode() if isinstance(text, str) else text))


def found(text: str | bytes) -> list[str]:
    return [finding.kind.id for finding in explained(text).findings]


def fix(text: str) -> str:
    return explained(text).findings[0].fix


def test_there_are_at_least_150_texts_and_each_has_its_real_wording() -> None:
    known = [text.id for text in texts()]
    assert len(known) == len(set(known)) >= 150
    assert set(WORDINGS) == set(known)
    assert {text.kind.id for text in texts()} == set(kinds())


@pytest.mark.parametrize("identity", sorted(WORDINGS))
def test_a_real_wording_is_known_wherever_it_stands(identity: str) -> None:
    wording = WORDINGS[identity]
    (text,) = [one for one in texts() if one.id == identity]
    explanation = explained(f"nothing of note\n11/21/26 12:00:00 (123) worker: {wording} and so on\r\nnothing\n")
    (finding,) = [one for one in explanation.findings if identity in one.texts]
    assert (finding.kind, finding.family) == (text.kind, text.family)
    assert [place.line for place in finding.places] == [2]
    assert explanation.lines in {3, 4}
    assert not explanation.unknown
    if identity not in EFFECTS:
        assert explanation.findings[0] == finding


@pytest.mark.parametrize("kind", kinds().values(), ids=lambda kind: kind.id)
def test_each_kind_says_cause_evidence_cure_and_source(kind: Kind) -> None:
    assert all((kind.text, kind.wanted, kind.fix, kind.source))
    assert kind.severity in {"cause", "warning", "note"}
    assert set(kind.fixes) <= {text.family for text in texts()}


@pytest.mark.parametrize("text", ["", "all is well\n", "the quick brown fox\n" * 100, "handshake done in 3 ms\n"])
def test_text_without_trouble_is_not_explained(text: str) -> None:
    explanation = explained(text)
    assert (explanation.findings, explanation.unknown) == ((), ())


def test_trouble_that_nobody_knows_is_shown_and_nothing_is_guessed() -> None:
    explanation = explained("fine\ncom.lab.OddException: the flux was not shut\n\tat com.lab.Flux.run(Flux.java:1)\n")
    assert explanation.findings == ()
    (place,) = explanation.unknown
    assert (place.line, place.text) == (2, "com.lab.OddException: the flux was not shut")


def test_of_much_unknown_trouble_the_first_is_kept_and_that_there_is_more_is_said() -> None:
    explanation = explained("odd failed\n" * 500)
    assert len(explanation.unknown) == 20
    assert explanation.more_unknown


def test_a_cause_comes_before_its_effect_and_what_is_vague_comes_last() -> None:
    text = (
        "The SSL connection could not be established, see inner exception.\n"
        "Request not sent to uri= https://x/ : peer not authenticated\n"
        "Caused by: java.security.cert.CertificateExpiredException: NotAfter: Thu Nov 19 13:31:59 UTC 2026\n"
    )
    assert found(text) == ["expired", "tls-failed", "swallowed", "mid-request-not-sent"]


def test_the_cure_is_that_of_the_client_at_hand() -> None:
    assert fix(WORDINGS["java-no-path"]).startswith("keytool -importcert")
    assert "NODE_EXTRA_CA_CERTS" in fix(WORDINGS["node-issuer"])
    assert "--cacert" in fix(WORDINGS["curl-no-issuer"])
    assert "REQUESTS_CA_BUNDLE" in fix(WORDINGS["python-no-issuer"])
    assert "Import-Certificate" in fix(WORDINGS["schannel-untrusted"])


# -- the articles' cures, as they are judged -----------------------------------------------------------------------


def test_no_rekey_is_advised_where_mtls_or_a_custom_certificate_may_be_in_use() -> None:
    finding = explained(WORDINGS["mid-keys-do-not-match"]).findings[0]
    assert finding.kind.wanted.startswith(
        "First: does this MID Server use mutual authentication or a custom certificate"
    )
    assert "PRB1556363" in finding.kind.text
    assert finding.fix.index("change neither keys") < finding.fix.index("Only without both")


def test_before_a_store_is_deleted_what_is_lost_is_said() -> None:
    cure = fix(WORDINGS["mid-out-of-sync"])
    assert cure.startswith("Best: restore")
    assert "loses mTLS and web server certificates" in cure


def test_no_article_s_wrong_cure_is_given() -> None:
    assert "Do not set it to false" in fix(WORDINGS["mid-debug-verify-hostname"])
    assert "do not mend a certificate error" in explained(WORDINGS["mid-port-443"]).findings[0].kind.text
    assert "no cure" in kinds()["untrusted-bc-no-chain"].source
    assert kinds()["swallowed"].vague
    assert "PKCS12" in fix(WORDINGS["keytool-pem"])


def test_the_two_texts_of_bouncy_castle_are_told_apart() -> None:
    assert found(WORDINGS["bc-no-issuer"])[0] == "untrusted-bc-no-issuer"
    assert found(WORDINGS["bc-no-chain"])[0] == "untrusted-bc-no-chain"


# -- hostile text --------------------------------------------------------------------------------------------------


def test_passwords_and_control_characters_of_a_log_are_not_repeated() -> None:
    line = "\x1b]52;c;aGk=\x07 https://bob:hunter2@proxy/ password=hunter2 Authorization: Basic aHVudGVyMg== <b>"
    shown = json.dumps(
        explained(f"{line} java.net.ConnectException: Connection refused\nodd failed {line}\n").to_json()
    )
    assert "hunter2" not in shown
    assert "aHVudGVyMg" not in shown
    assert not any(code in shown for code in ("\\u001b", "\\u0007", "\x1b", "\x07"))


@pytest.mark.parametrize(
    "filling", ["a", "a.", "x://", "password", " ", "Exception:", "curl: (28", "Certificate for <"]
)
def test_a_line_of_a_megabyte_takes_linear_time(filling: str) -> None:
    """It would take hours, were it squared; the test's own time limit is the whole suite's."""
    explanation = explained(filling * ((1 << 20) // len(filling)) + "java.net.SocketException: Connection reset" * 2)
    assert all(len(place.text) <= 1_100 for finding in explanation.findings for place in finding.places)


def test_utf_16_and_windows_line_ends_are_read() -> None:
    text = f"first\r\n{WORDINGS['java-no-path']}\r\n"
    for encoding in ("utf-8", "utf-16", "utf-16-be", "utf-8-sig"):
        (finding,) = explained(text.encode(encoding)).findings
        assert finding.places[0].line == 2


def test_memory_does_not_grow_with_the_file(scaled: Callable[[int], int]) -> None:
    import tracemalloc

    from tests.recorder.javalog.test_articles import Repeated

    piece = ("a line of an agent that says nothing\n" * 2_000 + WORDINGS["java-no-path"] + "\nodd failed\n").encode()
    tracemalloc.start()
    try:
        explanation = explain(Repeated(piece, scaled(400)))  # type: ignore[arg-type]
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert explanation.findings[0].count == scaled(400)
    assert len(explanation.findings[0].places) == 5


# -- the command ---------------------------------------------------------------------------------------------------


def test_the_command_says_the_fix_first(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    log.write_text(f"fine\n{WORDINGS['bc-no-chain']}\n")
    told = countersign("explain", log)
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith("Fix: Import the root of the device's CA")
    assert "line 2: Worker-Standard" in told.out


def test_the_command_s_json_is_that_of_findings(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    log.write_text(WORDINGS["java-expired"])
    document = countersign("explain", log, "--json").json()
    (finding,) = document["findings"]
    assert {"id", "severity", "text", "evidence", "fix", "source"} <= set(finding)
    assert (document["schema"], finding["id"], finding["lines"]) == (1, "expired", [1])


def test_unknown_text_is_a_no_and_a_missing_file_a_mistake(tmp_path: Path) -> None:
    log = tmp_path / "odd.log"
    log.write_text("com.lab.OddException: no one knows\n")
    told = countersign("explain", log)
    assert told.code == 1
    assert "Not known, and nothing is guessed of it" in told.out
    assert countersign("explain", tmp_path / "nowhere").code == 2
    assert countersign("explain", tmp_path).code == 2


# -- what real programs say ----------------------------------------------------------------------------------------


@pytest.mark.peer("java", "javac", "keytool", "openssl")
def test_what_a_jvm_says_of_an_unknown_ca_is_explained(lab: Lab) -> None:
    elsewhere = lab.issue(common_name="Elsewhere", signer=None, ca=True).cert_pem
    with OpensslServer(lab.server, mode="www") as server:
        url = f"https://server.lab.test:{server.port}/"
        done = java_client(url, truststore=jvm_trust(elsewhere.read_bytes()), hosts={"server.lab.test": "127.0.0.1"})
    assert found(done.completed.stdout)[0] == "untrusted"


@pytest.mark.peer("curl", "openssl")
def test_what_curl_and_openssl_say_of_an_unknown_ca_is_explained(lab: Lab) -> None:
    with OpensslServer(lab.server, mode="www") as server:
        where = f"127.0.0.1:{server.port}"
        by_curl = run("curl", "-sS", f"https://localhost:{server.port}/", timeout=30)
        by_openssl = run("openssl", "s_client", "-connect", where, "-verify_return_error", timeout=30)
    assert Counter(found(by_curl.stderr))["untrusted"] + Counter(found(by_curl.stderr))["self-signed-root-in-chain"]
    assert "untrusted" in found(by_openssl.stdout + by_openssl.stderr)


@pytest.mark.peer("keytool")
def test_what_keytool_says_of_pem_and_of_bcfks_is_explained(tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(b"0")
    for kind, meant in (("PEM", "pem-is-no-store-type"), ("BCFKS", "provider-missing")):
        done = run(
            *("keytool", "-list", "-keystore", tmp_path / "none", "-storetype", kind, "-storepass", "changeit"),
            timeout=60,
        )
        assert found(done.stdout + done.stderr)[0] == meant
