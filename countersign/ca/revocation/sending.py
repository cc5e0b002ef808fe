"""How an answer goes out over a connection, and what can go wrong with that on order.

*A reset* is a close with SO_LINGER at nought; anything else would be a polite end. *A large CRL* is written to a file
without a name and sent from there, so that a hundred of them asked for at once cost a hundred buffers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import tempfile
import time
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from countersign.ca.revocation.crl import write_big_crl
from countersign.ca.revocation.faults import Fault, What

if TYPE_CHECKING:
    from aiohttp.web_request import BaseRequest

    from countersign.ca.revocation.replies import BigCrl, Reply

_PIECE = 1 << 16
_STALLED = 30.0  # seconds for a client to read a piece
_WIRE = (What.RESET, What.HANG, What.SLOW, What.DRIP, What.TRUNCATED)


@dataclass(slots=True)
class Sending:
    """One reply on its way, and what became of it."""

    request: BaseRequest
    reply: Reply
    response: web.StreamResponse | None = None
    sent: int = 0
    left: bool = False
    started: float = field(default_factory=time.monotonic)

    async def send(self, body: bytes | BigFile) -> None:
        """The whole of it, or what the first fault of the wire leaves of it."""
        fault = self._fault
        response = self.response = web.StreamResponse(status=self.reply.status)
        response.headers.update(self.reply.headers)
        response.headers["Server"] = "countersign"
        if self.reply.status not in {204, 304}:
            response.headers["Content-Type"] = self.reply.content_type
            response.content_length = len(body)
        if fault and fault.what is What.RESET:
            self._reset()
            return
        if fault and fault.what in {What.HANG, What.SLOW}:
            await asyncio.sleep(fault.seconds)
        if fault and fault.what is What.HANG:
            self._close()
            return
        await response.prepare(self.request)
        if self.request.method == "HEAD":
            await response.write_eof()
            return
        if fault and fault.what is What.DRIP:
            await self._drip(body, fault.seconds)
        elif fault and fault.what is What.TRUNCATED:
            await self._write(body, len(body) // 2)
            self._close()
            return
        else:
            await self._write(body, len(body))
        await response.write_eof()

    @property
    def _fault(self) -> Fault | None:
        """The first fault of the wire, which is the one that is done."""
        return next((fault for fault in self.reply.faults if fault.what in _WIRE), None)

    async def _write(self, body: bytes | BigFile, count: int) -> None:
        assert self.response is not None
        for start in range(0, count, _PIECE):
            piece = body[start : min(start + _PIECE, count)]
            try:
                async with asyncio.timeout(_STALLED):
                    await self.response.write(piece)
            except TimeoutError:
                self._reset()
                raise ConnectionResetError("nobody reads the answer") from None
            self.sent += len(piece)

    async def _drip(self, body: bytes | BigFile, seconds: float) -> None:
        assert self.response is not None
        for at in range(len(body)):
            await asyncio.sleep(seconds)
            await self.response.write(body[at : at + 1])
            self.sent += 1

    def _reset(self) -> None:
        if self.request.transport is not None:
            reset(self.request.transport)

    def _close(self) -> None:
        """Once what was written has gone out."""
        if self.request.transport is not None:
            self.request.transport.close()

    def in_words(self, said: str) -> str:
        """What was said, what was done to it on purpose, and whether anybody waited for the end."""
        match self._fault.what if self._fault else None:
            case What.RESET:
                said = "a reset"
            case What.HANG:
                said = "nothing"
            case What.TRUNCATED:
                said = f"the first {self.sent} bytes of: {said}"
        faults = f" [{', '.join(map(str, self.reply.faults))}]" if self.reply.faults else ""
        left = f"; the client left after {time.monotonic() - self.started:.1f} s and {self.sent} bytes"
        return f"{said}{faults}{left if self.left else ''}"


def reset(transport: asyncio.Transport) -> None:
    """Close with a RST: linger for no time at all."""
    there = transport.get_extra_info("socket")
    if there is not None:
        with contextlib.suppress(OSError):
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class BigFile:
    """A file without a name that is read at any place by anybody; it is gone when nobody reads it any more."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor, self._size = descriptor, size
        self.close = weakref.finalize(self, os.close, descriptor)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, wanted: slice) -> bytes:
        start, end, _ = wanted.indices(self._size)
        return os.pread(self._descriptor, end - start, start)


def write_big(big: BigCrl) -> BigFile:
    with tempfile.TemporaryFile() as file:
        size = write_big_crl(file, big.signer, big.fields, big.size, broken=big.broken)
        return BigFile(os.dup(file.fileno()), size)
