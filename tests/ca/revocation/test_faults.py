"""Faults are values: they are read from words, written as words, and cannot be combined into what never happens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from countersign.ca.revocation import Fault, Kind, Reason, What, fault_of, parse_fault, parse_serial
from countersign.errors import UserError

OCSP, ALL = frozenset({Kind.OCSP}), frozenset(Kind)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("tryLater", Fault(What.TRY_LATER)),
        ("try-later", Fault(What.TRY_LATER)),
        ("TRY_LATER", Fault(What.TRY_LATER)),
        ("hang", Fault(What.HANG, seconds=600)),
        ("crl:hang=2m,issuer=root", Fault(What.HANG, frozenset({Kind.CRL}), issuer="root", seconds=120)),
        ("ocsp+aia:drip=0.5", Fault(What.DRIP, frozenset({Kind.OCSP, Kind.AIA}), seconds=0.5)),
        ("404", Fault(What.HTTP, status=404)),
        ("aia:http=503,times=2", Fault(What.HTTP, frozenset({Kind.AIA}), status=503, times=2)),
        ("big", Fault(What.BIG, size=100 << 20)),
        ("crl:big=20M", Fault(What.BIG, size=20 << 20)),
        ("expired=7d", Fault(What.EXPIRED, seconds=7 * 86400)),
        ("redirect=http://elsewhere.test/a?b=c:d", Fault(What.REDIRECT, location="http://elsewhere.test/a?b=c:d")),
        ("ocsp:unknown,serial=1f:3A", Fault(What.UNKNOWN, OCSP, serial=0x1F3A)),
        ("revoked", Fault(What.REVOKED, OCSP)),
        ("revoked,serial=ff", Fault(What.REVOKED, frozenset({Kind.OCSP, Kind.CRL}), serial=0xFF)),
        (
            "revoked=keyCompromise@2026-01-31",
            Fault(What.REVOKED, reason=Reason.KEY_COMPROMISE, date=datetime(2026, 1, 31, tzinfo=UTC)),
        ),
        (
            "revoked=@2026-01-31T08:00:00+02:00",
            Fault(What.REVOKED, date=datetime(2026, 1, 31, 6, tzinfo=UTC)),
        ),
    ],
)
def test_words_say_a_fault(words: str, fault: Fault) -> None:
    assert parse_fault(words) == fault
    assert parse_fault(str(fault)) == fault


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("ocsp:tryLater", "tryLater"),
        ({"what": "hang", "on": "crl"}, "crl:hang"),
        ({"what": "404", "on": ["ocsp", "crl"], "times": 3}, "ocsp+crl:404,times=3"),
        ({"what": "revoked", "value": "superseded", "serial": 255}, "revoked=superseded,serial=ff"),
        ({"what": "drip", "value": 0.5}, "drip=0.5"),
        ({"what": "unknown", "serial": "ff", "issuer": "root"}, "unknown,serial=ff,issuer=root"),
    ],
)
def test_a_table_of_toml_says_the_same_as_words(table: dict[str, object] | str, words: str) -> None:
    assert fault_of(table) == parse_fault(words)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("", "there is no fault ''; there are good, revoked, unknown, malformedRequest"),
        ("nonsense", "there is no fault 'nonsense'"),
        ("crl:no-nonce", "the fault no-nonce cannot befall crl: expected ocsp"),
        ("ocsp:big", "the fault big cannot befall ocsp: expected crl"),
        ("smtp:hang", "a fault befalls aia, crl, ocsp, got 'smtp'"),
        ("crl:hang,serial=1", "the fault hang cannot befall one certificate alone on crl"),
        ("refuse,serial=1", "the fault refuse cannot befall one certificate alone: "),
        ("big,serial=1", "the fault big cannot befall one certificate alone: "),
        ("crl:revoked", "a CRL lists certificates one by one"),
        ("refuse,times=1", "who is refused is never seen"),
        (
            "revoked=boredom",
            "there is no reason 'boredom' to revoke a certificate; there are unspecified, keyCompromise",
        ),
        ("revoked=removeFromCRL", "removeFromCRL is the end of a hold"),
        ("revoked=keyCompromise@soon", "a date of revocation looks like 2026-01-31"),
        ("revoked=@0001-01-01T00:00:00+14:00", "a date of revocation lies in the years 1 to 9999 of UTC"),
        ("tryLater=5", "the fault tryLater takes no value, got '5'"),
        ("hang=long", "the fault hang takes a duration such as 0.5, 30s or 7d, got 'long'"),
        ("hang=0", "the fault hang takes a value above 0"),
        ("big=0", "the fault big takes a value above 0"),
        ("hang=99999999d", "a duration up to ten years"),
        ("hang=-1", "takes a duration such as"),
        ("big=1", "takes a size from 1K to 1G, got 1 bytes"),
        ("big=2G", "takes a size from 1K to 1G"),
        ("http", "the fault http takes a status: http=404, or 404 for short"),
        ("200", "takes a status from 400 to 599"),
        ("redirect=file:///etc/passwd", "takes an http:// URL"),
        ("redirect=http://x/\r\nSet-Cookie: a", "takes an http:// URL"),
        ("hang,port=1", "after a comma comes serial=, issuer= or times="),
        ("hang,times=0", "times takes a number from 1 up, got 0"),
        ("hang,times=many", "times takes a number, got 'many'"),
        ("unknown,serial=xyz", "cannot read the serial number 'xyz': expected hexadecimal digits"),
    ],
)
def test_what_could_never_happen_is_said_when_the_fault_is_made(words: str, complaint: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_fault(words)
    assert complaint in str(raised.value)


def test_a_table_with_another_key_is_refused() -> None:
    with pytest.raises(UserError, match="a fault has no 'where'; its keys are what, value, on, serial, issuer, times"):
        fault_of({"what": "hang", "where": "here"})


def test_a_value_that_a_fault_does_not_take_is_refused() -> None:
    with pytest.raises(UserError, match="the fault tryLater takes no duration"):
        Fault(What.TRY_LATER, seconds=3)


@pytest.mark.parametrize(
    ("text", "number"), [("1f3a", 0x1F3A), ("1F:3A", 0x1F3A), ("0x1f3a", 0x1F3A), ("-01", -1), ("00", 0)]
)
def test_serial_numbers_are_read_as_they_are_printed(text: str, number: int) -> None:
    assert parse_serial(text) == number


@st.composite
def faults(draw: st.DrawFn) -> Fault:
    what = draw(st.sampled_from(What))
    values: dict[str, object] = {}
    match what:
        case What.EXPIRED | What.FUTURE | What.HANG | What.DRIP | What.SLOW:
            values["seconds"] = draw(st.integers(1, 10**9)) / draw(st.sampled_from([1000, 60, 1]))
        case What.BIG:
            values["size"] = draw(st.integers(1 << 10, 1 << 30))
        case What.HTTP:
            values["status"] = draw(st.sampled_from([204, 304, 404, 500, 599]))
        case What.REDIRECT:
            values["location"] = draw(st.sampled_from(["", "http://a.test/x", "http://a.test:8080/x?y=z:1@2"]))
        case What.REVOKED:
            values["reason"] = draw(st.sampled_from([each for each in Reason if each is not Reason.REMOVE_FROM_CRL]))
            past = st.timedeltas(timedelta(0), timedelta(days=9999)).map(
                lambda ago: datetime(2026, 1, 1, tzinfo=UTC) - ago
            )
            values["date"] = draw(st.none() | past)
    values |= {
        "serial": draw(st.none() | st.integers(-(1 << 160), 1 << 160)),
        "issuer": draw(st.none() | st.sampled_from(["root", "intermediate-1"])),
        "times": draw(st.none() | st.integers(1, 99)),
    }
    kinds = draw(st.frozensets(st.sampled_from(Kind)))
    try:
        return Fault(what, kinds, **values)  # type: ignore[arg-type]
    except UserError:
        values["serial"] = values["times"] = None
        if values.get("seconds"):
            values["seconds"] = 1.0
        return Fault(what, **values)  # type: ignore[arg-type]


@given(faults())
def test_every_fault_is_read_from_its_own_words(fault: Fault) -> None:
    assert parse_fault(str(fault)) == fault


@given(st.text(max_size=60))
def test_no_text_breaks_the_reading_of_faults(text: str) -> None:
    try:
        parse_fault(text)
    except UserError:
        pass
