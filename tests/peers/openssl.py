"""``openssl s_server`` and ``openssl s_client``, and what their ``-msg`` option says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from tests.peers.process import Arg, Background, Completed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.peers.certs import Issued

Role = Literal["client", "server"]

# What it takes to speak each version with a library whose defaults have moved on.
VERSION_ARGS: dict[str, tuple[str, ...]] = {
    "TLSv1": ("-tls1", "-cipher", "ALL:@SECLEVEL=0"),
    "TLSv1.1": ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
    "TLSv1.2": ("-tls1_2",),
    "TLSv1.3": ("-tls1_3",),
}

HELLO_RETRY_REQUEST = bytes.fromhex(
    "CF21AD74E59A6111BE1D8C021E65B891C2A211167ABB8C5E079E09E2C8A8339C"
)  # RFC 8446 4.1.3


class Msg(NamedTuple):
    """One message as OpenSSL saw it, ``sender`` by TLS role, ``type`` in our snake_case, ``length`` with its header."""

    sender: Role
    version: str
    content: Literal["handshake", "alert", "change_cipher_spec"]
    type: str
    length: int
    raw: bytes

    @property
    def is_hello_retry_request(self) -> bool:
        return self.type == "server_hello" and self.raw[6:38] == HELLO_RETRY_REQUEST


_HEADER = re.compile(
    r"^(?P<way><<<|>>>) (?P<version>[^,]+), (?P<content>\w+) \[length (?P<length>[0-9a-f]{4,})\](?:, (?P<name>.*))?$"
)
_HEX = re.compile(r"^    [0-9a-f]{2}(?: [0-9a-f]{2})*\s*$")
_CONTENT: dict[str, Literal["handshake", "alert", "change_cipher_spec"]] = {
    "Handshake": "handshake",
    "Alert": "alert",
    "ChangeCipherSpec": "change_cipher_spec",
}


def parse_msg(text: str, me: Role) -> list[Msg]:
    """The messages in what ``-msg`` printed at the side ``me``, in order; record headers and inner types left out.

    OpenSSL reports no change-cipher-spec that it *received*, in any version, calls a HelloRetryRequest ServerHello,
    and gives as a ClientHello's version the newest that this side would speak.
    """
    peer: Role = "server" if me == "client" else "client"
    found: list[Msg] = []
    lines = text.splitlines()
    for at, line in enumerate(lines):
        header = _HEADER.match(line)
        if not header or header["content"] not in _CONTENT:
            continue
        content = _CONTENT[header["content"]]
        digits = []
        for following in lines[at + 1 :]:
            if not _HEX.match(following):
                break
            digits.append(following)
        found.append(
            Msg(
                sender=me if header["way"] == ">>>" else peer,
                version=header["version"].replace("TLS ", "TLSv").replace("TLSv1.0", "TLSv1"),
                content=content,
                type=_snake(header["name"] or "") if content == "handshake" else content,
                length=int(header["length"], 16),
                raw=bytes.fromhex("".join(digits)),
            )
        )
    return found


def _snake(name: str) -> str:
    """``ServerHelloDone`` to ``server_hello_done``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


