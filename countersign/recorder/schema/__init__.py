"""The JSON Schema of a recording, as data of the package."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def load_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of :func:`countersign.recorder.recording.to_json` and of lists of recordings."""
    document: dict[str, Any] = json.loads(files(__name__).joinpath("recording-1.json").read_text("utf-8"))
    return document
