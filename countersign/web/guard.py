"""Who may speak to the control API: decided from the head of a request alone, before anybody looks what it wants.

The API can make a proxy break connections and can read every recording, and it listens where every program of the
machine reaches it, browsers above all. A page from anywhere can have a browser send requests to loopback. So:

*The host that was asked for* is the address that the request came in at, or ``localhost``; another name that leads
here was made to (DNS rebinding: the page's own name, now pointed at 127.0.0.1, so that the browser takes the answers
for its own). Names that no resolver is asked for cannot be rebound.

*A page that asks* says where it is from (``Origin``, Fetch 3.2, on every POST; ``Sec-Fetch-Site`` on the rest). Whoever
says so and is not served from here is refused. Nothing is known of browsers by their names, which they choose.

*A token*, which stands in a file of mode 0600, has to be shown by everybody, for other users of the machine reach
loopback as well. It is taken from the header ``Authorization`` (RFC 6750 2.1) and from nowhere else: not from the URL,
which lands in logs, nor from a cookie, which a browser sends by itself. It is compared in a time that does not depend
on how much of it was right.

*The form* of what changes something is ``application/json``, which no form of a page can send without asking first
(CORS, Fetch 4.8), and nobody is ever told that they may. Reading changes nothing.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_HOST = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[0-9.]+|localhost))(?::(?P<port>[0-9]{1,5}))?", re.IGNORECASE
)
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/=-]+)", re.IGNORECASE)
_OUR_OWN = {"same-origin", "none"}  # "none": a person typed the address


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request. ``target`` is what stood in its first line, ``headers`` all of them in their order."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]

    def named(self, name: str) -> list[str]:
        """Every value under this name."""
        return [value for key, value in self.headers if key.lower() == name]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered, in a sentence that says nothing that the asker did not know."""

    status: int
    text: str


def refusal(head: Head, *, here: tuple[str, int], token: str) -> Refusal | None:
    """Why this request is refused, or none; ``here`` is the address and port of ours that it came in at."""
    if not head.target.startswith("/"):
        return Refusal(403, "this is no proxy: a request names the path alone")
    hosts = head.named("host")
    if len(hosts) != 1 or not _is_here(hosts[0], here):
        return Refusal(403, "the Host of the request is not the address that it came in at")
    origins = head.named("origin")
    if origins and origins != [f"http://{hosts[0]}"]:
        return Refusal(403, "pages from elsewhere are not answered")
    if any(site not in _OUR_OWN for site in head.named("sec-fetch-site")):
        return Refusal(403, "pages from elsewhere are not answered")
    shown = head.named("authorization")
    bearer = _BEARER.fullmatch(shown[0]) if len(shown) == 1 else None
    if bearer is None or not hmac.compare_digest(bearer[1].encode(), token.encode()):
        return Refusal(401, "the token is missing or wrong: it is sent as `Authorization: Bearer TOKEN`")
    if head.method == "POST" and [_form(each) for each in head.named("content-type")] != ["application/json"]:
        return Refusal(415, "what is posted has to be application/json")
    return None


def _form(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_here(host: str, here: tuple[str, int]) -> bool:
    match = _HOST.fullmatch(host)
    if match is None or int(match["port"] or 80) != here[1]:
        return False
    own = _plain(ip_address(here[0].partition("%")[0]))
    if match["host"] is not None and match["host"].lower() == "localhost":
        return own.is_loopback
    try:
        return _plain(ip_address(match["six"] or match["host"])) == own
    except ValueError:
        return False


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IPv4 address as one, where a socket for both families has it in an IPv6 one (RFC 4291 2.5.5.2)."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
