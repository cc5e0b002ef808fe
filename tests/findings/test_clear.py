"""Servers that speak no TLS, or end it: who went, who was silent, and what came in its place is on the recording."""

from __future__ import annotations

import random
import socket
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from countersign.errors import EnvironmentFault
from countersign.findings.diagnosing import Severity, diagnose
from countersign.findings.probing import Plan, probe
from countersign.findings.probing.clear import in_place_of_tls, other_way
from countersign.findings.probing.handshaking import Manner, converse, handshake
from countersign.findings.probing.showing import show
from countersign.proxy import Action, Address
from countersign.recorder.outcome import judge
from countersign.recorder.recording import Ending, Party, Status
from countersign.recorder.wire import codes
from countersign.recorder.wire.events import Side
from tests.findings.oddities import ALERT, echoes, hangs_up, resets, says, serving, streams, waits
from tests.peers.openssl import OpensslServer
from tests.proxy.ordered import look, trusting
from tests.proxy.running import RunningProxy
from tests.proxy.wire import server_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.peers.certs import Lab

WE_LEFT = (Side.CLIENT, Ending.FIN)
SILENT = (Side.SERVER, Ending.SILENT)
PAGE = b"<!DOCTYPE HTML>\n<html lang=en><title>Error response</title>\n"
NO_SUCH_TYPE = b"\x16\x03\x03\0\x05\xee\0\0\1\0"
"""A handshake message of a type that there is not, in its record."""


def plan(port: int, *, seconds: float = 20.0, starttls: str | None = None) -> Plan:
    return Plan(host="127.0.0.1", port=port, name="localhost", revocation=False, seconds=seconds, starttls=starttls)


@pytest.mark.parametrize(
    ("deed", "text", "finding", "end"),
    [
        (streams(bytes(1000)), "does not speak TLS: it said 00 00 00", "target-not-tls", WE_LEFT),
        (streams(random.Random(7).randbytes(1000)), "does not speak TLS: it said ", "target-not-tls", WE_LEFT),
        (says(b"HTTP/1.1 400 Bad\r\n\r\n"), "said 'HTTP/1.1 400 Bad'; that is HTTP.", "target-plain-http", WE_LEFT),
        (says(PAGE), "said '<!DOCTYPE HTML>'; that is HTTP.", "target-plain-http", WE_LEFT),
        (says(b"220 x ESMTP\r\n", first=True), "begins later: --starttls smtp.", "target-not-tls", WE_LEFT),
        (says(b"SSH-2.0-x\r\n", first=True), "'SSH-2.0-x'; that is SSH.", "target-not-tls", WE_LEFT),
        (waits, "fell silent in the middle of the handshake", "target-silent", SILENT),
        (hangs_up, "closed the connection in the middle of the", "target-closed", (Side.SERVER, Ending.FIN)),
        (resets, "reset the connection in the middle of the", "target-reset", (Side.SERVER, Ending.RESET)),
        (says(NO_SUCH_TYPE), "sent something that cannot be taken: OpenSSL says 'unexpected message'", None, WE_LEFT),
        (streams(b"\x17\x03\x03\1\0" + bytes(256)), "cannot be taken: OpenSSL says 'unexpected", None, WE_LEFT),
        (echoes, "is the ClientHello that it got: an echo.", "target-echoes", WE_LEFT),
    ],
    ids=[
        "zeros", "anything", "HTTP", "a page", "SMTP", "SSH", "silence", "FIN", "RST",
        "a message that there is not", "application data", "an echo",
    ],
)  # fmt: skip
def test_what_a_server_did_instead_of_a_handshake_is_told(
    deed: Callable[[socket.socket], None], text: str, finding: str | None, end: tuple[Side, Ending]
) -> None:
    with serving(deed) as port:
        found = handshake(plan(port, seconds=0.5 if end is SILENT else 20.0))
    outcome = found.outcome
    assert (outcome.status, outcome.broken_by, outcome.alert) == (Status.FAILED, Party.TARGET, None)
    assert text in outcome.text
    assert [(each.sender, each.how) for each in found.legs[0].ends] == [end]
    assert finding in {None, *(each.id for each in diagnose(found).findings)}


def test_who_begins_an_answer_and_does_not_end_it_is_not_said_to_have_fallen_silent() -> None:
    begun = b"\x16\x03\x03\0\x50\2\0\0\x4c\3"  # it is there before the handshake begins

    def deed(connection: socket.socket) -> None:
        connection.sendall(b"220 x\r\n250 STARTTLS\r\n220 go\r\n" + begun)
        waits(connection)

    with serving(deed) as port:
        found = handshake(plan(port, seconds=3.0, starttls="smtp"))
    assert "was not done with its answer when its 3 s were over: 10 bytes had come" in found.outcome.text
    assert [(each.sender, each.how) for each in found.legs[0].ends] == [SILENT]
    assert "target-silent" in {each.id for each in diagnose(found).findings}


