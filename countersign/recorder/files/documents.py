"""Our own JSON on the way back in: exports as JSON and JSON lines, and the Custom Blocks of our pcapng files.

A document may have been cut or changed on its way, by accident or not. Three things are looked at, in this order: that
it is JSON, that it is as the schema says, and that each message which is there in full has the hash that stands beside
it. So a flipped bit in a message or a missing end is an error with its place, not a recording that lies.
"""

from __future__ import annotations

import base64
import json
import struct
from hashlib import sha256
from typing import TYPE_CHECKING, Any, BinaryIO

from countersign.errors import UserError
from countersign.recorder.files.pcapng import MAGIC
from countersign.recorder.recording import Recording, from_json
from countersign.recorder.schema.checking import what_is_wrong

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 64 << 20
"""Bytes of one document."""

_HEAD = len(MAGIC) + 8


def read_document(text: bytes) -> Recording:
    """The recording in one JSON document. Raises :class:`UserError` with what is wrong with it."""
    try:
        document = json.loads(text, parse_constant=_no_number)
    except UnicodeDecodeError as wrong:
        raise UserError(f"it is no text in UTF-8: byte {wrong.start} is wrong") from None
    except json.JSONDecodeError as wrong:
        raise UserError(f"it is no JSON: {wrong.msg} at character {wrong.pos}") from None
    except RecursionError:
        raise UserError("it is no recording: it is nested too deep") from None
    except ValueError as wrong:  # a number that is none, or one of thousands of digits
        raise UserError(f"it is no recording: {wrong}") from None
    if not isinstance(document, dict):
        raise UserError(f"it is no recording: expected a JSON object, got {type(document).__name__}")
    if "recordings" in document and "legs" not in document:
        raise UserError("it is a list of summaries, as `ls --json` gives it; `export --format jsonl` gives recordings")
    recording_or_error = document.get("schema") == 1 and what_is_wrong(document)
    if recording_or_error:
        raise UserError(f"it is no recording, or a damaged one: {recording_or_error}")
    recording = from_json(document)
    _check_hashes(document)
    return recording


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _check_hashes(document: dict[str, Any]) -> None:
    """That each message is as long as it was, and if it is there in full, the same."""
    for leg in document["legs"]:
        for message in leg["messages"]:
            if message["raw"] is None or message.get("told") is not None:
                continue  # told of, without its bytes
            raw = base64.b64decode(message["raw"])
            if len(raw) == message["length"]:
                as_written = sha256(raw).hexdigest() == message["sha256"]
            else:  # the hash is over more than what was kept, and how much that was stands among the fields
                truncated = message["fields"].get("truncated")
                as_written = not raw or (isinstance(truncated, dict) and truncated.get("kept") == len(raw))
            if not as_written:
                raise UserError(
                    f"it was changed: the bytes of message {message['n']} ({leg['leg']} leg) are not those whose "
                    "SHA-256 stands beside them"
                )


def read_documents(source: BinaryIO) -> Iterator[tuple[int, Recording | UserError]]:
    """Each recording of a file in JSON or JSON lines, with its offset; where one is wrong, the error in its place."""
    at = 0
    first = True
    while line := source.readline(LONGEST):
        start, at = at, at + len(line)
        if not line.strip():
            continue
        if first and not _is_whole(line):
            # not JSON lines but one document over many
            line += source.read(LONGEST - len(line) + 1)
        first = False
        if len(line) >= LONGEST:
            yield start, UserError(f"it is longer than {LONGEST >> 20} MiB, the most that is read of one recording")
            return
        try:
            yield start, read_document(line)
        except UserError as wrong:
            yield start, wrong


def _is_whole(line: bytes) -> bool:
    """Whether the first line is a document by itself; a broken one that ends like one is taken for it too."""
    return line.rstrip().endswith(b"}")


class CustomBlocks:
    """Puts the recordings in the Custom Blocks of our pcapng files together again; one at a time, parts in order."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._expected = 0

    def add(self, data: bytes) -> Recording | None:
        """Take one block's data, from its enterprise number or from the magic on. None for blocks of others, and
        for a recording of which parts are still to come. Raises :class:`UserError` where one is damaged.
        """
        at = data.find(MAGIC, 0, 4 + len(MAGIC))
        if at < 0 or len(data) < at + _HEAD:
            return None
        for order in ("<", ">"):  # numbers are in the section's byte order, which ours have little end first
            number, parts, length = struct.unpack_from(f"{order}HHI", data, at + len(MAGIC))
            if number < parts and length <= len(data):
                break
        part = data[at + _HEAD : at + _HEAD + length]
        if number == 0:
            self._parts, self._size, self._expected = [], 0, parts
        if number != len(self._parts) or parts != self._expected or len(part) != length or number >= parts:
            self._parts = []
            raise UserError(f"the recording in its Custom Block is damaged: part {number + 1} of {parts} is not whole")
        self._parts.append(part)
        self._size += length
        if self._size > LONGEST:
            self._parts = []
            raise UserError(f"the recording in its Custom Block is longer than {LONGEST >> 20} MiB")
        if len(self._parts) < parts:
            return None
        document, self._parts = b"".join(self._parts), []
        try:
            return read_document(document)
        except UserError as wrong:
            raise UserError(f"the recording in its Custom Block cannot be read: {wrong}") from None
