"""Handshake messages: decoded, built again, and what is said of those that are not as they should be."""

from __future__ import annotations

import tracemalloc
import zlib
from dataclasses import replace
from typing import Any

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given, settings, strategies as st

from countersign.recorder.wire import messages as m, names
from countersign.recorder.wire.events import Content, Side
from countersign.recorder.wire.extensions import KeyShare, KeyShareEntry, ServerName, ServerNameEntry, UnknownExtension
from countersign.recorder.wire.messages import DecodeContext, Opaque, decode, decode_alert, decode_message, message_type
from tests.recorder.layouts import structs
from tests.recorder.transcripts import (
    NAMES,
    RFC8448_CLIENT_HELLO,
    RFC8448_ENCRYPTED_EXTENSIONS,
    RFC8448_SERVER_HELLO,
    context,
    framed,
    hello,
    reading,
    transcript,
)

TLS12, TLS13 = DecodeContext(0x0303), DecodeContext(0x0304)

# Every message type, with the context in which its form is chosen.
FORMS: list[tuple[type[m.HandshakeMessage], DecodeContext]] = [
    (m.HelloRequest, TLS12),
    (m.ClientHello, DecodeContext()),
    (m.ServerHello, DecodeContext()),
    (m.EncryptedExtensions, TLS13),
    (m.Certificate, TLS12),
    (m.Certificate13, TLS13),
    (m.CertificateStatus, TLS12),
    (m.CertificateUrl, TLS12),
    (m.CertificateRequest10, DecodeContext(0x0301)),
    (m.CertificateRequest12, TLS12),
    (m.CertificateRequest13, TLS13),
    (m.ClientCertificateRequest, TLS13),
    (m.ServerHelloDone, TLS12),
    (m.ClientKeyExchangeRsa, DecodeContext(0x0303, 0x002F)),
    (m.ClientKeyExchangeDh, DecodeContext(0x0303, 0x0033)),
    (m.ClientKeyExchangeEcdh, DecodeContext(0x0303, 0xC02F)),
    (m.ClientKeyExchangePsk, DecodeContext(0x0303, 0x00A8)),
    (m.ClientKeyExchangeDhePsk, DecodeContext(0x0303, 0xC0AA)),
    (m.ClientKeyExchangeEcdhePsk, DecodeContext(0x0303, 0xD001)),
    (m.ClientKeyExchangeRsaPsk, DecodeContext(0x0303, 0x00AC)),
    (m.ClientKeyExchangeSrp, DecodeContext(0x0303, 0xC01E)),
    (m.ClientKeyExchangeKerberos, DecodeContext(0x0301, 0x001E)),
    (m.ClientKeyExchangeOther, DecodeContext(0x0300, 0x002F)),
    (m.CertificateVerify, TLS13),
    (m.CertificateVerify10, DecodeContext(0x0302)),
    (m.NewSessionTicket, TLS12),
    (m.NewSessionTicket13, TLS13),
    (m.EndOfEarlyData, TLS13),
    (m.KeyUpdate, TLS13),
    (m.NextProtocol, TLS12),
    (m.SupplementalData, TLS12),
    (m.EktKey, TLS12),
    (m.MessageHash, TLS13),
]

SERVER_KEY_EXCHANGES = [
    (0xC02F, m.EcdhParams, True),
    (0xC02B, m.EcdhParams, True),
    (0xC018, m.EcdhParams, False),
    (0x009E, m.DhParams, True),
    (0x00A6, m.DhParams, False),
    (0x0003, m.RsaParams, True),
    (0x00A8, m.PskHintParams, False),
    (0x00AC, m.PskHintParams, False),
    (0x00AA, m.DhePskParams, False),
    (0xD001, m.EcdhePskParams, False),
    (0xC01D, m.SrpParams, False),
    (0xC01E, m.SrpParams, True),
]


HANDSHAKE_MESSAGES = [
    (name, number) for name in NAMES for number, one in enumerate(transcript(name)) if one.content is Content.HANDSHAKE
]


