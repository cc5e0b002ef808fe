"""How Sphinx builds the handbook: ``make docs``. Every warning is an error, a link that leads nowhere among them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # docs.generating, and the code it writes of

from countersign import __version__

project = "countersign"
author = "countersign"
copyright = "Apache-2.0"  # noqa: A001 - Sphinx's name for the line at the foot of a page
version = release = __version__

extensions = ["myst_parser", "docs.generating"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["generating/*"]
templates_path = ["templates"]
nitpicky = True
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
highlight_language = "none"
smartquotes = False  # -- and quotes stay what one types

html_theme = "alabaster"
html_title = f"countersign {__version__}"
html_static_path = ["static"]
html_theme_options = {"page_width": "1200px", "sidebar_width": "260px", "show_powered_by": False}
html_sidebars = {"**": ["about.html", "searchfield.html", "navigation.html"]}
html_show_sourcelink = False
html_copy_source = False
