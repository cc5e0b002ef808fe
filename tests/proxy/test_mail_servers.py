"""STARTTLS with the mail servers that people run: Dovecot (IMAP, POP3) and Postfix (SMTP), by curl and s_client."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from countersign.recorder.recording import LegRole, Status, to_json
from tests.peers.mail import PASSWORD, USER, Dovecot, Postfix
from tests.peers.openssl import openssl_client
from tests.peers.process import run
from tests.proxy.running import RunningProxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from countersign.proxy import Address
    from countersign.recorder.recording import Recording
    from tests.peers.certs import Lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="these servers change their user, which root alone may")

GOODBYE = {"imap": (b"a logout\r\n", "BYE"), "pop3": (b"quit\r\n", "OK Logging out"), "smtp": (b"quit\r\n", "221 ")}
BEGINS = {"imap": "STARTTLS", "pop3": "STLS", "smtp": "STARTTLS"}


@pytest.fixture(scope="module")
def dovecot(lab: Lab) -> Iterator[Dovecot]:
    with Dovecot(lab.server) as server:
        yield server


@pytest.fixture(scope="module")
def postfix(lab: Lab) -> Iterator[Postfix]:
    with Postfix(lab.server) as server:
        yield server


def inspecting(target: Address, starttls: str, lab: Lab) -> RunningProxy:
    return RunningProxy(target=target, starttls=starttls, roots=(lab.root.certificate.public_bytes(Encoding.DER),))


def assert_upgraded(recording: Recording, protocol: str) -> None:
    assert recording.outcome.status is Status.ESTABLISHED, recording.outcome
    assert {leg.role for leg in recording.legs} == {LegRole.CLIENT, LegRole.SERVER}
    assert recording.prelude["protocol"] == protocol
    assert BEGINS[protocol] in str(recording.prelude["dialogue"])
    assert recording.problems == ()
    assert PASSWORD not in json.dumps(to_json(recording))


def curl_and_s_client(target: Address, protocol: str, starttls: str, lab: Lab, folder: Path, *args: str) -> str:
    """What curl does in mail, and a handshake by s_client; what curl got."""
    with inspecting(target, starttls, lab) as proxy:
        root = proxy.root_file(folder)
        url = f"{protocol}://server.lab.test:{proxy.port}/"
        got = run(
            *("curl", "-sS", "--ssl-reqd", "--cacert", root, "--resolve", f"server.lab.test:{proxy.port}:127.0.0.1"),
            *(url, *args),
            stdin=b"Subject: seen over\r\n\r\nhello\r\n",
        )
        assert got.returncode == 0, got
        words = ("-starttls", protocol, "-name", "me.test")
        leaves, answer = GOODBYE[protocol]
        client = openssl_client(
            f"127.0.0.1:{proxy.port}", *words, ca=root, name="server.lab.test", send=leaves, until=answer
        )
        assert client.verify_code == 0, client.completed
        recordings = proxy.recordings(2)
    for recording in recordings:
        assert_upgraded(recording, protocol)
    return got.stdout


@pytest.mark.peer("dovecot", "curl", "openssl")
@pytest.mark.parametrize("auto", [False, True], ids=["named", "auto"])
@pytest.mark.parametrize("protocol", ["imap", "pop3"])
def test_a_mailbox_is_read_through_the_proxy(
    protocol: str,
    auto: bool,  # noqa: FBT001 - a parameter of the test
    dovecot: Dovecot,
    lab: Lab,
    tmp_path: Path,
) -> None:
    target = dovecot.imap if protocol == "imap" else dovecot.pop3
    starttls = "auto" if auto else protocol
    got = curl_and_s_client(target, protocol, starttls, lab, tmp_path, "--user", f"{USER}:{PASSWORD}")
    assert protocol == "pop3" or "INBOX" in got


@pytest.mark.peer("postfix", "curl", "openssl")
@pytest.mark.parametrize("starttls", ["smtp", "auto"])
def test_a_mail_is_sent_through_the_proxy(starttls: str, postfix: Postfix, lab: Lab, tmp_path: Path) -> None:
    mail = ("--mail-from", "me@lab.test", "--mail-rcpt", "you@lab.test", "--upload-file", "-")
    curl_and_s_client(postfix.smtp, "smtp", starttls, lab, tmp_path, *mail)
