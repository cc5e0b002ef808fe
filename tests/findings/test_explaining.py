"""Error texts as programs really print them, one by one, and what is said of text that nobody knows."""

from __future__ import annotations

import ctypes
import ctypes.util
import io
import json
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countersign.findings.explaining import Explanation, Kind, Text, explain, kinds, texts
from tests.cli.commands import countersign
from tests.peers.java import java_client
from tests.peers.openssl import OpensslServer
from tests.peers.process import run
from tests.peers.witness import jvm_trust

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.peers.certs import Lab

WORDINGS = {
    path.name: {
        identity: wording
        for identity, _, wording in (line.partition("\t") for line in path.read_text(encoding="utf-8").splitlines())
    }
    for path in Path(__file__).with_name("wordings").glob("*.tsv")
}
WORDING = {identity: wording for wordings in WORDINGS.values() for identity, wording in wordings.items()}
EFFECTS = {"mid-request-not-sent"}
"""Texts whose wording holds its cause as well, which comes first then."""


def explained(text: str | bytes) -> Explanation:
    return explain(io.BytesIO(text.encode() if isinstance(text, str) else text))


def found(text: str | bytes) -> list[str]:
    return [finding.kind.id for finding in explained(text).findings]


def fix(text: str) -> str:
    return explained(text).findings[0].fix


def test_there_are_at_least_2000_texts_and_each_has_its_real_wording() -> None:
    known = [text.id for text in texts()]
    assert len(known) == len(set(known)) >= 2_000
    assert set(WORDING) == set(known)
    assert {text.kind.id for text in texts()} == set(kinds())


@pytest.mark.parametrize("file", sorted(WORDINGS))
def test_a_real_wording_is_known_wherever_it_stands(file: str) -> None:
    known = {text.id: text for text in texts()}
    wrong = [line for line in WORDINGS[file].items() if not known_in_a_log(known[line[0]], line[1])]
    assert not wrong


def known_in_a_log(text: Text, wording: str) -> bool:
    """Whether it is found in its line, alone, as its family's, and before all others that follow from it."""
    explanation = explained(f"nothing of note\n11/21/26 12:00:00 (123) worker: {wording} and so on\r\nnothing\n")
    findings = [one for one in explanation.findings if text.id in one.texts]
    if len(findings) != 1 or explanation.unknown:
        return False
    (finding,) = findings
    return (
        (finding.kind, finding.family) == (text.kind, text.family.name)
        and [place.line for place in finding.places] == [2]
        and explanation.lines in {3, 4}
        and (text.id in EFFECTS or explanation.findings[0] == finding)
    )


@pytest.mark.parametrize("kind", kinds().values(), ids=lambda kind: kind.id)
def test_each_kind_says_cause_evidence_cure_and_source(kind: Kind) -> None:
    assert all((kind.text, kind.wanted, kind.fix, kind.source))
    assert kind.severity in {"cause", "warning", "note"}
    assert set(kind.fixes) <= {text.family.name for text in texts()}


@pytest.mark.parametrize("text", ["", "all is well\n", "the quick brown fox\n" * 100, "handshake done in 3 ms\n"])
def test_text_without_trouble_is_not_explained(text: str) -> None:
    explanation = explained(text)
    assert (explanation.findings, explanation.unknown) == ((), ())


def test_trouble_that_nobody_knows_is_shown_and_nothing_is_guessed() -> None:
    explanation = explained("fine\ncom.lab.OddException: the flux was not shut\n\tat com.lab.Flux.run(Flux.java:1)\n")
    assert explanation.findings == ()
    (place,) = explanation.unknown
    assert (place.line, place.text) == (2, "com.lab.OddException: the flux was not shut")


