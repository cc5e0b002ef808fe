"""What clients say is quoted, and understood where it can be."""

from __future__ import annotations

import pytest

from countersign.scenarios.running.texts import Said, meaning_of, what_it_said, without_echo

TRUST = "it finds no way to a root that it trusts: that one is not in its store, or a certificate between is missing"


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("curl: (60) SSL certificate problem: unable to get local issuer certificate", TRUST),
        ("ssl.SSLCertVerificationError: certificate verify failed: unable to get local issuer certificate", TRUST),
        ("SunCertPathBuilderException: unable to find valid certification path to requested target", TRUST),
        ("PKIX path building failed: No issuer certificate for certificate in certification path found.", TRUST),
        ("Error: unable to verify the first certificate", TRUST),
        ("x509: certificate signed by unknown authority", TRUST),
        ("|<1>| Certificate is not trusted: the certificate issuer is unknown.", TRUST),
        ("curl: (60) SSL certificate problem: certificate has expired", "a certificate has expired"),
        ("NotAfter: Sat Nov 21 10:00:00 UTC 2026", "a certificate has expired"),
        ("curl: (60) SSL certificate problem: certificate is not yet valid", "a certificate is not valid yet"),
        ("curl: (60) SSL: no alternative certificate subject name matches target host name 'x'",
         "the certificate is for another name"),
        ("java.io.IOException: HTTPS hostname wrong:  should be <x>", "the certificate is for another name"),
        ("Error [ERR_TLS_CERT_ALTNAME_INVALID]: Hostname/IP does not match", "the certificate is for another name"),
        ("curl: (60) SSL certificate problem: self-signed certificate in certificate chain",
         "it does not trust the root that was sent"),
        ("curl: (35) error:0A000086: self-signed certificate",
         "it does not trust a certificate that vouches for itself"),
        ("javax.net.ssl.SSLException: peer not authenticated", "the handshake failed, and the reason was swallowed"),
        ("OSError: [Errno 98] Address already in use", "a port that it wants for itself is taken"),
        ("curl: (6) Could not resolve host: instance.lab.test", "it does not find the host's address"),
        ("curl: (56) CONNECT tunnel failed, response 403", "the proxy gave it no tunnel"),
        ("curl: (28) Operation timed out after 5000 milliseconds", "it waited too long"),
        ("curl: (35) Recv failure: Connection reset by peer", "the connection was reset"),
        ("Error: socket hang up", "the connection ended too early"),
        ("nothing of the kind", None),
    ],
)  # fmt: skip
def test_a_line_is_understood_by_a_phrase_in_it(line: str, meaning: str | None) -> None:
    assert meaning_of(line) == meaning


TRACEBACK = """\
Traceback (most recent call last):
  File "/lib/httpcore/_sync/http_proxy.py", line 333, in handle_request
    raise ProxyError(msg)
httpcore.ProxyError: 403 Forbidden

The above exception was the direct cause of the following exception:

  + Exception Group Traceback (most recent call last):
  |   File "<string>", line 4, in <module>
  |     stream = self._stream.start_tls(ssl_context, timeout)
  |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  | ssl.SSLError: certificate has expired
"""


def test_of_a_traceback_the_exceptions_are_quoted_and_not_the_program() -> None:
    lines = [said.line for said in what_it_said("", TRACEBACK)]
    assert lines == ["httpcore.ProxyError: 403 Forbidden", "| ssl.SSLError: certificate has expired"]


def test_who_complains_in_no_word_that_is_known_is_quoted_by_the_last_line_of_the_errors() -> None:
    assert what_it_said("hello\n", "one\nGet: Forbidden\n") == (Said("Get: Forbidden", None),)
    assert what_it_said("hello\n", "") == ()


def test_what_is_not_understood_is_quoted_where_it_complains() -> None:
    said = what_it_said("all is well\n", "loading\nfrobnication failed: no flux\n    at a.b.C(C.java:1)\n")
    assert said == (Said("frobnication failed: no flux", None),)


def test_each_meaning_is_said_once_and_stack_traces_are_left_out() -> None:
    errors = """\
javax.net.ssl.SSLHandshakeException: PKIX path building failed: unable to find valid certification path
\tat java.base/sun.security.ssl.Alert.createSSLException(Alert.java:130)
Caused by: sun.security.validator.ValidatorException: PKIX path building failed
\t... 12 more
"""
    (said,) = what_it_said("", errors)
    assert said.meaning == TRUST
    assert said.line.startswith("javax.net.ssl.SSLHandshakeException")


def test_what_a_jvm_says_of_its_options_is_no_line_of_the_client() -> None:
    text = "Picked up JAVA_TOOL_OPTIONS: -Djavax.net.ssl.trustStorePassword=changeit\nreal\n"
    assert without_echo(text) == "real\n"
    assert without_echo("NOTE: Picked up JDK_JAVA_OPTIONS: -Dx=error\nreal\n") == "real\n"
    assert what_it_said("", text.replace("real\n", "")) == ()


def test_a_line_of_any_length_is_cut() -> None:
    (said,) = what_it_said("", "error: " + "x" * 100_000)
    assert len(said.line) == 400
