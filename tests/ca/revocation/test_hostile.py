"""Whoever asks is held for hostile: bounded memory and time, the right error, nothing of it in a log or an answer."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countersign.ca.revocation import Limits, Verdict, ask
from countersign.ca.revocation.ocsp import CertId, Request, Status, read_response
from tests.ca.revocation.lab import answered, path_of, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.ca.revocation.lab import Chain

LIMITS = Limits(request_seconds=0.5, idle_seconds=0.5, connections=20)


@pytest.fixture(autouse=True)
def _no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """What strangers send is no news: nothing is logged for it, and no exception is."""
    caplog.set_level(logging.DEBUG, "countersign")


@pytest.fixture
async def chain(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Chain]:
    async with answered(tmp_path / "f", limits=LIMITS) as chain:
        yield chain
        assert (await ask(chain.ocsp, chain.leaf, chain.issuer)).verdict is Verdict.GOOD  # it lives
        assert [record for record in caplog.records if record.name.startswith(("countersign", "aiohttp"))] == []


def port_of(chain: Chain) -> int:
    return int(chain.responder.addresses[0].rpartition(":")[2])


async def raw(chain: Chain, data: bytes, *, end: bool = False) -> bytes:
    """What comes back for these bytes until the connection closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(chain))
    received = b""
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
            if end:
                writer.write_eof()
        with contextlib.suppress(ConnectionError):
            while piece := await asyncio.wait_for(reader.read(1 << 16), 10):
                received += piece
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return received


async def posted(chain: Chain, body: bytes) -> bytes:
    head = b"POST /ocsp HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    return await raw(chain, head + body)


