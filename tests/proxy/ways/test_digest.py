"""Digest and Basic towards a proxy: the examples of RFC 7616, curl's own answers, and what ends the trying."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import closing

import pytest
from hypothesis import given, strategies as st

from countersign.proxy.ways.credentials import Login
from countersign.proxy.ways.digest import (
    Authenticator,
    Challenge,
    DigestChallenge,
    digest_answer,
    parse_challenges,
    parse_info,
)
from tests.peers.curl import curl

MUFASA = Login("Mufasa", "Circle of Life")
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


def digest(value: str) -> DigestChallenge:
    (challenge,) = parse_challenges([value])
    found = DigestChallenge.of(challenge)
    assert found is not None
    return found


# -- the RFC's examples --------------------------------------------------------------------------------------------

RFC_3_9_1 = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_rfc_7616_come_out(algorithm: str, response: str) -> None:
    challenge = digest(RFC_3_9_1.format(algorithm))
    answer = digest_answer(challenge, MUFASA, method="GET", uri="/dir/index.html", count=1, cnonce=CNONCE)
    assert answer["response"] == response
    assert answer["nc"] == "00000001"
    assert answer["opaque"] == "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"


def test_the_example_without_qop_of_rfc_2617_comes_out() -> None:
    """Its 3.5 with the parameters of RFC 2069: KD(H(A1), nonce:H(A2))."""
    challenge = digest('Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"')
    answer = digest_answer(
        challenge, Login("Mufasa", "Circle Of Life"), method="GET", uri="/dir/index.html", count=1, cnonce="x"
    )
    assert answer["response"] == "670fd8c2df070c60b045671b8b24ff02"  # computed with openssl dgst -md5
    assert "qop" not in answer
    assert "cnonce" not in answer
    assert "algorithm" not in answer


# -- challenges ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (['Basic realm="a"'], [("basic", {"realm": "a"})]),
        (["Basic realm=a"], [("basic", {"realm": "a"})]),
        (['Basic realm="a, Digest \\"b\\""'], [("basic", {"realm": 'a, Digest "b"'})]),
        (
            ['Digest realm="a", nonce="n",qop="auth,auth-int" , Basic realm="b", charset="UTF-8"'],
            [
                ("digest", {"realm": "a", "nonce": "n", "qop": "auth,auth-int"}),
                ("basic", {"realm": "b", "charset": "UTF-8"}),
            ],
        ),
        (["Negotiate", "NTLM"], [("negotiate", {}), ("ntlm", {})]),
        (["Negotiate, NTLM , Basic realm=x"], [("negotiate", {}), ("ntlm", {}), ("basic", {"realm": "x"})]),
        (["Negotiate YIIabc+/==, Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        ([", ,Basic , realm=x"], [("basic", {"realm": "x"})]),
        (['DIGEST Realm = "x", REALM=y'], [("digest", {"realm": "x"})]),
        ([""], []),
        (['"quoted"'], []),
        (['Basic realm="never ends'], [("basic", {})]),
    ],
)  # fmt: skip
def test_challenges_are_read(values: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    got = [(challenge.scheme, dict(challenge.parameters)) for challenge in parse_challenges(values)]
    assert got[: len(expected)] == expected


@given(st.lists(st.text(max_size=80), max_size=3), st.text(max_size=80))
def test_any_text_is_read_as_challenges(values: list[str], info: str) -> None:
    for challenge in parse_challenges(values):
        DigestChallenge.of(challenge)
    parse_info(info)


def test_long_fields_are_read_in_time_that_grows_with_them() -> None:
    for text in ("a" * 65_000, "a=" * 30_000, 'a="' + "\\" * 65_000, "a," * 30_000, "," * 65_000, " \t" * 30_000 + "x"):
        parse_challenges([text])
        parse_info(text)


@pytest.mark.parametrize(
    "value",
    [
        'Digest realm="a"',
        'Digest nonce="a"',
        'Digest realm="a", nonce="n", algorithm=SHA-1',
        'Digest realm="a", nonce="n", qop="auth-int"',
        'Basic realm="a"',
    ],
)
def test_a_challenge_that_cannot_be_answered_is_none(value: str) -> None:
    assert DigestChallenge.of(parse_challenges([value])[0]) is None


# -- trying --------------------------------------------------------------------------------------------------------

NONCE = 'Digest realm="r", nonce="{}", qop="auth", algorithm=SHA-256'


def authenticator() -> Authenticator:
    return Authenticator(MUFASA, rng=lambda size: "c" * size)


def field(value: bytes | None) -> dict[str, str]:
    assert value is not None
    assert value.startswith(b"Digest ")
    return parse_info(value[7:].decode())


def test_nothing_is_shown_before_it_is_asked_for() -> None:
    assert authenticator().answer("CONNECT", "a:443") is None


def test_the_strongest_challenge_is_answered() -> None:
    one = authenticator()
    offered = ['Basic realm="r"', 'Digest realm="r", nonce="m", qop="auth"', NONCE.format("s")]
    assert one.challenged(offered, answered=False) is None
    assert one.scheme == "digest SHA-256"
    assert field(one.answer("CONNECT", "a:443"))["nonce"] == "s"
    two = authenticator()
    assert (
        two.challenged(['Digest realm="r", nonce="m", algorithm=MD5-sess, qop="auth"', "Basic realm=r"], answered=False)
        is None
    )
    assert two.scheme == "digest MD5-sess"
    three = authenticator()
    assert three.challenged(["Digest broken", "Basic realm=r"], answered=False) is None
    assert three.answer("CONNECT", "a:443") == b"Basic TXVmYXNhOkNpcmNsZSBvZiBMaWZl"


def test_a_nonce_is_counted_and_replaced() -> None:
    one = authenticator()
    one.challenged([NONCE.format("n1")], answered=False)
    assert [field(one.answer("CONNECT", "a:443"))["nc"] for _ in range(3)] == ["00000001", "00000002", "00000003"]
    one.informed('qop=auth, nextnonce="n2"')
    shown = field(one.answer("CONNECT", "a:443"))
    assert (shown["nonce"], shown["nc"]) == ("n2", "00000001")
    assert one.challenged([NONCE.format("n3") + ", stale=TRUE"], answered=True) is None
    assert field(one.answer("CONNECT", "a:443"))["nonce"] == "n3"
    assert one.challenged([NONCE.format("n3") + ", stale=true"], answered=True) is None
    assert field(one.answer("CONNECT", "a:443"))["nc"] == "00000002"
    one.informed("nonsense")
    assert field(one.answer("CONNECT", "a:443"))["nonce"] == "n3"


def test_a_refused_password_is_not_shown_again() -> None:
    for offered in (NONCE.format("n"), 'Basic realm="r"'):
        one = authenticator()
        assert one.challenged([offered], answered=False) is None
        assert one.answer("CONNECT", "a:443")
        trouble = one.challenged([offered], answered=True)
        assert trouble is not None
        assert "does not take the user name and password" in trouble
        assert one.answer("CONNECT", "a:443") is None


def test_a_way_that_is_not_spoken_is_told() -> None:
    trouble = authenticator().challenged(["Negotiate", "NTLM"], answered=False)
    assert trouble is not None
    assert "it offers negotiate, ntlm" in trouble
    nothing = authenticator().challenged([], answered=False)
    assert nothing is not None
    assert "it offers nothing" in nothing


def test_names_beyond_ascii_and_quotes_reach_the_proxy() -> None:
    one = Authenticator(Login('J\u00e4s\u00f8n "D\\oe"', "x"), rng=lambda _: "c")
    one.challenged(['Digest realm="a \\"b\\"", nonce="n", qop="auth", userhash=true'], answered=False)
    shown = one.answer("CONNECT", "a:443")
    assert shown is not None
    assert b'realm="a \\"b\\""' in shown
    assert b"userhash=true" in shown
    assert b"J" + "\u00e4".encode() not in shown
    plain = Authenticator(Login("J\u00e4s\u00f8n Doe", "x"), rng=lambda _: "c")
    plain.challenged(['Digest realm="a", nonce="n", qop="auth"'], answered=False)
    assert b"username*=UTF-8''J%C3%A4s%C3%B8n%20Doe" in (plain.answer("CONNECT", "a:443") or b"")


def test_a_realm_in_any_encoding_is_given_back_as_it_came() -> None:
    for realm in (b"caf\xe9", "caf\u00e9".encode()):
        one = authenticator()
        value = b'Digest realm="' + realm + b'", nonce="n"'
        assert one.challenged([value.decode("utf-8", "surrogateescape")], answered=False) is None
        assert b'realm="' + realm + b'"' in (one.answer("CONNECT", "a:443") or b"")


def test_what_it_knows_is_not_printed() -> None:
    assert "Circle" not in repr(Challenge("basic", {})) + repr(MUFASA)


# -- curl ----------------------------------------------------------------------------------------------------------


def curls_answer(challenge: str) -> str:
    """What curl shows a proxy that sends this challenge, as the value of its field."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(20)
    heads: list[bytes] = []

    def run() -> None:
        with closing(listening), listening.accept()[0] as client:
            client.settimeout(20)
            for answer in (
                b"HTTP/1.1 407 No\r\nProxy-Authenticate: " + challenge.encode() + b"\r\nContent-Length: 0\r\n\r\n",
                b"HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            ):
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += client.recv(4096)
                heads.append(head)
                client.sendall(answer)

    thread = threading.Thread(target=run, name="proxy that asks")
    thread.start()
    curl(
        "https://target.test/",
        "--proxy-anyauth",
        "--proxy-user",
        "Mufasa:Circle of Life",
        proxy=f"http://127.0.0.1:{listening.getsockname()[1]}",
    )
    thread.join(20)
    found = re.search(rb"(?i)\r\nProxy-Authorization: (.*)\r\n", heads[1])
    assert found, heads
    return found[1].decode()


@pytest.mark.peer("curl")
@pytest.mark.parametrize(
    "challenge",
    [
        'Digest realm="r x", nonce="n0", qop="auth", algorithm=MD5, opaque="o"',
        'Digest realm="r", nonce="n0", qop="auth,auth-int", algorithm=SHA-256',
        'Digest realm="r", nonce="n0", qop="auth", algorithm=MD5-sess',
        'Digest realm="r", nonce="n0", qop="auth", algorithm=SHA-256-SESS',
        'Digest realm="r", nonce="n0", qop="auth", algorithm=SHA-256, userhash=true',
        'Digest realm="r", nonce="n0"',
    ],
)
def test_curl_would_answer_the_same(challenge: str) -> None:
    theirs = parse_info(curls_answer(challenge)[len("Digest ") :])
    ours = digest_answer(
        digest(challenge), MUFASA, method="CONNECT", uri="target.test:443", count=1, cnonce=theirs.get("cnonce", "")
    )
    for name in ("username", "realm", "nonce", "uri", "response", "qop", "nc", "opaque"):
        assert ours.get(name) == theirs.get(name), name
    assert ours.get("algorithm", "").lower() == theirs.get("algorithm", "").lower()


@pytest.mark.peer("curl")
def test_curl_would_answer_basic_the_same() -> None:
    one = authenticator()
    one.challenged(['Basic realm="r"'], answered=False)
    assert one.answer("CONNECT", "target.test:443") == curls_answer('Basic realm="r"').encode()
