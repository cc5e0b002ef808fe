"""The embedded target: how it ends a connection on which nothing more is asked, and when."""

from __future__ import annotations

import asyncio
import socket

from countersign.ca.pem import to_pem
from countersign.lab.target import EmbeddedTarget, Pki
from countersign.proxy import Address
from countersign.scenarios.running.stage import LONG_KEPT, Props, Stand
from tests.proxy.ordered import trusting
from tests.proxy.running import AUTHORITY

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def all_that_is_said(port: int, root: bytes) -> bytes:
    """To two requests at once, up to an end in good order; another end is an error here."""
    context = trusting(to_pem(root))
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as raw,
        context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as tls,
    ):
        tls.sendall(GET * 2)
        said = b""
        while piece := tls.recv(65536):
            said += piece
        return said


async def test_a_target_that_is_asked_no_more_ends_in_good_order() -> None:
    """So a client goes that waits for that: one that leaves its response unread."""
    pki = Pki.make("localhost")
    async with EmbeddedTarget(pki, kept=0.1) as target:
        said = await asyncio.to_thread(all_that_is_said, target.plain_port, pki.public.root.der)
    assert said.count(b"HTTP/1.1 200") == 2


def test_programs_that_are_run_are_not_kept_waiting_and_those_that_stay_are() -> None:
    stays = Stand(listen=Address("127.0.0.1", 0), authority=AUTHORITY, clients=AUTHORITY)
    assert Props().kept < LONG_KEPT == Props(stand=stays).kept
