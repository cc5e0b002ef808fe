"""Which secrets a recording keeps, and that no other one gets out: T24."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from countersign.proxy import SecretsKept
from countersign.recorder.recording import LegRole, Recording, Status, to_json
from tests.proxy.running import RunningProxy
from tests.proxy.wire import Target, ask, client_context, echo, server_context

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.certs import Lab

HANDSHAKE = {"CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET"}
ALL = {*HANDSHAKE, "CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0", "EXPORTER_SECRET"}


@dataclass
class Seen:
    recording: Recording
    snapshots: list[Recording]
    client_leg: dict[str, bytes]
    server_leg: dict[str, bytes]

    @property
    def secrets(self) -> list[bytes]:
        return [*self.client_leg.values(), *self.server_leg.values()]


def one_session(lab: Lab, folder: Path, secrets: SecretsKept, version: str) -> Seen:
    """A session whose peers wrote down the secrets of both legs."""
    ours, theirs = folder / "client.keys", folder / "target.keys"
    context = server_context(lab.server)
    context.keylog_filename = str(theirs)
    with Target(echo(context)) as target, RunningProxy(target=target.address, verify=False, secrets=secrets) as proxy:
        assert ask(proxy, client_context(version=version, keylog=ours)) == b"good morning\n"
        recording = proxy.recording()
        snapshots = list(proxy.kept.snapshots)
    assert recording.outcome.status is Status.ESTABLISHED
    return Seen(recording, snapshots, _read(ours), _read(theirs))


def _read(path: Path) -> dict[str, bytes]:
    lines = [line.split() for line in path.read_text().splitlines() if line and line[0] != "#"]
    found = {label: bytes.fromhex(secret) for label, _, secret in lines}
    assert found
    return found


def assert_holds_none(text: str, secrets: list[bytes]) -> None:
    for secret in secrets:
        for form in (secret.hex(), secret.hex().upper(), base64.b64encode(secret).decode(), repr(secret)[2:-1]):
            assert form not in text
        # Base64 of something longer that has it inside begins at any of three places.
        for start in (1, 2):
            assert base64.b64encode(secret[start:])[:40].decode() not in text


@pytest.mark.parametrize("secrets", list(SecretsKept))
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_no_secret_is_in_json_snapshots_text_or_log(
    lab: Lab, tmp_path: Path, capfd: pytest.CaptureFixture[str], version: str, secrets: SecretsKept
) -> None:
    seen = one_session(lab, tmp_path, secrets, version)
    out = capfd.readouterr()
    written = [json.dumps(to_json(one)) for one in (seen.recording, *seen.snapshots)]
    assert_holds_none("".join([*written, out.out, out.err, repr(seen.recording), str(seen.snapshots)]), seen.secrets)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_by_default_none_is_kept(lab: Lab, tmp_path: Path, version: str) -> None:
    seen = one_session(lab, tmp_path, SecretsKept.NONE, version)
    assert all(not leg.secrets for one in (seen.recording, *seen.snapshots) for leg in one.legs)


@pytest.mark.parametrize(
    ("secrets", "version", "labels"),
    [
        (SecretsKept.HANDSHAKE, "TLSv1_3", HANDSHAKE),
        (SecretsKept.HANDSHAKE, "TLSv1_2", set()),
        (SecretsKept.ALL, "TLSv1_3", ALL),
        (SecretsKept.ALL, "TLSv1_2", {"CLIENT_RANDOM"}),
    ],
)
def test_the_secrets_asked_for_are_kept_and_are_the_right_ones(
    lab: Lab, tmp_path: Path, secrets: SecretsKept, version: str, labels: set[str]
) -> None:
    seen = one_session(lab, tmp_path, secrets, version)
    for role, real in ((LegRole.CLIENT, seen.client_leg), (LegRole.SERVER, seen.server_leg)):
        leg = seen.recording.leg(role)
        assert leg is not None
        assert {secret.label for secret in leg.secrets} == labels
        assert {secret.label: secret.secret for secret in leg.secrets} == {label: real[label] for label in labels}
        assert {secret.client_random for secret in leg.secrets} <= {leg.read().client_random}
    names = {name for leg in to_json(seen.recording)["legs"] for name in leg["secrets"]}
    assert names == labels
