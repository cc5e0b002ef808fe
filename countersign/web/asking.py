"""Asks the control API of a running proxy: one request, over a connection of its own, past every HTTP proxy."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

from countersign.errors import AnswerIsNo, EnvironmentFault, UserError
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from countersign.web.place import Place

_PATIENCE = 90.0  # seconds; the server's own limit is less
_LARGEST = 1 << 28


def ask(place: Place, path: str, told: dict[str, Any] | None = None) -> dict[str, Any]:
    """What is answered: to ``GET``, or to ``POST`` where something is ``told``.

    Raises :class:`UserError` for what is in no form or not there, :class:`AnswerIsNo` for what does not go with what is
    in force, and :class:`EnvironmentFault` where nobody answers, or not to us.
    """
    host, _, port = place.control.rpartition(":")
    headers = {"Authorization": f"Bearer {place.token}"}
    body = None
    if told is not None:
        headers["Content-Type"] = "application/json"
        body = json.dumps(told).encode("ascii")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_PATIENCE)
    try:
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        status, data = response.status, response.read(_LARGEST)
    except (OSError, http.client.HTTPException) as wrong:
        reason = getattr(wrong, "strerror", None) or str(wrong) or type(wrong).__name__
        raise EnvironmentFault(f"cannot speak to the proxy at {place.control}: {reason.lower()}") from None
    finally:
        connection.close()
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise EnvironmentFault(f"what answers at {place.control} is no proxy of ours: it sends no JSON")
    if status == 200:
        return said
    text = printable(str(said.get("error", f"HTTP {status}")))
    match status:
        case 400 | 404:
            raise UserError(text)
        case 409:
            raise AnswerIsNo(text)
    raise EnvironmentFault(f"the proxy at {place.control} declines: {text}")
