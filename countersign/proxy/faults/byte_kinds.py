"""Faults of the bytes: how a connection ends, falls silent, goes slowly, or says something that is no TLS.

They do something at one place of a direction (:class:`_AtPlace`): before a message, after it, or when so many of its
bytes have gone; before any byte; or among the application data, whose bytes are counted through all of its records.
What has gone before that place is as it was. Behind it there are three sorts:

- *ends*: nothing of what was to follow goes out (:class:`Cut`, :class:`Reset`, :class:`HalfClose`, :class:`Silence`);
- *other bytes* in the place of all that was to follow, as a box in the middle sends them, and then an end
  (:class:`BlockPage`, :class:`Garbage`, :class:`Banner` and others);
- *the same bytes*, later or in other segments (:class:`Delay`, :class:`Drip`, :class:`Segments`, :class:`Coalesce`),
  which a right peer accepts; or with a header that is wrong (:class:`RecordVersion`, :class:`ContentType`), which it
  does not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, NamedTuple, cast

from countersign.proxy.faults import effects
from countersign.proxy.faults.block_pages import VENDORS, block_page
from countersign.proxy.faults.effects import Send, Stretch
from countersign.proxy.faults.kinds import FaultError, FaultKind, Option
from countersign.recorder.recording import LegRole
from countersign.recorder.wire.records import HANDSHAKE, MAX_TLS13

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from countersign.proxy.faults.effects import Effect, Mark
    from countersign.proxy.faults.kinds import Note, Proved, Right
    from countersign.proxy.faults.model import Place, WireFault

_ANYWHERE: frozenset[Place] = frozenset({"before", "within", "after"})
_DATA = "application_data"


# -- where ---------------------------------------------------------------------------------------------------------


class _Spot(NamedTuple):
    """The place: the message there, if there is one, how it is called in a sentence, and what of its record is left."""

    mark: Mark | None
    where: str
    stretch: Stretch

    @property
    def rest(self) -> bytes:
        return self.stretch.data

    def left(self) -> tuple[Stretch, ...]:
        return (self.stretch,) if self.stretch.data else ()


class _AtPlace(ABC):
    """Does nothing up to its place, then :meth:`strike` with what of that record is left, then :meth:`behind`."""

    def __init__(self, fault: WireFault, note: Note) -> None:
        self.fault = fault
        self.note = note
        self._occurrence = 0
        self._gone = 0  # of the application data
        self._struck = False

    def begin(self) -> Iterable[Effect]:
        """:meth:`~countersign.proxy.faults.kinds.StreamWorker.begin`."""
        if self.fault.at != "connect":
            return ()
        self._struck = True
        return [
            effect
            for effect in self.strike(_Spot(None, "before any byte", Stretch(b"")))
            if not isinstance(effect, Stretch)
        ]

    def take(self, stretch: Stretch) -> Iterator[Effect | Stretch]:
        """:meth:`~countersign.proxy.faults.kinds.StreamWorker.take`."""
        if self._struck:
            yield from self.behind(stretch)
            return
        for mark in stretch.marks:
            place = self._place(mark, stretch)
            if place is not None:
                self._struck = True
                if place:  # the next fault still finds what is whole in it
                    yield Stretch(stretch.data[:place], tuple(each for each in stretch.marks if each.ends <= place))
                rest = stretch if place == 0 else Stretch(stretch.data[place:])
                yield from self.strike(_Spot(mark, self._where(mark), rest))
                return
        yield stretch

    def _place(self, mark: Mark, stretch: Stretch) -> int | None:
        """The byte of the record at which it is, if that is in this part of a message."""
        fault = self.fault
        if mark.name != fault.at:
            return None
        if fault.place == "within" and mark.name == _DATA:
            begin, self._gone = self._gone, self._gone + mark.ends - mark.begins
            return mark.begins + fault.offset - begin if begin <= fault.offset < self._gone else None
        self._occurrence += mark.first
        if self._occurrence != fault.options.get("occurrence", 1):
            return None
        match fault.place:
            case "before":
                if not mark.first:
                    return None
                return 0 if mark is stretch.marks[0] else mark.begins  # its header goes with it
            case "after":
                if not mark.last:
                    return None
                return len(stretch.data) if mark is stretch.marks[-1] else mark.ends  # so does what authenticates it
            case _:
                length = mark.ends - mark.begins
                return mark.begins + fault.offset - mark.at if mark.at <= fault.offset < mark.at + length else None

    def _where(self, mark: Mark) -> str:
        if self.fault.place != "within":
            return f"{self.fault.place} {mark.name}"
        size = "" if mark.name == _DATA else f" of the {mark.size}"
        return f"after {self.fault.offset}{size} bytes of {mark.name}"

    def did(self, what: str, spot: _Spot) -> None:
        """It goes out now."""
        mark = spot.mark
        byte = None if mark is None else self.fault.offset if self.fault.place == "within" else None
        if mark is not None and byte is None:
            byte = mark.size if self.fault.place == "after" else 0
        self.note.applied(f"{what} {spot.where}", at=self.fault.at, byte=byte)

    def option(self, key: str) -> int:
        """A whole number of the fault's options."""
        return cast("int", self.fault.options[key])

    def seconds(self, key: str) -> float:
        """Seconds of the fault's options."""
        return cast("float", self.fault.options[key])

    @abstractmethod
    def strike(self, spot: _Spot) -> Iterable[Effect | Stretch]:
        """What is done at the place."""

    def behind(self, stretch: Stretch) -> Iterable[Effect | Stretch]:
        """What becomes of a later record."""
        return (stretch,)