# ------------------------------------------------------------------------------------------------------ real messages


@pytest.mark.parametrize("name", NAMES)
def test_every_message_of_a_real_handshake_is_typed_without_problems_and_built_again_to_the_byte(name: str) -> None:
    read = reading(name)
    assert read.problems == ()
    for one in read.messages:
        assert not isinstance(one.value, Opaque)
        assert one.value is not None
        assert one.value.build() == one.message.raw


def test_the_hellos_of_rfc_8448_say_what_the_rfc_says() -> None:
    client = decode_message(RFC8448_CLIENT_HELLO)
    assert client.problems == ()
    fields = client.value.fields()
    assert fields["cipher_suites"] == [
        "TLS_AES_128_GCM_SHA256",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_256_GCM_SHA384",
    ]
    assert fields["extensions"][0] == {
        "type": "server_name",
        "code": 0,
        "names": [{"name_type": "host_name", "host_name": "server"}],
    }
    assert [one["type"] for one in fields["extensions"]][-2:] == ["psk_key_exchange_modes", "record_size_limit"]
    server = decode_message(RFC8448_SERVER_HELLO)
    assert server.problems == ()
    assert server.value.fields()["extensions"][0]["group"] == "x25519"
    encrypted = decode_message(RFC8448_ENCRYPTED_EXTENSIONS, TLS13)
    assert encrypted.problems == ()
    assert encrypted.value.fields()["extensions"][2] == {"type": "server_name", "code": 0}
    for raw, decoded in ((RFC8448_CLIENT_HELLO, client), (RFC8448_SERVER_HELLO, server)):
        assert decoded.value.build() == raw


@pytest.mark.parametrize(("name", "number"), HANDSHAKE_MESSAGES)
def test_with_only_some_extensions_typed_the_rest_of_a_message_reads_the_same(name: str, number: int) -> None:
    raw, known = transcript(name)[number].raw, context(name)
    whole, part = decode_message(raw, known), decode_message(raw, known, only=frozenset({43}))
    assert part.problems == whole.problems
    if not isinstance(whole.value, m.ClientHello | m.ServerHello | m.HelloRetryRequest):
        assert part == whole
        return
    assert isinstance(part.value, type(whole.value))
    untyped = tuple(
        one if one.code == 43 else UnknownExtension(one.code, one.build()[4:]) for one in whole.value.extensions or ()
    )
    assert part.value == replace(whole.value, extensions=untyped)


