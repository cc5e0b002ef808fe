"""``countersign show``: one recording as a ladder, or as JSON."""

from __future__ import annotations

from countersign.cli.common import Home, Json, RecordingId, StoreUrl, open_store, print_json


def show(recording_id: RecordingId = "last", home: Home = None, store: StoreUrl = None, as_json: Json = False) -> None:
    """Draw the handshakes of one recording, message by message, and say how it ended."""
    from countersign.cli.ladder import print_ladder
    from countersign.recorder.recording import to_json

    with open_store(home, store) as kept:
        recording = kept.get(recording_id)
    if as_json:
        print_json(to_json(recording))
    else:
        print_ladder(recording)