def body_of(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


def anonymous() -> int:
    """KiB of memory of our own."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


GARBAGE = {
    "nothing": b"",
    "one byte": b"\x30",
    "text": b"give me the status",
    "zeroes": bytes(1000),
    "ones": b"\xff" * 1000,
    "a huge length": b"\x30\x88" + b"\x7f" * 8,
    "an indefinite length": b"\x30\x80\x30\x80\x30\x80",
    "deep nesting": b"\x30\x82\xff\xf0" * 10_000,
    "a long tag": b"\x1f" + b"\xff" * 1000,
    "a certificate": base64.b64decode("MIIB"),
    "a million empty requests": b"\x30\x83\x00\xff\xf8\x30\x83\x00\xff\xf3\x30\x83\x00\xff\xee" + b"\x30\x00" * 32_759,
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
async def test_der_that_is_no_request_is_malformed(chain: Chain, data: bytes) -> None:
    assert read_response(body_of(await posted(chain, data))) is Status.MALFORMED_REQUEST


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/",
        b"//////",
        b"/%",
        b"/%zz",
        b"/%00%00",
        b"/..%2f..%2fetc%2fpasswd",
        b"/" + b"A" * 65_536,
        b"/" + b"%41" * 20_000,
        b"/" + base64.b64encode(base64.b64encode(base64.b64encode(bytes(10_000)))),
        b"/MEow\x80\xff",
        b"/====",
        b"/" + b"/" * 1000,
    ],
    ids=range(13),
)
async def test_a_path_that_is_no_request_is_malformed(chain: Chain, path: bytes) -> None:
    where = path_of(chain.ocsp) + path
    response = await raw(chain, b"GET " + where + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    if response.startswith(b"HTTP/1.0 400"):  # bytes that no path may hold: HTTP's own error
        assert b"400: no HTTP request" in response
        return
    assert read_response(body_of(response)) is Status.MALFORMED_REQUEST


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x1b]52;c;ZXZpbA==\x07 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /ocsp HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /ocsp HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n0",
        b"POST /ocsp HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=range(11),
)
async def test_what_is_no_http_is_a_400_and_nothing_of_it_comes_back(chain: Chain, data: bytes) -> None:
    response = await raw(chain, data, end=True)
    assert response == b"" or response.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400")), response[:200]
    assert b"\x1b" not in response
    assert b"ZXZpbA" not in response


async def test_chunks_that_are_none_are_malformed_or_400(chain: Chain) -> None:
    head = b"POST /ocsp HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    for chunks in (b"zz\r\n", b"5\r\nab\r\n", b"ffffffffffffffff\r\n", b"1;" + b"x" * 10_000 + b"\r\na\r\n"):
        response = await raw(chain, head + chunks, end=True)
        assert b" 200 " not in response or read_response(body_of(response)) is Status.MALFORMED_REQUEST


async def test_a_huge_post_is_refused_without_being_kept(chain: Chain) -> None:
    before = anonymous()
    started = time.monotonic()

    async def flood(head: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(chain))
        writer.write(head)
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(10):
                for _ in range(1000):  # 64 MB, if anybody takes them
                    writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
                    await writer.drain()
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = await reader.read(1000)
        writer.close()
        return answer

    heads = [b"Transfer-Encoding: chunked", b"Content-Length: 1073741824"] * 2
    answers = await asyncio.gather(
        *(flood(b"POST /ocsp HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n") for head in heads)
    )
    assert anonymous() - before < 16 << 10
    assert time.monotonic() - started < 20
    for answer in answers:
        assert answer == b"" or read_response(body_of(answer)) is Status.MALFORMED_REQUEST
    told = [asked.answer for asked in chain.responder.asked]
    assert "malformedRequest: a body of 1073741824 bytes" in told
    assert "malformedRequest: a body of more than 65536 bytes" in told


@pytest.mark.parametrize(
    ("begin", "drop", "expected"),
    [
        (b"", b"G", b""),
        (b"GET /ocsp HTTP/1.1\r\nX: ", b"y", b""),
        (b"POST /ocsp HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", b"\x30", b"HTTP/1.1 408"),
        (b"GET ROOT.CRL HTTP/1.1\r\nHost: a\r\n\r\n", b"", b"HTTP/1.1 200"),
    ],
    ids=["line", "header", "body", "idle"],
)
async def test_a_slow_client_is_dropped_at_its_time(chain: Chain, begin: bytes, drop: bytes, expected: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(chain))
    writer.write(begin.replace(b"ROOT.CRL", path_of(chain.crl(label="root"))))

    async def drip() -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(drop)
                await writer.drain()
                await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    received = b""
    try:
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(8):
                while piece := await reader.read(1 << 16):
                    received += piece
    finally:
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        writer.close()
    assert received.startswith(expected)


async def test_more_connections_than_allowed_are_reset_and_the_rest_is_served(tmp_path: Path) -> None:
    limits = Limits(idle_seconds=20, connections=20)
    async with answered(tmp_path / "f", limits=limits) as chain:
        held = [await asyncio.open_connection("127.0.0.1", port_of(chain)) for _ in range(60)]
        await asyncio.sleep(0.2)
        server = chain.responder._server
        assert server is not None
        assert len(server.connections) == 20
        served, path = 0, path_of(chain.crl(label="root"))
        for reader, writer in held:
            with contextlib.suppress(ConnectionError):
                writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                served += (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()
        assert served == 20
        await until(lambda: not server.connections)
        assert (await ask(chain.ocsp, chain.leaf, chain.issuer)).verdict is Verdict.GOOD


async def test_a_flood_of_questions_leaves_memory_as_it_was(tmp_path: Path, scaled: Callable[[int], int]) -> None:
    async with answered(tmp_path / "f") as chain:
        request = Request((CertId.of(chain.leaf, chain.issuer),), b"n" * 32).encoded
        message = b"POST /ocsp HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(request) + request

        async def many(count: int) -> None:
            """All of them down one connection before any answer is read."""
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(chain))
            writer.write(message * count)
            writer.write(message.replace(b"Host: a", b"Host: a\r\nConnection: close"))
            received = 0
            while piece := await reader.read(1 << 16):
                received += piece.count(b"HTTP/1.1 200")
            assert received >= count * 0.9  # a head may lie across two reads
            writer.close()

        await many(50)
        before = anonymous()
        await asyncio.gather(*(many(scaled(2000)) for _ in range(10)))
        assert anonymous() - before < 32 << 10
        assert len(chain.responder.asked) <= 1000


async def test_names_in_a_question_are_escaped_wherever_they_are_told(chain: Chain) -> None:
    evil = b"/\\u202e%1b[31m" + "\u00e9\u202e".encode() + b"?<script>"
    await raw(chain, b"GET " + evil + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    await raw(chain, b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    await raw(chain, b"EVIL /ocsp HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert chain.responder.asked[-2].url.endswith("a... (9801 more)")
    for asked in chain.responder.asked:
        for text in (asked.url, asked.answer, asked.method, asked.client):
            assert text.isascii()
            assert text.isprintable()
            assert len(text) < 500


async def test_a_client_that_does_not_read_costs_a_buffer(tmp_path: Path) -> None:
    async with answered(tmp_path / "f", "crl:big=64M") as chain:
        before = anonymous()
        held = []
        for _ in range(8):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(chain))
            writer.write(b"GET " + path_of(chain.crl(label="root")) + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            held.append((reader, writer))
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(0.3)
        assert anonymous() - before < 24 << 10
        for _, writer in held:
            writer.close()


async def test_no_descriptor_is_left_of_a_large_crl(tmp_path: Path) -> None:
    size = 0

    def open_files() -> int:
        """Descriptors of ours of files without a name that are as large as the CRL."""
        return sum(_is_nameless(path, size) for path in Path("/proc/self/fd").iterdir())

    async with answered(tmp_path / "f", "crl:big=123K") as chain:
        request = b"GET " + path_of(chain.crl(label="root")) + b" HTTP/1.0\r\n\r\n"
        answers = await asyncio.gather(*(raw(chain, request) for _ in range(20)))
        (size,) = {len(body_of(answer)) for answer in answers}
        assert open_files() == 1  # one file serves all
    assert open_files() == 0


def _is_nameless(path: Path, size: int) -> bool:
    try:
        found = path.stat()
    except OSError:  # it is the one that the directory was read through
        return False
    return (found.st_size, found.st_nlink) == (size, 0)