@pytest.mark.parametrize(("name", "number"), HANDSHAKE_MESSAGES)
def test_every_strict_prefix_of_a_real_message_is_read_as_far_as_it_goes_and_noted(name: str, number: int) -> None:
    raw, known = transcript(name)[number].raw, context(name)
    step = max(1, len(raw) // 200)  # certificates are long, and their inside is of one piece
    for end in {*range(0, len(raw), step), *range(min(len(raw), 64)), len(raw) - 1}:
        for decoded in (decode_message(raw[:end], known), decode_message(raw[:end])):
            assert decoded.problems
            assert decoded.value.fields() is not None
            assert decoded.value.build() is not None


@pytest.mark.parametrize(("name", "number"), HANDSHAKE_MESSAGES)
def test_a_byte_behind_a_real_message_is_noted(name: str, number: int) -> None:
    raw, known = transcript(name)[number].raw, context(name)
    decoded = decode_message(raw + b"\0", known)
    assert decoded.problems[-1].expected == "nothing more"
    assert decoded.problems[-1].offset == len(raw)
    assert decoded.value == decode_message(raw, known).value


@pytest.mark.parametrize(("name", "number"), HANDSHAKE_MESSAGES)
def test_a_byte_inside_of_the_declared_length_and_behind_the_last_field_is_noted(name: str, number: int) -> None:
    raw, known = transcript(name)[number].raw, context(name)
    assert decode_message(framed(raw[0], raw[4:] + b"\0"), known).problems


# --------------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize(("form", "known"), FORMS, ids=lambda value: getattr(value, "__name__", ""))
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_what_is_built_is_what_is_decoded(form: type[m.HandshakeMessage], known: DecodeContext, data: Any) -> None:
    value = data.draw(structs(form))
    decoded = decode_message(value.build(), known)
    assert decoded.problems == ()
    assert decoded.value == value
    assert decoded.value.build() == value.build()
    assert decoded.value.fields() == value.fields()


@pytest.mark.parametrize(("suite", "params", "signed"), SERVER_KEY_EXCHANGES)
@pytest.mark.parametrize("version", [0x0301, 0x0303])
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_a_server_key_exchange_has_the_form_that_its_suite_gives_it(
    suite: int, params: Any, *, signed: bool, version: int, data: Any
) -> None:
    drawn = data.draw(structs(params))
    if isinstance(drawn, m.EcdhParams):
        drawn = m.EcdhParams(3, drawn.named_curve, drawn.public)
    elif isinstance(drawn, m.EcdhePskParams):
        drawn = m.EcdhePskParams(drawn.psk_identity_hint, m.EcdhParams(3, drawn.ecdh.named_curve, drawn.ecdh.public))
    signature = data.draw(structs(m.Signature if version == 0x0303 else m.Signature10)) if signed else None
    value = m.ServerKeyExchange(drawn, signature)
    decoded = decode_message(value.build(), DecodeContext(version, suite))
    assert decoded.problems == ()
    assert decoded.value == value


def test_a_hello_retry_request_is_told_by_its_random() -> None:
    raw = next(one.raw for one in transcript("tls13-hello-retry-request") if one.raw[:1] == b"\x02")
    decoded = decode_message(raw)
    assert isinstance(decoded.value, m.HelloRetryRequest)
    assert decoded.value.type == "hello_retry_request" == message_type(Content.HANDSHAKE, 2, raw)
    assert {"type": "key_share", "code": 51, "selected_group": "secp384r1"} in decoded.value.fields()["extensions"]


def test_without_context_the_form_that_fits_to_the_last_byte_is_taken() -> None:
    for name in ("tls13-client-certificate", "tls12-ecdhe-client-certificate", "tls13-resumed", "tls12-dhe"):
        for one in reading(name).messages:
            if one.message.content is Content.HANDSHAKE and one.type != "client_key_exchange":
                decoded = decode_message(one.message.raw)
                assert decoded.problems == ()
                assert decoded.value == one.value


# -------------------------------------------------------------------------------------------------------- wrong fields


def paths(decoded: m.Decoded) -> list[str]:
    return [problem.field for problem in decoded.problems]


def test_a_problem_names_the_field_by_its_path_and_the_byte_by_its_offset() -> None:
    shares = KeyShare((KeyShareEntry(0x6A6A, b"\0"), KeyShareEntry(29, b"")))
    raw = hello([UnknownExtension(0x0A0A, b""), shares]).build()
    (problem,) = decode_message(raw).problems
    assert problem.field == "client_hello.extensions[1].key_share.entries[1].key_exchange"
    assert problem.offset == len(raw) - 2
    assert str(problem) == f"{problem.field} at byte {len(raw) - 2}: expected at least 1 byte, got 0 bytes"


def test_a_vector_that_reaches_over_its_end_is_noted_and_what_is_behind_it_is_still_read() -> None:
    broken = UnknownExtension(16, b"\x00\x0c\x02h2\x40http")  # ALPN: the second protocol claims 64 bytes
    raw = hello([broken, ServerName((ServerNameEntry(0, b"host"),))]).build()
    decoded = decode_message(raw)
    assert paths(decoded) == [
        "client_hello.extensions[0].application_layer_protocol_negotiation.protocols",
        "client_hello.extensions[0].application_layer_protocol_negotiation.protocols[1]",
    ]
    alpn, name = decoded.value.fields()["extensions"]
    assert alpn["protocols"] == ["h2", "http"]
    assert name["names"][0]["host_name"] == "host"


def test_a_second_extension_of_one_type_is_noted_and_both_are_kept() -> None:
    decoded = decode_message(
        hello([ServerName((ServerNameEntry(0, b"a"),)), ServerName((ServerNameEntry(0, b"b"),))]).build()
    )
    assert paths(decoded) == ["client_hello.extensions[1].server_name"]
    assert decoded.problems[0].expected == "each extension type once"
    assert [one["names"][0]["host_name"] for one in decoded.value.fields()["extensions"]] == ["a", "b"]


def test_lists_that_must_not_be_empty_are_noted_when_they_are() -> None:
    decoded = decode_message(hello([UnknownExtension(10, b"\0\0"), UnknownExtension(43, b"\0")], suites=()).build())
    assert paths(decoded) == [
        "client_hello.cipher_suites",
        "client_hello.extensions[0].supported_groups.groups",
        "client_hello.extensions[1].supported_versions.versions",
    ]


def test_a_list_of_shorts_with_an_odd_byte_keeps_the_whole_ones() -> None:
    decoded = decode_message(hello([UnknownExtension(10, b"\x00\x03\x00\x1d\x00")]).build())
    assert decoded.problems[0].expected == "a multiple of 2 bytes"
    assert decoded.value.fields()["extensions"][0]["groups"] == ["x25519"]


def test_a_pre_shared_key_that_is_not_last_is_noted() -> None:
    from countersign.recorder.wire.extensions import PreSharedKey, PskIdentity

    psk = PreSharedKey((PskIdentity(b"x", 0),), (bytes(32),))
    decoded = decode_message(hello([psk, UnknownExtension(0x2A2A, b"")]).build())
    assert [problem.expected for problem in decoded.problems] == ["pre_shared_key as the last extension"]


def test_a_hello_without_extensions_differs_from_one_with_an_empty_list() -> None:
    without, empty = hello(None).build(), hello(()).build()
    assert without != empty
    for raw, extensions in ((without, None), (empty, ())):
        decoded = decode_message(raw)
        assert decoded.problems == ()
        assert isinstance(decoded.value, m.ClientHello)
        assert decoded.value.extensions == extensions
        assert decoded.value.build() == raw


def test_a_finished_of_a_length_that_no_suite_has_is_noted() -> None:
    assert decode_message(framed(20, bytes(12)), TLS12).problems == ()
    assert decode_message(framed(20, bytes(48)), TLS13).problems == ()
    assert paths(decode_message(framed(20, bytes(12)), TLS13)) == ["finished.verify_data"]
    assert paths(decode_message(framed(20, b""))) == ["finished.verify_data"]


def test_an_unknown_message_type_keeps_its_number_and_its_bytes() -> None:
    raw = framed(0x99, b"abc")
    decoded = decode_message(raw)
    assert decoded.problems == ()
    assert decoded.value == Opaque(0x99, raw)
    assert decoded.value.type == "handshake_0x99" == message_type(Content.HANDSHAKE, 0x99, raw)
    assert decoded.value.build() == raw


def test_a_curve_that_is_written_out_is_read_and_noted() -> None:
    params = m.ExplicitPrimeParams(1, b"p", b"a", b"b", b"G", b"n", b"h", b"Q")
    value = m.ServerKeyExchange(params, m.Signature(0x0403, b"s"))
    decoded = decode_message(value.build(), DecodeContext(0x0303, 0xC02F))
    assert paths(decoded) == ["server_key_exchange.curve_type"]
    assert decoded.value == value


def test_a_client_key_exchange_may_be_empty_when_the_certificate_held_the_key() -> None:
    decoded = decode_message(framed(16, b""), DecodeContext(0x0303, 0xC005))
    assert decoded == m.Decoded(m.ClientKeyExchangeImplicit(), ())


def test_a_downgrade_that_the_server_random_confesses_is_shown() -> None:
    value = m.ServerHello(0x0303, bytes(24) + b"DOWNGRD\x01", b"", 0xC02F, 0)
    assert value.downgraded_from_tls13
    assert value.fields()["downgrade"] == "TLSv1.3 to TLSv1.2"
    assert "downgrade" not in m.ServerHello(0x0303, bytes(32), b"", 0xC02F, 0).fields()


# ---------------------------------------------------------------------------------------------------------- any bytes

CONTEXTS = st.builds(
    DecodeContext,
    st.sampled_from([None, 0x0300, 0x0301, 0x0303, 0x0304, 0x7F1C, 0x6A6A]),
    st.sampled_from([None, 0x002F, 0x0033, 0xC02F, 0x1301, 0x00A8, 0xC01E, 0x6A6A]),
    st.sampled_from([None, Side.CLIENT, Side.SERVER]),
)


@given(raw=st.binary(max_size=400), known=CONTEXTS, content=st.sampled_from(Content))
@settings(max_examples=400, deadline=None)
def test_no_bytes_make_a_decoder_raise(raw: bytes, known: DecodeContext, content: Content) -> None:
    decoded = decode(content, raw, known)
    decoded.value.fields()
    message_type(content, raw[0] if raw else -1, raw)
    if not decoded.problems:
        assert decoded.value.build() == raw


@given(code=st.sampled_from(sorted(names.HANDSHAKE_TYPES)), body=st.binary(max_size=300), known=CONTEXTS)
@settings(max_examples=600, deadline=None)
def test_no_body_behind_a_known_type_makes_a_decoder_raise(code: int, body: bytes, known: DecodeContext) -> None:
    raw = framed(code, body)
    decoded = decode_message(raw, known)
    decoded.value.fields()
    if not decoded.problems:
        assert decoded.value.build() == raw


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_no_change_to_a_real_message_makes_a_decoder_raise(data: Any) -> None:
    name = data.draw(st.sampled_from(NAMES))
    raw = bytearray(data.draw(st.sampled_from(transcript(name))).raw)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, raw[at] ^ 1]))
    decoded = decode_message(bytes(raw), context(name))
    decoded.value.fields()
    if not decoded.problems:
        assert decoded.value.build() == bytes(raw)


