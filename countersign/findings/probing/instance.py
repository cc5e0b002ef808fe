"""What the article on mutual authentication has one check by hand: which load balancer an instance stands behind, and
whether it takes client certificates.

``curl -I https://INSTANCE`` says ``Server: snow_adc`` for an ADCv2 load balancer; ``/adcv2/supports_tls`` answers
``true`` or ``mixed`` where mutual TLS is on, and is not found, or leads elsewhere, where it is not.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countersign.errors import EnvironmentFault
from countersign.findings.probing.reaching import reach
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.findings.probing.model import Plan

_LONGEST = 200
_BODY_AT_MOST = 4096
_ADC = "snow_adc"


@dataclass(frozen=True, slots=True)
class InstanceLook:
    """``server`` is the header of that name; ``supports_tls`` what the path answered, with its HTTP ``status``."""

    server: str | None
    status: int
    supports_tls: str

    @property
    def adcv2(self) -> bool:
        return self.server == _ADC

    @property
    def mutual(self) -> bool:
        return self.status == http.client.OK and self.supports_tls.lower() in {"true", "mixed"}

    @property
    def lines(self) -> tuple[str, ...]:
        """What to tell, with what to do."""
        shown = printable(self.server or "none", limit=_LONGEST)
        first = f"Server header: {shown}: " + (
            "an ADCv2 load balancer"
            if self.adcv2
            else "no ADCv2 load balancer; request the migration (an inspecting device may also have changed the header)"
        )
        answer = printable(self.supports_tls, limit=_LONGEST) or "nothing"
        second = f"/adcv2/supports_tls: {self.status} {answer}: " + (
            "mutual TLS is on" if self.mutual else "mutual TLS is not on; request that it be set up"
        )
        return first, second

    def to_json(self) -> dict[str, Any]:
        return {
            "server": self.server,
            "adcv2": self.adcv2,
            "status": self.status,
            "supports_tls": self.supports_tls,
            "mutual": self.mutual,
        }


def look_at_instance(plan: Plan) -> InstanceLook:
    """Both checks, each on a connection of its own. Raises :class:`EnvironmentFault` for what is no HTTP."""
    head = _get(plan, "HEAD", "/")
    answer = _get(plan, "GET", "/adcv2/supports_tls")
    return InstanceLook(head[1], answer[0], answer[2].decode("utf-8", "replace").strip())


def _get(plan: Plan, method: str, path: str) -> tuple[int, str | None, bytes]:
    """Status, ``Server`` header and the beginning of the body, within the plan's time for all of it together.

    What the chain is worth, the probe itself says.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if plan.certificate is not None:
        context.load_cert_chain(plan.certificate, plan.key)
    connection = http.client.HTTPConnection(plan.host, plan.port, timeout=plan.seconds)
    late = threading.Event()
    try:
        connection.sock = context.wrap_socket(reach(plan), server_hostname=plan.name or None)
        with _cut_off(connection.sock, plan.seconds, late):
            headers = {"Host": plan.name or plan.host, "User-Agent": "countersign-probe"}
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            body = answer.read(_BODY_AT_MOST)
        if not late.is_set():
            return answer.status, answer.getheader("Server"), body
    except (http.client.HTTPException, OSError) as wrong:
        if not late.is_set():
            reason = printable(str(getattr(wrong, "reason", None) or wrong), limit=_LONGEST)
            raise EnvironmentFault(f"cannot ask {plan.place} for {path}: {reason}") from None
    finally:
        connection.close()
    raise EnvironmentFault(f"cannot ask {plan.place} for {path}: no whole answer within {plan.seconds:g} s")


@contextlib.contextmanager
def _cut_off(connection: socket.socket, seconds: float, late: threading.Event) -> Iterator[None]:
    """Ends the connection after so many seconds, however little of an answer each read still brings."""

    def end() -> None:
        late.set()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # of the SSLSocket's TCP connection, not of its TLS

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
