"""Reading a leg: what its messages say together, and a ClientHello at a glance."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from countersign.recorder.wire import extensions as e, messages as m
from countersign.recorder.wire.events import Content, Message, Side
from countersign.recorder.wire.fingerprints import ja4
from countersign.recorder.wire.reading import HelloSummary, LegReading, read_leg, summarize_client_hello
from tests.recorder.layouts import structs
from tests.recorder.transcripts import (
    GOLDEN,
    NAMES,
    RFC8448_CLIENT_HELLO,
    RFC8448_ENCRYPTED_EXTENSIONS,
    RFC8448_SERVER_HELLO,
    hello,
    message,
    reading,
    transcript,
)

C, S = Side.CLIENT, Side.SERVER
BOTH = frozenset({C, S})


def as_json(read: LegReading) -> dict[str, Any]:
    return {
        **{
            name: getattr(read, name)
            for name in ("version", "cipher", "group", "sni", "alpn", "resumed", "ja3", "ja3s", "ja4")
        },
        "alpn_offered": list(read.alpn_offered),
        "certificates": [[one.sender.value, one.message, len(one.der)] for one in read.certificates],
        "requested_ca_names": read.requested_ca_names and [name.hex() for name in read.requested_ca_names],
        "handshake_finished": sorted(read.handshake_finished),
        "messages": [
            {"n": one.number, "from": one.message.sender.value, "type": one.type, "fields": one.fields}
            for one in read.messages
        ],
        "problems": [str(one) for one in read.problems],
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_reading_of_a_transcript_is_the_golden_one(name: str) -> None:
    path = GOLDEN / f"{name}.json"
    text = json.dumps(as_json(reading(name)), indent=1) + "\n"
    if os.environ.get("REGOLD"):
        path.write_text(text)
    assert text == path.read_text()


NEGOTIATED = {
    "tls13-full": ("TLSv1.3", "TLS_AES_256_GCM_SHA384", "x25519", False, BOTH),
    "tls13-hello-retry-request": ("TLSv1.3", "TLS_AES_256_GCM_SHA384", "secp384r1", False, BOTH),
    "tls13-resumed": ("TLSv1.3", "TLS_AES_256_GCM_SHA384", "x25519", True, BOTH),
    "tls13-early-data": ("TLSv1.3", "TLS_AES_256_GCM_SHA384", "x25519", True, BOTH),
    "tls12-ecdhe": ("TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "x25519", False, BOTH),
    "tls12-resumed": ("TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", None, True, BOTH),
    "tls12-resumed-by-id": ("TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", None, True, BOTH),
    "tls12-dhe": ("TLSv1.2", "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384", "dhe-2048", False, BOTH),
    "tls12-rsa": ("TLSv1.2", "TLS_RSA_WITH_AES_256_GCM_SHA384", None, False, BOTH),
    "tls12-ecdhe-psk": ("TLSv1.2", "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256", "x25519", False, BOTH),
    "tls12-dhe-psk": ("TLSv1.2", "TLS_DHE_PSK_WITH_AES_256_GCM_SHA384", "dhe-3072", False, BOTH),
    "tls12-refused": ("TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", None, False, frozenset()),
    "tls11-ecdhe": ("TLSv1.1", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "x25519", False, BOTH),
}


@pytest.mark.parametrize("name", NEGOTIATED)
def test_a_leg_says_what_was_negotiated(name: str) -> None:
    read = reading(name)
    said = (read.version, read.cipher, read.group, read.resumed, read.handshake_finished)
    assert said == NEGOTIATED[name]


def test_a_leg_says_which_name_and_protocols_were_asked_for_and_which_was_chosen() -> None:
    read = reading("tls13-full")
    assert (read.sni, read.alpn, read.alpn_offered) == ("instance.example", "h2", ("h2", "http/1.1"))
    assert reading("tls12-ecdhe").alpn == "http/1.1"
    assert reading("tls12-next-protocol").alpn == "http/1.1"
    assert reading("tls13-psk").alpn is None


@pytest.mark.parametrize(
    "name", ["tls13-client-certificate", "tls12-ecdhe-client-certificate", "tls10-client-certificate"]
)
def test_a_leg_lists_the_certificates_of_both_sides_and_the_names_that_were_asked_for(name: str) -> None:
    read = reading(name)
    assert [one.sender for one in read.certificates] == [S, S, C]  # s_server sends its root from -CAfile as well
    assert {read.messages[one.message].type for one in read.certificates} == {"certificate"}
    assert read.requested_ca_names is not None
    assert len(read.requested_ca_names) == 1
    request = next(one for one in read.messages if one.type == "certificate_request")
    assert "CN=Example Root,O=Example" in json.dumps(request.fields)


def test_no_certificate_request_is_not_a_request_without_names() -> None:
    assert reading("tls12-ecdhe").requested_ca_names is None
    asked = m.CertificateRequest13(b"", (e.SignatureAlgorithms((0x0403,)),)).build()
    names = read_leg([*rfc8448(), message(asked, S)]).requested_ca_names
    assert names == ()


def rfc8448() -> list[Message]:
    return [
        message(RFC8448_CLIENT_HELLO, C),
        message(RFC8448_SERVER_HELLO, S),
        message(RFC8448_ENCRYPTED_EXTENSIONS, S),
    ]


def test_the_trace_of_rfc_8448_is_read() -> None:
    read = read_leg(rfc8448())
    assert (read.version, read.cipher, read.group) == ("TLSv1.3", "TLS_AES_128_GCM_SHA256", "x25519")
    assert (read.sni, read.resumed, read.handshake_finished) == ("server", False, frozenset())
    assert read.client_random == RFC8448_CLIENT_HELLO[6:38]
    assert [one.type for one in read.messages] == ["client_hello", "server_hello", "encrypted_extensions"]


def test_nothing_is_said_of_an_empty_leg() -> None:
    read = read_leg([])
    assert [read.messages, read.problems, read.certificates, read.alpn_offered] == [(), (), (), ()]
    assert (read.version, read.cipher, read.sni, read.ja4, read.resumed) == (None, None, None, None, None)


@pytest.mark.parametrize("name", NAMES)
def test_a_leg_that_stops_anywhere_is_read_up_to_there(name: str) -> None:
    whole = transcript(name)
    for end in range(len(whole)):
        read = read_leg(whole[:end])
        assert read.messages == reading(name).messages[:end]
        assert read.problems == ()


def test_a_resumption_is_seen_by_a_change_cipher_spec_that_stayed_opaque() -> None:
    client, server = transcript("tls12-resumed")[:2]
    assert read_leg([client, server]).resumed is None
    assert read_leg([client, server, message(b"\x01", S, Content.CHANGE_CIPHER_SPEC)]).resumed is True
    sealed = Message(0.0, S, Content.CHANGE_CIPHER_SPEC, -1, True, 1, b"")
    assert read_leg([client, server, sealed]).resumed is True


@pytest.mark.parametrize("kept", [4, 9, 38, 39, 40])
def test_a_server_hello_that_ends_before_its_suite_says_nothing_was_agreed_on(kept: int) -> None:
    raw = next(one.raw for one in transcript("tls12-ecdhe") if one.code == 2)
    read = read_leg([message(raw[:kept], Side.SERVER, length=len(raw))])
    assert (read.version, read.cipher, read.ja3s, read.resumed) == (None, None, None, None)
    fields = read.messages[0].fields
    assert fields["cipher_suite"] is None
    assert fields["truncated"] == {"kept": kept, "length": len(raw)}


def test_an_alert_of_one_byte_has_no_description() -> None:
    read = read_leg([message(b"\x02", Side.SERVER, Content.ALERT, length=2)])
    assert read.messages[0].fields == {"level": "fatal", "description": None, "truncated": {"kept": 1, "length": 2}}


def test_a_message_that_was_cut_is_read_as_far_as_it_goes_and_marked() -> None:
    raw = next(one.raw for one in transcript("tls12-ecdhe") if one.raw[0] == 11)
    read = read_leg([message(raw[:100], S, length=len(raw))])
    (one,) = read.messages
    assert one.fields["truncated"] == {"kept": 100, "length": len(raw)}
    assert one.type == "certificate"
    assert one.fields["certificates"][0]["length"] < 100
    assert read.problems
    assert {problem.message for problem in read.problems} == {0}


def test_a_message_that_stayed_encrypted_is_marked() -> None:
    read = read_leg(
        [
            Message(1.0, C, Content.HANDSHAKE, -1, True, 40, b""),
            Message(1.0, C, Content.ALERT, -1, True, 2, b""),
            Message(1.0, C, Content.HANDSHAKE, 11, False, 900, b""),
        ]
    )
    assert [(one.type, one.fields, one.value) for one in read.messages] == [
        ("encrypted_handshake", {"sealed": True}, None),
        ("alert", {"sealed": True}, None),
        ("certificate", {"truncated": {"kept": 0, "length": 900}}, None),
    ]


def test_a_problem_carries_the_number_of_its_message_and_its_side() -> None:
    broken = hello([e.UnknownExtension(10, b"\0\0")]).build()
    read = read_leg([message(RFC8448_CLIENT_HELLO), Message(2.5, C, Content.HANDSHAKE, 1, False, len(broken), broken)])
    (problem,) = read.problems
    assert (problem.t, problem.sender, problem.message) == (2.5, C, 1)
    assert problem.field == "client_hello.extensions[0].supported_groups.groups"


def test_a_certificate_in_compressed_form_is_among_the_certificates() -> None:
    import zlib

    body = m.Certificate13(b"", (m.CertificateEntry(b"der"),)).body()
    compressed = m.CompressedCertificate(1, len(body), zlib.compress(body)).build()
    assert [one.der for one in read_leg([*rfc8448(), message(compressed, S)]).certificates] == [b"der"]


def test_the_first_handshake_of_a_renegotiated_leg_says_what_was_negotiated() -> None:
    first, second = transcript("tls12-ecdhe"), transcript("tls12-ecdhe-client-certificate")
    read = read_leg([*first, *second])
    assert read.sni == "instance.example"
    assert [one.sender for one in read.certificates] == [S, S, S, C]
    assert read.requested_ca_names is not None


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_messages_make_the_reading_raise(data: Any) -> None:
    raws = st.binary(max_size=80) | st.sampled_from([one.raw for name in NAMES for one in transcript(name)])
    one = st.builds(
        lambda raw, side, content, code, sealed, extra: Message(
            0.0, side, content, raw[0] if raw and code is None else code or -1, sealed, len(raw) + extra, raw
        ),
        raws,
        st.sampled_from(Side),
        st.sampled_from(Content),
        st.none() | st.integers(-1, 255),
        st.booleans(),
        st.sampled_from([0, 0, 0, 5]),
    )
    read = read_leg(data.draw(st.lists(one, max_size=6)))
    json.dumps(as_json(read))


def test_no_string_of_a_reading_can_change_a_terminal() -> None:
    hostile = b"\x1b]0;\x07\xe2\x80\xae" + bytes(range(128, 160))
    made = hello([e.ServerName((e.ServerNameEntry(0, hostile),)), e.Alpn((hostile,))]).build()
    read = read_leg([message(made)])
    text = f"{read.sni} {read.alpn_offered} {json.dumps(read.messages[0].fields)}"
    assert re.fullmatch(r"[ -~]*", text)


# ------------------------------------------------------------------------------------------------ at a glance


def test_a_glance_sees_what_the_reading_sees() -> None:
    for name in NAMES:
        raw = transcript(name)[0].raw
        glance, read = summarize_client_hello(raw), reading(name)
        assert glance.well_formed
        assert (glance.sni, glance.alpn_offered, glance.ja4) == (read.sni, read.alpn_offered, read.ja4)
        assert glance.random == read.client_random
        value = read.messages[0].value
        assert isinstance(value, m.ClientHello)
        assert (glance.ciphers, glance.session_id) == (value.cipher_suites, value.session_id)
        assert glance.extensions == tuple(one.code for one in value.extensions or ())


def test_a_glance_lists_versions_groups_and_shares_with_grease() -> None:
    made = hello(
        [
            e.SupportedVersions((0x6A6A, 0x0304, 0x0303)),
            e.SupportedGroups((0x0A0A, 4588, 29)),
            e.KeyShare((e.KeyShareEntry(0x0A0A, b"\0"), e.KeyShareEntry(29, bytes(32)))),
            e.SignatureAlgorithms((0x0403,)),
            e.StatusRequest(1, (), b""),
            e.ServerName((e.ServerNameEntry(0, b"host\n"),)),
            e.Alpn((b"h2", b"\xff")),
        ]
    )
    glance = summarize_client_hello(made.build())
    assert glance.versions == (0x6A6A, 0x0304, 0x0303)
    assert (glance.groups, glance.key_share_groups) == ((0x0A0A, 4588, 29), (0x0A0A, 29))
    assert (glance.sni, glance.sni_raw) == ("host\\x0a", b"host\n")
    assert (glance.alpn_offered, glance.alpn_raw) == (("h2", "\\xff"), (b"h2", b"\xff"))
    assert glance.has_status_request
    assert not glance.has_session_ticket
    assert glance.ja4 == ja4(made)


def test_a_glance_at_an_old_hello_knows_its_version() -> None:
    glance = summarize_client_hello(hello(None, version=0x0301).build())
    assert (glance.versions, glance.sni) == ((0x0301,), None)


def test_a_glance_at_a_hello_in_the_form_of_sslv2() -> None:
    value = m.Sslv2ClientHello(1, 0x0301, (0x2F, 0x010080), b"", bytes(16), b"\x80\x1f")
    glance = summarize_client_hello(value.build())
    assert glance.sslv2
    assert (glance.ciphers, glance.versions) == ((0x2F,), (0x0301,))


@pytest.mark.parametrize(
    "raw", [b"", b"\x01", b"GET / HTTP/1.1\r\n\r\n", b"\x02\x00\x00\x00", RFC8448_CLIENT_HELLO[:-1]]
)
def test_a_glance_at_something_else_is_not_well_formed(raw: bytes) -> None:
    assert not summarize_client_hello(raw).well_formed


@given(
    raw=st.binary(max_size=200),
    head=st.sampled_from([b"", b"\x01", b"\x01\x00\x00\xc4\x03\x03", b"\x80\x20\x01\x03\x01"]),
)
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_a_glance_raise(raw: bytes, head: bytes) -> None:
    assert isinstance(summarize_client_hello(head + raw), HelloSummary)


@given(value=structs(m.ClientHello))
@settings(max_examples=50, deadline=None)
def test_a_glance_and_the_decoder_agree(value: m.ClientHello) -> None:
    glance = summarize_client_hello(value.build())
    assert glance.well_formed
    assert glance.ja4 == ja4(value)
    assert glance.ciphers == value.cipher_suites
