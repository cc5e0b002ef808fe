"""--upstream-proxy: what it means, and what is wrong with it, without the password."""

from __future__ import annotations

import pytest

from countersign.errors import UserError
from countersign.proxy.settings import Address
from countersign.proxy.ways.credentials import Login
from countersign.proxy.ways.upstream import UpstreamProxy, parse_upstream


@pytest.mark.parametrize(
    ("url", "expected", "shown"),
    [
        ("http://proxy:8080", UpstreamProxy("http", Address("proxy", 8080)), "http://proxy:8080"),
        ("http://proxy", UpstreamProxy("http", Address("proxy", 3128)), "http://proxy:3128"),
        ("HTTP://proxy/", UpstreamProxy("http", Address("proxy", 3128)), "http://proxy:3128"),
        ("https://proxy", UpstreamProxy("http", Address("proxy", 443), tls=True), "https://proxy:443"),
        ("socks5://[::1]", UpstreamProxy("socks", Address("::1", 1080)), "socks5://[::1]:1080"),
        ("socks5h://p:1", UpstreamProxy("socks", Address("p", 1)), "socks5://p:1"),
        (
            "http://us%40er:p%3Ass%20w@proxy:1",
            UpstreamProxy("http", Address("proxy", 1), login=Login("us@er", "p:ss w")),
            "http://proxy:1",
        ),
        ("http://user@proxy:1", UpstreamProxy("http", Address("proxy", 1), login=Login("user", "")), "http://proxy:1"),
    ],
)
def test_a_url_names_the_proxy_and_its_login(url: str, expected: UpstreamProxy, shown: str) -> None:
    got = parse_upstream(url)
    assert got == expected
    assert str(got) == shown


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("proxy:8080", "begins with http://"),
        ("proxy", "begins with http://"),
        ("ftp://proxy", "got ftp://"),
        ("socks4://proxy", "got socks4://"),
        ("http://", "names no host"),
        ("http://:80", "names no host"),
        ("http://proxy:0", "got 0"),
        ("http://proxy:99999", "cannot be read"),
        ("http://[::1", "cannot be read"),
        ("http://proxy/path", "nothing goes behind proxy"),
        ("http://proxy?x", "nothing goes behind proxy"),
        ("http://a%3Ab:hunter2@proxy", "no colon"),
        ("http://a:hunter2%0d%0a@proxy", "no control characters"),
        ("socks5://a:" + "hunter2" * 40 + "@proxy", "255 bytes"),
    ],
)
def test_a_wrong_url_is_told_without_its_password(url: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        parse_upstream(url)
    assert words in str(error.value)
    assert "hunter2" not in str(error.value)


def test_the_login_is_not_printed() -> None:
    assert "hunter2" not in repr(parse_upstream("http://a:hunter2@proxy"))
