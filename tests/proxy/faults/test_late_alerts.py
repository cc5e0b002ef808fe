"""A target that refuses when the client's handshake is done already: the client is told in the target's words."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings, strategies as st
from OpenSSL import SSL

from countersign.proxy import Address, Mtls
from countersign.proxy.faults import read_fault
from countersign.proxy.orders import Orders
from countersign.proxy.sealer import LateAlert
from countersign.recorder.recording import Party
from countersign.recorder.wire.events import Content, Message
from tests.peers.openssl import OpensslServer
from tests.proxy.faults.facing import CLIENTS, leg_of
from tests.proxy.running import RunningProxy
from tests.proxy.test_mtls import relaying, speak
from tests.recorder.tls_pairs import S, decode, pair

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.peers.certs import Lab

WORDS = {
    "curl": "alert certificate required",
    "openssl": "alert certificate required",
    "gnutls": "Certificate is required",
    "node": "alert certificate required",
    "python": "alert certificate required",
    "java": "Received fatal alert: certificate_required",
}


@contextmanager
def refusing(lab: Lab, **settings: Any) -> Iterator[RunningProxy]:
    """A target that insists on a certificate in TLS 1.3, and a proxy that shows it none."""
    roots = (lab.root.certificate.public_bytes(Encoding.DER),)
    with (
        OpensslServer(lab.server, mode="www", version="TLSv1.3", verify_ca=lab.root_pem) as server,
        RunningProxy(target=Address("127.0.0.1", server.port), roots=roots, mtls=Mtls.STRIP, **settings) as proxy,
    ):
        yield proxy


@pytest.mark.peer("openssl")
@pytest.mark.parametrize(
    "family", [pytest.param(family, marks=pytest.mark.peer(*needs)) for family, (needs, _) in CLIENTS.items()]
)
def test_each_client_hears_the_targets_late_alert(lab: Lab, tmp_path: Path, family: str) -> None:
    with refusing(lab) as proxy:
        (said,) = CLIENTS[family][1](proxy.port, proxy.root_file(tmp_path), 1)
        recording = proxy.recording()
    assert not said.ok
    assert WORDS[family] in said.text
    assert (recording.outcome.broken_by, recording.outcome.alert) == (Party.TARGET, "certificate_required")
    told = [one for one in leg_of(recording).messages if one.sender == "server"][-1]
    assert (told.content, told.code, told.encrypted) == (Content.ALERT, 116, True)


@pytest.mark.peer("openssl")
@pytest.mark.parametrize(
    "fault",
    [
        {"do": "record_padding"},
        {"do": "ticket_flood", "count": 3},
        {"do": "unsolicited_extension", "at": "encrypted_extensions"},
        {"do": "key_update_flood", "count": 2, "at": "new_session_ticket", "place": "after"},
    ],
    ids=lambda fault: str(fault["do"]),
)
def test_it_is_heard_behind_what_was_sealed_anew(lab: Lab, tmp_path: Path, fault: dict[str, object]) -> None:
    with refusing(lab, orders=Orders(faults=(read_fault(fault),))) as proxy:
        (said,) = CLIENTS["python"][1](proxy.port, proxy.root_file(tmp_path), 1)
        recording = proxy.recording()
    assert WORDS["python"] in said.text
    assert [entry["do"] for entry in leg_of(recording).faults] == [fault["do"]]


@pytest.mark.peer("openssl")
def test_a_client_whose_certificate_is_refused_hears_why(lab: Lab, tmp_path: Path) -> None:
    """R14 in TLS 1.3, where the client is done before its certificate is judged."""
    wrong = lab.issue(common_name="wrong", usages=("server",))
    with relaying(lab, tmp_path, version="TLSv1.3") as (_, proxy):
        said = speak(proxy, wrong, tmp_path)
        recording = proxy.recording()
    assert "unsupported certificate" in said
    assert (recording.outcome.broken_by, recording.outcome.alert) == (Party.TARGET, "unsupported_certificate")


@settings(max_examples=30)
@given(cut=st.integers(1, 5000), words=st.integers(0, 5), tickets=st.booleans())
def test_its_place_is_counted_however_the_records_before_it_are_sliced(cut: int, words: int, tickets: bool) -> None:  # noqa: FBT001
    """The client's own OpenSSL opens it."""
    talk = pair(tickets=tickets)
    talk.run()
    for _ in range(words):
        talk.say(talk.server, b"y" * 3000)
    late = LateAlert()
    sent = [data for sender, data in talk.log if sender is S]
    for secret in talk.keylog:
        late.hear(secret.line.encode())
    assert late.sent(sent[0])  # with the Finished
    rest = b"".join(sent[1:])
    for at in range(0, len(rest), cut):
        assert late.sent(rest[at : at + cut])
    suite = 0x1302
    record = late.seal(suite, 116)
    assert record is not None
    talk.inject(S, record)
    assert isinstance(talk.client.errors[-1], SSL.Error)
    assert "certificate required" in str(talk.client.errors[-1])
    last = [event for event in decode(talk.log, keylog=talk.keylog) if isinstance(event, Message)]
    assert (116, True) in [(event.code, event.encrypted) for event in last if event.sender is S]


def test_nobody_counts_behind_a_megabyte() -> None:
    late = LateAlert()
    late.hear(b"SERVER_TRAFFIC_SECRET_0 " + b"00" * 32 + b" " + b"11" * 48)
    assert late.sent(b"the flight with the Finished")
    record = b"\x17\3\3\x40\0" + bytes(16384)
    assert not all(late.sent(record) for _ in range(100))


def test_there_is_none_in_the_middle_of_a_record() -> None:
    late = LateAlert()
    assert late.seal(0x1302, 40) is None
    late.hear(b"SERVER_TRAFFIC_SECRET_0 " + b"00" * 32 + b" " + b"11" * 48)
    late.sent(b"the flight with the Finished")
    assert late.seal(0x1302, 40) is not None
    late.sent(b"\x17\3\3\0\5ab")
    assert late.seal(0x1302, 40) is None
    late.sent(b"cde")
    assert late.seal(0x1302, 40) is not None
    assert late.seal(0xC02F, 40) is None