FRAMES = [
    "INFO   | jvm 1    | 2026/11/21 12:00:00 | at com.lab.ErrorHandler.failed(ErrorHandler.java:12)",
    "INFO   | jvm 1    | 2026/11/21 12:00:00 | \tat com.lab.FatalError.run(FatalError.java:1) ~[lab.jar:1.0]",
    "2026-11-21T12:00:00.124+0000 SEVERE (Worker-Standard:Probe) [AError:32]     at com.lab.Probe.run(Probe.java:9)",
    "2026-11-21T12:00:00.124+0000 ERROR (Worker-Standard:Probe) [AError:32]     ... 23 more",
    "    at org.lab.DefaultException.execute (DefaultException.java:101)",
    "[ERROR]     at java.base/java.lang.Exception.<init>(Exception.java:1)",
    "lab    |    at Lab.Net.Pool.ConnectAsync(Request request, Exception error)",
    ">    at Lab.Exceptions.Info.Throw (Lab.Private.CoreLib, Version=4.0.0.0, Culture=neutral)",
    "   bei Lab.Net.FailedRequest.GetException()",
    "ERROR --- End of inner exception stack trace ---",
    "npm ERR!     at TLSSocket.failed (errors.js:1:1)",
    "npm ERR!     at Socket.failed [as _read](net.js:469:13)",
    "    at async Failed.open (file:///srv/error.mjs:3:3) {",
    "    at file:///srv/failed.mjs:3:3",
    '  File "/srv/error_handler.py", line 667, in raise_failed_Exception',
    '[pod/lab-0/lab]   File "/srv/lab.py", line 3, in failed',
    "\tfrom /usr/lib/ruby/net/protocol.rb:44:in `connect_failed'",
    "PHP   #1 /srv/lab.php(12): Lab\\Client->failed()",
    "\x1b[31m    at com.lab.Failed.run(Failed.java:1)\x1b[0m",
    "javax.net.ssl|DEBUG|10|main|2026-11-21 12:00:00.935 UTC|Alert.java:238|Received alert message (",
    '  "level"      : "fatal",',
]


@pytest.mark.parametrize("line", FRAMES)
def test_a_line_of_a_stack_trace_is_no_trouble_whatever_stands_before_it(line: str) -> None:
    assert explained(f"{line}\n") == Explanation((), (), more_unknown=False, lines=1)


