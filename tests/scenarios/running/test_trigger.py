"""Daemons: what their answers say, and when they are at rest."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import h11
import pytest

from countersign.recorder.recording import Status
from countersign.scenarios.running.trigger import Answered, Trigger, _Answer, _without_secrets, parse_headers
from countersign.scenarios.running.watch import Watch
from tests.scenarios.running.made import session

if TYPE_CHECKING:
    from countersign.recorder.recording import Recording

FOR_EVER = 3600.0


def answered(status: int | None, *, tells: bool = True, timed_out: bool = False, output: str = "") -> Answered:
    words = ("trigger", "GET", "http://daemon.test/go")
    return Answered(argv=words, status=status, timed_out=timed_out, output=output, seconds=1.0, tells=tells)


# -- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204, 302, 404, 502])
def test_a_status_of_2xx_says_that_all_went_well(status: int) -> None:
    well = status in {200, 204}
    assert answered(status).well is well
    assert [answered(status).supposing(well=each).well for each in (True, False)] == [well, well]


def test_an_answer_that_came_too_early_may_mean_either() -> None:
    assert [answered(202, tells=False).supposing(well=each).well for each in (True, False)] == [True, False]


def test_what_is_quoted_is_the_status_where_it_is_bad_and_the_lines_that_complain() -> None:
    assert answered(200, output="all is fine\nindeed").said[0].line == "all is fine"
    bad = answered(500, output="hello\njavax.net.ssl.SSLException: PKIX path building failed\nbye")
    assert [each.line for each in bad.said] == [
        "500 Internal Server Error", "javax.net.ssl.SSLException: PKIX path building failed",
    ]  # fmt: skip
    assert answered(None, timed_out=True).said == ()
    assert answered(None, timed_out=True).hung == "it had not answered the trigger after 1 s"
    assert "a session of its had come to nothing after 1 s" in answered(200, timed_out=True).hung


def test_what_an_answer_echoes_of_the_headers_is_left_out() -> None:
    headers = parse_headers(b"Authorization: Bearer abcdef123\nX-Two: one tw0secret\n# no\n", name="f")
    trigger = Trigger(url="http://daemon.test/", headers=headers)
    text = _without_secrets("got Bearer abcdef123, and abcdef123, tw0secret one", trigger)
    assert text == "got ***, and ***, *** one"
    assert "abcdef" not in repr(trigger)


def test_what_an_answer_echoes_of_query_and_body_is_left_out() -> None:
    body = '{"token": "b0dysecret==", "n": 1}'
    trigger = Trigger(url="http://daemon.test/go?key=a%20b%2Fquerysecret&u={url}", method="POST", body=body)
    told = _without_secrets('no {"token": "b0dysecret=="} of b/querysecret, a%20b%2Fquerysecret at /go', trigger)
    assert told == 'no {"token": "***=="} of ***, *** at /go'


def test_a_short_secret_is_left_out_where_it_stands_alone() -> None:
    trigger = Trigger(
        url="http://daemon.test/go?pin=4711&x=1", method="POST", body='{"key": "s3c"}', headers=(("X-Key", "abcd"),)
    )
    told = _without_secrets("no pin=4711, key 's3c' or abcd; job 47110 of s3cret-keeper has 1 key", trigger)
    assert told == "no pin=***, key '***' or ***; job 47110 of s3cret-keeper has 1 key"


def test_a_query_is_not_shown() -> None:
    assert Trigger(url="https://daemon.test:8443/go?token=1234567").words[2] == "https://daemon.test:8443/go"


# -- HTTP ------------------------------------------------------------------------------------------------------------

GOOD = (
    b"HTTP/1.1 103 Early Hints\r\n\r\n"
    b"HTTP/1.1 502 Oh\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbad\r\n5\r\n luck\r\n0\r\n\r\n"
)


def asked(trigger: Trigger, body: bytes = b"") -> tuple[_Answer, bytes]:
    answer = _Answer()
    return answer, answer.request(trigger, urlsplit(trigger.url), body)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_answer_is_read_however_it_comes(size: int) -> None:
    answer, _ = asked(Trigger(url="http://daemon.test/"))
    pieces = [GOOD[at : at + size] for at in range(0, len(GOOD), size)]
    assert [answer.take(piece) for piece in pieces] == [*[False] * (len(pieces) - 1), True]
    assert (answer.status, bytes(answer.body)) == (502, b"bad luck")


def test_an_answer_without_end_is_not_heard_out() -> None:
    answer, _ = asked(Trigger(url="http://daemon.test/"))
    answer.take(b"HTTP/1.1 200 OK\r\n\r\n")
    pieces = 0
    while not answer.take(b"x" * 10_000):
        pieces += 1
    assert (pieces, len(answer.body)) == (6, 64 * 1024)


def test_the_request_says_what_was_told_and_nothing_twice() -> None:
    headers = (("host", "other.test"), ("X-Y", "ü"))
    posted = Trigger(url="http://daemon.test:81?a=b", method="POST", headers=headers, body="{}")
    _, data = asked(posted, b"{}")
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /?a=b HTTP/1.1"
    assert body == b"{}"
    assert sorted(line.partition(b":")[0].lower() for line in lines[1:]) == [
        b"accept", b"connection", b"content-length", b"host", b"user-agent", b"x-y",
    ]  # fmt: skip
    assert "X-Y: ü".encode() in lines


def test_what_is_no_http_raises_what_the_caller_knows() -> None:
    answer, _ = asked(Trigger(url="http://daemon.test/"))
    with pytest.raises(h11.RemoteProtocolError):
        answer.take(b"SSH-2.0-x\r\n\r\n")


# -- at rest ---------------------------------------------------------------------------------------------------------


class Sessions:
    """So many are open."""

    def __init__(self, *recordings: Recording) -> None:
        self.watch, self.open = Watch(), 0
        for each in recordings:
            self.watch.submit(each)
            self.open += each.ended is None

    async def rest(self, **how: float | None) -> bool:
        loop = asyncio.get_running_loop()
        until = loop.time() + (how.pop("limit", None) or FOR_EVER)
        beyond = how.pop("beyond", None)
        return await self.watch.rest(
            lambda: self.open, quiet=0.1, until=until, beyond=None if beyond is None else int(beyond)
        )


def still_open(made: Recording) -> Recording:
    return replace(made, ended=None)


async def test_with_nobody_there_it_is_at_rest_unless_somebody_is_awaited() -> None:
    assert await Sessions().rest()
    assert await Sessions().rest(beyond=0, limit=0.3), "nobody came, and nobody is stuck"
    sessions = Sessions()
    waiting = asyncio.ensure_future(sessions.rest(beyond=0))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    sessions.watch.submit(session(Status.ESTABLISHED, sent=10))
    assert await waiting


async def test_a_session_that_tells_nothing_is_waited_for_and_is_stuck_at_the_end() -> None:
    silent = still_open(session(Status.OPEN))
    assert not await Sessions(silent).rest(limit=0.3)
    sending = still_open(session(Status.OPEN, sent=10))
    assert await Sessions(sending).rest(limit=0.3), "in the end what it has sent tells"
    sessions = Sessions(silent)
    waiting = asyncio.ensure_future(sessions.rest())
    await asyncio.sleep(0.3)
    assert not waiting.done()
    sessions.watch.submit(replace(silent, ended=silent.started))
    sessions.open = 0
    assert await waiting
