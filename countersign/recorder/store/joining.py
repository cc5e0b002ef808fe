"""The same handshake told twice: by a program's log, and by the wire.

A client makes its random anew for each ClientHello (RFC 8446 4.1.2), so two recordings with the same one are of one
handshake. Those are looked for among the recordings with the same fingerprint or server name, not by time: the clock of
whoever wrote the log is his own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from countersign.recorder.recording import Recording
    from countersign.recorder.store.database import Store

_LOG: Final = "log"
_LOOKED_AT: Final = 50


def counterpart(store: Store, recording: Recording) -> Recording | None:
    """Of a recording from a log the one from the wire with the same ClientHello, and the other way round.

    At most the newest 50 that may be it are looked at.
    """
    own = _randoms(recording)
    if not own:
        return None
    printed = next((print_ for leg in recording.legs if (print_ := leg.read().ja4)), None)
    if printed is None and recording.sni is None:
        return None
    logged = recording.action != _LOG
    for some in store.summaries(limit=_LOOKED_AT, ja4=printed, sni=recording.sni, logged=logged):
        other = store.get(some.id)
        if own & _randoms(other):
            return other
    return None


def _randoms(recording: Recording) -> set[bytes]:
    return {random for leg in recording.legs if (random := leg.read().client_random) is not None}
