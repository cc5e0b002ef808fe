"""What can go wrong on purpose with an answer about revocation, as values.

A :class:`Fault` says what is done (``what``), to which kind of URL (``on``), and to which questions: those about one
certificate (``serial``), those about certificates of one issuer (``issuer``), the first so many (``times``). Faults are
declared, compared and printed; nothing here does anything. Several can be in force at once: what changes the content
of an answer adds up, and of what changes how it is sent the first that fits is done.

In words, on a command line or in TOML::

    tryLater                                        every OCSP answer
    ocsp:revoked=keyCompromise@2026-01-31           with a reason and a date, both of which may be left out
    crl:hang,issuer=root                            the CRL of the root alone
    ocsp:unknown,serial=1f3a                        one certificate
    404,times=2                                     everything, but only the first two times
    ocsp:drip=0.5                                   a byte every half second

Not every fault can befall every kind of URL: a CRL has no nonce, and who connects to a port has not said yet which
certificate it will ask about. Such a fault is a :class:`~countersign.errors.UserError` when it is made, not a fault
that silently never happens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from countersign.ca.revocation.register import Reason
from countersign.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Kind(StrEnum):
    """The kinds of URLs that a certificate names for its revocation and its issuer (RFC 5280 4.2.1.13, 4.2.2.1)."""

    OCSP = "ocsp"
    CRL = "crl"
    AIA = "aia"


class What(StrEnum):
    """What is done. The names of RFC 6960 4.2.1 are written as there."""

    # what the answer says of the certificate
    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"
    # an OCSP response of another status than successful
    MALFORMED_REQUEST = "malformedRequest"
    INTERNAL_ERROR = "internalError"
    TRY_LATER = "tryLater"
    SIG_REQUIRED = "sigRequired"
    UNAUTHORIZED = "unauthorized"
    # an answer that may not be believed
    WRONG_SIGNER = "wrong-signer"
    SIGNER_WITHOUT_EKU = "signer-without-eku"
    SIGNER_EXPIRED = "signer-expired"
    BAD_SIGNATURE = "bad-signature"
    EXPIRED = "expired"
    FUTURE = "future"
    NO_NEXT_UPDATE = "no-next-update"
    WRONG_SERIAL = "wrong-serial"
    WRONG_ISSUER = "wrong-issuer"
    NO_NONCE = "no-nonce"
    WRONG_NONCE = "wrong-nonce"
    MALFORMED = "malformed"
    BIG = "big"
    # HTTP
    HTTP = "http"
    REDIRECT = "redirect"
    REDIRECT_LOOP = "redirect-loop"
    CONTENT_TYPE = "content-type"
    BLOCK_PAGE = "block-page"
    EMPTY = "empty"
    # the way it is sent
    TRUNCATED = "truncated"
    HANG = "hang"
    DRIP = "drip"
    SLOW = "slow"
    RESET = "reset"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class _Sort:
    """What a fault can befall, and what its value is."""

    on: frozenset[Kind]
    value: str = ""
    default: float | int = 0
    one_certificate: frozenset[Kind] = frozenset({Kind.OCSP})


_Value = TypeVar("_Value", int, float)

_OCSP, _ALL = frozenset({Kind.OCSP}), frozenset(Kind)
_SIGNED = frozenset({Kind.OCSP, Kind.CRL})
_DAY, _MEBI = 86400.0, 1 << 20

_SORTS: dict[What, _Sort] = {
    What.GOOD: _Sort(_SIGNED, one_certificate=_SIGNED),
    What.REVOKED: _Sort(_SIGNED, "revocation", one_certificate=_SIGNED),
    What.UNKNOWN: _Sort(_OCSP),
    What.MALFORMED_REQUEST: _Sort(_OCSP),
    What.INTERNAL_ERROR: _Sort(_OCSP),
    What.TRY_LATER: _Sort(_OCSP),
    What.SIG_REQUIRED: _Sort(_OCSP),
    What.UNAUTHORIZED: _Sort(_OCSP),
    What.WRONG_SIGNER: _Sort(_SIGNED),
    What.SIGNER_WITHOUT_EKU: _Sort(_OCSP),
    What.SIGNER_EXPIRED: _Sort(_OCSP),
    What.BAD_SIGNATURE: _Sort(_SIGNED),
    What.EXPIRED: _Sort(_SIGNED, "duration", _DAY),
    What.FUTURE: _Sort(_SIGNED, "duration", _DAY),
    What.NO_NEXT_UPDATE: _Sort(_SIGNED),
    What.WRONG_SERIAL: _Sort(_OCSP),
    What.WRONG_ISSUER: _Sort(_ALL),
    What.NO_NONCE: _Sort(_OCSP),
    What.WRONG_NONCE: _Sort(_OCSP),
    What.MALFORMED: _Sort(_ALL),
    What.BIG: _Sort(frozenset({Kind.CRL}), "size", 100 * _MEBI),
    What.HTTP: _Sort(_ALL, "status"),
    What.REDIRECT: _Sort(_ALL, "location"),
    What.REDIRECT_LOOP: _Sort(_ALL),
    What.CONTENT_TYPE: _Sort(_ALL),
    What.BLOCK_PAGE: _Sort(_ALL),
    What.EMPTY: _Sort(_ALL),
    What.TRUNCATED: _Sort(_ALL),
    What.HANG: _Sort(_ALL, "duration", 600.0),
    What.DRIP: _Sort(_ALL, "duration", 1.0),
    What.SLOW: _Sort(_ALL, "duration", 5.0),
    What.RESET: _Sort(_ALL),
    What.REFUSE: _Sort(_ALL, one_certificate=frozenset()),
}

_LARGEST = 1 << 30
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": _DAY}
_SIZES = {"K": 1 << 10, "M": _MEBI, "G": 1 << 30}
_LOCATION = re.compile(r"http://[!-+\--~]{1,500}")  # printing ASCII without the comma that ends a value in words


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong on order; see the top of the module.

    ``on`` are the kinds of URLs that it befalls, by default all that it can; ``times`` is how many questions it
    befalls, ``None`` for all. ``reason`` and ``date`` belong to ``revoked``; ``seconds``, to the microsecond, to
    ``expired`` and ``future`` (how far off), ``hang`` and ``slow`` (how long) and ``drip`` (a byte every so often);
    ``size`` to ``big``, in bytes; ``status`` to ``http``; ``location`` to ``redirect`` (by default the right place).

    Raises :class:`UserError` for a combination that could never happen.
    """

    what: What
    on: frozenset[Kind] = frozenset()
    serial: int | None = None
    issuer: str | None = None
    times: int | None = None
    reason: Reason = Reason.UNSPECIFIED
    date: datetime | None = None
    seconds: float = 0
    size: int = 0
    status: int = 0
    location: str = ""

    def __post_init__(self) -> None:
        sort, possible = _SORTS[self.what], self._possible()
        if not self.on:
            object.__setattr__(self, "on", possible)
        if self.on - sort.on:
            raise UserError(
                f"the fault {self.what} cannot befall {_listed(self.on - sort.on)}: expected {_listed(sort.on)}"
            )
        if self.what is What.REVOKED and self.on - possible:
            raise UserError("the fault revoked on a crl needs a serial: a CRL lists certificates one by one")
        if not self.on or self.on - possible:
            raise UserError(
                f"the fault {self.what} cannot befall one certificate alone"
                + (f" on {_listed(self.on - possible)}" if self.on else "")
                + ": what is asked for there is one for all of an issuer's certificates; leave serial out"
            )
        self._fill_in(sort)

    def _possible(self) -> frozenset[Kind]:
        """The kinds of URLs that it can befall, with the certificates that are meant."""
        sort = _SORTS[self.what]
        if self.serial is not None:
            return sort.on & sort.one_certificate
        return _OCSP if self.what is What.REVOKED else sort.on

    def _fill_in(self, sort: _Sort) -> None:
        """Defaults of the value that this fault takes, and no value for one that takes none."""
        given = {
            "duration": bool(self.seconds),
            "size": bool(self.size),
            "status": bool(self.status),
            "location": bool(self.location),
            "revocation": self.date is not None or self.reason is not Reason.UNSPECIFIED,
        }
        if stray := [name for name, there in given.items() if there and name != sort.value]:
            raise UserError(f"the fault {self.what} takes no {stray[0]}")
        if sort.value == "duration":
            object.__setattr__(self, "seconds", round(float(self.seconds or sort.default), 6))
            if not 0 < self.seconds <= 3650 * _DAY:
                raise UserError(f"the fault {self.what} takes a duration up to ten years, got {self.seconds:g} s")
        if sort.value == "size":
            object.__setattr__(self, "size", self.size or int(sort.default))
            if not 1 << 10 <= self.size <= _LARGEST:
                raise UserError(f"the fault {self.what} takes a size from 1K to 1G, got {self.size} bytes")
        if sort.value == "status" and not (400 <= self.status <= 599 or self.status in {204, 304}):
            raise UserError(f"the fault http takes a status from 400 to 599, 204 or 304; got {self.status}")
        if self.location and not _LOCATION.fullmatch(self.location):
            raise UserError(f"the fault redirect takes an http:// URL, got {self.location!r}")
        if self.reason is Reason.REMOVE_FROM_CRL:
            raise UserError("the fault revoked takes a reason for revoking; removeFromCRL is the end of a hold")
        if self.date is not None:
            object.__setattr__(self, "date", _in_utc(self.date))
        if self.times is not None and self.times < 1:
            raise UserError(f"times takes a number from 1 up, got {self.times}")
        if self.times is not None and self.what is What.REFUSE:
            raise UserError("the fault refuse takes no times: who is refused is never seen, and cannot be counted")

    def befalls(self, kind: Kind, issuer: str | None, serials: Iterable[int] = ()) -> bool:
        """Whether a question of this kind, to the responder of ``issuer`` and about ``serials``, is meant."""
        return (
            kind in self.on
            and (self.issuer is None or self.issuer == issuer)
            and (self.serial is None or self.serial in serials)
        )

    def __str__(self) -> str:
        """In the words that :func:`parse_fault` reads."""
        sort = _SORTS[self.what]
        where = "" if self.on == self._possible() else "+".join(sorted(self.on)) + ":"
        match sort.value:
            case "duration" if self.seconds != sort.default:
                value = f"={_duration(self.seconds)}"
            case "size" if self.size != sort.default:
                value = f"={self.size}"
            case "status":
                value = f"={self.status}"
            case "location" if self.location:
                value = f"={self.location}"
            case "revocation" if self.date is not None or self.reason is not Reason.UNSPECIFIED:
                moment = f"@{self.date.isoformat().replace('+00:00', 'Z')}" if self.date else ""
                value = f"={self.reason}{moment}"
            case _:
                value = ""
        rest = [
            f",{name}={shown}"
            for name, shown in (
                ("serial", None if self.serial is None else f"{self.serial:x}"),
                ("issuer", self.issuer),
                ("times", self.times),
            )
            if shown is not None
        ]
        return f"{where}{self.what}{value}{''.join(rest)}"


