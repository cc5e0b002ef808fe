"""Every fault is on the wire: tshark, between the proxy and its peer, sees what the recording tells of it."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from countersign.proxy import Address
from countersign.proxy.faults import FAULTS, read_fault
from countersign.proxy.orders import Orders
from countersign.recorder.recording import Status
from countersign.recorder.wire.messages import message_type
from tests.peers.openssl import OpensslServer
from tests.peers.relay import Relay
from tests.peers.tshark import tshark_handshakes
from tests.proxy.faults.facing import OneAfterAnother, by_python, case, leg_of
from tests.proxy.faults.test_clients_meet_faults import MET
from tests.proxy.running import RunningProxy

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.recorder.recording import Recording
    from tests.peers.certs import Lab
    from tests.peers.tshark import Seen

OTHERWISE = {
    "no ChangeCipherSpec": "what comes instead cannot be read as messages",
    "ChangeCipherSpec too early": "tshark reads on in clear, where a client takes what comes for encrypted",
}
"""Where tshark goes astray behind the fault, and why."""


@pytest.mark.peer("tshark")
def test_tshark_sees_what_the_recording_tells(tmp_path: Path) -> None:
    capture, keylog = tmp_path / "wire.pcap", tmp_path / "client.keys"
    director = OneAfterAnother([met.case.orders() for met in MET.values()])
    with RunningProxy(director=director) as proxy, Relay(proxy.address, pcap=capture) as relay:
        by_python(relay.port, proxy.root_file(tmp_path), len(MET), keylog=keylog)
        recordings = proxy.recordings(len(MET))
    seen = tshark_handshakes(capture, keylog, decode_as={relay.port: "tls"})
    wrong = {}
    for stream, (name, recording) in enumerate(zip(MET, recordings, strict=True)):
        fault = read_fault(MET[name].case.fault)
        proof = FAULTS[fault.do].proof(recording, fault)
        theirs, ours = by_tshark(seen, stream), by_recording(recording)
        common = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(theirs, ours, strict=False)))
        if recording.outcome.status is Status.ESTABLISHED:
            whole = theirs == ours
        else:  # a client that refuses is gone before all has passed, and may have no keys that open the rest
            whole = common >= shown_by(recording) and (common == len(theirs) or name in OTHERWISE)
        if proof is not None or not whole:
            wrong[name] = (proof, theirs, ours)
    assert not wrong


TO_THE_TARGET = {
    "TLSv1.3": {
        "alert": case("alert", leg="server", at="finished", alert="internal_error"),
        "random corrupted": case("corrupt", leg="server", at="client_hello", field="random"),
        "wrong Finished": case("wrong_finished", leg="server"),
        "Finished twice": case("duplicate", leg="server", at="finished"),
        "an empty Certificate": case("wrong_message", leg="server", message="certificate", at="finished"),
        "an extension": case("unsolicited_extension", leg="server", at="client_hello"),
        "a byte a record": case("one_byte_records", leg="server", at="client_hello"),
        "padding": case("record_padding", leg="server", at="finished"),
        "new keys": case("key_update_flood", leg="server", count=5),
    },
    "TLSv1.2": {
        "wrong Finished": case("wrong_finished", leg="server"),
        "no ClientKeyExchange": case("drop", leg="server", at="client_key_exchange"),
        "a byte a record": case("one_byte_records", leg="server", at="client_hello"),
    },
}


@pytest.mark.peer("tshark", "openssl")
@pytest.mark.parametrize("version", TO_THE_TARGET)
def test_tshark_sees_what_the_target_gets(lab: Lab, tmp_path: Path, version: str) -> None:
    cases = TO_THE_TARGET[version]
    capture, keylog = tmp_path / "wire.pcap", tmp_path / "target.keys"
    director = OneAfterAnother([Orders(faults=(read_fault(each.fault),)) for each in cases.values()])
    roots = (lab.root.certificate.public_bytes(Encoding.DER),)
    with (
        OpensslServer(lab.server, mode="www", version=version, keylog=keylog) as server,
        Relay(("127.0.0.1", server.port), pcap=capture) as relay,
        RunningProxy(target=Address("127.0.0.1", relay.port), roots=roots, director=director) as proxy,
    ):
        said = by_python(proxy.port, proxy.root_file(tmp_path), len(cases))
        recordings = proxy.recordings(len(cases))
    seen = tshark_handshakes(capture, keylog, decode_as={relay.port: "tls"})
    wrong = {}
    for stream, (name, answer, recording) in enumerate(zip(cases, said, recordings, strict=True)):
        fault = read_fault(cases[name].fault)
        kind = FAULTS[fault.do]
        proof = kind.proof(recording, fault)
        theirs, ours = by_tshark(seen, stream, "client"), by_recording(recording, "server", "client")
        common = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(theirs, ours, strict=False)))
        unopened = version == "TLSv1.2" and fault.at == "finished"  # a target that refuses it has logged no secret
        whole = common == len(theirs) and common >= shown_by(recording, "server", "client") - unopened
        right = answer.ok == (kind.right_of(fault) != "refuse")
        if proof is not None or not whole or not right:
            wrong[name] = (proof, theirs, ours, answer)
    assert not wrong


def by_tshark(seen: list[Seen], stream: int, sender: str = "server") -> list[tuple[str, int]]:
    """What a side sent on the connection of this number; records of too few bytes tshark calls encrypted."""
    return [
        (one.type, one.length)
        for one in seen
        if one.stream == stream and one.sender == sender and one.type != "encrypted"
    ]


def shown_by(recording: Recording, role: str = "client", sender: str = "server") -> int:
    """How many messages of this side's there are up to the one that shows the fault."""
    leg = leg_of(recording, role)
    last = leg.faults[-1]["message"]
    return 1 if last is None else sum(one.sender == sender for one in leg.messages[: last + 1])


def by_recording(recording: Recording, role: str = "client", sender: str = "server") -> list[tuple[str, int]]:
    """What this side sent on this leg."""
    return [
        (message_type(one.content, one.code, one.raw), one.length)
        for one in leg_of(recording, role).messages
        if one.sender == sender
    ]