def test_a_problem_is_no_longer_than_a_line_and_holds_no_hostile_text() -> None:
    junk = bytes(range(256))
    for code in names.HANDSHAKE_TYPES:
        for problem in decode_message(framed(code, junk)).problems:
            assert str(problem).isascii()
            assert str(problem).isprintable()
            assert len(str(problem)) < 300


# ------------------------------------------------------------------------------------------- alerts and other contents


def test_an_alert_shows_its_level_and_its_name() -> None:
    decoded = decode_alert(b"\x02\x30")
    assert decoded == m.Decoded(m.Alert(2, 48), ())
    assert decoded.value.fields() == {"level": "fatal", "description": "unknown_ca"}
    assert decoded.value.type == "alert"
    assert decode_alert(b"\x03\xee").value.fields() == {"level": "0x03", "description": "0xee"}


@pytest.mark.parametrize("raw", [b"", b"\x02", b"\x02\x30\x00"])
def test_an_alert_that_is_not_two_bytes_is_noted(raw: bytes) -> None:
    assert decode_alert(raw).problems


def test_a_change_cipher_spec_is_the_byte_one() -> None:
    assert decode(Content.CHANGE_CIPHER_SPEC, b"\x01").problems == ()
    for raw in (b"", b"\x02", b"\x01\x01"):
        assert decode(Content.CHANGE_CIPHER_SPEC, raw).problems


