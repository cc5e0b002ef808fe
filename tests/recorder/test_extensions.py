"""Extensions: each in the form of the message that carries it, GREASE and the unknown by their bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from countersign.recorder.wire import extensions as e, names
from countersign.recorder.wire.extensions import Extension, UnknownExtension, Where, show_extension
from countersign.recorder.wire.reader import FieldProblem, Reader
from tests.recorder.layouts import structs

FORMS = [
    (code, where, form)
    for code, wheres in sorted(e.extension_forms().items())
    for where, forms in wheres.items()
    for form in forms
]


def read(code: int, data: bytes, where: Where = Where.CLIENT_HELLO) -> tuple[Extension, list[FieldProblem]]:
    problems: list[FieldProblem] = []
    return e.read_extension(code, Reader(data, problems, name="extension"), where), problems


def show(code: int, data: bytes, where: Where = Where.CLIENT_HELLO) -> dict[str, Any]:
    value, problems = read(code, data, where)
    assert problems == []
    assert value.build()[4:] == data
    return show_extension(value)


@pytest.mark.parametrize(("code", "where", "form"), FORMS, ids=lambda value: getattr(value, "__name__", str(value)))
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_every_extension_is_read_again_as_it_was_built(
    code: int, where: Where, form: type[e.KnownExtension], data: Any
) -> None:
    value = data.draw(structs(form))
    built = value.build()
    assert int.from_bytes(built[:2], "big") == code
    again, problems = read(code, built[4:], where)
    assert problems == []
    assert again == value
    assert show_extension(again)["type"] == names.extension_name(code)


@pytest.mark.parametrize(("code", "where", "form"), FORMS, ids=lambda value: getattr(value, "__name__", str(value)))
@given(data=st.binary(max_size=60))
@settings(max_examples=15, deadline=None)
def test_no_body_makes_an_extension_raise(code: int, where: Where, form: type[e.KnownExtension], data: bytes) -> None:
    value, problems = read(code, data, where)
    show_extension(value)
    if not problems:
        assert value.build()[4:] == data


@pytest.mark.parametrize("code", sorted(e.extension_forms()))
def test_an_extension_of_zero_bytes_is_empty_or_noted(code: int) -> None:
    for where in e.extension_forms()[code]:
        value, problems = read(code, b"", where)
        assert problems or value.build()[4:] == b""


def test_every_number_of_the_registry_has_a_typed_form() -> None:
    untyped = {code for code in names.EXTENSIONS if code not in e.extension_forms()}
    assert {names.EXTENSIONS[code] for code in untyped} == {"key_share_draft", "ticket_early_data_info"}


def test_grease_is_marked_and_keeps_its_bytes() -> None:
    assert show(0x6A6A, b"\x00\x01") == {"type": "0x6a6a", "code": 0x6A6A, "grease": True, "data": "0001"}
    assert show(0x1234, b"\xff") == {"type": "0x1234", "code": 0x1234, "data": "ff"}
    assert UnknownExtension(0x0A0A, b"").build() == b"\x0a\x0a\x00\x00"


def test_the_same_number_has_another_form_in_another_message() -> None:
    assert show(51, bytes.fromhex("00056a6a000100"))["entries"] == [{"group": "0x6a6a", "key_exchange": "00"}]
    assert show(51, bytes.fromhex("001d0001aa"), Where.SERVER_HELLO)["group"] == "x25519"
    assert show(51, bytes.fromhex("11ec"), Where.HELLO_RETRY_REQUEST)["selected_group"] == "X25519MLKEM768"
    assert show(43, bytes.fromhex("067f1c03046a6a"))["versions"] == ["TLSv1.3-draft28", "TLSv1.3", "0x6a6a"]
    assert show(43, bytes.fromhex("0304"), Where.SERVER_HELLO)["selected_version"] == "TLSv1.3"
    assert show(42, b"", Where.ENCRYPTED_EXTENSIONS) == {"type": "early_data", "code": 42}
    assert show(42, bytes.fromhex("00004000"), Where.NEW_SESSION_TICKET)["max_early_data_size"] == 16384


def test_a_number_in_a_message_where_it_has_no_form_keeps_its_bytes() -> None:
    assert read(41, b"\x00\x00", Where.CERTIFICATE) == (UnknownExtension(41, b"\x00\x00"), [])


def test_hybrid_groups_and_post_quantum_schemes_have_names() -> None:
    groups = show(10, bytes.fromhex("000c11ec11eb11ed0202639 90029".replace(" ", "")))["groups"]
    assert groups == [
        "X25519MLKEM768",
        "SecP256r1MLKEM768",
        "SecP384r1MLKEM1024",
        "MLKEM1024",
        "X25519Kyber768Draft00",
        "curveSM2",
    ]
    assert show(13, bytes.fromhex("00060905091c0804"))["schemes"] == [
        "mldsa65",
        "slhdsa_shake_256f",
        "rsa_pss_rsae_sha256",
    ]


def test_an_encrypted_client_hello_shows_its_suite_and_its_configuration() -> None:
    outer = bytes.fromhex("00000100032a0002aabb0003112233")
    assert show(65037, outer) == {
        "type": "encrypted_client_hello",
        "code": 65037,
        "kind": "outer",
        "cipher_suite": {"kdf_id": "HKDF-SHA256", "aead_id": "ChaCha20Poly1305"},
        "config_id": 42,
        "enc": "aabb",
        "payload": "112233",
    }
    assert show(65037, b"\x01")["kind"] == "inner"
    assert show(65037, bytes(8), Where.HELLO_RETRY_REQUEST)["confirmation"] == "00" * 8
    config = bytes.fromhex("0700200001aa00040001000140") + b"\x06public" + bytes(2)
    configs = b"\xfe\x0d" + len(config).to_bytes(2, "big") + config + b"\xfe\x0a\x00\x01\xff"
    shown = show(65037, len(configs).to_bytes(2, "big") + configs, Where.ENCRYPTED_EXTENSIONS)["retry_configs"]
    assert shown[0]["contents"]["public_name"] == "public"
    assert shown[0]["contents"]["kem_id"] == "DHKEM(X25519, HKDF-SHA256)"
    assert shown[1] == {"version": "0xfe0a", "contents": "ff"}


def test_quic_parameters_keep_the_width_of_their_numbers() -> None:
    shown = show(57, bytes.fromhex("010267108000000f4001aa1b00"))
    assert [one["id"] for one in shown["parameters"]] == ["max_idle_timeout", "initial_source_connection_id", "0x1b"]


def test_padding_is_counted_and_shown_only_when_it_is_no_padding() -> None:
    assert show(21, bytes(200))["padding"] == "200 bytes"
    assert show(21, b"\0\1")["padding"] == "0001"


def test_flags_are_shown_by_their_numbers() -> None:
    assert show(62, b"\x02\x01\x80")["flags"] == [0, 15]


def test_a_stapled_answer_that_is_no_der_is_shown_with_the_reason() -> None:
    shown = show(5, b"\x01\x00\x00\x02\xff\xff", Where.CERTIFICATE)
    assert shown["response"]["length"] == 2
    assert shown["response"]["problems"]


def test_a_status_request_of_an_unknown_type_keeps_its_bytes() -> None:
    assert show(5, b"\x09\xaa") == {"type": "status_request", "code": 5, "status_type": "0x09", "request": "aa"}


def test_hostile_protocol_names_are_escaped() -> None:
    protocols = show(16, b"\x00\x0a\x02h2\x06\x1b[2J\xe2\x80"[:-2] + b"\xc2\xa0")["protocols"]
    assert protocols == ["h2", "\\x1b[2J\\xc2\\xa0"]


# ------------------------------------------------------------------------------------------------------------- names


def test_the_registry_of_suites_is_whole() -> None:
    assert len(names.CIPHER_SUITES) == 352
    for number, name in {
        0x0000: "TLS_NULL_WITH_NULL_NULL",
        0x00FF: "TLS_EMPTY_RENEGOTIATION_INFO_SCSV",
        0x1301: "TLS_AES_128_GCM_SHA256",
        0x1307: "TLS_AEGIS_128L_SHA256",
        0x5600: "TLS_FALLBACK_SCSV",
        0xC0B5: "TLS_SHA384_SHA384",
        0xC106: "TLS_GOSTR341112_256_WITH_MAGMA_MGM_S",
        0xCCAE: "TLS_RSA_PSK_WITH_CHACHA20_POLY1305_SHA256",
        0xD005: "TLS_ECDHE_PSK_WITH_AES_128_CCM_SHA256",
    }.items():
        assert names.cipher_suite_name(number) == name
        assert names.cipher_suite_number(name) == number


@pytest.mark.parametrize("grease", sorted(names.GREASE))
def test_no_registry_gives_grease_a_name(grease: int) -> None:
    text = f"0x{grease:04x}"
    assert names.is_grease(grease)
    for name in (names.cipher_suite_name, names.group_name, names.extension_name, names.version_name):
        assert name(grease) == text
    assert names.signature_scheme_name(grease) == text


def test_names_and_numbers_are_each_others_inverse() -> None:
    for table, number in (
        (names.CIPHER_SUITES, names.cipher_suite_number),
        (names.ALERTS, names.alert_number),
    ):
        for code, name in table.items():
            assert number(name) == code
        assert number("no such name") is None
        assert number("0x1234") == 0x1234


def test_every_suite_says_its_key_exchange_or_is_one_of_tls_1_3() -> None:
    assert names.key_exchange(0xC02F) == "ECDHE_RSA"
    assert names.key_exchange(0x0003) == "RSA"
    assert names.key_exchange(0xC0AA) == "DHE_PSK"
    assert names.key_exchange(0x1301) is None
    assert names.key_exchange(0x6A6A) is None


def test_versions_read_as_openssl_writes_them() -> None:
    assert [names.version_name(one) for one in (2, 0x300, 0x301, 0x302, 0x303, 0x304)] == [
        "SSLv2",
        "SSLv3",
        "TLSv1.0",
        "TLSv1.1",
        "TLSv1.2",
        "TLSv1.3",
    ]


@given(data=st.binary(max_size=60))
def test_what_is_made_readable_is_printable_ascii_and_stays_apart(data: bytes) -> None:
    text = names.readable(data)
    assert text.isascii()
    assert text.isprintable() or not text
    assert text.encode("ascii").decode("unicode_escape").encode("latin-1") == data


def test_what_is_read_again_is_the_same_and_its_problems_are_noted_again() -> None:
    good = e.SignatureAlgorithms((0x0403, 0x0804)).build()
    odd = b"\x00\x0d\x00\x05\x00\x03\x04\x03\x08"  # three bytes of numbers that have two
    for _ in range(3):
        problems: list[FieldProblem] = []
        block = Reader((len(good) + len(odd)).to_bytes(2, "big") + good + odd, problems, name="hello")
        found = e.ExtensionBlock(e.Where.CERTIFICATE_REQUEST).read(block, "extensions")
        assert found == (e.SignatureAlgorithms((0x0403, 0x0804)), e.SignatureAlgorithms((0x0403,)))
        assert [problem.field for problem in problems] == [
            "hello.extensions[1].signature_algorithms",
            "hello.extensions[1].signature_algorithms.schemes",
        ]
