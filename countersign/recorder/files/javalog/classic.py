"""The log of JSSE in Java 7, and in Java 8 before 8u261: what ``System.out.println`` makes of each message.

    *** ClientHello, TLSv1.2
    RandomCookie:  GMT: 1478954321 bytes = { 71, 12, ... }
    Session ID:  {}
    ...
    ***
    main, WRITE: TLSv1.2 Handshake, length = 193

*Whose line is it?* A message is printed without its thread, line by line, so the prints of two threads may be mixed;
only lines about records and alerts begin with the thread. What joins them is the order in which JSSE prints: a message
that was received stands behind ``READ`` of its thread, one that is sent stands before ``WRITE``. So what is printed
belongs to the thread that read last, and a ClientHello that nobody has just read waits for the next ``WRITE`` of a
handshake record.

*What is in it?* Hellos are printed whole. Of the others a part is missing: signatures, the DER of certificates, the
encrypted premaster secret. With ``data`` or ``all`` dumps of the messages stand behind them
(``[read] MD5 and SHA1 hashes``) and of the records (``[Raw read]``); those are the bytes.

*Secrets.* With ``keygen`` the log holds premaster and master secrets and the keys (``SESSION KEYGEN``,
``CONNECTION KEYGEN``). Dumps are taken only behind the headings named above, so none of those is ever kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from countersign.recorder.files.javalog import exceptions, printed, words
from countersign.recorder.files.javalog.distinguished import read_name
from countersign.recorder.files.javalog.events import (
    At,
    BytesDumped,
    Ended,
    Event,
    MessageTold,
    NotTls,
    RecordNamed,
    Said,
)
from countersign.recorder.files.javalog.handshakes import Rebuilt
from countersign.recorder.files.javalog.outline import hex_line
from countersign.recorder.recording import Ending
from countersign.recorder.wire import codes, extensions as e, messages as m
from countersign.recorder.wire.events import Content, Side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from countersign.recorder.files.javalog.lines import Prefix

FORM: Final = "jsse-classic"

_THREAD = r"(?:(?P<thread>\S.{0,300}?), )?"
_RECORD = re.compile(
    _THREAD + r"(?P<way>READ|WRITE): +(?P<version>(?:SSL ?v?|TLS ?v?|Unknown-|v)[\w.]*) +(?P<type>Handshake|Alert|"
    r"Change Cipher Spec|Application Data), length = (?P<length>\d{1,9})\b"
)
_OLD_HELLO = re.compile(_THREAD + r"READ: +SSL v2, contentType = Handshake, translated length = (?P<length>\d{1,9})\b")
_ALERT = re.compile(
    _THREAD + r"(?P<way>SEND|RECV) \S+ ALERT: +(?P<level>fatal|warning), (?:description = )?"
    r"(?P<name>[A-Za-z_]+|<UNKNOWN ALERT: \d{1,3}>)"
)
_CALLED = re.compile(
    _THREAD + r"(?P<what>called closeSocket\(|received EOFException|handling exception: |fatal error: \d+: |"
    r"Exception while waiting for close |IOException in getSession\(\): +)(?P<rest>.*)$"
)
_STATEMENT = re.compile(r"\*\*\* +(?P<name>[A-Z].*)$")
_DUMP = re.compile(
    r"\[(?P<what>Raw read|Raw write)\]: length = \d+|\[(?P<hashed>read|write)\] MD5 and SHA1 hashes: +len = \d+"
)
_NO_MESSAGE = re.compile(
    r"%% |update handshake state|upcoming handshake states|check handshake state|Found trusted certificate|"
    r"adding as trusted cert|found key for|SESSION KEYGEN|CONNECTION KEYGEN|(?:Pre)?Master Secret|"
    r"(?:Client|Server) (?:Nonce|MAC |write )|"
    r"\.\.\. no |Padded plaintext|Warning: |matching alias|Standard ciphersuite|Cipher suite: |\*\* |Using |JsseJCE"
)
_NOTE = re.compile(r"Warning: no suitable certificate found.*|matching alias: .*|%% (?:Server resumed|Try resuming).*")
_RECORD_TYPES: Final = {"Change Cipher Spec": 20, "Alert": 21, "Handshake": 22, "Application Data": 23}
_COOKIE = re.compile(r"RandomCookie: +(?:GMT: (-?\d{1,10}) bytes = )?(?:random_bytes = )?(\{.*\})")
_CHAIN = re.compile(r"chain \[\d+\] = \[")
_MOST_LINES = 20_000
_MOST_DUMPED = 1 << 17
_MOST_HELD = 200
_MOST_THREADS = 500


@dataclass(slots=True)
class _Thread:
    """What is known of the conversation of one thread."""

    side: Side | None = None
    done: bool = False  # the server's first flight is over
    unread: bool = False  # a handshake record was read, and none of its messages printed


@dataclass(slots=True)
class _Statement:
    """A message being printed."""

    at: At
    name: str
    lines: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Dump:
    at: At
    kind: str
    own: bool
    data: bytearray = field(default_factory=bytearray)


class ClassicReader:
    """Give it the lines of one process that are not of the other forms; it gives their events."""

    def __init__(self) -> None:
        self._threads: dict[str, _Thread] = {}
        self._last: str | None = None  # the thread that has read or written last
        self._statement: _Statement | None = None
        self._dump: _Dump | None = None
        self._sending: list[Event] = []  # a ClientHello and its dump, before it is told who sends it
        self._reading: list[Event] = []  # dumps of records, before it is told who has read them

    @property
    def busy(self) -> bool:
        """Whether the next line may belong to what is being printed."""
        return self._statement is not None or self._dump is not None

    def line(self, number: int, text: str, prefix: Prefix) -> Iterator[Event]:
        """Take a line; what has nothing to do with TLS is passed over."""
        if self._dump is not None:
            tail = self._dumped(text)
            if tail is None:
                return
            text = tail
            yield from self._end_dump()
            if not text:
                return
        if text.startswith("***"):
            yield from self._end_statement()
            found = _STATEMENT.match(text)
            if found:
                self._statement = _Statement(self._at(number, None, prefix), found["name"].strip())
        elif " length = " in text and (found := _RECORD.match(text)):
            yield from self._end_statement()
            own, kind = found["way"] == "WRITE", _RECORD_TYPES[found["type"]]
            yield from self._record(number, found, prefix, own=own, kind=kind)
        elif " length = " in text and (found := _OLD_HELLO.match(text)):
            yield from self._end_statement()
            yield from self._record(number, found, prefix, own=False, kind=22)
        elif " ALERT: " in text and (found := _ALERT.match(text)):
            yield from self._end_statement()
            yield from self._alert(number, found, prefix)
        elif text.startswith("[") and (found := _DUMP.match(text)):
            yield from self._end_statement()
            own = found["what"] == "Raw write" or found["hashed"] == "write"
            self._dump = _Dump(self._at(number, self._last, prefix), "socket" if found["what"] else "messages", own)
        elif found := _CALLED.match(text):
            yield from self._end_statement()
            yield from self._called(number, found, prefix)
        elif _NO_MESSAGE.match(text):
            yield from self._end_statement()
            if _NOTE.match(text) and self._last is not None:
                yield Said(self._at(number, self._last, prefix), "note", exceptions.kept(text))
        elif self._statement is not None and len(self._statement.lines) < _MOST_LINES:
            self._statement.lines.append(text)

    def end(self) -> Iterator[Event]:
        """There are no more lines."""
        yield from self._end_dump()
        yield from self._end_statement(cut=True)
        yield from self._sent_by(None)

    # -- lines that name their thread ----------------------------------------------------------------------------

    def _record(self, number: int, found: re.Match[str], prefix: Prefix, *, own: bool, kind: int) -> Iterator[Event]:
        name = found["thread"] or prefix.thread or ""
        at = self._at(number, name, prefix)
        self._last = name
        thread = self._thread(name)
        if own and kind == 22:
            yield from self._sent_by(name)
        elif not own:
            for event in self._reading:
                yield replace(event, at=replace(event.at, thread=name))
            self._reading = []
            thread.unread = kind == 22
        yield RecordNamed(at, own, kind, int(found["length"]))

    def _alert(self, number: int, found: re.Match[str], prefix: Prefix) -> Iterator[Event]:
        description = words.alert(found["name"])
        if description is None:
            return
        level = codes.FATAL if found["level"] == "fatal" else 1
        at = self._at(number, found["thread"] or prefix.thread or self._last or "", prefix)
        raw = bytes([level, description])
        yield MessageTold(at, "told", Content.ALERT, description, own=found["way"] == "SEND", raw=raw)

    def _called(self, number: int, found: re.Match[str], prefix: Prefix) -> Iterator[Event]:
        at = self._at(number, found["thread"] or prefix.thread or self._last or "", prefix)
        what, rest = found["what"], found["rest"]
        if what.startswith("called"):
            yield Ended(at, own=True, how=Ending.FIN)
        elif what.startswith("received EOF"):
            yield Ended(at, own=False, how=Ending.FIN)
        else:
            ending = exceptions.how_it_ended([rest])
            if isinstance(ending, Ending):
                yield Ended(at, own=False, how=ending)
            elif ending is not None:
                yield NotTls(at)
            thrown = exceptions.causes([rest])
            kind = "fatal" if what.startswith("fatal") else "exception"
            yield Said(at, kind, exceptions.kept(what.strip(": ")), thrown or (exceptions.kept(rest),))

    # -- dumps ---------------------------------------------------------------------------------------------------

    def _dumped(self, text: str) -> str | None:
        """Take a line of a dump. What is no part of it is given back; None where the whole line was."""
        dump = self._dump
        assert dump is not None
        read = hex_line(text.strip())
        if read is None or read[0] != len(dump.data) & 0xFFFF:
            return text
        if len(dump.data) < _MOST_DUMPED:
            dump.data += read[1]
        if ", WRITE: " in read[2] or ", READ: " in read[2]:  # IBM prints no line end behind a dump
            return text.strip()[57 + len(read[1]) :]
        return None

    def _end_dump(self) -> Iterator[Event]:
        dump, self._dump = self._dump, None
        if dump is None or not dump.data:
            return
        event = BytesDumped(dump.at, dump.kind, dump.own, bytes(dump.data))
        if dump.kind == "socket" and not dump.own:
            if len(self._reading) < _MOST_HELD:
                self._reading.append(event)
        elif dump.kind == "messages" and dump.own and self._sending:
            self._sending.append(event)
        else:
            yield event

    # -- messages ------------------------------------------------------------------------------------------------

    def _end_statement(self, *, cut: bool = False) -> Iterator[Event]:
        statement, self._statement = self._statement, None
        if statement is None:
            return
        name = statement.name.partition(",")[0].strip()
        kind = next((known for known in _READERS if name.startswith(known)), None)
        if kind is None:
            return
        code, sender, read = _READERS[kind]
        made = Rebuilt()
        message = read(statement, made)
        made.build(message)
        thread = self._thread(self._last) if self._last is not None else _Thread()
        if code == codes.CLIENT_HELLO:
            yield from self._hello(statement, made, thread, cut=cut)
            return
        if self._sending and not thread.unread:  # a log without READ and WRITE
            yield from self._sent_by(self._last)
            thread = self._thread(self._last or "")
        if sender is None:
            sender = self._sender(code, thread)
        thread.unread = False
        thread.done = thread.done or code == 14
        own = None if sender is None or thread.side is None else sender is thread.side
        at = replace(statement.at, thread=self._last or "")
        yield MessageTold(at, "told", Content.HANDSHAKE, code, own, sender, made.told(), b"", tuple(made.doubts), cut)

    def _hello(self, statement: _Statement, made: Rebuilt, thread: _Thread, *, cut: bool) -> Iterator[Event]:
        told = MessageTold(
            statement.at, "told", Content.HANDSHAKE, 1, None, Side.CLIENT, made.told(), b"", tuple(made.doubts), cut
        )
        if not thread.unread:
            yield from self._sent_by(None)  # one before it that nobody wrote
            self._sending = [replace(told, own=True)]
            return
        thread.unread = thread.done = False
        thread.side = Side.SERVER
        yield replace(told, own=False, at=replace(told.at, thread=self._last))

    def _sent_by(self, name: str | None) -> Iterator[Event]:
        """A ClientHello that was waiting goes out, from this thread."""
        if not self._sending:
            return
        events, self._sending = self._sending, []
        owner = self._last if name is None else name
        thread = self._thread(owner or "")
        thread.side, thread.done, thread.unread = Side.CLIENT, False, False
        for event in events:
            yield replace(event, at=replace(event.at, thread=owner or ""))

    @staticmethod
    def _sender(code: int, thread: _Thread) -> Side | None:
        """Who has sent what both sides send: a Certificate comes from the client behind ServerHelloDone."""
        if code == codes.CERTIFICATE:
            return Side.CLIENT if thread.done else Side.SERVER
        if thread.side is None:
            return None
        return thread.side.peer if thread.unread else thread.side

    def _thread(self, name: str) -> _Thread:
        thread = self._threads.pop(name, None) or _Thread()
        self._threads[name] = thread
        if len(self._threads) > _MOST_THREADS:
            del self._threads[next(iter(self._threads))]
        return thread

    @staticmethod
    def _at(number: int, thread: str | None, prefix: Prefix) -> At:
        return At(number, FORM, thread, prefix.time, prefix.text)


# -- what a statement says -----------------------------------------------------------------------------------------


def _value(statement: _Statement, key: str) -> str | None:
    """What stands behind this word and its colon."""
    for line in statement.lines:
        if line.startswith(key):
            return line[len(key) :].lstrip(" :").strip()
    return None


def _random(statement: _Statement, made: Rebuilt) -> bytes:
    """``GMT: N bytes = { ... }``: the first four bytes as a number, then the other 28 (or all 32)."""
    found = next((match for line in statement.lines if (match := _COOKIE.match(line))), None)
    rest = words.decimals(found[2]) if found else None
    if found is not None and rest is not None:
        gmt = b"" if found[1] is None else _gmt(int(found[1]))
        if len(gmt + rest) == 32:
            return gmt + rest
    made.absent.append("random")
    return bytes(32)


def _gmt(number: int) -> bytes:
    """The four bytes of which Java printed the sum; each was shifted to its place with the sign that a byte has."""
    data = bytearray()
    for _ in range(4):
        signed = (number + 0x80) % 0x100 - 0x80
        data.insert(0, signed & 0xFF)
        number = (number - signed) >> 8
    return bytes(data)


def _session_id(statement: _Statement, made: Rebuilt) -> bytes:
    shown = _value(statement, "Session ID")
    data = None if shown is None else words.decimals(shown)
    if data is None or len(data) > 32:
        made.absent.append("session_id")
        return b""
    return data


def _client_hello(statement: _Statement, made: Rebuilt) -> m.ClientHello:
    suites = _value(statement, "Cipher Suites")
    numbers = None if suites is None else words.numbers(words.listed(suites), words.suite)
    compression = words.decimals(_value(statement, "Compression Methods") or "x")
    if compression is None:
        made.absent.append("compression_methods")
    return m.ClientHello(
        made.number(words.version(statement.name.partition(",")[2].strip()), "legacy_version"),
        _random(statement, made),
        _session_id(statement, made),
        made.numbers(numbers, "cipher_suites"),
        tuple(compression or b"\0"),
        _extensions(statement, made, e.Where.CLIENT_HELLO),
    )


def _server_hello(statement: _Statement, made: Rebuilt) -> m.ServerHello:
    compression = words.number(_value(statement, "Compression Method") or "")
    return m.ServerHello(
        made.number(words.version(statement.name.partition(",")[2].strip()), "legacy_version"),
        _random(statement, made),
        _session_id(statement, made),
        made.number(words.suite(_value(statement, "Cipher Suite") or ""), "cipher_suite"),
        made.number(compression, "compression_method") & 0xFF,
        _extensions(statement, made, e.Where.SERVER_HELLO),
    )


def _certificate(statement: _Statement, made: Rebuilt) -> m.Certificate | None:
    starts = [n for n, line in enumerate(statement.lines) if _CHAIN.match(line)]
    for start, end in pairwise([*starts, len(statement.lines)]):
        made.certificates.append(printed.from_page(statement.lines[start:end]))
    return None if made.certificates else m.Certificate(())


def _certificate_request(statement: _Statement, made: Rebuilt) -> m.CertificateRequest10 | m.CertificateRequest12:
    shown = _value(statement, "Cert Types") or ""
    types = made.numbers(words.numbers(words.listed(shown), words.certificate_type), "certificate_types")
    names = [line.strip() for line in statement.lines if line.startswith("<")]
    if "<Empty>" not in names:
        read = [read_name(name.removeprefix("<").removesuffix(">")) for name in names]
        if None in read or not any(line.startswith("Cert Authorities") for line in statement.lines):
            made.absent.append("certificate_authorities")
        elif read:
            made.authorities = tuple(name for name in read if name is not None)
    algorithms = _value(statement, "Supported Signature Algorithms")
    if algorithms is None:
        return m.CertificateRequest10(types, ())
    schemes = words.numbers(_schemes(algorithms), words.scheme)
    return m.CertificateRequest12(types, made.numbers(schemes, "signature_algorithms"), ())


def _signature(statement: _Statement, made: Rebuilt) -> m.Signature | m.Signature10 | None:
    """The algorithm is printed in TLS 1.2, the signature never."""
    if any(line.startswith("Anonymous") for line in statement.lines):
        return None
    made.absent.append("signature")
    algorithm = _value(statement, "Signature Algorithm")
    if algorithm is None:
        return m.Signature10(b"")
    return m.Signature(made.number(words.scheme(algorithm), "algorithm"), b"")


def _ecdh_server_key_exchange(statement: _Statement, made: Rebuilt) -> m.ServerKeyExchange:
    curve = (_value(statement, "  parameters") or "").partition(" ")[0]
    coordinates = [_value(statement, f"  public {axis} coord") or "" for axis in "xy"]
    size = {"secp256r1": 32, "secp384r1": 48, "secp521r1": 66, "secp224r1": 28, "secp192r1": 24}.get(curve)
    point = b""
    if size is not None and all(re.fullmatch("[0-9]{1,200}", one) for one in coordinates):
        numbers = [int(one) for one in coordinates]
        if max(numbers).bit_length() <= 8 * size:
            point = b"\x04" + b"".join(one.to_bytes(size, "big") for one in numbers)
    if not point:
        made.absent.append("public")
    params = m.EcdhParams(3, made.number(words.group(curve), "named_curve"), point)
    return m.ServerKeyExchange(params, _signature(statement, made))


def _dh_server_key_exchange(statement: _Statement, made: Rebuilt) -> m.ServerKeyExchange:
    values = []
    for key, name in (("DH Modulus", "dh_p"), ("DH Base", "dh_g"), ("Server DH Public Key", "dh_ys")):
        data = words.decimals(_value(statement, key) or "x")
        if data is None:
            made.absent.append(name)
        values.append(data or b"")
    return m.ServerKeyExchange(m.DhParams(*values), _signature(statement, made))


def _rsa_server_key_exchange(statement: _Statement, made: Rebuilt) -> m.ServerKeyExchange:
    values = []
    for key, name in (("RSA Modulus", "rsa_modulus"), ("RSA Public Exponent", "rsa_exponent")):
        data = words.decimals(_value(statement, key) or "x")
        if data is None:
            made.absent.append(name)
        values.append(data or b"")
    return m.ServerKeyExchange(m.RsaParams(*values), _signature(statement, made))


def _client_key_exchange(statement: _Statement, _: Rebuilt) -> m.HandshakeMessage | None:
    point = words.decimals(_value(statement, "ECDH Public value") or "x")
    if point is not None:
        return m.ClientKeyExchangeEcdh(point)
    public = words.decimals(_value(statement, "DH Public key") or "x")
    return None if public is None else m.ClientKeyExchangeDh(public)


def _certificate_verify(statement: _Statement, made: Rebuilt) -> m.CertificateVerify | m.CertificateVerify10:
    signature = _signature(statement, made)
    if isinstance(signature, m.Signature):
        return m.CertificateVerify(signature.algorithm, b"")
    return m.CertificateVerify10(b"")


def _finished(statement: _Statement, made: Rebuilt) -> m.Finished:
    data = words.decimals(_value(statement, "verify_data") or "x")
    if data is None:
        made.absent.append("verify_data")
    return m.Finished(data or b"")


def _certificate_status(statement: _Statement, made: Rebuilt) -> m.CertificateStatus:
    made.absent.append("response")
    kind = 2 if (_value(statement, "Type") or "").lower() == "ocsp_multi" else 1
    return m.CertificateStatus(kind, b"")


_READERS: Final[dict[str, tuple[int, Side | None, Callable[[_Statement, Rebuilt], m.HandshakeMessage | None]]]] = {
    "HelloRequest": (0, Side.SERVER, lambda _, __: m.HelloRequest()),
    "ClientHello": (1, Side.CLIENT, _client_hello),
    "ServerHelloDone": (14, Side.SERVER, lambda _, __: m.ServerHelloDone()),
    "ServerHello": (2, Side.SERVER, _server_hello),
    "CertificateStatus": (22, Side.SERVER, _certificate_status),
    "CertificateRequest": (13, Side.SERVER, _certificate_request),
    "CertificateVerify": (15, Side.CLIENT, _certificate_verify),
    "Certificate chain": (11, None, _certificate),
    "ECDH ServerKeyExchange": (12, Side.SERVER, _ecdh_server_key_exchange),
    "Diffie-Hellman ServerKeyExchange": (12, Side.SERVER, _dh_server_key_exchange),
    "RSA ServerKeyExchange": (12, Side.SERVER, _rsa_server_key_exchange),
    "ECDHClientKeyExchange": (16, Side.CLIENT, _client_key_exchange),
    "ClientKeyExchange": (16, Side.CLIENT, _client_key_exchange),
    "Finished": (20, None, _finished),
}


# -- extensions of hellos ------------------------------------------------------------------------------------------


def _extensions(statement: _Statement, made: Rebuilt, where: e.Where) -> tuple[e.Extension, ...] | None:
    """The extensions in their order; without any there was no block."""
    found: list[e.Extension] = []
    for line in statement.lines:
        name, _, said = line.removeprefix("Extension ").partition(", ")
        if line.startswith("Extension "):
            code, extension = _extension(name.strip(), said, where)
        elif line.startswith("Unsupported extension "):
            code, extension = _unsupported(line)
        else:
            continue
        if code is None:
            made.absent.append("extensions")  # one of them, at least
            continue
        if extension is None:
            made.absent.append(f"extensions[{len(found)}]")
        found.append(e.UnknownExtension(code, b"") if extension is None else extension)
    return tuple(found) or None


def _unsupported(line: str) -> tuple[int | None, e.Extension | None]:
    """``Unsupported extension type_35, data: 00:01`` and ``Unsupported extension status_request, data: 01``."""
    read = re.match(r"Unsupported extension (\S+?), data: ?(.*)$", line)
    if read is None:
        return None, None
    number = read[1].removeprefix("type_")
    code = words.number(number) if number.isdecimal() else _CODES.get(read[1])
    data = words.hexadecimal(read[2].strip())
    if code is None or code > 0xFFFF:
        return None, None
    return code, None if data is None else e.UnknownExtension(code, data)


_CODES: Final = {
    "server_name": 0, "max_fragment_length": 1, "client_certificate_url": 2, "trusted_ca_keys": 3, "truncated_hmac": 4,
    "status_request": 5, "user_mapping": 6, "cert_type": 9, "elliptic_curves": 10, "supported_groups": 10,
    "ec_point_formats": 11, "srp": 12, "signature_algorithms": 13, "application_layer_protocol_negotiation": 16,
    "status_request_v2": 17, "extended_master_secret": 23, "renegotiation_info": 65281,
}  # fmt: skip


def _extension(name: str, said: str, where: e.Where) -> tuple[int | None, e.Extension | None]:
    code = _CODES.get(name)
    value = said.partition(": ")[2].strip() if ": " in said else said.rpartition(":")[2].strip()
    match code:
        case 0 if where is e.Where.CLIENT_HELLO:
            hosts = re.findall(r"(?:host_name: |type=host_name \(0\), value=)([^\],]+)", said)
            entries = tuple(e.ServerNameEntry(0, host.encode("utf-8", "surrogateescape")) for host in hosts)
            return code, e.ServerName(entries) if hosts else None
        case 0:
            return code, e.ServerNameAcknowledged()
        case 1:
            length = words.fragment_length(value)
            return code, None if length is None else e.MaxFragmentLength(length)
        case 10:
            groups = words.numbers(words.listed(value), words.group)
            return code, None if not groups else e.SupportedGroups(groups)
        case 11:
            formats = words.numbers(words.listed(value), words.point_format)
            return code, None if not formats else e.EcPointFormats(formats)
        case 13:
            schemes = words.numbers(_schemes(value), words.scheme)
            return code, None if not schemes else e.SignatureAlgorithms(schemes)
        case 16:
            protocols = tuple(one.encode("utf-8", "surrogateescape") for one in re.findall(r"\[([^\]]*)\]", value))
            return code, e.Alpn(protocols) if protocols else None
        case 23:
            return code, e.ExtendedMasterSecret()
        case 65281:
            verified = b"" if value == "<empty>" else words.hexadecimal(value)
            return code, None if verified is None else e.RenegotiationInfo(verified)
        case _:
            return code, None


def _schemes(text: str) -> Sequence[str]:
    """Names with a comma between them, of which ``Unknown (hash:0x3, signature:0x3)`` has one of its own."""
    return re.findall(r"Unknown \([^)]*\)|[^,\s]+", text)