def test_a_heartbeat_that_asks_for_more_than_it_sends_is_noted() -> None:
    honest = m.HeartbeatMessage(1, b"ping", bytes(16))
    assert decode(Content.HEARTBEAT, honest.build()) == m.Decoded(honest, ())
    assert paths(decode(Content.HEARTBEAT, b"\x01\x40\x00x")) == ["heartbeat.payload"]


# --------------------------------------------------------------------------------------------------- SSLv2-form hellos


def sslv2(
    specs: bytes = bytes.fromhex("00002f0700c0010080"), session: bytes = b"", challenge: bytes = bytes(16)
) -> bytes:
    lengths = b"".join(len(part).to_bytes(2, "big") for part in (specs, session, challenge))
    body = b"\x01\x03\x01" + lengths + specs + session + challenge
    return (0x8000 | len(body)).to_bytes(2, "big") + body


def test_a_client_hello_in_the_form_of_sslv2_is_read_and_built_again() -> None:
    raw = sslv2()
    decoded = decode_message(raw)
    assert decoded.problems == ()
    assert decoded.value.build() == raw
    assert decoded.value.type == "client_hello" == message_type(Content.HANDSHAKE, 1, raw)
    assert decoded.value.fields()["cipher_suites"] == [
        "TLS_RSA_WITH_AES_128_CBC_SHA",
        "SSL_CK_DES_192_EDE3_CBC_WITH_MD5",
        "SSL_CK_RC4_128_WITH_MD5",
    ]