def test_an_alert_says_for_itself_why_and_it_is_the_client_who_leaves() -> None:
    with serving(says(ALERT)) as port:
        found = handshake(plan(port))
    assert (found.outcome.broken_by, found.outcome.alert, found.failures) == (Party.TARGET, "handshake_failure", ())
    assert [(each.sender, each.how) for each in found.legs[0].ends] == [WE_LEFT]


@pytest.mark.parametrize(
    ("name", "finding", "text"), [("", "no-sni", "names no server"), ("localhost", "unknown-name", "the SNI extension")]
)
def test_who_names_no_server_is_not_told_that_its_name_is_unknown(name: str, finding: str, text: str) -> None:
    with serving(says(b"\x15\x03\x03\0\2\2\x70")) as port:
        found = handshake(replace(plan(port), name=name))
    diagnosis = diagnose(found)
    assert text in found.outcome.text
    assert diagnosis.cause is not None
    assert diagnosis.cause.id == finding


def test_an_answer_that_was_cut_has_chosen_nothing(lab: Lab) -> None:
    with serving(behind_a_handshake(lab, hangs_up)) as port:
        whole = handshake(plan(port))
    (leg,) = whole.legs
    hello = next(each for each in leg.messages if each.is_handshake(codes.SERVER_HELLO))
    ends = tuple(replace(each, sender=Side.SERVER, how=Ending.FIN) for each in leg.ends[:1])
    cut = replace(hello, raw=hello.raw[:10])
    cut_off = replace(whole, legs=(replace(leg, messages=(leg.messages[0], cut), ends=ends, data={}),), failures=())
    cause = diagnose(replace(cut_off, outcome=judge(cut_off))).cause
    assert cause is not None
    assert cause.id == "target-closed"


@pytest.mark.peer("openssl")
def test_a_client_that_shows_nothing_and_hears_nothing_more_is_told_that_it_had_nothing_to_show(lab: Lab) -> None:
    """As a log of the client has it, which ends where the client writes: the late refusal was never read."""
    with OpensslServer(lab.server, "-tls1_3", mode="www", verify_ca=lab.root_pem) as server:
        whole = handshake(plan(server.port))
    (leg,) = whole.legs
    finished = next(
        place for place, each in enumerate(leg.messages)
        if each.sender is Side.CLIENT and each.is_handshake(codes.FINISHED)
    )  # fmt: skip
    cut = replace(whole, legs=(replace(leg, messages=leg.messages[: finished + 1], ends=(), data={}),), failures=())
    cut = replace(cut, outcome=judge(cut, witness="log", data_seen=False))
    assert cut.outcome.status is Status.INTERRUPTED
    cause = diagnose(cut).cause
    assert cause is not None
    assert cause.id == "no-client-certificate"
    assert "no word of the target came behind that" in cause.text


