"""What a TLS 1.3 handshake without keys tells by the sizes of its sealed records.

Everything behind ServerHello is sealed, and looks alike from outside (RFC 8446 5.2). Its lengths do not: a Finished
has the length of the suite's hash (4.4.4), a Certificate that holds none has 8 bytes (4.4.2), an alert 2 (6), and the
padding is known (:func:`~countersign.recorder.wire.protection.sealed_lengths`). So the client's first sealed record
behind the server's flight says how far it came: one of the size of an alert is no Finished, so the client refused what
it was shown; an empty Certificate before Finished means that it was asked for a certificate and has shown none. Which
alert it is, and what it is about, stays sealed. Where early data was offered, or sizes fit nothing, nothing is said.

A goodbye is one alert, and JSSE's are two, user_canceled before close_notify (6.1). Its alerts are padded to the size
of a short request, so two records of that size are a goodbye only where the client waits for no answer to them: its
bytes end before the server says anything more, or that says nothing more at all.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from countersign.recorder.recording import Ending, LegRole
from countersign.recorder.wire import codes, names
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.extensions import SelectedVersion
from countersign.recorder.wire.messages import ClientHello, ServerHello, glance
from countersign.recorder.wire.protection import TLS13_PROTECTIONS, sealed_lengths
from countersign.recorder.wire.records import APPLICATION_DATA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from countersign.recorder.recording import Leg
    from countersign.recorder.wire.events import EncryptedRecord

_HEADER = 4
_EMPTY_CERTIFICATE = _HEADER + 1 + 3  # RFC 8446 4.4.2: no context, an empty list


class Flight(Enum):
    """What the client sealed behind the server's flight, before anything else."""

    NOTHING = "nothing"
    ALERT = "alert"
    FINISHED = "finished"
    NO_CERTIFICATE = "no certificate, finished"
    CERTIFICATE = "certificate, finished"


@dataclass(frozen=True, slots=True)
class Sealed:
    """``flight`` is the client's, begun at ``began``. ``used``: it has sent more than a goodbye behind its Finished.
    ``answered``: the server has, behind it, sealed something that is no alert. ``client_left`` and ``server_left`` are
    when a side ended the conversation, by a last record of the size of an alert or the end of its bytes; ``refused`` is
    such a last record of the server's.
    """

    flight: Flight
    began: float
    used: bool
    answered: bool
    client_left: float
    server_left: float
    refused: bool

    @property
    def server_left_first(self) -> bool:
        return self.server_left < self.client_left


def sealed(leg: Leg) -> Sealed | None:
    """None where keys opened it, it is no TLS 1.3, or the sizes fit nothing."""
    suite = _suite(leg)
    records = [one for one in leg.encrypted_records if one.content_type == APPLICATION_DATA]
    if suite is None or not any(one.sender is Side.SERVER and not one.alert_size for one in records):
        return None
    client = [one for one in records if one.sender is Side.CLIENT]
    found = _flight(client, suite)
    if found is None or (not client and leg.count(Side.CLIENT).length):
        return None
    flight, of_flight = found
    began = client[0].t if client else math.inf
    server = [one for one in records if one.sender is Side.SERVER and one.t >= began]
    answers = [one.t for one in server if not one.alert_size]
    last_data = leg.count(Side.SERVER).last
    answers += [last_data] if last_data is not None and last_data >= began else []
    behind = client[of_flight:]
    goodbye = _goodbye(behind, leg, answers, suite)
    refused = bool(server) and server[-1].alert_size and not any(t > server[-1].t for t in answers)
    used = len(behind) > len(goodbye) or leg.count(Side.CLIENT).length > 0
    return Sealed(
        flight,
        began,
        used,
        bool(answers),
        min([*(one.t for one in goodbye), *([began] if flight is Flight.ALERT else []), _ended(leg, Side.CLIENT)]),
        min([*([server[-1].t] if refused else []), _ended(leg, Side.SERVER)]),
        refused,
    )


def _suite(leg: Leg) -> int | None:
    """That of a TLS 1.3 handshake that nobody opened, without early data; None for one that is none of TLS 1.3."""
    if leg.role is not LegRole.THROUGH or any(one.encrypted for one in leg.messages):
        return None
    hellos = [
        glance(one.raw).value
        for one in leg.messages
        if one.is_handshake(codes.CLIENT_HELLO) or one.is_handshake(codes.SERVER_HELLO)
    ]
    offer = next((one for one in hellos if isinstance(one, ClientHello)), None)
    answer = next((one for one in hellos if isinstance(one, ServerHello)), None)
    if offer is None or answer is None or any(one.code == codes.EARLY_DATA for one in offer.extensions or ()):
        return None
    chosen = [one.selected_version for one in answer.extensions or () if isinstance(one, SelectedVersion)]
    suite = answer.cipher_suite
    return suite if suite in TLS13_PROTECTIONS and any(map(names.is_tls13, chosen)) else None


def _flight(client: Sequence[EncryptedRecord], suite: int) -> tuple[Flight, int] | None:
    """The flight, and how many records it has."""
    if not client:
        return Flight.NOTHING, 0
    if client[0].alert_size:
        return Flight.ALERT, 1
    finished = _HEADER + hashlib.new(TLS13_PROTECTIONS[suite].hash_name).digest_size
    if client[0].length in sealed_lengths(suite, _EMPTY_CERTIFICATE + finished):
        return Flight.NO_CERTIFICATE, 1
    at = next((place for place, one in enumerate(client) if one.length in sealed_lengths(suite, finished)), None)
    if at is None or any(one.alert_size for one in client[:at]):
        return None
    if at == 0:
        return Flight.FINISHED, 1
    empty = at == 1 and client[0].length in sealed_lengths(suite, _EMPTY_CERTIFICATE)
    return (Flight.NO_CERTIFICATE if empty else Flight.CERTIFICATE), at + 1


def _goodbye(
    behind: Sequence[EncryptedRecord], leg: Leg, answers: Sequence[float], suite: int
) -> Sequence[EncryptedRecord]:
    """The last records, where they are alerts. Data of their size in JSSE's form (``GET / HTTP/1.1``) is answered."""
    last_data = leg.count(Side.CLIENT).last
    if not behind or not behind[-1].alert_size or (last_data is not None and last_data > behind[-1].t):
        return ()
    bare, padded = (fit(sealed_lengths(suite, codes.ALERT_LENGTH)) for fit in (min, max))
    last, left = behind[-1].t, _ended(leg, Side.CLIENT)
    if [one.length for one in behind[-2:]] == [padded, padded] and not any(last < t <= left for t in answers):
        return behind[-2:]
    return behind[-1:] if behind[-1].length == bare or not any(t > last for t in answers) else ()


def _ended(leg: Leg, side: Side) -> float:
    return min(
        (end.t for end in leg.ends if end.sender is side and end.how in {Ending.FIN, Ending.RESET}), default=math.inf
    )
