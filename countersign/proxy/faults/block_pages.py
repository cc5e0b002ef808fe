"""The pages by which inspection products say no, as they look on the wire: status line, header fields, a short body.

They are told from each other by their Server field and their title, which is what people search for when they have
found one in a log. The bodies are short ones of our own, with each product's characteristic words.
"""

from __future__ import annotations

from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Look(NamedTuple):
    status: int
    fields: tuple[str, ...]
    title: str
    text: str


VENDORS: Mapping[str, _Look] = MappingProxyType(
    {
        "generic": _Look(403, (), "Access denied", "Access to this site is blocked by your organization."),
        "zscaler": _Look(
            403,
            ("Server: Zscaler/6.2", "Cache-Control: no-cache"),
            "Internet Security by Zscaler",
            "Sorry, you don't have permission to visit this site. Not allowed to browse this category.",
        ),
        "fortinet": _Look(
            403,
            ("X-Frame-Options: SAMEORIGIN", "X-XSS-Protection: 1; mode=block"),
            "FortiGuard Intrusion Prevention - Access Blocked",
            "Web Page Blocked! You have tried to access a page which is in violation of your Internet usage policy.",
        ),
        "bluecoat": _Look(
            403,
            ("Cache-Control: no-cache", "Pragma: no-cache", "Proxy-Connection: close"),
            "Access Denied",
            "Access Denied (policy_denied): Your system policy has denied access to the requested URL.",
        ),
        "paloalto": _Look(
            503,
            ("Pragma: no-cache", "Cache-Control: no-store, no-cache, must-revalidate"),
            "Web Page Blocked",
            "Access to the web page you were trying to visit has been blocked in accordance with company policy.",
        ),
        "squid": _Look(
            502,
            (
                "Server: squid/5.7",
                "Mime-Version: 1.0",
                "X-Squid-Error: ERR_CONNECT_FAIL 111",
                "Via: 1.1 proxy (squid/5.7)",
            ),
            "ERROR: The requested URL could not be retrieved",
            "The system returned: (111) Connection refused. The remote host or network may be down.",
        ),
        "f5": _Look(
            200,
            ("Cache-Control: no-cache", "Pragma: no-cache"),
            "Request Rejected",
            "The requested URL was rejected. Please consult with your administrator. Your support ID is: 1234567890",
        ),
        "nginx": _Look(502, ("Server: nginx",), "502 Bad Gateway", "502 Bad Gateway"),
        "haproxy": _Look(
            503,
            ("Cache-Control: no-cache",),
            "503 Service Unavailable",
            "No server is available to handle this request.",
        ),
        "azure": _Look(
            502,
            ("Server: Microsoft-Azure-Application-Gateway/v2",),
            "502 Bad Gateway",
            "Microsoft-Azure-Application-Gateway/v2",
        ),
    }
)
"""The products whose looks there are."""


def block_page(vendor: str, status: int | None = None) -> bytes:
    """The whole HTTP answer, with its Content-Length; with the product's own status unless another is given."""
    look = VENDORS[vendor]
    code = look.status if status is None else status
    body = (
        f"<!DOCTYPE html>\n<html><head><title>{look.title}</title></head>\n"
        f"<body><h1>{look.title}</h1>\n<p>{look.text}</p></body></html>\n"
    ).encode("ascii")
    try:
        phrase = HTTPStatus(code).phrase
    except ValueError:
        phrase = "Unknown"
    fields = (
        "Content-Type: text/html; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *look.fields,
    )
    head = [f"HTTP/1.1 {code} {phrase}", *fields, "", ""]
    return "\r\n".join(head).encode("ascii") + body