class ByteKind(FaultKind):
    """A kind of this module: at any message, anywhere in it, for anybody."""

    sort = "stream"
    places: ClassVar[frozenset[Place]] = _ANYWHERE
    made: ClassVar[type[_AtPlace]]

    def check(self, fault: WireFault) -> None:
        if fault.at == "connect" and fault.place != "before":
            raise FaultError("at", f"the fault {self.name!r} at connect is before any byte; leave out place and within")

    def worker(self, fault: WireFault, note: Note) -> _AtPlace:
        return self.made(fault, note)


class StoppingKind(ByteKind):
    """A kind behind whose place nothing goes out of what was to follow."""

    def shown(self, proved: Proved, fault: WireFault) -> str | None:
        """No message of the fault's name is whole that was not whole before the place."""
        if proved.leg.role is LegRole.THROUGH or fault.at in {"connect", _DATA}:
            return None  # what passes through is recorded as it came
        most = cast("int", fault.options.get("occurrence", 1)) - (fault.place != "after")
        whole = sum(
            name == fault.at and (len(one.raw) == one.length or bool(one.digest))
            for name, one in proved.messages(fault)
        )
        if whole > most:
            return f"{whole} whole {fault.at} went out on the {fault.leg} leg, expected {most}"
        return None


# -- ends ----------------------------------------------------------------------------------------------------------


class _Ending(_AtPlace):
    what: ClassVar[str]
    effect: ClassVar[Effect]

    def strike(self, spot: _Spot) -> Iterable[Effect | Stretch]:
        self.did(self.what, spot)
        return (self.effect,)

    def behind(self, stretch: Stretch) -> Iterable[Effect | Stretch]:  # noqa: ARG002 - it is not sent
        return ()


class _Cutting(_Ending):
    what = "closed the connection (FIN)"
    effect = effects.Close()


class Cut(StoppingKind):
    """The connection ends in good TCP order and in no TLS order: no alert, no close_notify."""

    name = "cut"
    says = "closes the connection with a FIN, in both directions and without a close_notify"
    made = _Cutting


class _Resetting(_Ending):
    what = "reset the connection (RST)"
    effect = effects.Reset()


class Reset(StoppingKind):
    """What firewalls and inspection boxes do with a connection that they want gone."""

    name = "reset"
    says = "resets the connection (RST), which takes everything with it that is still on its way"
    made = _Resetting


class _Finishing(_Ending):
    what = "ended one direction (FIN)"
    effect = effects.Finish()


