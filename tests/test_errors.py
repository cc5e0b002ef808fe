"""Errors for a person."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from countersign.errors import words_of


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/x"), "no such file or directory"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('192.0.2.1', 1)"), "connection refused"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name or service not known"),
        (OSError("Multiple exceptions: one, two"), "multiple exceptions: one, two"),
    ],
)
def test_what_the_system_says_ends_a_sentence(wrong: OSError, words: str) -> None:
    assert words_of(wrong) == words


def test_openssls_number_is_none_of_the_systems() -> None:
    with pytest.raises(ssl.SSLError) as caught:
        ssl.create_default_context(cadata="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert words_of(caught.value) == (caught.value.reason or str(caught.value)).lower()
    assert "not permitted" not in words_of(caught.value)
