"""What clients say is quoted, and understood where it can be."""

from __future__ import annotations

import pytest

from countersign.findings.explaining import kinds
from countersign.scenarios.running.texts import Said, what_it_said, without_echo


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("curl: (60) SSL certificate problem: unable to get local issuer certificate", "untrusted"),
        ("SunCertPathBuilderException: unable to find valid certification path to requested target", "untrusted"),
        ("Error: unable to verify the first certificate", "missing-intermediate"),
        ("NotAfter: Sat Nov 21 10:00:00 UTC 2026", "expired"),
        ("java.io.IOException: HTTPS hostname wrong:  should be <x>", "host-name"),
        ("javax.net.ssl.SSLException: peer not authenticated", "swallowed"),
        ("OSError: [Errno 98] Address already in use", "port-taken"),
        ("curl: (56) CONNECT tunnel failed, response 403", "proxy-refuses"),
        ('Get "https://server.lab.test/": Forbidden', "proxy-refuses"),
        ("Error: socket hang up", "closed"),
    ],
)
def test_a_line_means_what_explain_says_of_it(line: str, kind: str) -> None:
    assert what_it_said("", line) == (Said(line, kinds()[kind].text),)


def test_who_says_nothing_of_the_kind_is_not_quoted() -> None:
    assert what_it_said("nothing of the kind", "") == ()


def test_what_only_says_that_it_failed_is_left_out_where_something_says_why() -> None:
    (said,) = what_it_said("", "*** Handshake has failed\n*** Received alert [48]: CA is unknown\n")
    assert said == Said("*** Received alert [48]: CA is unknown", kinds()["peer-does-not-know-our-ca"].text)
    (said,) = what_it_said("", "*** Handshake has failed\n")
    assert said.meaning == kinds()["tls-failed"].text


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
javax.net.ssl.SSLHandshakeException: unable to find valid certification path to requested target
\tat java.base/sun.security.ssl.Alert.createSSLException(Alert.java:130)
Caused by: sun.security.validator.ValidatorException: PKIX path building failed
\t... 12 more
"""
    (said,) = what_it_said("", errors)
    assert said.meaning == kinds()["untrusted"].text
    assert said.line.startswith("javax.net.ssl.SSLHandshakeException")


def test_what_a_jvm_says_of_its_options_is_no_line_of_the_client() -> None:
    text = "Picked up JAVA_TOOL_OPTIONS: -Djavax.net.ssl.trustStorePassword=changeit\nreal\n"
    assert without_echo(text) == "real\n"
    assert without_echo("NOTE: Picked up JDK_JAVA_OPTIONS: -Dx=error\nreal\n") == "real\n"
    assert what_it_said("", text.replace("real\n", "")) == ()


def test_a_line_of_any_length_is_cut() -> None:
    (said,) = what_it_said("", "error: " + "x" * 100_000)
    assert len(said.line) == 400