class HalfClose(StoppingKind):
    """A FIN in one direction while the other stays open (RFC 9293 3.6)."""

    name = "half_close"
    says = "ends this direction with a FIN and leaves the other one open"
    made = _Finishing


class _FallingSilent(_AtPlace):
    def strike(self, spot: _Spot) -> Iterable[Effect | Stretch]:
        if "seconds" not in self.fault.options:
            self.did("fell silent for good", spot)
            return (effects.Silence(),)
        self.did(f"fell silent for {self.seconds('seconds'):g} s", spot)
        return (effects.Wait(self.seconds("seconds")), *spot.left())


class Silence(StoppingKind):
    """The connection stays open, and nothing comes: a black hole, a box that waits for another one."""

    def right_of(self, fault: WireFault) -> Right:
        """A silence that ends is a delay."""
        return "accept" if "seconds" in fault.options else "refuse"

    def shown(self, proved: Proved, fault: WireFault) -> str | None:
        return None if "seconds" in fault.options else super().shown(proved, fault)

    name = "silence"
    says = "sends nothing more and leaves the connection open, for good or for so many seconds"
    made = _FallingSilent
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {"seconds": Option(says="how long; without it, for good", form="float", optional=True, least=0, most=86400)}
    )


# -- the same bytes, otherwise -------------------------------------------------------------------------------------


class _Delaying(_AtPlace):
    def strike(self, spot: _Spot) -> Iterable[Effect | Stretch]:
        seconds = self.seconds("seconds")
        self.did(f"waited {seconds:g} s", spot)
        return (effects.Wait(seconds), *spot.left())


class Delay(ByteKind):
    """One pause, as when a box asks a cloud what it thinks of the site."""

    name = "delay"
    says = "waits so many seconds, and then goes on as if nothing had been"
    right = "accept"
    made = _Delaying
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {"seconds": Option(says="how long", form="float", default=1.0, least=0, most=3600)}
    )


class _Slicing(_AtPlace):
    """From the place on in small segments, all of it or so many bytes."""

    def __init__(self, fault: WireFault, note: Note) -> None:
        super().__init__(fault, note)
        self._left = cast("int | None", fault.options.get("length"))

    def strike(self, spot: _Spot) -> Iterable[Effect | Stretch]:
        size, every = self.option("size"), self.seconds("every")
        often = f", one every {every:g} s," if every else ""
        self.did(f"sent segments of {size} bytes each{often} from the place", spot)
        return self.behind(Stretch(spot.rest)) if spot.rest else ()

    def behind(self, stretch: Stretch) -> Iterable[Effect | Stretch]:
        length = len(stretch.data) if self._left is None else min(self._left, len(stretch.data))
        if self._left is not None:
            self._left -= length
        if length:
            yield effects.Pieces(stretch.data[:length], self.option("size"), self.seconds("every"))
        if length < len(stretch.data):
            yield stretch if not length else Stretch(stretch.data[length:])


_LENGTH = Option(says="how many bytes; without it, all that follow", form="int", optional=True, least=1)


class Segments(ByteKind):
    """A record in many TCP segments: valid, and the end of every program that takes a read for a record."""

    name = "segments"
    says = "sends what follows in TCP segments of so many bytes"
    right = "accept"
    made = _Slicing
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {
            "size": Option(says="bytes of each segment", form="int", default=1, least=1, most=1 << 16),
            "every": Option(says="seconds behind each segment", form="float", default=0.0, least=0, most=3600),
            "length": _LENGTH,
        }
    )


class Drip(ByteKind):
    """Bytes that come one by one, in time."""

    name = "drip"
    says = "sends what follows so many bytes at a time, with a pause behind each"
    right = "accept"
    made = _Slicing
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {
            "size": Option(says="bytes that come at a time", form="int", default=1, least=1, most=1 << 16),
            "every": Option(says="seconds between two of them", form="float", default=0.01, least=0, most=3600),
            "length": _LENGTH,
        }
    )


