"""Who may use the proxy: the file, the comparison, and that nothing of it is shown."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given, strategies as st

from countersign.errors import UserError
from countersign.proxy.ways.credentials import Credentials, Login

SALT = b"pepper"


def hashed(kind: str, password: bytes, salt: bytes = SALT) -> str:
    digest = hashlib.new(kind, password + salt).digest()
    return base64.b64encode(digest + salt).decode()


FILE = f"""
# a comment
alice:open sesame
bob:{{SSHA256}}{hashed("sha256", b"builder")}
carol:{{ssha512}}{hashed("sha512", b"c:d", b"")}
dave:{{PLAIN}}{{SSHA256}}odd
\u00fcmit:p\u00e4ss
"""
USERS = Credentials.parse(FILE.encode(), name="the file")


@pytest.mark.parametrize(
    ("user", "password", "good"),
    [
        ("alice", "open sesame", True),
        ("alice", "open sesam", False),
        ("alice", "", False),
        ("bob", "builder", True),
        ("bob", "builderx", False),
        ("carol", "c:d", True),
        ("dave", "{SSHA256}odd", True),
        ("dave", "odd", False),
        ("\u00fcmit", "p\u00e4ss", True),
        ("nobody", "open sesame", False),
        ("", "", False),
        ("# a comment", "", False),
    ],
)
def test_a_user_has_its_own_password_and_no_other(user: str, password: str, *, good: bool) -> None:
    assert USERS.fit(user.encode(), password.encode()) is good
    value = base64.b64encode(f"{user}:{password}".encode())
    assert USERS.fit_basic(b"Basic " + value) is good
    assert USERS.fit_basic(b"bAsIc   " + value) is good


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Basic",
        b"Basic ",
        b"Basic !!!",
        b"Basic YWxpY2U=",
        b"Bearer YWxpY2U6b3BlbiBzZXNhbWU=",
        b"\xff",
        b"Basic \xff=",
    ],
)
def test_what_is_no_basic_credential_does_not_fit(value: bytes) -> None:
    assert USERS.fit_basic(value) is False


@given(st.binary(max_size=100))
def test_any_field_can_be_asked_about(value: bytes) -> None:
    assert USERS.fit_basic(value) is False
    assert USERS.fit_basic(b"Basic " + value) is False


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no user"),
        ("# only\n\n", "names no user"),
        ("alice", "line 1 of f must be USER:PASSWORD"),
        ("a:b\n:x", "line 2 of f must be USER:PASSWORD"),
        ("alice:", "line 1 of f must be USER:PASSWORD"),
        ("a:b\na:c", "line 2 of f: the user 'a' stands there twice"),
        ("a:{SHA}x", "{SHA} is no kind of hash that is known here; those are {SSHA256}, {SSHA512}, {PLAIN}"),
        ("a:$6$salt$hash", "crypt(3)"),
        ("a:$2b$10$hash", "crypt(3)"),
        ("a:{SSHA256}????", "goes base64"),
        ("a:{SSHA512}QUJD", "at least 64 bytes, got 3"),
        ("a" * 256 + ":b", "at most 255 bytes"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_line(text: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        Credentials.parse(text.encode(), name="f")
    assert words in str(error.value)


def test_a_file_that_is_no_text_is_told() -> None:
    with pytest.raises(UserError, match="byte 2 is not"):
        Credentials.parse(b"a:\xff", name="f")


def test_no_password_shows_in_what_is_printed() -> None:
    shown = repr(USERS) + repr(Login("alice", "open sesame"))
    assert "sesame" not in shown
    assert "pepper" not in shown
    assert "b'" not in shown