@pytest.mark.parametrize(
    "line",
    [
        "it failed at once", "ERROR: at least one certificate failed", "ERROR at host 10.0.0.1: it failed",
        "  at the end it failed (3 times)", "ERROR File lab.pem, line 3: failed", "it failed ... 3 more times",
    ],
)  # fmt: skip
def test_what_only_resembles_a_line_of_a_stack_trace_is_trouble(line: str) -> None:
    assert [place.text for place in explained(f"{line}\n").unknown] == [line.strip()]


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[31mERR_CERT_AUTHORITY_INVALID\x1b[0m", "\x1b[1;31mgit:\x1b[0m unable to get local issuer certificate",
        r'{"log":"\u001b[31mSEC_ERROR_UNKNOWN_ISSUER\u001b[39m\n","stream":"stderr"}',
        r'{"msg":"failed\nx509: certificate signed by unknown authority\n\tat lab"}',
    ],
)  # fmt: skip
def test_colours_hide_no_text(text: str) -> None:
    assert found(text) == ["untrusted"]


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


def test_that_it_failed_is_not_said_beside_what_failed() -> None:
    text = "fatal: unable to access 'https://x/': server certificate verification failed. CAfile: none CRLfile: none\n"
    assert found(text) == ["verify-failed"]


def test_the_cure_is_that_of_the_client_at_hand() -> None:
    assert fix(WORDING["java-no-path"]).startswith("keytool -importcert")
    assert "NODE_EXTRA_CA_CERTS" in fix(WORDING["node-issuer"])
    assert "--cacert" in fix("curl: (60) SSL certificate problem: unable to get local issuer certificate")
    assert "REQUESTS_CA_BUNDLE" in fix(
        "ssl.SSLCertVerificationError: certificate verify failed: unable to get local issuer certificate (_ssl.c:1006)"
    )
    assert "Import-Certificate" in fix(WORDING["windows-schannel-code-sec_e_untrusted_root"])


# -- how a text is found ------------------------------------------------------------------------------------------


def test_each_text_is_said_once_and_has_words_to_be_found_by() -> None:
    assert max(Counter(text.says for text in texts()).values()) == 1
    assert all(text.words for text in texts())


@pytest.mark.parametrize(
    ("line", "family"),
    [
        ("curl: (60) SSL certificate problem: unable to get local issuer certificate", "curl"),
        (
            "fatal: unable to access 'https://x/': SSL certificate problem: unable to get local issuer certificate",
            "git",
        ),
        ("ssl.SSLError: certificate verify failed: unable to get local issuer certificate (_ssl.c:1006)", "python"),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate",
            "python",
        ),
        ("[ssl:info] AH02039: Certificate Verification: Error (20): unable to get local issuer certificate", "apache"),
        ("npm error unable to get local issuer certificate", "node"),
        ("cURL error 60: SSL certificate problem: unable to get local issuer certificate (see https://x)", "php"),
        ("error 20 at 0 depth lookup: unable to get local issuer certificate", "openssl"),
        ("javax.net.ssl.SSLException: error:0: unable to get local issuer certificate", "java"),
        ("GnuTLS: The certificate issuer is unknown", "gnutls"),
    ],
)
def test_a_library_s_text_is_that_of_the_program_whose_mark_is_on_its_line(line: str, family: str) -> None:
    (finding,) = explained(line).findings
    assert (finding.kind.id, finding.family) == ("untrusted", family)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("curl: (56) OpenSSL SSL_read: error:0A00045C:SSL routines::tlsv13 alert certificate required, errno 0",
         ["peer-wants-client-certificate"]),
        ("curl: (35) Recv failure: Connection reset by peer", ["reset"]),
        ("curl: (7) Failed to connect to x port 443: No route to host", ["unreachable"]),
        ("ConnectionAbortedError: SSL handshake is taking longer than 60.0 seconds: aborting", ["time-out"]),
        ("curl: (35) ", ["tls-failed"]),
        ("TimeoutError", ["time-out"]),
        ("tls: invalid signature by the server certificate: crypto/rsa: verification error", ["decrypt-error"]),
    ],
)  # fmt: skip
def test_an_exit_code_and_a_class_of_exceptions_yield_to_what_says_more(line: str, meant: list[str]) -> None:
    assert found(line) == meant


def test_what_a_library_says_on_a_line_apart_joins_what_its_program_says() -> None:
    (finding,) = explained(
        "Error: self-signed certificate\n  at TLSSocket\n  code: 'DEPTH_ZERO_SELF_SIGNED_CERT'\n"
    ).findings
    assert (finding.family, finding.count, [place.line for place in finding.places]) == ("node", 2, [1, 3])


def test_case_is_passed_over_and_so_are_escaped_line_ends() -> None:
    assert found("UNABLE TO FIND VALID CERTIFICATION PATH TO REQUESTED TARGET") == ["untrusted"]
    assert found(r'{"log":"at x\nCERT_HAS_EXPIRED\tat y\n"}') == ["expired"]
    assert found(r'{"log":"failed\nConnection refused\r\n"}') == ["refused"]


@pytest.mark.parametrize("line", ["CERT_HAS_EXPIREDX", "MYCERT_HAS_EXPIRED", "disconnection refused", "EPIPELINE"])
def test_a_short_text_within_other_words_is_none(line: str) -> None:
    assert found(line) == []


def test_a_text_over_the_edge_of_a_block_is_found_with_its_line() -> None:
    filler = "a line that says nothing of note\n"
    for count in range(40, 90):
        (finding,) = explained(filler * count + WORDING["java-no-path"] + "\n" + filler * 200).findings
        assert [place.line for place in finding.places] == [count + 1]