class _Gathering(_AtPlace):
    def strike(self, spot: _Spot) -> Iterable[Effect | Stretch]:
        seconds = self.seconds("seconds")
        self.did(f"held back for {seconds:g} s and sent at once what was to go out from the place", spot)
        return (effects.Gather(seconds), *spot.left())


class Coalesce(ByteKind):
    """Several flights or records in one segment."""

    name = "coalesce"
    says = "holds back what goes out within so many seconds, and then sends it at once"
    right = "accept"
    made = _Gathering
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {"seconds": Option(says="how long it is held back", form="float", default=0.05, least=0, most=3600)}
    )


# -- the same records with a wrong header --------------------------------------------------------------------------


class _Reheading(_AtPlace):
    """Changes the header of the record in which the message begins."""

    def strike(self, spot: _Spot) -> Iterable[Effect | Stretch]:
        mark = spot.mark
        assert mark is not None
        changed = bytearray(spot.rest)
        if self.fault.do == ContentType.name:
            value = self.option("type")
            changed[0] = value
            self.note.applied(f"gave the record of {mark.name} the content type {value}", at=mark.name, byte=0)
        else:
            version = cast("bytes", self.fault.options["version"])
            changed[1:3] = version
            text = f"gave the record of {mark.name} the version 0x{version.hex()}"
            self.note.applied(text, at=mark.name, byte=1)
        return (Stretch(bytes(changed)),)

    def _place(self, mark: Mark, stretch: Stretch) -> int | None:
        """The whole record, also where the message is not the first in it."""
        return None if super()._place(mark, stretch) is None else 0


class _HeaderKind(ByteKind):
    places: ClassVar[frozenset[Place]] = frozenset({"before"})
    made = _Reheading

    def check(self, fault: WireFault) -> None:
        if fault.at == "connect":
            raise FaultError("at", f"the fault {self.name!r} changes the record of a message; name one")


class RecordVersion(_HeaderKind):
    """A version that no TLS has. RFC 8446 5.1 wants it ignored, and JSSE does; OpenSSL and others refuse the major."""

    name = "record_version"
    right: ClassVar[Right] = "either"
    says = "gives the record in which a message begins another version"
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {"version": Option(says="the two bytes", form="bytes", default=b"\x05\x00", least=2, most=2)}
    )


class ContentType(_HeaderKind):
    """A content type that does not belong there, or that nobody knows (RFC 8446 5)."""

    name = "content_type"
    says = "gives the record in which a message begins another content type"
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {"type": Option(says="the number", form="int", default=99, least=0, most=255)}
    )


class _Emptying(_AtPlace):
    def strike(self, spot: _Spot) -> Iterable[Effect | Stretch]:
        count, kind = self.option("count"), self.option("type")
        self.did(f"sent {count} empty records of type {kind}", spot)
        return (Stretch(bytes((kind, 3, 3, 0, 0)) * count), *spot.left())


class EmptyRecords(ByteKind):
    """Records that hold nothing: RFC 8446 5.1 forbids them of handshake messages and alerts."""

    name = "empty_records"
    says = "puts records in clear between that hold nothing"
    right: ClassVar[Right] = "either"
    places: ClassVar[frozenset[Place]] = frozenset({"before", "after"})
    made = _Emptying
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {
            "count": Option(says="how many", form="int", default=1, least=1, most=10000),
            "type": Option(says="their content type", form="int", default=HANDSHAKE, least=0, most=255),
        }
    )


# -- other bytes ---------------------------------------------------------------------------------------------------


_ENDS: Mapping[str, tuple[Effect, ...]] = {
    "close": (effects.Finish(),),  # what the peer says to it is still heard
    "reset": (effects.Reset(),),
    "wait": (effects.Silence(),),
}


def _then(default: str) -> Option:
    says = "what comes behind it: a FIN, a reset, or silence"
    return Option(says=says, form="text", default=default, choices=tuple(_ENDS))