def parse_fault(text: str) -> Fault:
    """``[KIND[+KIND]:]WHAT[=VALUE][,serial=HEX][,issuer=LABEL][,times=N]``. Raises :class:`UserError`."""
    head, *rest = text.strip().split(",")
    name, _, value = head.partition("=")
    kinds, found, name = name.rpartition(":")
    given: dict[str, Any] = {"on": kinds.split("+")} if found else {}
    for part in rest:
        key, found, word = part.partition("=")
        if not found or key.strip() not in {"serial", "issuer", "times"}:
            raise UserError(f"cannot read the fault {text!r}: after a comma comes serial=, issuer= or times=")
        given[key.strip()] = word.strip()
    return fault_of({"what": name.strip(), "value": value.strip(), **given})


def fault_of(table: Mapping[str, Any] | str) -> Fault:
    """A fault from TOML: its words, or a table with the keys ``what``, ``value``, ``on``, ``serial``, ``issuer``,
    ``times``. Raises :class:`UserError`.
    """
    if isinstance(table, str):
        return parse_fault(table)
    if unknown := set(table) - {"what", "value", "on", "serial", "issuer", "times"}:
        raise UserError(f"a fault has no {min(unknown)!r}; its keys are what, value, on, serial, issuer, times")
    word = str(table.get("what", ""))
    fields: dict[str, Any] = {}
    if word.isascii() and word.isdecimal():  # 404 is short for http=404
        what, value = What.HTTP, word
    else:
        what, value = _what(word), str(table.get("value", ""))
    kinds = table.get("on", ())
    fields["on"] = frozenset(_kind(str(kind)) for kind in ([kinds] if isinstance(kinds, str) else kinds))
    fields |= _value(what, value)
    if (serial := table.get("serial")) is not None:
        fields["serial"] = serial if isinstance(serial, int) else parse_serial(str(serial))
    if (issuer := table.get("issuer")) is not None:
        fields["issuer"] = str(issuer)
    if (times := table.get("times")) is not None:
        fields["times"] = _number(str(times), "times")
    return Fault(what, **fields)