class OpensslServer:
    """``openssl s_server`` on loopback while the ``with`` block runs.

    ``mode`` ``rev`` answers each line reversed, ``www`` answers HTTP with a page about the handshake, and ``plain``
    prints what it gets; only ``plain`` obeys :meth:`command`. ``verify_ca`` asks for a client certificate and, with
    ``require_client_cert``, insists. ``groups`` that the client made no key share for bring a HelloRetryRequest.
    """

    def __init__(
        self,
        identity: Issued,
        *args: Arg,
        host: str = "127.0.0.1",
        port: int = 0,
        mode: Literal["rev", "www", "plain"] = "rev",
        version: str | None = None,
        groups: str | None = None,
        verify_ca: Path | None = None,
        require_client_cert: bool = True,
        keylog: Path | None = None,
        send_chain: bool = True,
    ) -> None:
        words: list[Arg] = ["openssl", "s_server", "-accept", f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
        words += ["-cert", identity.cert_pem, "-key", identity.key_pem, "-msg", "-no_dhe"]
        if send_chain and identity.chain_pem.stat().st_size:
            words += ["-cert_chain", identity.chain_pem]
        if mode != "plain":
            words += [f"-{mode}"]
        if version:
            words += VERSION_ARGS[version]
        if groups:
            words += ["-groups", groups]
        if verify_ca:
            words += [
                "-Verify" if require_client_cert else "-verify",
                "5",
                "-CAfile",
                verify_ca,
                "-verify_return_error",
            ]
        if keylog:
            words += ["-keylogfile", keylog]
        self.host = host
        self.port = port
        self._process = Background(*words, *args)

    def __enter__(self) -> Self:
        self._process.__enter__()
        try:
            self.port = int(self._process.wait_for(r"^ACCEPT .*:(\d+)$")[1])
        except BaseException:
            self._process.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def output(self) -> str:
        return self._process.stdout

    @property
    def errors(self) -> str:
        return self._process.stderr

    @property
    def messages(self) -> list[Msg]:
        """Of all connections so far, one after the other."""
        return parse_msg(self.output, "server")

    def command(self, letter: str) -> None:
        """``c`` asks for a certificate after the handshake, ``k`` updates keys, ``r`` renegotiates, ``Q`` ends it."""
        self._process.say(letter.encode() + b"\n")

    def wait_for(self, pattern: str, timeout: float = 40) -> re.Match[str]:
        return self._process.wait_for(pattern, timeout)

    def wait_for_message(self, kind: str, count: int = 1, timeout: float = 40) -> None:
        """Until it has seen or sent ``count`` handshake messages of a type that OpenSSL calls ``kind``."""
        self.wait_for(rf"(?s)(?:Handshake \[length [0-9a-f]+\], {kind}\b.*?){{{count}}}", timeout)


class OpensslClient(NamedTuple):
    completed: Completed
    messages: list[Msg]

    @property
    def output(self) -> str:
        return self.completed.stdout

    @property
    def verify_code(self) -> int | None:
        """OpenSSL's ``Verify return code``, 0 for a good chain; None if it never got so far."""
        found = re.findall(r"Verify return code: (\d+)", self.output)
        return int(found[-1]) if found else None


def openssl_client(
    address: str,
    *args: Arg,
    ca: Path | None = None,
    identity: Issued | None = None,
    name: str | None = "localhost",
    version: str | None = None,
    keylog: Path | None = None,
    send: bytes | Sequence[bytes] = b"",
    until: str | None = None,
    timeout: float = 40,
) -> OpensslClient:
    """``openssl s_client -msg``: connect, send, wait for ``until`` in its output (or its end), say goodbye.

    With ``until=None`` and nothing to send it leaves as soon as the handshake is done, with a close_notify; tickets
    and late alerts of TLS 1.3 may be missed then. With ``ca`` a chain that does not verify ends the handshake.
    """
    words: list[Arg] = ["openssl", "s_client", "-connect", address, "-msg"]
    words += ["-servername", name] if name else ["-noservername"]
    if ca:
        words += ["-CAfile", ca, "-verify_return_error"]
        if name:
            words += ["-verify_hostname", name]
    if identity:
        words += ["-cert", identity.cert_pem, "-key", identity.key_pem, "-cert_chain", identity.chain_pem]
    if version:
        words += VERSION_ARGS[version]
    if keylog:
        words += ["-keylogfile", keylog]
    with Background(*words, *args) as client:
        try:
            for piece in [send] if isinstance(send, bytes) else send:
                client.say(piece)
        except BrokenPipeError:  # it ended before it was asked anything: the output says why
            pass
        if until is not None:
            try:
                client.wait_for(until, timeout)
            except AssertionError:
                if not client.ended():
                    raise
        client.hang_up()
        client.wait(timeout)
        completed = client.stop()
    return OpensslClient(completed, parse_msg(completed.stdout, "client"))
