"""Every fault is on the wire: tshark, between the client and the proxy, sees what the recording tells of it."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import pytest

from countersign.proxy.faults import FAULTS, read_fault
from countersign.recorder.recording import Status
from countersign.recorder.wire.messages import message_type
from tests.peers.relay import Relay
from tests.peers.tshark import tshark_handshakes
from tests.proxy.faults.facing import OneAfterAnother, by_python, leg_of
from tests.proxy.faults.test_clients_meet_faults import MET
from tests.proxy.running import RunningProxy

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.recorder.recording import Recording
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
        recordings = sorted(proxy.recordings(len(MET)), key=lambda recording: recording.started)
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


def by_tshark(seen: list[Seen], stream: int) -> list[tuple[str, int]]:
    """What the server sent on the connection of this number; records of too few bytes tshark calls encrypted."""
    return [
        (one.type, one.length)
        for one in seen
        if one.stream == stream and one.sender == "server" and one.type != "encrypted"
    ]


def shown_by(recording: Recording) -> int:
    """How many messages of the server's there are up to the one that shows the fault."""
    leg = leg_of(recording)
    last = leg.faults[-1]["message"]
    return 1 if last is None else sum(one.sender == "server" for one in leg.messages[: last + 1])


def by_recording(recording: Recording) -> list[tuple[str, int]]:
    """What was sent to the client."""
    return [
        (message_type(one.content, one.code, one.raw), one.length)
        for one in leg_of(recording).messages
        if one.sender == "server"
    ]
