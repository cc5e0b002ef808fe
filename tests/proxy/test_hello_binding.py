"""Channel binding is named where the dialogue shows it, and what else is said is nobody's business."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from countersign.proxy import Address
from countersign.proxy.binding import ChannelBinding
from countersign.recorder.wire.events import Side
from tests.peers.postgres import PostgresServer, psql
from tests.proxy.running import RunningProxy

if TYPE_CHECKING:
    from tests.peers.certs import Lab

OFFER = b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
CHOICE = b"p\0\0\0\x50SCRAM-SHA-256-PLUS\0\0\0\0\x32p=tls-server-end-point,,n=,r=nonce"


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_what_is_offered_and_chosen_is_found_in_any_slicing(size: int) -> None:
    told: list[dict[str, Any]] = []
    binding = ChannelBinding(told.append)
    for side, said in ((Side.SERVER, OFFER), (Side.CLIENT, CHOICE)):
        watch = binding.watcher(side)
        assert all(watch(said[at : at + size]) for at in range(0, len(said), size))
        assert not watch(b"")
    last = told[-1]
    assert last["offered"] == ["SCRAM-SHA-256-PLUS"]
    assert (last["chosen"], last["kind"]) == ("SCRAM-SHA-256-PLUS", "tls-server-end-point")
    assert "pass through" in last["text"]
    assert "nonce" not in str(told)


def test_the_search_ends_after_eight_kilobytes() -> None:
    told: list[dict[str, Any]] = []
    watch = ChannelBinding(told.append).watcher(Side.SERVER)
    assert watch(bytes(8000))
    assert not watch(bytes(1000))
    assert not watch(OFFER)
    assert not told


@pytest.mark.parametrize(
    "request_line", [b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
)
def test_a_page_that_names_a_mechanism_is_no_login(request_line: bytes) -> None:
    told: list[dict[str, Any]] = []
    binding = ChannelBinding(told.append)
    assert not binding.watcher(Side.CLIENT)(request_line)
    assert not binding.watcher(Side.SERVER)(b"HTTP/1.1 200 OK\r\n\r\nUse SCRAM-SHA-256-PLUS.")
    assert not told


@pytest.mark.peer("psql")
def test_a_login_that_is_bound_to_the_channel_is_named_on_the_recording(lab: Lab) -> None:
    with PostgresServer(lab.server) as server:
        psql(server.address, "sslmode=require", "ALTER USER test PASSWORD 'secret'").check()
        path = psql(server.address, "sslmode=require", "SHOW hba_file").check().stdout.strip()
        Path(path).write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        psql(server.address, "sslmode=require", "SELECT pg_reload_conf()").check()
        roots = (lab.root.certificate.public_bytes(Encoding.DER),)
        with RunningProxy(target=server.address, roots=roots, starttls="postgres") as proxy:
            through = Address("127.0.0.1", proxy.port)
            bound = psql(through, "sslmode=require password=secret")
            assert "channel binding" in bound.stderr
            psql(through, "sslmode=require password=secret channel_binding=disable").check()
            first, second = [one.prelude["channel_binding"] for one in proxy.recordings(2)]
    assert (first["chosen"], first["kind"]) == ("SCRAM-SHA-256-PLUS", "tls-server-end-point")
    assert second["offered"] == ["SCRAM-SHA-256-PLUS"]
    assert "chosen" not in second
