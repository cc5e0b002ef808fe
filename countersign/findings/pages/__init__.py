"""A recording or a comparison as one HTML file: no network, readable in print, the ladder drawn as SVG.

What peers chose is text and nothing else: each piece goes through :func:`~.markup.text`, which makes it printable and
escapes it, and a content security policy in the file lets nothing run and nothing be fetched, should one ever slip by.
"""

from countersign.findings.pages.drawing import draw
from countersign.findings.pages.pages import comparison_page, recording_page

__all__ = ["comparison_page", "draw", "recording_page"]