@pytest.mark.parametrize(
    "line",
    [
        "Not After : Nov 21 10:00:00 2027 GMT", "notAfter=Nov 21 10:00:00 2027 GMT",
        "Verify return code: 0 (ok)", "* SSL certificate verify ok.", "- Status: The certificate is trusted.",
        "* SSL connection using TLSv1.3 / TLS_AES_256_GCM_SHA384", "ssl_verify_depth 3", "retry in 28 s (28)",
        "the certificate expires on 2027-11-21", "certificate revoked at the owner's wish: 0 of 3 servers",
        "GET /docs/certificate-verify-failed.html 200", "session resumed, ticket of 7200 s", "WARN pool is at 80 %",
        "connection to 10.0.0.1:443 closed after 3 requests", "Renegotiation: not supported; compression: none",
        "javax.net.ssl|DEBUG|10|main|2026-11-21 10:00:00.000 UTC|SSLCipher.java:1870|KeyLimit read side",
        "TLS handshake done: server hello, certificate, finished", "Listening on 0.0.0.0:443 (ssl)",
    ],
)  # fmt: skip
def test_ordinary_lines_are_no_texts(line: str) -> None:
    assert found(line) == []


# -- the articles' cures, as they are judged -----------------------------------------------------------------------


def test_no_rekey_is_advised_where_mtls_or_a_custom_certificate_may_be_in_use() -> None:
    finding = explained(WORDING["mid-keys-do-not-match"]).findings[0]
    assert finding.kind.wanted.startswith(
        "First: does this MID Server use mutual authentication or a custom certificate"
    )
    assert "PRB1556363" in finding.kind.text
    assert finding.fix.index("change neither keys") < finding.fix.index("Only without both")


def test_before_a_store_is_deleted_what_is_lost_is_said() -> None:
    cure = fix(WORDING["mid-out-of-sync"])
    assert cure.startswith("Best: restore")
    assert "loses mTLS and web server certificates" in cure


def test_no_article_s_wrong_cure_is_given() -> None:
    assert "Do not set it to false" in fix(WORDING["mid-debug-verify-hostname"])
    assert "do not mend a certificate error" in explained(WORDING["mid-port-443"]).findings[0].kind.text
    assert "no cure" in kinds()["untrusted-bc-no-chain"].source
    assert kinds()["swallowed"].vague
    assert "PKCS12" in fix(WORDING["keytool-pem"])


def test_the_two_texts_of_bouncy_castle_are_told_apart() -> None:
    assert found(WORDING["bc-no-issuer"])[0] == "untrusted-bc-no-issuer"
    assert found(WORDING["bc-no-chain"])[0] == "untrusted-bc-no-chain"


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


def test_a_line_with_every_text_in_it_takes_no_square_of_them() -> None:
    line = b" ".join(piece for text in texts() for piece in text.says) + b"\n"
    began = time.process_time()
    explanation = explained(line * 8)
    assert time.process_time() - began < 40  # a minute, were each held against each
    assert all(finding.count <= 8 for finding in explanation.findings)


def test_utf_16_and_windows_line_ends_are_read() -> None:
    text = f"first\r\n{WORDING['java-no-path']}\r\n"
    for encoding in ("utf-8", "utf-16", "utf-16-be", "utf-8-sig"):
        (finding,) = explained(text.encode(encoding)).findings
        assert finding.places[0].line == 2


def test_memory_does_not_grow_with_the_file(scaled: Callable[[int], int]) -> None:
    import tracemalloc

    from tests.recorder.javalog.test_articles import Repeated

    piece = ("a line of an agent that says nothing\n" * 2_000 + WORDING["java-no-path"] + "\nodd failed\n").encode()
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
    log.write_text(f"fine\n{WORDING['bc-no-chain']}\n")
    told = countersign("explain", log)
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith("Fix: Import the root of the device's CA")
    assert "line 2: Worker-Standard" in told.out