class _Replacing(_AtPlace):
    """Other bytes in the place of all that was to follow."""

    def strike(self, spot: _Spot) -> Iterable[Effect | Stretch]:
        data, what = cast("ReplacingKind", self.kind).bytes_of(self.fault)
        self.did(f"sent {what} in the place of all that was to follow", spot)
        yield Send(data)
        yield from _ENDS[str(self.fault.options["then"])]

    def __init__(self, fault: WireFault, note: Note, kind: FaultKind) -> None:
        super().__init__(fault, note)
        self.kind = kind

    def behind(self, stretch: Stretch) -> Iterable[Effect | Stretch]:  # noqa: ARG002 - it is not sent
        return ()


class ReplacingKind(StoppingKind):
    """A kind that sends other bytes."""

    @abstractmethod
    def bytes_of(self, fault: WireFault) -> tuple[bytes, str]:
        """The bytes, and what they are, in words."""

    def worker(self, fault: WireFault, note: Note) -> _AtPlace:
        return _Replacing(fault, note, self)


class Garbage(ReplacingKind):
    """Bytes that are nothing: chance ones, the same for the same seed, or given ones."""

    name = "garbage"
    says = "sends bytes that are no TLS in the place of all that was to follow"
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {
            "size": Option(says="how many bytes", form="int", default=64, least=1, most=1 << 20),
            "seed": Option(says="which ones", form="int", default=0),
            "data": Option(says="the bytes themselves", form="bytes", optional=True, least=1, most=1 << 20),
            "then": _then("close"),
        }
    )

    def bytes_of(self, fault: WireFault) -> tuple[bytes, str]:
        given = fault.options.get("data")
        if isinstance(given, bytes):
            return given, f"{len(given)} bytes that are no TLS"
        size, seed = cast("int", fault.options["size"]), cast("int", fault.options["seed"])
        # The first byte is no content type, and no letter either: chance would make TLS of one of fifty.
        return b"\xee" + Random(seed).randbytes(size - 1), f"{size} bytes of garbage"  # noqa: S311 - noise


class BlockPage(ReplacingKind):
    """The page that says why not, in clear, where TLS belongs: what an HTTPS client cannot show."""

    name = "block_page"
    says = "sends a plain HTTP page, as an inspection product does, in the place of TLS"
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {
            "vendor": Option(says="whose page", form="text", default="generic", choices=tuple(VENDORS)),
            "status": Option(says="the HTTP status", form="int", optional=True, least=100, most=599),
            "then": _then("close"),
        }
    )

    def bytes_of(self, fault: WireFault) -> tuple[bytes, str]:
        vendor, status = str(fault.options["vendor"]), cast("int | None", fault.options.get("status"))
        page = block_page(vendor, status)
        return page, f"an HTTP {page[9:12].decode('ascii')} page in clear ({vendor})"


class OversizedRecord(ReplacingKind):
    """More than any record may hold: a right peer answers record_overflow (RFC 8446 5.1 and 5.2)."""

    name = "oversized_record"
    says = "sends a record that is longer than one may be, in the place of all that was to follow"
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {
            "length": Option(
                says="bytes of its payload", form="int", default=MAX_TLS13 + 1, least=(1 << 14) + 1, most=0xFFFF
            ),
            "type": Option(says="its content type", form="int", default=HANDSHAKE, least=0, most=255),
            "then": _then("wait"),
        }
    )

    def shown(self, proved: Proved, fault: WireFault) -> str | None:  # noqa: ARG002 - the record holds what looks like one
        return None

    def bytes_of(self, fault: WireFault) -> tuple[bytes, str]:
        length, kind = cast("int", fault.options["length"]), cast("int", fault.options["type"])
        # As a ServerHello it would begin: who believes in the length finds nothing else to object to.
        begun = bytes((2, 0, *(length - 4).to_bytes(2), 3, 3))
        return bytes((kind, 3, 3)) + length.to_bytes(2) + begun.ljust(length, b"\0"), f"a record of {length} bytes"


