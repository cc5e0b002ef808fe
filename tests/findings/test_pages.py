"""A recording or a comparison as one HTML file: safe, whole, and readable by itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from countersign.findings.comparing import compare
from countersign.findings.diagnosing import diagnose
from countersign.findings.pages import comparison_page, draw, recording_page
from countersign.recorder.files.ladder import rows
from tests.findings.test_comparing import alpn, extension, hello_with, recorded, shown_chain
from tests.recorder.transcripts import NAMES, message, transcript

if TYPE_CHECKING:
    from countersign.recorder.recording import Recording

HOSTILE = b"<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\x1b]8;;http://x\x07\xe2\x80\xae"


class Tags(HTMLParser):
    """Every tag and attribute of a page; text is what a reader sees."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.seen = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.seen += data


def assert_safe(page: bytes) -> Tags:
    found = Tags(page)
    names = {tag for tag, _ in found.tags}
    assert not names & {"script", "img", "iframe", "object", "link", "form", "base", "a"}
    for tag, attributes in found.tags:
        assert not any(name.startswith("on") or name in {"href", "src", "style"} for name in attributes), tag
    policy = next(attributes["content"] for tag, attributes in found.tags if attributes.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert b"url(" not in page
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", page)
    return found


def page_of(recording: Recording) -> bytes:
    return recording_page(recording, diagnose(recording))


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_handshake_has_a_page_with_all_its_messages(name: str) -> None:
    recording = recorded(transcript(name)).recording
    found = assert_safe(page_of(recording))
    for row in rows(recording):
        assert row.title in found.seen
    drawing = ET.fromstring(draw(recording))
    assert drawing.tag.endswith("svg")
    box = drawing.attrib["viewBox"].split()
    for line in drawing.iter("{http://www.w3.org/2000/svg}line"):
        assert all(0 <= float(line.attrib[at]) <= float(box[2]) for at in ("x1", "x2"))
        assert all(0 <= float(line.attrib[at]) <= float(box[3]) for at in ("y1", "y2"))


def test_what_a_peer_chose_is_text_and_nothing_else() -> None:
    entry = b"\0" + len(HOSTILE).to_bytes(2, "big") + HOSTILE
    sni = extension(0, len(entry).to_bytes(2, "big") + entry)
    hostile = recorded([hello_with(sni, alpn(HOSTILE))], named="b" * 16)
    tame = recorded([hello_with(alpn(b"h2")), *shown_chain([HOSTILE, b"", b"\x30\x80"])])
    for page in (
        page_of(hostile.recording),
        page_of(tame.recording),
        comparison_page(compare(tame, hostile)),
        comparison_page(compare(hostile, tame)),
    ):
        assert_safe(page)
    assert "<script>alert(1)</script>" in assert_safe(page_of(hostile.recording)).seen


def test_a_flood_of_messages_is_cut_and_said_to_be() -> None:
    flood = recorded([message(b"\x18\x00\x00\x01\x00")] * 3000).recording
    page = page_of(flood)
    assert len(page) < 2_000_000
    assert "1000 more" in assert_safe(page).seen
