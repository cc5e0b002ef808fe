"""Channel binding, where the dialogue itself shows it (RFC 5802 6, RFC 5929, RFC 9266).

A client that binds its login to the TLS channel signs something that only the two ends of one TLS conversation share:
the hash of the server's certificate (``tls-server-end-point``), a Finished message (``tls-unique``) or a key derived
from it (``tls-exporter``). Behind an interception each end has another conversation, and the login fails, for which no
certificate is at fault: PostgreSQL says ``SCRAM channel binding check failed``.

What can be seen is the name of the mechanism, ``SCRAM-...-PLUS``, as PostgreSQL, LDAP, IMAP, SMTP and XMPP send it in
clear inside TLS, and in PostgreSQL the kind of the binding. So the first bytes of both directions are searched for
these words, and the words alone are kept. What cannot: a binding in Kerberos or NTLM (EPA), in Base64, in a token
(``tls-exporter`` of RFC 9266 in any protocol of its own), or behind a first request.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from countersign.recorder.wire.events import Side

if TYPE_CHECKING:
    from collections.abc import Callable

_SEARCHED = 8 * 1024  # bytes of each direction
_MECHANISM = re.compile(rb"SCRAM-SHA(?:-[0-9]{1,3})?(?:-[0-9]{3})?-PLUS")
_KIND = re.compile(rb"p=(tls-(?:unique|server-end-point|exporter)),")
_HTTP = re.compile(rb"[A-Z]{3,20} [^\r\n]{1,8000} HTTP/[12]")
_LONGEST = 48  # of what is searched for: what a chunk may have cut


class ChannelBinding:
    """Watches both directions of a relay; ``noted`` is told what there is, each time that it is more.

    Where the client speaks HTTP there is nothing to see: its logins are in Base64, and a page may name any mechanism.
    """

    __slots__ = ("_noted", "_over", "_record", "_seen")

    def __init__(self, noted: Callable[[dict[str, Any]], None]) -> None:
        self._noted = noted
        self._record: dict[str, Any] = {}
        self._seen = dict.fromkeys(Side, (0, b""))  # how many bytes were searched, and the last ones
        self._over = False

    def watcher(self, sender: Side) -> Callable[[bytes], bool]:
        """What sees the bytes of one side; it gives whether it wants to see more."""
        return partial(self._saw, sender)

    def _saw(self, sender: Side, data: bytes) -> bool:
        searched, tail = self._seen[sender]
        self._over = self._over or (sender is Side.CLIENT and not searched and _HTTP.match(data) is not None)
        if self._over or not data or searched >= _SEARCHED:
            return False
        part = tail + data[: _SEARCHED - searched]
        searched += len(data)
        self._seen[sender] = searched, part[-_LONGEST:]
        self._search(sender, part)
        return searched < _SEARCHED

    def _search(self, sender: Side, part: bytes) -> None:
        if b"-PLUS" not in part and b"p=tls-" not in part:
            return
        found: dict[str, Any] = {}
        names = [name.decode("ascii") for name in _MECHANISM.findall(part)]
        if names and sender is Side.SERVER:
            found["offered"] = list(dict.fromkeys([*self._record.get("offered", []), *names]))
        elif names:
            found["chosen"] = names[-1]
        kind = _KIND.search(part)
        if kind is not None and sender is Side.CLIENT:
            found["kind"] = kind[1].decode("ascii")
        new = self._record | found
        if new != self._record:
            self._record = new
            chosen = "chosen" in new or "kind" in new
            text = "a login bound to the TLS channel fails behind any interception; let this target pass through"
            self._noted({**new, "text": text if chosen else f"offered, not chosen so far: {text}"})
