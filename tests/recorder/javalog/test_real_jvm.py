"""A JVM talks through a relay that captures: its debug log and the capture are imported, and tell the same."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from countersign.findings.diagnosing import diagnose
from countersign.recorder.files.importing import import_files
from countersign.recorder.recording import Recording
from countersign.recorder.wire.events import Content, Side
from countersign.recorder.wire.secrets import KeyLog
from tests.cli.commands import countersign
from tests.peers.java import java_client
from tests.peers.openssl import OpensslServer
from tests.peers.relay import Relay
from tests.peers.witness import jvm_trust

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.peers.certs import Issued, Lab

HOSTS = {"server.lab.test": "127.0.0.1"}
ASKS = {"asks": True}
GROUP = ("-groups", "P-384")
X25519 = {"jdk.tls.namedGroups": "x25519"}
CHECKED = {"com.sun.net.ssl.checkRevocation": "true"}
ALONE = {"send_chain": False}
WRAPPER = "INFO   | jvm 1    | 2026/11/21 12:00:00 | "


def expired(lab: Lab) -> Issued:
    return lab.issue("server.lab.test", not_before=datetime.now(UTC) - timedelta(days=9), days=2)


def tomorrow(lab: Lab) -> Issued:
    return lab.issue("server.lab.test", not_before=datetime.now(UTC) + timedelta(days=1))


def expired_user(lab: Lab) -> Issued:
    return lab.issue("mid.lab.test", usages=("client",), not_before=datetime.now(UTC) - timedelta(days=9), days=2)


def by_itself(lab: Lab) -> Issued:
    return lab.issue("server.lab.test", usages=("server", "client"), signer=None)


def for_server(lab: Lab) -> Issued:
    return lab.issue("mid.lab.test", usages=("server",))


@dataclass(frozen=True, slots=True)
class Row:
    """A handshake that a JVM has: which row of the requirements it is of, what is odd about it, what comes of it."""

    row: str
    version: str
    broken_by: str | None
    alert: str | None
    cause: str | None = None
    leaf: Callable[[Lab], Issued] = lambda lab: lab.server
    server: Mapping[str, Any] = field(default_factory=dict)
    args: Sequence[str] = ()
    trusted: bool = True
    shows: Callable[[Lab], Issued] | None = None
    client: Mapping[str, Any] = field(default_factory=dict)
    debug: str = "ssl:handshake"


class Talk(NamedTuple):
    """A handshake that was had: what the JVM printed, and what is imported of that and of the capture."""

    text: str
    told: list[Recording]
    wire: list[Recording]
    folder: Path


ROWS = [
    Row("R1: untrusted CA", "TLSv1.2", "client", "certificate_unknown", "untrusted-root", trusted=False),
    Row("R1: of all", "TLSv1.3", "client", "certificate_unknown", "untrusted-root", trusted=False, debug="all"),
    Row("R3: leaf alone", "TLSv1.2", "client", "certificate_unknown", "missing-intermediate", server=ALONE),
    Row(
        "R9: other", "TLSv1.3", "client", "certificate_unknown", "wrong-host-name", lambda lab: lab.issue("o.lab.test")
    ),
    Row("R6: expired", "TLSv1.3", "client", "certificate_unknown", "leaf-expired", expired),
    Row("R13: none to show", "TLSv1.2", "target", "handshake_failure", "no-client-certificate", server=ASKS),
    Row("R14: EKU", "TLSv1.2", "target", "unsupported_certificate", "client-wrong-eku", server=ASKS, shows=for_server),
    Row("R17: one to show", "TLSv1.3", None, None, server=ASKS, shows=lambda lab: lab.client, debug="all"),
    Row(
        "R18: no version",
        "TLSv1.3",
        "target",
        "protocol_version",
        "no-shared-version",
        client={"protocols": ["TLSv1.2"]},
    ),
    Row("R2: resumed", "TLSv1.2", None, None, client={"repeat": 2}, debug="ssl:handshake:expand"),
]
MORE = [
    Row("R3: not yet", "TLSv1.2", "client", "bad_certificate", "leaf-not-yet-valid", tomorrow),
    Row("R4: self-signed", "TLSv1.3", "client", "certificate_unknown", "self-signed", by_itself, trusted=False),
    Row("R9: old name", "TLSv1.2", "client", "certificate_unknown", "wrong-host-name", lambda lab: lab.issue("*.test")),
    Row("R14: server's EKU", "TLSv1.2", "client", "certificate_unknown", "wrong-eku", lambda lab: lab.client),
    Row(
        "R15: expired",
        "TLSv1.2",
        "target",
        "certificate_expired",
        "client-leaf-expired",
        server=ASKS,
        shows=expired_user,
    ),
    Row("R15: others", "TLSv1.2", "target", "handshake_failure", "no-client-certificate", server=ASKS, shows=by_itself),
    Row(
        "R18: no suite",
        "TLSv1.2",
        "target",
        "handshake_failure",
        "nothing-shared",
        args=("-cipher", "PSK-AES128-CBC-SHA256"),
    ),
    Row(
        "R18: no group",
        "TLSv1.3",
        "target",
        "handshake_failure",
        "no-shared-group",
        args=GROUP,
        client={"properties": X25519},
    ),
    Row("R18: ChaCha20", "TLSv1.3", None, None, args=("-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256")),
]
"""With ``--long``."""


@pytest.fixture(scope="module")
def imported(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Row], Talk]:
    """Each handshake is had once: its log, what is imported of it, and what of the capture."""
    had: dict[str, Talk] = {}

    def once(row: Row) -> Talk:
        if row.row not in had:
            had[row.row] = talk(row, lab, tmp_path_factory.mktemp("jvm"))
        return had[row.row]

    return once


def talk(row: Row, lab: Lab, folder: Path) -> Talk:
    given = dict(row.server)
    if given.pop("asks", False):
        given["verify_ca"] = lab.root_pem
    keystore = None if row.shows is None else row.shows(lab).pkcs12(folder / "client.p12")
    keys, capture, log = folder / "keys.log", folder / "wire.pcap", folder / "wrapper.log"
    server = OpensslServer(row.leaf(lab), *row.args, version=row.version, mode="www", keylog=keys, **given)
    root = (lab.root if row.trusted else lab.issue(common_name="Elsewhere", signer=None, ca=True)).cert_pem
    with server, Relay(("127.0.0.1", server.port), pcap=capture) as relay:
        done = java_client(
            f"https://server.lab.test:{relay.port}/",
            truststore=jvm_trust(root.read_bytes()),
            keystore=keystore,
            hosts=HOSTS,
            debug=row.debug,
            **row.client,
        )
    log.write_text(done.debug)
    known = KeyLog()
    if keys.exists():
        known.add_text(keys.read_bytes())
    wire = [one for one in import_files([capture], keylog=known) if isinstance(one, Recording)]
    told = [one for one in import_files([log]) if isinstance(one, Recording)]
    return Talk(done.debug, told, wire, folder)


def of_rows(*rows: Row) -> pytest.MarkDecorator:
    more = [pytest.param(row, id=row.row, marks=pytest.mark.long) for row in MORE if not rows]
    return pytest.mark.parametrize("row", [*(pytest.param(row, id=row.row) for row in rows or ROWS), *more])


def handshake(recording: Recording, side: Side) -> list[str]:
    """What a side sent, without what a JVM does not always print (change-cipher-specs and what follows Finished), and
    without Finished, which stays sealed on the wire where OpenSSL broke off TLS 1.2 before it wrote its key log.
    """
    left_out = {"new_session_ticket", "hello_request", "finished"}
    return [
        one.type if one.message.content is Content.HANDSHAKE else f"{one.type} {one.fields.get('description')}"
        for one in recording.legs[0].read().messages
        if one.message.sender is side
        and one.message.content is not Content.CHANGE_CIPHER_SPEC
        and one.type not in left_out
        and one.fields.get("description") not in {"close_notify", "user_canceled"}
    ]


@of_rows()
@pytest.mark.peer("java", "javac", "keytool", "openssl")
def test_a_log_tells_what_the_wire_shows(imported: Callable[[Row], Talk], row: Row) -> None:
    _, told, wire, _ = imported(row)
    assert len(told) == len(wire) >= 1
    by_random = {one.legs[0].read().client_random: one for one in wire}
    for recording in told:
        reading = recording.legs[0].read()
        seen = by_random[reading.client_random]
        shown = seen.legs[0].read()
        for name in ("version", "cipher", "alpn", "sni", "resumed", "ja3", "ja3s", "ja4"):
            assert getattr(reading, name) == getattr(shown, name), name
        refused_before = row.version == "TLSv1.2" and row.broken_by == "client"  # the ServerKeyExchange is not read
        assert reading.group == (None if refused_before else shown.group)
        assert recording.sni == seen.sni
        for side in Side:
            heard, sent = handshake(recording, side), handshake(seen, side)
            assert heard == sent[: len(heard)]  # a JVM reads no more of the server's once it has refused something
            assert side is Side.SERVER or heard == sent
        assert chain(recording) == chain(seen)
        assert reading.requested_ca_texts == shown.requested_ca_texts
        for one, other in zip(reading.messages[:2], shown.messages[:2], strict=True):
            assert one.fields == other.fields


def chain(recording: Recording) -> list[tuple[Any, ...]]:
    facts = [(sent.sender, sent.facts) for sent in recording.legs[0].read().certificates]
    return [
        (
            side,
            f.subject,
            f.issuer,
            f.serial,
            f.not_before,
            f.not_after,
            f.san,
            f.is_ca,
            f.key_usage,
            f.extended_key_usage,
        )
        for side, f in facts
    ]


@of_rows()
@pytest.mark.peer("java", "javac", "keytool", "openssl")
def test_a_log_and_the_wire_accuse_the_same_of_the_same(imported: Callable[[Row], Talk], row: Row) -> None:
    _, told, wire, _ = imported(row)
    for recording in (told[0], wire[0]):
        outcome = recording.outcome
        assert (outcome.broken_by, outcome.alert) == (row.broken_by, row.alert), outcome.text


@of_rows()
@pytest.mark.peer("java", "javac", "keytool", "openssl")
def test_a_log_and_the_wire_have_the_same_findings(imported: Callable[[Row], Talk], row: Row) -> None:
    _, told, wire, _ = imported(row)
    heard, seen = (diagnose(recording) for recording in (told[0], wire[0]))
    assert [one.id for one in heard.findings if one.id != "client-says"] == [one.id for one in seen.findings]
    assert [one.cause.id if one.cause else None for one in (heard, seen)] == [row.cause, row.cause]


UNANSWERED = Row("R6: nobody answers", "TLSv1.2", "client", "certificate_unknown", client={"properties": CHECKED})


@of_rows(UNANSWERED)
@pytest.mark.peer("java", "javac", "keytool", "openssl")
def test_what_only_the_client_knows_comes_from_its_log_before_what_the_wire_leaves_open(
    imported: Callable[[Row], Talk], row: Row
) -> None:
    _, told, wire, _ = imported(row)
    heard, seen = (diagnose(recording).cause for recording in (told[0], wire[0]))
    assert heard is not None
    assert heard.id == "client-says"
    assert "Could not determine revocation status" in heard.text
    assert seen is not None
    assert seen.id == "untrusted-root"


@of_rows(ROWS[0], ROWS[5], ROWS[7])
@pytest.mark.peer("java", "javac", "keytool", "openssl")
def test_what_wrappers_do_to_a_real_log_changes_nothing(
    imported: Callable[[Row], Talk], row: Row, tmp_path: Path
) -> None:
    text, told, _, _ = imported(row)
    wrapped = "".join(f"{WRAPPER}{line}\r\n" for line in text.splitlines())
    path = tmp_path / "wrapper.log"
    path.write_bytes(wrapped.encode("utf-16"))
    again = [one for one in import_files([path]) if isinstance(one, Recording)]
    assert [handshake(one, Side.CLIENT) for one in again] == [handshake(one, Side.CLIENT) for one in told]
    assert [one.id for one in again] == [one.id for one in told]


@of_rows(ROWS[1], ROWS[7])
@pytest.mark.peer("java", "javac", "keytool", "openssl")
def test_no_password_no_secret_and_nothing_that_was_sent_is_kept(imported: Callable[[Row], Talk], row: Row) -> None:
    text, told, _, _ = imported(row)
    assert re.search("Plaintext before ENCRYPTION", text)
    for recording in told:
        assert "changeit" not in str(recording)
        assert not [secret for leg in recording.legs for secret in leg.secrets]
        assert not any(b"HTTP/1.1" in message.form for leg in recording.legs for message in leg.messages)


@of_rows(ROWS[0])
@pytest.mark.parametrize("first", ["wire.pcap", "wrapper.log"])
@pytest.mark.peer("java", "javac", "keytool", "openssl")
def test_a_log_is_joined_with_the_capture_of_the_same_handshake(
    imported: Callable[[Row], Talk], row: Row, first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNTERSIGN_HOME", str(tmp_path))
    talk = imported(row)
    alone = countersign("import", talk.folder / first)
    assert "same handshake" not in alone.out
    (second,) = {"wire.pcap", "wrapper.log"} - {first}
    joined = countersign("import", talk.folder / second)
    assert f"countersign diff {talk.told[0].id} {talk.wire[0].id}" in joined.out
    compared = countersign("diff", talk.told[0].id, talk.wire[0].id)
    assert compared.err == ""