def test_every_prefix_and_tail_of_an_sslv2_hello_is_noted() -> None:
    raw = sslv2()
    assert all(decode_message(raw[:end]).problems for end in range(len(raw)))
    assert decode_message(raw + b"\0").problems
    assert paths(decode_message(sslv2(specs=b"\0\0"))) == ["client_hello.cipher_specs"]
    assert paths(decode_message(sslv2(specs=b""))) == ["client_hello.cipher_specs"]


# --------------------------------------------------------------------------------------------- compressed certificates

PLAIN = m.Certificate13(b"", (m.CertificateEntry(b"certificate" * 20),)).body()
COMPRESSED = {
    1: zlib.compress(PLAIN),
    2: brotli.compress(PLAIN),
    3: zstandard.ZstdCompressor().compress(PLAIN),
}


@pytest.mark.parametrize("algorithm", COMPRESSED)
def test_a_compressed_certificate_is_opened(algorithm: int) -> None:
    value = m.CompressedCertificate(algorithm, len(PLAIN), COMPRESSED[algorithm])
    decoded = decode_message(value.build(), TLS13)
    assert decoded.problems == ()
    assert isinstance(decoded.value, m.CompressedCertificate)
    assert decoded.value.certificates == (b"certificate" * 20,)
    assert decoded.value.build() == value.build()
    assert decoded.value.fields()["algorithm"] == names.CERTIFICATE_COMPRESSION[algorithm]


@pytest.mark.parametrize("algorithm", [*COMPRESSED, 9])
@pytest.mark.parametrize("change", ["longer", "shorter", "cut", "tail", "noise"])
def test_a_compressed_certificate_that_is_not_what_it_declares_is_noted(algorithm: int, change: str) -> None:
    data, size = COMPRESSED.get(algorithm, b"data"), len(PLAIN)
    if change == "longer":
        size += 1
    elif change == "shorter":
        size -= 1
    elif change == "cut":
        data = data[:-3]
    elif change == "tail":
        data += b"tail"
    else:
        data = b"\x1f noise that is not compressed"
    decoded = decode_message(m.CompressedCertificate(algorithm, size, data).build(), TLS13)
    assert paths(decoded) == ["compressed_certificate.compressed"]
    assert decoded.value.build() == m.CompressedCertificate(algorithm, size, data).build()


def bomb(algorithm: int, size: int) -> bytes:
    if algorithm == 1:
        return zlib.compress(bytes(size), 9)
    if algorithm == 2:
        return bytes(brotli.compress(bytes(size)))
    return zstandard.ZstdCompressor(level=3).compress(bytes(size))


