"""The NSS key log as data (RFC 9850): which secrets a TLS library gave away for which connection.

One line is ``<label> <client random, hex> <secret, hex>``. Real logs come with Windows line ends, comments,
upper-case hex, cut last lines and labels of other protocols; none of that raises here. A line that cannot be read is
counted with its number and is never repeated in a message, for half a secret is one too.
"""

# ruff: noqa: S105 - the labels of a file format are not secrets

from __future__ import annotations

from binascii import unhexlify
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

CLIENT_RANDOM = "CLIENT_RANDOM"
CLIENT_EARLY_TRAFFIC_SECRET = "CLIENT_EARLY_TRAFFIC_SECRET"
CLIENT_HANDSHAKE_TRAFFIC_SECRET = "CLIENT_HANDSHAKE_TRAFFIC_SECRET"
SERVER_HANDSHAKE_TRAFFIC_SECRET = "SERVER_HANDSHAKE_TRAFFIC_SECRET"
CLIENT_TRAFFIC_SECRET_0 = "CLIENT_TRAFFIC_SECRET_0"
SERVER_TRAFFIC_SECRET_0 = "SERVER_TRAFFIC_SECRET_0"
EXPORTER_SECRET = "EXPORTER_SECRET"
EARLY_EXPORTER_SECRET = "EARLY_EXPORTER_SECRET"

LABELS = frozenset(
    {
        CLIENT_RANDOM,
        CLIENT_EARLY_TRAFFIC_SECRET,
        CLIENT_HANDSHAKE_TRAFFIC_SECRET,
        SERVER_HANDSHAKE_TRAFFIC_SECRET,
        CLIENT_TRAFFIC_SECRET_0,
        SERVER_TRAFFIC_SECRET_0,
        EXPORTER_SECRET,
        EARLY_EXPORTER_SECRET,
    }
)
HANDSHAKE_LABELS = frozenset({CLIENT_HANDSHAKE_TRAFFIC_SECRET, SERVER_HANDSHAKE_TRAFFIC_SECRET})
"""What opens the handshake of TLS 1.3 and nothing after it (``--secrets handshake``)."""

_RANDOM_SIZE = 32
_MASTER_SIZE = 48
_TRAFFIC_SIZES = frozenset({32, 48})  # SHA-256 and SHA-384
_LINE_NUMBERS_KEPT = 100
_NOTHING: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Secret:
    """One line of a key log. Its ``repr`` names the connection and never shows the secret."""

    label: str
    client_random: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"Secret({self.label} for {self.client_random.hex()}, {len(self.secret)} bytes not shown)"

    @property
    def line(self) -> str:
        """The line of the key log, without its end."""
        return f"{self.label} {self.client_random.hex()} {self.secret.hex()}"


@dataclass(frozen=True, slots=True)
class KeyLogReading:
    """What a text gave: ``secrets`` that were taken, lines of other labels that were ``ignored``, lines ``broken``.

    ``broken_lines`` are the numbers of the first hundred of these, counted from one.
    """

    secrets: int = 0
    ignored: int = 0
    broken: int = 0
    broken_lines: tuple[int, ...] = ()


class KeyLog:
    """The secrets of many connections, by client random. It grows while connections are decoded."""

    def __init__(self) -> None:
        self._secrets: dict[bytes, dict[str, bytes]] = {}
        self._views: dict[bytes, Mapping[str, bytes]] = {}
        self._count = 0
        self.ignored = 0
        """Well-formed lines whose label opens nothing here: RSA, ECH, QUIC."""
        self.broken = 0
        """Lines that could not be read."""

    def __repr__(self) -> str:
        return f"<KeyLog: {self._count} secrets of {len(self._secrets)} connections>"

    def __len__(self) -> int:
        return self._count

    def __contains__(self, client_random: bytes) -> bool:
        return client_random in self._secrets

    def __iter__(self) -> Iterator[Secret]:
        for client_random, secrets in self._secrets.items():
            for label, secret in secrets.items():
                yield Secret(label, client_random, secret)

    def add(self, label: str, client_random: bytes, secret: bytes) -> Secret:
        """Take one secret; a later one for the same label and connection takes the place of the first."""
        secrets = self._secrets.get(client_random)
        if secrets is None:
            client_random = bytes(client_random)
            secrets = self._secrets[client_random] = {}
            self._views[client_random] = MappingProxyType(secrets)
        if label not in secrets:
            self._count += 1
        secrets[label] = bytes(secret)
        return Secret(label, client_random, secrets[label])

    def add_line(self, line: str | bytes) -> Secret | None:
        """Take one line, as a library's key log callback gives it. None where it holds no secret of ours."""
        secret, broken = _parse(line)
        if secret is not None:
            return self.add(secret.label, secret.client_random, secret.secret)
        if broken:
            self.broken += 1
        elif broken is not None:
            self.ignored += 1
        return None

    def add_text(self, text: str | bytes) -> KeyLogReading:
        """Take a whole key log: ``\\n``, ``\\r\\n`` or ``\\r`` between the lines, comments and blanks left out."""
        secrets = ignored = broken = 0
        numbers: list[int] = []
        lines: Sequence[str | bytes] = text.splitlines()
        for number, line in enumerate(lines, start=1):
            secret, is_broken = _parse(line)
            if secret is not None:
                self.add(secret.label, secret.client_random, secret.secret)
                secrets += 1
            elif is_broken:
                broken += 1
                if len(numbers) < _LINE_NUMBERS_KEPT:
                    numbers.append(number)
            elif is_broken is not None:
                ignored += 1
        self.ignored += ignored
        self.broken += broken
        return KeyLogReading(secrets, ignored, broken, tuple(numbers))

    def get(self, client_random: bytes) -> Mapping[str, bytes]:
        """The secrets of one connection by label; empty where nothing is known. The mapping stays up to date."""
        return self._views.get(client_random, _NOTHING)

    def lines(self, wanted: Callable[[Secret], bool] | None = None) -> Iterator[str]:
        """The key log's lines without line ends, those that are ``wanted``."""
        return (secret.line for secret in self if wanted is None or wanted(secret))


def parse_line(line: str | bytes) -> Secret | None:
    """One line of a key log; None for a comment, another label, or a line that is broken."""
    return _parse(line)[0]


def _parse(line: str | bytes) -> tuple[Secret | None, bool | None]:
    """The secret; else whether the line is broken, and None where there is nothing on it to be broken."""
    text = line.decode("latin-1") if isinstance(line, bytes) else line
    text = text.strip("\ufeff\x00 \t\r\n")
    if not text or text.startswith("#"):
        return None, None
    parts = text.split()
    if len(parts) != 3:
        return None, True
    label, random_hex, secret_hex = parts
    try:
        client_random, secret = unhexlify(random_hex), unhexlify(secret_hex)
    except ValueError:  # binascii.Error, and UnicodeEncodeError for what is not ASCII
        return None, True
    if label not in LABELS:
        # RSA names the first eight bytes of the encrypted premaster secret; PMS_CLIENT_RANDOM, ECH_SECRET, QUIC_*.
        known_shape = label.replace("_", "").isalnum() and label.isascii() and label.isupper()
        return None, not known_shape
    sizes = {_MASTER_SIZE} if label == CLIENT_RANDOM else _TRAFFIC_SIZES
    if len(client_random) != _RANDOM_SIZE or len(secret) not in sizes:
        return None, True
    return Secret(label, client_random, secret), False
