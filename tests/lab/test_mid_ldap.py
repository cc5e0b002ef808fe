"""R5: an LDAP probe of a MID Server at OpenLDAP's server, through the proxy, by LDAPS and by StartTLS."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from countersign.ca.recipes import catalogue
from countersign.proxy.orders import NOTHING_ORDERED, ChainOrders, Orders
from countersign.recorder.recording import LegRole, Party, Status
from tests.lab.mid import mids, trust_store
from tests.proxy.ordered import Scripted
from tests.proxy.running import AUTHORITY, RunningProxy
from tests.proxy.test_upgrading import Slapd

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.certs import Lab

HOST = "server.lab.test"
ANONYMOUS = ("--set", "ldap.user=", "--set", "ldap.password=")
NO_ISSUER = "No issuer certificate for certificate in certification path found."


@pytest.mark.peer("slapd", "java", "javac", "bcprov", "bctls")
async def test_an_ldap_probe_breaks_on_a_chain_without_its_intermediate_however_tls_begins(
    lab: Lab, tmp_path: Path
) -> None:
    leaf_only = Orders(chain=ChainOrders(recipe=catalogue()["sent-leaf-only"]))
    trust = ("--truststore", trust_store(tmp_path, AUTHORITY.root.der))
    with Slapd(lab) as server, ExitStack() as opened:
        proxies, clients = [], []
        for orders in (NOTHING_ORDERED, leaf_only):
            for starttls in (None, "ldap"):
                proxy = RunningProxy(
                    target=server.secured if starttls is None else server.plain,
                    roots=(lab.root.certificate.public_bytes(Encoding.DER),),
                    starttls=starttls,
                    director=Scripted([orders]),
                )
                opened.enter_context(proxy)
                proxies.append(proxy)
                upgrade = () if starttls is None else ("--start-tls",)
                where = ("--ldap", f"{HOST}:{proxy.port}")
                clients.append((*where, *upgrade, *trust, *ANONYMOUS, "--provider", "bc"))
        said = await mids(*clients, folder=tmp_path, hosts=(HOST,))
        recordings = [proxy.recording() for proxy in proxies]
    assert [each.code for each in said] == [0, 0, 1, 1], said
    assert [each.outcome.status for each in recordings[:2]] == [Status.ESTABLISHED] * 2
    for each, recording in zip(said[2:], recordings[2:], strict=True):
        assert NO_ISSUER in each.log
        assert each.kinds == {"untrusted-bc-no-issuer"}
        assert (recording.outcome.broken_by, recording.outcome.leg) == (Party.CLIENT, LegRole.CLIENT)
    assert "(StartTLS)" in str(recordings[3].prelude["dialogue"])