@pytest.mark.parametrize("algorithm", COMPRESSED)
@pytest.mark.parametrize("declared", [600, 0xFFFFFF])
def test_a_decompression_bomb_is_refused_with_its_declared_size_and_without_memory(
    algorithm: int, declared: int
) -> None:
    """T11 (OpenSSL CVE-2025-66199)."""
    raw = m.CompressedCertificate(algorithm, declared, bomb(algorithm, 64 << 20)[: 1 << 18]).build()
    decode_message(m.CompressedCertificate(algorithm, len(PLAIN), COMPRESSED[algorithm]).build())  # imports
    tracemalloc.start()
    decoded = decode_message(raw, TLS13)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    (problem,) = decoded.problems
    if declared == 600:
        assert problem.got == "more than 600 bytes"
    else:
        assert problem.field == "compressed_certificate.uncompressed_length"
        assert "16777215 bytes" in problem.got


def test_a_huge_declaration_over_forty_bytes_is_not_believed() -> None:
    decoded = decode_message(m.CompressedCertificate(1, 0xFFFFFF, bytes(40)).build(), TLS13)
    assert decoded.problems[0].got == "a declared length of 16777215 bytes for 40 bytes"


# ---------------------------------------------------------------------------------------------------- hostile contents


def test_a_certificate_that_is_none_is_shown_with_the_reason() -> None:
    shown = m.Certificate((b"not DER",)).fields()["certificates"][0]
    assert shown["length"] == 7
    assert shown["subject"] is None
    assert "error" in shown


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_no_change_to_a_real_certificate_makes_the_fields_raise_or_warn(data: Any) -> None:
    """T16. Warnings are errors here, and a certificate with a serial number of 0 makes the parser warn."""
    der = bytearray(reading("tls12-ecdhe").certificates[0].der)
    for _ in range(data.draw(st.integers(1, 3))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    shown = m.Certificate((bytes(der),)).fields()["certificates"][0]
    assert "Warning" not in shown.get("error", "")


def test_a_parser_that_warns_is_not_heard() -> None:
    der = reading("tls12-ecdhe").certificates[0].der
    at = der.index(b"\x02\x14") + 2  # the serial number
    shown = m.Certificate((der[:at] + b"\x80" + der[at + 1 :],)).fields()["certificates"][0]
    assert shown["subject"] == "CN=instance.example"
    assert "error" not in shown


@given(der=st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_no_certificate_and_no_name_makes_the_fields_raise(der: bytes) -> None:
    m.Certificate((der,)).fields()
    m.CertificateRequest10((1,), (der,)).fields()
    m.CertificateStatus(1, der).fields()


def test_a_name_of_a_ca_with_hostile_characters_is_escaped() -> None:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    hostile = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "evil\u202e\x1b[31m\u200bName \u00e9\u65e5")])
    shown = m.CertificateRequest10((1,), (hostile.public_bytes(),)).fields()["certificate_authorities"][0]
    assert shown["der"] == hostile.public_bytes().hex()
    assert shown["text"] == "CN=evil\\u202e\\x1b[31m\\u200bName \u00e9\u65e5"


def test_a_server_name_of_control_characters_is_escaped() -> None:
    decoded = decode_message(hello([ServerName((ServerNameEntry(0, b"a\0\r\n\x1b\xe2\x80\xae\\"),))]).build())
    assert decoded.problems == ()
    shown = decoded.value.fields()["extensions"][0]["names"][0]["host_name"]
    assert shown == "a\\x00\\x0d\\x0a\\x1b\\xe2\\x80\\xae\\x5c"


def test_a_message_of_the_largest_size_is_read_in_linear_time() -> None:
    """T30 and T12: many tiny items must not cost more than their bytes."""
    tiny = UnknownExtension(16, b"\xff\xff" + b"\x00" * 65500)
    decoded = decode_message(hello([tiny]).build())
    assert len(decoded.problems) == 100
    assert decoded.problems[-1].got == "more, which are left out"
    labels = b".".join([b"xn--" + b"a" * 59] * 255)
    assert decode_message(hello([ServerName((ServerNameEntry(0, labels),))]).build()).problems == ()
