"""Hellos that say what they must not: what was not offered, what nobody asked for, another session, a downgrade.

A changed ServerHello is in the transcript, too, so a client that takes it fails at Finished at the latest. The alerts
that belong to each are in RFC 8446 4.1.3, 4.1.4 and 4.2.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from countersign.proxy.faults.changing import read_item
from countersign.proxy.faults.kinds import AtMessage, FaultError, FaultKind, Note, Option, Proved, Right
from countersign.recorder.wire.extensions import (
    Extension,
    KeyShare,
    SelectedVersion,
    SupportedGroups,
    UnknownExtension,
)
from countersign.recorder.wire.messages import (
    Certificate13,
    ClientHello,
    DecodeContext,
    EncryptedExtensions,
    HandshakeMessage,
    HelloRetryRequest,
    NewSessionTicket13,
    ServerHello,
    decode_message,
)
from countersign.recorder.wire.names import (
    CIPHER_SUITES,
    POST_QUANTUM_GROUPS,
    TLS10,
    TLS11,
    TLS12,
    TLS13,
    alert_name,
    cipher_suite_name,
    extension_name,
    group_name,
    version_name,
)
from countersign.recorder.wire.protection import TLS13_SUITES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from countersign.proxy.faults.items import Item
    from countersign.proxy.faults.model import Place, WireFault
    from countersign.recorder.wire.events import Message

_LONGEST = 0xFF00  # of a message to which there is something to be added: its extensions have two bytes of length
_UNHEARD_OF = 0xFACE
"""An extension that nobody has, of those for experiments."""
_COMMON_SUITES = (0x1302, 0xC030, 0xC02F, 0xC02C, 0x009C, 0x002F, 0x000A, 0xC0AE, 0xC0A3, 0x00A8)


class _ServerHelloKind(FaultKind):
    """A kind that is about ServerHello alone, and whose change shows in it."""

    default_at = "server_hello"

    def check(self, fault: WireFault) -> None:
        if fault.at != self.default_at:
            raise FaultError("at", f"the fault {self.name!r} is about the {self.default_at}")

    def worker(self, fault: WireFault, note: Note) -> AtMessage:
        return _ChangingHello(self, fault, note)

    def changed(self, hello: ServerHello, fault: WireFault, note: Note) -> tuple[ServerHello, str] | None:
        """The hello with the fault in it and what was done; None where that cannot be."""
        raise NotImplementedError

    def wrong(self, hello: ServerHello, offered: ClientHello | None) -> bool:
        """Whether a recorded hello is one with this fault."""
        raise NotImplementedError

    def shown(self, proved: Proved, fault: WireFault) -> str | None:
        offers = [_read(one) for one in proved.leg.messages if one.is_handshake(1)]
        offered = next((each for each in offers if isinstance(each, ClientHello)), None)
        for one in proved.named(fault, "server_hello"):
            hello = _read(one)
            if isinstance(hello, ServerHello) and self.wrong(hello, offered):
                return None
        return f"no server_hello of the {fault.leg} leg shows what {self.name!r} does"


def _read(message: Message) -> Any:
    return decode_message(message.raw, DecodeContext(None, None, message.sender)).value


class _ChangingHello(AtMessage):
    kind: _ServerHelloKind

    def act(self, item: Item) -> Iterable[Item]:
        hello = read_item(item, self.note.agreed, self.note.side)
        changed = self.kind.changed(hello, self.fault, self.note) if isinstance(hello, ServerHello) else None
        if changed is None:
            return (item,)
        self.note.applied(changed[1], at=item.name)
        return (item.with_data(changed[0].build()),)


class DowngradeSentinel(_ServerHelloKind):
    """RFC 8446 4.1.3: what a server that could do better writes into its random when it is made to do worse."""

    name = "downgrade_sentinel"
    says = "ends the random of a ServerHello below TLS 1.3 as a server does that knows better: a client that does, too,\
 must not go on"
    needs = frozenset({"tls12"})
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {"below": Option(says="which version it says to have been pushed down to, or below", form="text",
                         default="TLSv1.2", choices=("TLSv1.2", "TLSv1.1"))}
    )  # fmt: skip

    def changed(self, hello: ServerHello, fault: WireFault, note: Note) -> tuple[ServerHello, str] | None:  # noqa: ARG002
        last = 1 if fault.options["below"] == "TLSv1.2" else 0
        random = hello.random[:24] + b"DOWNGRD" + bytes([last])
        return replace(hello, random=random), f"put the downgrade sentinel for {fault.options['below']} into the random"

    def wrong(self, hello: ServerHello, offered: ClientHello | None) -> bool:  # noqa: ARG002
        return hello.downgraded_from_tls13


class OtherSessionId(_ServerHelloKind):
    """RFC 8446 4.1.3: the session id is an echo. Below TLS 1.3 the server may have one of its own."""

    name = "other_session_id"
    consistent = True
    says = "echoes another session id than the client's; in TLS 1.3 that has to be the same"

    def changed(self, hello: ServerHello, fault: WireFault, note: Note) -> tuple[ServerHello, str] | None:  # noqa: ARG002
        other = bytes([hello.session_id[0] ^ 1]) + hello.session_id[1:] if hello.session_id else bytes(range(32))
        return replace(hello, session_id=other), "echoed another session id than the client had sent"

    def wrong(self, hello: ServerHello, offered: ClientHello | None) -> bool:
        return offered is not None and hello.session_id != offered.session_id


class VersionNotOffered(_ServerHelloKind):
    """RFC 8446 4.1.3, 4.2.1, RFC 5246 7.4.1.3."""

    name = "version_not_offered"
    says = "chooses a version that the client has not offered"
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {"version": Option(says="which one, as a number", form="int", default=0x0300, least=0, most=0xFFFF)}
    )

    def changed(self, hello: ServerHello, fault: WireFault, note: Note) -> tuple[ServerHello, str] | None:
        version = int(str(fault.options["version"]))
        text = f"chose {version_name(version)}, which was not offered"
        if not note.agreed.tls13:
            return replace(hello, legacy_version=version), text
        kept = tuple(
            SelectedVersion(version) if isinstance(each, SelectedVersion) else each for each in hello.extensions or ()
        )
        return replace(hello, extensions=kept), text

    def wrong(self, hello: ServerHello, offered: ClientHello | None) -> bool:  # noqa: ARG002
        chosen = [each.selected_version for each in hello.extensions or () if isinstance(each, SelectedVersion)]
        return (chosen[0] if chosen else hello.legacy_version) not in {TLS10, TLS11, TLS12, TLS13}


class SuiteNotOffered(_ServerHelloKind):
    """RFC 8446 4.1.3, RFC 5246 7.4.1.3."""

    name = "suite_not_offered"
    says = "chooses a cipher suite that the client has not offered"
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {"suite": Option(says="which one, as a number; else the first of some that was not offered", form="int",
                         optional=True, least=0, most=0xFFFF)}
    )  # fmt: skip

    def changed(self, hello: ServerHello, fault: WireFault, note: Note) -> tuple[ServerHello, str] | None:
        offered = note.agreed.client_hello.cipher_suites if note.agreed.client_hello else ()
        fitting = sorted(TLS13_SUITES, reverse=True) if note.agreed.tls13 else [*_COMMON_SUITES[1:], *CIPHER_SUITES]
        if "suite" in fault.options:
            fitting = [int(str(fault.options["suite"]))]
        suite = next((each for each in (*fitting, *CIPHER_SUITES) if each not in offered), None)
        if suite is None:
            return None
        return replace(hello, cipher_suite=suite), f"chose {cipher_suite_name(suite)}, which was not offered"

    def wrong(self, hello: ServerHello, offered: ClientHello | None) -> bool:
        return offered is not None and hello.cipher_suite not in offered.cipher_suites


class CompressionNotOffered(_ServerHelloKind):
    """RFC 8446 4.1.3, RFC 5246 7.4.1.3."""

    name = "compression_not_offered"
    consistent = True
    says = "chooses a compression method, where the client has offered none"
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {"method": Option(says="which one, as a number; 1 is DEFLATE", form="int", default=1, least=1, most=255)}
    )

    def changed(self, hello: ServerHello, fault: WireFault, note: Note) -> tuple[ServerHello, str] | None:  # noqa: ARG002
        method = int(str(fault.options["method"]))
        return replace(hello, compression_method=method), f"chose the compression method {method}"

    def wrong(self, hello: ServerHello, offered: ClientHello | None) -> bool:  # noqa: ARG002
        return hello.compression_method != 0


# -- extensions --------------------------------------------------------------------------------------------------


class UnsolicitedExtension(FaultKind):
    """RFC 8446 4.2, RFC 5246 7.4.1.4: an extension in an answer that was not in the question."""

    name = "unsolicited_extension"
    consistent = True
    says = "adds an extension that the peer has not asked for to a hello, or within the encryption of TLS 1.3"
    default_at = "server_hello"
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {
            "extension": Option(says="its number", form="int", default=_UNHEARD_OF, least=0, most=0xFFFF),
            "data": Option(says="what is in it", form="bytes", default=b""),
        }
    )

    def check(self, fault: WireFault) -> None:
        if fault.at not in _WITH_EXTENSIONS:
            known = ", ".join(_WITH_EXTENSIONS)
            raise FaultError("at", f"the fault {self.name!r} cannot be at {fault.at}: extensions are in {known}")

    def right_of(self, fault: WireFault) -> Right:
        """What is new in a ticket is overlooked (RFC 8446 4.6.1)."""
        return "accept" if fault.at == "new_session_ticket" else "refuse"

    def worker(self, fault: WireFault, note: Note) -> AtMessage:
        return _Adding(self, fault, note)

    def shown(self, proved: Proved, fault: WireFault) -> str | None:
        number = int(str(fault.options["extension"])).to_bytes(2)
        if any(number in one.raw for one in proved.named(fault, fault.at)):
            return None
        return f"no {fault.at} of the {fault.leg} leg has an extension {extension_name(int.from_bytes(number))}"


_WITH_EXTENSIONS = (
    "server_hello", "hello_retry_request", "encrypted_extensions", "certificate", "new_session_ticket", "client_hello",
)  # fmt: skip


class _Adding(AtMessage):
    def act(self, item: Item) -> Iterable[Item]:
        number, data = int(str(self.fault.options["extension"])), self.fault.options["data"]
        assert isinstance(data, bytes)
        if len(item.data) + len(data) > _LONGEST:
            return (item,)
        changed = _with_extension(read_item(item, self.note.agreed, self.note.side), UnknownExtension(number, data))
        if changed is None:
            return (item,)
        text = f"added the extension {extension_name(number)}, which was not asked for, to the {item.name}"
        self.note.applied(text, at=item.name)
        return (item.with_data(changed.build()),)


def _with_extension(value: object, extension: Extension) -> HandshakeMessage | None:
    match value:
        case ServerHello() | HelloRetryRequest() | EncryptedExtensions() | NewSessionTicket13():
            return replace(value, extensions=(*(value.extensions or ()), extension))
        case ClientHello():
            return replace(value, extensions=(extension, *(value.extensions or ())))  # pre_shared_key stays the last
        case Certificate13() if value.entries:
            leaf = replace(value.entries[0], extensions=(*value.entries[0].extensions, extension))
            return replace(value, entries=(leaf, *value.entries[1:]))
    return None


# -- post-quantum groups -----------------------------------------------------------------------------------------


class StripPostQuantum(FaultKind):
    """What a device does that does not let through what it does not know, and does not know what a transcript is."""

    name = "strip_post_quantum"
    says = "takes the post-quantum groups and their key shares out of a ClientHello on its way"
    sides: ClassVar[frozenset[Any]] = frozenset({"target", "proxy"})
    default_at = "client_hello"

    def check(self, fault: WireFault) -> None:
        if fault.at != "client_hello":
            raise FaultError("at", f"the fault {self.name!r} is about the client_hello: those offer groups")
        if fault.leg == "server" and fault.to == "proxy":
            raise FaultError(
                "to", f"the fault {self.name!r} on the server leg is for the target: we are the client there"
            )

    def worker(self, fault: WireFault, note: Note) -> AtMessage:
        return _Stripping(self, fault, note)

    def shown(self, proved: Proved, fault: WireFault) -> str | None:
        for one in proved.named(fault, "client_hello"):
            hello = _read(one)
            if isinstance(hello, ClientHello) and not post_quantum_of(hello):
                return None
        return f"no client_hello of the {fault.leg} leg is without post-quantum groups"


def post_quantum_of(hello: ClientHello) -> tuple[int, ...]:
    """The post-quantum groups that a client offers."""
    groups = [each.groups for each in hello.extensions or () if isinstance(each, SupportedGroups)]
    return tuple(group for group in (groups[0] if groups else ()) if group in POST_QUANTUM_GROUPS)


class _Stripping(AtMessage):
    def act(self, item: Item) -> Iterable[Item]:
        hello = read_item(item, self.note.agreed, self.note.side)
        taken = post_quantum_of(hello) if isinstance(hello, ClientHello) else ()
        if not taken:
            return (item,)
        left = replace(hello, extensions=tuple(_without(each) for each in hello.extensions))
        names = ", ".join(map(group_name, taken))
        self.note.applied(f"took {names} out of the client_hello", at=item.name)
        return (item.with_data(left.build()),)


def _without(extension: Extension) -> Extension:
    match extension:
        case SupportedGroups(groups=groups):
            return SupportedGroups(tuple(group for group in groups if group not in POST_QUANTUM_GROUPS))
        case KeyShare(entries=entries):
            return KeyShare(tuple(entry for entry in entries if entry.group not in POST_QUANTUM_GROUPS))
    return extension


class RefusePostQuantum(FaultKind):
    """What a device does that has a rule against what it does not know."""

    name = "refuse_post_quantum"
    says = "answers a client that offers post-quantum groups with an alert in the place of a ServerHello, and closes"
    sides: ClassVar[frozenset[Any]] = frozenset({"client", "proxy"})
    places: ClassVar[frozenset[Place]] = frozenset({"before"})
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {"alert": Option(says="what it says", form="alert", default=40)}
    )

    def check(self, fault: WireFault) -> None:
        if fault.at not in {"server_hello", "hello_retry_request"}:
            raise FaultError("at", f"the fault {self.name!r} is about the answer to a ClientHello: server_hello")

    def worker(self, fault: WireFault, note: Note) -> AtMessage:
        return _Refusing(self, fault, note)

    def shown(self, proved: Proved, fault: WireFault) -> str | None:
        number = int(str(fault.options["alert"]))
        if any(one.code == number for one in proved.named(fault, "alert")):
            return None
        return f"no alert {alert_name(number)} is among the messages of the {fault.leg} leg"


class _Refusing(AtMessage):
    def take(self, item: Item) -> Iterable[Item]:
        hello, number = self.note.agreed.client_hello, int(str(self.fault.options["alert"]))
        taken = post_quantum_of(hello) if hello is not None else ()
        if item.name not in {"server_hello", "hello_retry_request"} or not taken or self._seen:
            return (item,)
        self._seen = 1
        names = ", ".join(map(group_name, taken))
        self.note.applied(f"refused an offer with {names} by the alert {alert_name(number)}", at="alert")
        return (item.alert(2, number, epoch=0), item.end())

    def act(self, item: Item) -> Iterable[Item]:
        return (item,)


KINDS = (
    DowngradeSentinel,
    OtherSessionId,
    VersionNotOffered,
    SuiteNotOffered,
    CompressionNotOffered,
    UnsolicitedExtension,
    StripPostQuantum,
    RefusePostQuantum,
)