def test_the_command_s_json_is_that_of_findings(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    log.write_text(WORDING["java-expired"])
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


# -- the tables of the libraries that are installed ---------------------------------------------------------------


def library(name: str) -> ctypes.CDLL:
    found = ctypes.util.find_library(name)
    assert found, f"the program is here and its library {name} is not"
    return ctypes.CDLL(found)


@pytest.mark.peer("openssl")
def test_every_reason_why_openssl_does_not_accept_a_chain_is_known() -> None:
    crypto = library("crypto")
    crypto.X509_verify_cert_error_string.restype = ctypes.c_char_p
    words = [crypto.X509_verify_cert_error_string(number).decode() for number in range(1, 95)]
    apart = {"out of memory", "RFC 3779 resource not subset of parent's resources"}
    lines = [f"error {number} at 0 depth lookup: ({text})" for number, text in enumerate(words, 1) if text not in apart]
    assert [line for line in lines if found(line) in ([], ["verify-failed"])] == [
        f"error {number} at 0 depth lookup: ({words[number - 1]})" for number in (1, 50, 69)
    ]


@pytest.mark.peer("openssl")
def test_each_reason_of_openssl_in_the_table_is_one_of_openssl_s() -> None:
    crypto, ssl = library("crypto"), library("ssl")
    ssl.OPENSSL_init_ssl(ctypes.c_uint64(0x00200000), None)
    crypto.ERR_reason_error_string.restype = ctypes.c_char_p
    crypto.ERR_reason_error_string.argtypes = [ctypes.c_ulong]
    said = {(crypto.ERR_reason_error_string(20 << 23 | number) or b"").decode() for number in range(1, 1200)}
    said |= {one.replace("ssl/tls alert", "sslv3 alert") for one in said}  # since 3.2
    ours = {text.says[1].decode() for text in texts() if text.id.startswith("openssl-reason-")}
    assert {one.replace("ssl/tls alert", "sslv3 alert") for one in ours} <= said


@pytest.mark.peer("openssl")
def test_each_alert_that_is_told_in_openssl_s_words_is_in_openssl_s_words() -> None:
    ssl = library("ssl")
    ssl.SSL_alert_desc_string_long.restype = ctypes.c_char_p
    said = {ssl.SSL_alert_desc_string_long(number).decode().lower().replace("_", " ") for number in range(256)}
    ours = [
        text.says[0].decode() for text in texts() if text.id.startswith(("openssl-alert-in-", "openssl-alert-out-"))
    ]
    assert {one.rpartition(":")[2].replace("_", " ") for one in ours} <= said


@pytest.mark.peer("gnutls-cli")
def test_each_error_of_gnutls_in_the_table_is_one_of_gnutls_s() -> None:
    gnutls = library("gnutls")
    gnutls.gnutls_strerror.restype = gnutls.gnutls_alert_get_name.restype = ctypes.c_char_p
    said = {gnutls.gnutls_strerror(-number).decode().rstrip(".").lower() for number in range(1, 500)}
    assert {text.says[0].decode() for text in texts() if text.id.startswith("gnutls-error-")} <= said
    alerts = {(gnutls.gnutls_alert_get_name(number) or b"").decode().lower() for number in range(256)}
    ours = {text.says[1].decode().removeprefix("]: ") for text in texts() if text.id.startswith("gnutls-alert-")}
    assert ours == alerts - {"", "close notify", "could not retrieve the specified certificate"}


@pytest.mark.peer("node")
def test_node_names_openssl_s_reasons_as_the_table_does() -> None:
    script = "try { require('tls').createSecureContext({ciphers: 'NONE'}) } catch (e) { console.log(e) }"
    assert found(run("node", "-e", script, timeout=30).stdout) == ["configuration"]


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
