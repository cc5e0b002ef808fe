"""R12: the stand-in instance behind its load balancer."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from countersign.ca.pem import to_pem
from countersign.errors import UserError
from countersign.findings.probing.instance import look_at_instance
from countersign.lab.balancer import Balancer, answered
from countersign.lab.instance import Inbound, InstancePlan, Policy, SupportsTls
from countersign.lab.target import HOST
from countersign.proxy import Address
from tests.lab.instance_lab import ask, client, files, instance, pki, self_signed
from tests.peers.process import run

if TYPE_CHECKING:
    from pathlib import Path

INFO, SYNC, POLICY = "/InstanceInfo.do?SOAP", "/MIDFileSyncSnapshot.do?SOAP", "/mid_cert_check_policy.do?SOAP"
REFUSED = (ssl.SSLError, ConnectionError)


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("path", [INFO, SYNC, POLICY])
async def test_a_known_client_certificate_opens_the_soap_paths(path: str, tmp_path: Path) -> None:
    async with instance(inbound=Inbound.ON) as made:
        answer = await ask(made, path, files(tmp_path, pki().client))
        assert (answer.status, answer.headers["Server"]) == (200, "snow_adc")
        assert "Envelope" in answer.body
        assert made.requests[-1] == (path.partition("?")[0], 200, "mid.server")


@pytest.mark.parametrize(
    ("inbound", "said", "status", "body"),
    [
        (Inbound.ON, None, 200, "true"),
        (Inbound.OPTIONAL, None, 200, "mixed"),
        (Inbound.OFF, None, 404, "Page not found"),
        (Inbound.OPTIONAL, SupportsTls.REDIRECT, 302, ""),
        (Inbound.OPTIONAL, SupportsTls.TRUE, 200, "true"),
    ],
)
async def test_supports_tls_answers_as_the_article_says(
    inbound: Inbound, said: SupportsTls | None, status: int, body: str, tmp_path: Path
) -> None:
    async with instance(inbound=inbound, supports_tls=said) as made:
        answer = await ask(made, "/adcv2/supports_tls", files(tmp_path, pki().client), method="GET")
    assert (answer.status, answer.body) == (status, body)


async def test_the_probe_recognises_it_as_an_instance_behind_adcv2() -> None:
    from countersign.findings.probing import Plan

    async with instance() as made, instance(adcv2=False, inbound=Inbound.OFF) as other:
        looks = [
            await asyncio.to_thread(look_at_instance, Plan(host="127.0.0.1", port=each.port, name=HOST))
            for each in (made, other)
        ]
    assert [(look.adcv2, look.mutual) for look in looks] == [(True, True), (False, False)]


async def test_the_instance_sees_the_certificate_that_the_client_proved_and_no_other(tmp_path: Path) -> None:
    claimed = quote(to_pem(pki().client.chain[0]))
    async with instance() as made:
        proved = await ask(made, "/", files(tmp_path, pki().client), method="GET")
        forged = await ask(made, "/", method="GET", X_Client_Cert=claimed)
        refused = await ask(made, INFO, X_Client_Cert=claimed)
    assert "CN=mid.lab.test" in proved.body
    assert "X-Client-Cert: none" in forged.body
    assert refused.status == 401


async def test_who_shows_nothing_is_user_null_or_authenticates_by_password() -> None:
    async with instance(users={"mid": "secret"}) as made:
        nobody = await ask(made, INFO)
        wrong = await ask(made, INFO, Authorization=basic("mid", "wrong"))
        right = await ask(made, INFO, Authorization=basic("mid", "secret"))
        broken = await ask(made, INFO, Authorization="Basic ===")
    assert [each.status for each in (nobody, wrong, right, broken)] == [401, 401, 200, 401]
    assert "Could not authenticate user 'null' on the ServiceNow instance" in nobody.body
    assert "Could not authenticate user 'mid'" in wrong.body


async def test_self_signed_and_revoked_certificates_are_answered_with_403(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    async with instance(inbound=Inbound.ON) as made:
        made.revoke(pki().client.chain[0])
        answers = [
            await ask(made, INFO, files(own, self_signed())),
            await ask(made, INFO, files(tmp_path, pki().client)),
        ]
    assert [each.status for each in answers] == [403, 403]
    assert "Self-signed" in answers[0].body
    assert "revoked" in answers[1].body


async def test_a_certificate_of_a_known_ca_that_nobody_attached_is_user_null(tmp_path: Path) -> None:
    async with instance() as made:
        answer = await ask(made, INFO, files(tmp_path, client()))
    assert answer.status == 401
    assert "user 'null'" in answer.body


async def test_a_certificate_for_servers_and_none_at_all_are_refused_in_the_handshake(tmp_path: Path) -> None:
    async with instance(inbound=Inbound.ON) as made:
        with pytest.raises(REFUSED):
            await ask(made, INFO, files(tmp_path, client("server")))
        with pytest.raises(REFUSED):
            await ask(made, INFO)
        assert made.requests == []
        assert len(made.refused) == 2
        assert "purpose" in made.refused[0]


async def test_ca_records_exist_some_time_after_their_upload(tmp_path: Path) -> None:
    moment = [100.0]
    made = instance(publishing=300)
    made._now = lambda: moment[0]
    for record in made.ca_records:
        record.uploaded = 100.0
    shown = files(tmp_path, pki().client)
    async with made:
        with pytest.raises(REFUSED):
            await ask(made, INFO, shown)
        before = json.loads((await ask(made, "/lab/state", method="GET")).body)
        moment[0] = 400.0
        assert (await ask(made, INFO, shown)).status == 200
        after = json.loads((await ask(made, "/lab/state", method="GET")).body)
        made.ca_records[0].active = False  # the intermediate: the chain that the client sends still has it
        made.ca_records[1].active = False
        with pytest.raises(REFUSED):
            await ask(made, INFO, shown)
    assert {each["publish_status"] for each in before["sys_ca_certificate"]} == {"Pending"}
    assert {each["publish_status"] for each in after["sys_ca_certificate"]} == {"Exists"}


@pytest.mark.peer("openssl")
async def test_the_request_for_a_certificate_names_the_published_cas_alone() -> None:
    async def names(made: object) -> str:
        port = made.port  # type: ignore[attr-defined]
        done = await asyncio.to_thread(run, "openssl", "s_client", "-connect", f"127.0.0.1:{port}", timeout=30)
        return done.stdout

    async with instance() as made, instance(publishing=300) as pending, instance(inbound=Inbound.OFF) as off:
        shown = await names(made)
        assert "Acceptable client certificate CA names" in shown
        assert shown.count("Lab Client Trust") >= 2
        for other in (pending, off):
            assert "No client certificate CA names sent" in await names(other)


async def test_the_policy_is_served_as_it_was_set() -> None:
    async with instance(users={"mid": "x"}, policy=Policy.without("revocation")) as made:
        answer = await ask(made, POLICY, Authorization=basic("mid", "x"))
    assert "<check_cert_chain>true</check_cert_chain>" in answer.body
    assert "<check_cert_revocation>false</check_cert_revocation>" in answer.body


async def test_what_is_no_http_or_no_tls_costs_nobody_else_anything(tmp_path: Path) -> None:
    async with instance() as made:
        for data in (b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x40\x00" + b"\xff" * 300, b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
            writer.write(data)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 10)
            writer.close()
        bad = await ask(made, "/\x01 nonsense", method="GET")
        assert bad.status == 400
        assert (await ask(made, "/nowhere", method="GET")).status == 404
        assert (await ask(made, INFO, files(tmp_path, pki().client))).status == 200


class Slow(asyncio.Protocol):
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.heard: list[bytes] = []
        self.news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)
        self.news.set()

    async def next(self) -> bytes:
        async with asyncio.timeout(30):
            while not self.heard:
                self.news.clear()
                await self.news.wait()
        assert len(self.heard) == 1
        return self.heard.pop()


async def test_a_request_is_handed_on_when_the_one_before_has_been_answered() -> None:
    protocol = Slow()
    requests = [b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(100)]
    requests[50] = b"POST /50 HTTP/1.1\r\nHost: x\r\nContent-Length: 19\r\n\r\nGET / HTTP/1.1\r\n\r\n\n"
    requests[51] = b"POST /51 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    async with Balancer(Address("127.0.0.1", 0), pki().server, lambda: None, lambda: protocol) as made:
        context = ssl.create_default_context(cadata=pki().public.root_pem.decode("ascii"))
        _, writer = await asyncio.open_connection("127.0.0.1", made.ports[0], ssl=context, server_hostname=HOST)
        writer.write(b"".join(requests))
        for request in requests:
            assert await protocol.next() == request
            answered(protocol.transport)
        assert protocol.transport.get_extra_info("peername") == ("127.0.0.1", 0)
        writer.close()


async def test_many_requests_at_once_are_answered_in_their_order() -> None:
    context = ssl.create_default_context(cadata=pki().public.root_pem.decode("ascii"))
    async with instance(users={"mid": "x"}) as made:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port, ssl=context, server_hostname=HOST)
        post = f"POST {INFO} HTTP/1.1\r\nHost: x\r\nAuthorization: {basic('mid', 'x')}\r\nContent-Length: 3\r\n\r\nabc"
        last = "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        writer.write(("GET / HTTP/1.1\r\nHost: x\r\n\r\n" + post).encode() * 200 + last.encode())
        answers = (await asyncio.wait_for(reader.read(-1), 60)).decode()
        writer.close()
    assert re.findall(r"HTTP/1\.1 (\d+)", answers) == ["200"] * 400 + ["404"]


async def test_a_ca_record_that_is_no_certificate_ends_handshakes_and_is_told(tmp_path: Path) -> None:
    async with instance() as made:
        made.upload_ca(b"no certificate")
        with pytest.raises(REFUSED):
            await ask(made, INFO, files(tmp_path, pki().client))
        assert len(made.refused) == 1
        made.ca_records.pop()
        assert (await ask(made, INFO, files(tmp_path, pki().client))).status == 200


def test_a_policy_with_a_check_that_is_none_and_a_negative_time_are_said() -> None:
    with pytest.raises(UserError, match="expected chain, hostname, revocation"):
        Policy.without("names")
    with pytest.raises(UserError, match="expected 0 or more"):
        InstancePlan(publishing=-1)
