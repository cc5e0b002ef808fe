"""What our own hello offers the target."""

from __future__ import annotations

from dataclasses import replace

from countersign.proxy.server_leg import server_offer
from countersign.recorder.wire.reading import summarize_client_hello
from tests.proxy.wire import client_hello


def test_a_client_with_many_key_shares_is_followed_with_the_four_that_openssl_takes() -> None:
    groups = (0x11EC, 0x001D, 0x0017, 0x0018, 0x0019)
    summary = replace(summarize_client_hello(client_hello()), groups=groups, key_share_groups=groups)
    offered = server_offer(summary).groups.split(":")
    assert len(offered) == 5
    assert [name.count("*") for name in offered] == [1, 1, 1, 1, 0]
