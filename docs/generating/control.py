"""The control API: what the docstrings of those who serve it say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.web import guard, place, server
from countersign.web.control import Control
from docs.generating.writing import code, docstring, section

if TYPE_CHECKING:
    from docutils import nodes

_ASKED = {"/v1/status": Control.status, "/v1/recordings": Control.recordings, "/v1/recordings/ID": Control.recording}


def made() -> list[nodes.Element]:
    requests = [("GET", path, method) for path, method in _ASKED.items()]
    requests += [("POST", path, method) for path, method in server.TOLD.items()]
    return [
        section("Where it is", "control-place", *docstring(place.__doc__)),
        section("Requests and answers", "control-requests", *docstring(server.__doc__)),
        *(
            section(code(f"{method} {path}"), f"control{path.replace('/', '-')}", *docstring(asked.__doc__))
            for method, path, asked in requests
        ),
        section("Who is answered", "control-guard", *docstring(guard.__doc__)),
    ]