def behind_a_handshake(lab: Lab, deed: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    """A right handshake, and then this with the bare socket, until the client has gone."""
    context = server_context(lab.server)
    context.num_tickets = 0

    def whole(connection: socket.socket) -> None:
        bare = connection.dup()
        with bare, context.wrap_socket(connection, server_side=True):
            deed(bare)
            waits(bare)

    return whole


def test_what_breaks_the_protocol_behind_the_handshake_is_told(lab: Lab) -> None:
    with serving(behind_a_handshake(lab, lambda bare: bare.sendall(b"\x17\x03\x03\1\0" + bytes(256)))) as port:
        found = handshake(plan(port))
    assert found.outcome.broken_by is Party.TARGET
    assert "sent something that cannot be taken: OpenSSL says 'decryption failed or bad record mac'" in (
        found.outcome.text
    )
    assert [(each.sender, each.how) for each in found.legs[0].ends] == [WE_LEFT]


def test_the_first_to_go_behind_the_handshake_is_who_went_first(lab: Lab) -> None:
    with serving(behind_a_handshake(lab, lambda bare: bare.shutdown(socket.SHUT_WR))) as port:
        found = handshake(plan(port))
    assert (found.outcome.status, found.outcome.broken_by) == (Status.FAILED, Party.TARGET)
    assert "closed the connection after the handshake" in found.outcome.text


def test_a_hello_of_which_nothing_can_come_is_not_answered_for_ever() -> None:
    manner = Manner(another=True)
    with serving(streams(b"\x14\x03\x03\0\1\1" * 100)) as port:
        found = converse(plan(port), manner)[0]
    assert "bytes, and no message among them" in found.outcome.text
    with serving(streams(bytes(1000))) as port:
        found = converse(plan(port), manner)[0]
    assert "does not speak TLS" in found.outcome.text


def test_what_openssl_here_cannot_say_is_not_laid_to_the_server() -> None:
    none = Manner(versions=(ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2))
    with serving(waits) as port:
        found = converse(plan(port), none)[0]
    assert found.outcome.broken_by is Party.CLIENT
    assert "cannot begin the handshake: OpenSSL says 'no protocols available'" in found.outcome.text


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (b"220 mx.example.com ESMTP Postfix\r\n", "SMTP, in which TLS begins later: --starttls smtp"),
        (b"220-mx.example.com ESMTP\r\n220 ready", "--starttls smtp"),
        (b"220 (vsFTPd 3.0.3)\r\n", "FTP, in which TLS begins later: --starttls ftp"),
        (b"220 mx LMTP ready\r\n", "--starttls lmtp"),
        (b"220 ready\r\n", "SMTP or FTP, in which TLS begins later: --starttls smtp or --starttls ftp"),
        (b"554 no service\r\n", "SMTP or FTP"),
        (b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n", "--starttls imap"),
        (b"+OK ready\r\n", "--starttls pop3"),
        (b"-ERR too many connections\r\n", "--starttls pop3"),
        (b"-ERR unknown command `\x16\x03\x01`\r\n", "that is Redis"),
        (b"\x4a\0\0\0\x0a8.0.36\0" + bytes(20), "--starttls mysql"),
        (b"\x45\0\0\0\xff\x6a\x04Host 'x' is not allowed", "--starttls mysql"),
        (b"E\0\0\0\x8cSFATAL\0VFATAL\0C0A000\0", "--starttls postgres"),
        (b"\x30\x24\x02\x01\0\x78\x1f\x0a\x01\x02\x04\0\x04\0", "--starttls ldap"),
        (b"<?xml version='1.0'?><stream:stream xmlns='jabber:client'>", "--starttls xmpp"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "it said 'SSH-2.0-OpenSSH_9.2p1'; that is SSH"),
        (b"HTTP/1.1 400 Bad Request\r\n", "that is HTTP"),
        (b"\x1b]0;x\x07\r\n", "it said 1b 5d 30 3b 78 07 0d 0a"),
        (b"\r\n", "it said 0d 0a"),
        (b"PASS secret\r\n", "(redacted)"),
    ],
)
def test_how_a_protocol_begins_tells_how_tls_begins_in_it(first: bytes, said: str) -> None:
    text = in_place_of_tls(first, upgraded=False)
    assert said in text
    assert "--starttls" not in in_place_of_tls(first, upgraded=True)
    assert "secret" not in text


def test_a_port_tells_where_the_server_says_nothing() -> None:
    with serving(hangs_up) as port:
        found = probe(plan(port))
    assert other_way(found.plan, found.recording) is None
    for number, name in ((25, "smtp"), (587, "smtp"), (5432, "postgres")):
        text = f"Port {number} is that of {name}, in which TLS begins later: --starttls {name}"
        assert other_way(plan(number), found.recording) == text
        assert other_way(plan(number, starttls=name), found.recording) is None
    with serving(says(ALERT)) as port:
        assert other_way(plan(25), handshake(plan(port))) is None


def test_a_probe_asks_what_is_no_tls_no_further() -> None:
    asked = []

    def deed(connection: socket.socket) -> None:
        asked.append(1)
        says(b"220 x ESMTP\r\n", first=True)(connection)

    with serving(deed) as port:
        found = probe(Plan(host="127.0.0.1", port=port, name="", revocation=False, all_versions=True))
    assert len(asked) == 1
    assert "--starttls smtp" in show(found, width=200)


def test_a_dialogue_that_does_not_come_about_is_no_way_that_there_is_not() -> None:
    with (
        serving(waits) as port,
        pytest.raises(EnvironmentFault, match="does not begin TLS by smtp: no answer"),
    ):
        probe(plan(port, seconds=0.3, starttls="smtp"))


@pytest.mark.parametrize("action", [Action.INTERCEPT, Action.PASSTHROUGH])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_echo_is_no_server_that_breaks_the_protocol(action: Action, version: ssl.TLSVersion) -> None:
    """A client finds the hello that comes back unexpected, and that is not what is wrong with it."""

    def held(context: ssl.SSLContext) -> None:
        context.minimum_version = context.maximum_version = version

    with serving(echoes) as port, RunningProxy(target=Address("127.0.0.1", port), action=action) as proxy:
        with pytest.raises((ssl.SSLError, OSError)):
            look(proxy, trusting(change=held))
        recording = proxy.recording()
    assert "is the ClientHello that it got: an echo" in recording.outcome.text
    causes = [one.id for one in diagnose(recording).findings if one.severity is Severity.CAUSE]
    assert causes == ["target-echoes"]


def test_a_server_that_answers_with_a_hello_of_its_own_is_no_echo() -> None:
    with serving(echoes) as port:
        (leg,) = handshake(plan(port)).legs
    ours, theirs = leg.messages[:2]
    assert leg.echoed
    assert not replace(leg, messages=(ours, replace(theirs, raw=theirs.raw[:-1] + b"\1"))).echoed
    assert not replace(leg, messages=(ours,)).echoed