class SSLv2Answer(ReplacingKind):
    """What a server of the last century says: an SSLv2 ERROR (no cipher), or a SERVER-HELLO."""

    name = "sslv2_answer"
    says = "answers in the form of SSLv2, in the place of TLS"
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {
            "message": Option(says="which one", form="text", default="error", choices=("error", "server_hello")),
            "then": _then("close"),
        }
    )

    def bytes_of(self, fault: WireFault) -> tuple[bytes, str]:
        if fault.options["message"] == "error":
            return b"\x80\x03\x00\x00\x01", "an SSLv2 ERROR"
        # MSG-SERVER-HELLO, no session id hit, X.509, version 2, no certificate, one cipher, 16 bytes of connection id.
        body = b"\x04\x00\x01\x00\x02\x00\x00\x00\x03\x00\x10" + b"\x01\x00\x80" + bytes(range(16))
        return (0x8000 | len(body)).to_bytes(2) + body, "an SSLv2 SERVER-HELLO"


_BANNERS: Mapping[str, bytes] = {
    "ssh": b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
    "smtp": b"220 mail.example.com ESMTP Postfix\r\n",
    "ftp": b"220 (vsFTPd 3.0.3)\r\n",
    "imap": b"* OK [CAPABILITY IMAP4rev1 STARTTLS] Dovecot ready.\r\n",
    "pop3": b"+OK Dovecot ready.\r\n",
    "vnc": b"RFB 003.008\n",
    "telnet": b"\xff\xfd\x18\xff\xfd\x20\xff\xfd\x23\xff\xfd\x27",
}


class Banner(ReplacingKind):
    """The wrong port: another service speaks there, and most of them speak first."""

    name = "banner"
    says = "greets as a service that is no TLS does, in the place of TLS"
    default_at = "connect"
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {
            "service": Option(says="which service", form="text", default="ssh", choices=tuple(_BANNERS)),
            "then": _then("wait"),
        }
    )

    def bytes_of(self, fault: WireFault) -> tuple[bytes, str]:
        service = str(fault.options["service"])
        return _BANNERS[service], f"the greeting of {service}"


# -- the middlebox that knows no large hello -----------------------------------------------------------------------


class _DroppingHello(_AtPlace):
    def _place(self, mark: Mark, stretch: Stretch) -> int | None:
        place = super()._place(mark, stretch)
        return place if mark.size > self.option("over") else None

    def strike(self, spot: _Spot) -> Iterable[Effect | Stretch]:
        mark = spot.mark
        assert mark is not None
        over, how = self.option("over"), str(self.fault.options["how"])
        and_then = "reset the connection" if how == "reset" else "nothing was let through behind it"
        text = f"dropped a ClientHello of {mark.size} bytes, more than {over}, and {and_then}"
        self.note.applied(text, at=mark.name, byte=0)
        return (effects.Reset() if how == "reset" else effects.Silence(),)

    def behind(self, stretch: Stretch) -> Iterable[Effect | Stretch]:  # noqa: ARG002 - it is not sent
        return ()


class BigHelloDropped(StoppingKind):
    """A box that looks for the server name in the first segment: a hello with a post-quantum key share has two.

    https://tldr.fail collects such boxes.
    """

    name = "big_hello_dropped"
    says = (
        "drops a ClientHello that is longer than one segment, silently or with a reset, and lets shorter ones through"
    )
    sides = frozenset({"proxy", "target"})
    places: ClassVar[frozenset[Place]] = frozenset({"before"})
    default_at = "client_hello"
    made = _DroppingHello
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {
            "over": Option(says="bytes of a ClientHello that is let through", form="int", default=1400, least=0),
            "how": Option(
                says="what becomes of longer ones", form="text", default="silently", choices=("silently", "reset")
            ),
        }
    )

    def check(self, fault: WireFault) -> None:
        if fault.at != "client_hello":
            raise FaultError("at", f"the fault {self.name!r} is at client_hello, got {fault.at!r}")


BYTE_KINDS: tuple[type[FaultKind], ...] = (
    Cut,
    Reset,
    HalfClose,
    Silence,
    Delay,
    Drip,
    Segments,
    Coalesce,
    Garbage,
    BlockPage,
    RecordVersion,
    ContentType,
    OversizedRecord,
    EmptyRecords,
    SSLv2Answer,
    Banner,
    BigHelloDropped,
)