def parse_serial(text: str) -> int:
    """A serial number as OpenSSL, Java and browsers print it: hexadecimal, with or without colons, 0x or a minus."""
    digits = text.strip().replace(":", "").replace(" ", "").lower()
    bare = digits.removeprefix("-").removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]{1,128}", bare):
        raise UserError(f"cannot read the serial number {text!r}: expected hexadecimal digits, as in 1f:3a or 1F3A")
    return int(bare, 16) * (-1 if digits.startswith("-") else 1)


def _what(word: str) -> What:
    plain = word.lower().replace("-", "").replace("_", "")
    for what in What:
        if plain == what.value.lower().replace("-", ""):
            return what
    raise UserError(f"there is no fault {word!r}; there are {', '.join(What)}, and a number such as 404")


def _kind(word: str) -> Kind:
    try:
        return Kind(word.strip().lower())
    except ValueError:
        raise UserError(f"a fault befalls {_listed(_ALL)}, got {word!r}") from None


def _value(what: What, text: str) -> dict[str, Any]:
    """The field that ``text`` fills for this fault."""
    sort = _SORTS[what]
    if not text:
        if sort.value == "status":
            raise UserError("the fault http takes a status: http=404, or 404 for short")
        return {}
    match sort.value:
        case "duration":
            unit = _UNITS.get(text[-1:])
            number = text[:-1] if unit else text
            if not re.fullmatch(r"\d+(\.\d+)?", number, re.ASCII):
                raise UserError(f"the fault {what} takes a duration such as 0.5, 30s or 7d, got {text!r}")
            return {"seconds": _not_zero(float(number) * (unit or 1.0), what)}
        case "size":
            size = _SIZES.get(text[-1:].upper())
            return {"size": _not_zero(_number(text[:-1] if size else text, f"the fault {what}") * (size or 1), what)}
        case "status":
            return {"status": _number(text, "the fault http")}
        case "location":
            return {"location": text}
        case "revocation":
            reason, _, date = text.partition("@")
            fields: dict[str, Any] = {"reason": Reason.read(reason)} if reason else {}
            return fields | ({"date": _date(date)} if date else {})
        case _:
            raise UserError(f"the fault {what} takes no value, got {text!r}")


def _duration(seconds: float) -> str:
    """In the largest unit that makes a whole number of it, which tells what was meant."""
    for unit in ("d", "h", "m"):
        if seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:.0f}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _date(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"a date of revocation looks like 2026-01-31 or 2026-01-31T08:00:00Z, got {text!r}") from None


def _in_utc(moment: datetime) -> datetime:
    """A moment without a zone is taken to be in UTC."""
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise UserError(f"a date of revocation lies in the years 1 to 9999 of UTC, got {moment.isoformat()}") from None


def _not_zero(value: _Value, what: What) -> _Value:
    if not value:
        raise UserError(f"the fault {what} takes a value above 0")
    return value


def _number(text: str, what: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise UserError(f"{what} takes a number, got {text!r}")
    return int(text)


def _listed(kinds: Iterable[Kind]) -> str:
    return ", ".join(sorted(kinds))
