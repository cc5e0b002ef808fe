"""A stand-in for a ServiceNow instance behind its ADCv2 load balancer, as far as the articles on MID Servers describe
one: what a MID Server connects to, and what it may do wrong there.

The load balancer (``balancer.py``) judges client certificates by the CA records that ``Exist``, which a record does
some time after its upload, and forwards what a client showed as ``X-Client-Cert`` (PEM, percent-encoded; the articles
name the header, not its form). A header of that name that a client sends itself is taken away. The instance behind it
looks the certificate's SHA-256 up among its user certificates, and refuses self-signed and revoked ones with 403.
Without a certificate it wants Basic authentication.

Paths::

    /                                  HEAD and GET, with ``Server: snow_adc``
    /adcv2/supports_tls                true, mixed, 404 or a redirect
    /InstanceInfo.do?SOAP              POST, what a MID Server asks first
    /mid_cert_check_policy.do?SOAP     POST, the MID Security Policy (its form is the lab's own)
    /MIDFileSyncSnapshot.do?SOAP       POST, what it asks next
    /lab/state                         GET, CA records with their publish status, requests, refused handshakes (JSON)

That a MID Server whose policy is not at its defaults can no longer authenticate is the client's doing
(``java/MidClient.java``); here the policy is served.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import html
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, unquote

from aiohttp import web

from countersign.ca.pem import certificates_in, to_pem
from countersign.errors import UserError
from countersign.lab.balancer import Asking, Balancer, answered, chain_of
from countersign.lab.target import HOST, Pki
from countersign.proxy import Address
from countersign.recorder.certificates import read_certificate

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Mapping

    from countersign.ca import Minted

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CLIENT_CERT = "X-Client-Cert"
_LARGEST_BODY = 1 << 20
_KEPT = 1000
_USER: web.ResponseKey[str | None] = web.ResponseKey("user")


class Inbound(StrEnum):
    """Inbound mutual TLS: a certificate is required, asked for, or not asked for."""

    ON = "on"
    OPTIONAL = "optional"
    OFF = "off"


class SupportsTls(StrEnum):
    """What ``/adcv2/supports_tls`` answers."""

    TRUE = "true"
    MIXED = "mixed"
    MISSING = "404"
    REDIRECT = "redirect"


_SUPPORTS = {Inbound.ON: SupportsTls.TRUE, Inbound.OPTIONAL: SupportsTls.MIXED, Inbound.OFF: SupportsTls.MISSING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The MID Security Policy for ``*.service-now.com``: which checks MID Servers make. All of them is the default."""

    chain: bool = True
    hostname: bool = True
    revocation: bool = True

    @classmethod
    def without(cls, *names: str) -> Self:
        """The default less these checks. Raises :class:`UserError`."""
        known = ("chain", "hostname", "revocation")
        for name in names:
            if name not in known:
                raise UserError(f"the policy has no check {name!r}: expected {', '.join(known)}")
        return cls(**{name: name not in names for name in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancePlan:
    """How the instance is to be. ``publishing``: seconds until an uploaded CA record Exists. ``supports_tls`` None: as
    ``inbound`` has it. ``users`` are names and passwords for Basic authentication.
    """

    inbound: Inbound = Inbound.OPTIONAL
    supports_tls: SupportsTls | None = None
    adcv2: bool = True
    publishing: float = 0.0
    policy: Policy = Policy()
    users: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.publishing >= 0:
            raise UserError(f"CA records cannot exist {self.publishing:g} s after their upload: expected 0 or more")


@dataclass(slots=True)
class CaRecord:
    """A row of ``sys_ca_certificate``."""

    der: bytes
    uploaded: float
    active: bool = True


class Instance:
    """``async with``; ``port`` is where it listens then. ``now`` is a monotonic clock."""

    def __init__(
        self,
        identity: Minted,
        plan: InstancePlan | None = None,
        *,
        listen: Address | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan = plan or InstancePlan()
        self._now = now
        self.ca_records: list[CaRecord] = []
        self._user_certificates: dict[str, str] = {}
        self._revoked: set[str] = set()
        self.requests: list[tuple[str, int, str | None]] = []
        """Path, status and user of each request; the last thousand."""
        app = web.Application(client_max_size=_LARGEST_BODY, middlewares=[self._balanced])
        app.router.add_get("/", self._root)
        app.router.add_get("/adcv2/supports_tls", self._supports_tls)
        app.router.add_get("/lab/state", self._state)
        app.router.add_post("/InstanceInfo.do", self._for_users(self._instance_info))
        app.router.add_post("/mid_cert_check_policy.do", self._for_users(self._policy))
        app.router.add_post("/MIDFileSyncSnapshot.do", self._for_users(self._file_sync))
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None)
        self._balancer = Balancer(listen or Address("127.0.0.1", 0), identity, self._asking, self._protocol)

    @classmethod
    def of(cls, pki: Pki, plan: InstancePlan | None = None, *, listen: Address | None = None) -> Self:
        """The lab's: its clients' CA is uploaded, and their certificate is a user's."""
        made = cls(pki.server, plan, listen=listen)
        made.upload_ca(pki.clients.issuer.der, pki.clients.root.der)
        made.attach(pki.client.chain[0], "mid.server")
        return made

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        try:
            await self._balancer.__aenter__()
        except BaseException:
            await self._runner.cleanup()
            raise
        return self

    async def __aexit__(self, *details: object) -> None:
        await self._balancer.__aexit__(*details)
        await self._runner.cleanup()

    @property
    def port(self) -> int:
        return self._balancer.ports[0]

    @property
    def refused(self) -> tuple[str, ...]:
        """Why handshakes failed."""
        return tuple(self._balancer.refused)

    # -- what an administrator does ------------------------------------------------------------------------------

    def upload_ca(self, *certificates: bytes) -> None:
        """Records of ``sys_ca_certificate`` (DER)."""
        self.ca_records += [CaRecord(der, self._now()) for der in certificates]

    def attach(self, leaf: bytes, user: str) -> None:
        """A record of ``sys_user_certificate``: of the certificate (DER) only the fingerprint is kept."""
        self._user_certificates[_fingerprint(leaf)] = user

    def revoke(self, leaf: bytes) -> None:
        self._revoked.add(_fingerprint(leaf))

    def publish_status(self, record: CaRecord) -> str:
        """``Exists`` once the load balancer has it."""
        return "Exists" if self._now() - record.uploaded >= self.plan.publishing else "Pending"

    # -- the load balancer ---------------------------------------------------------------------------------------

    def _protocol(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        return server()

    def _asking(self) -> Asking | None:
        if self.plan.inbound is Inbound.OFF:
            return None
        there = [each.der for each in self.ca_records if each.active and self.publish_status(each) == "Exists"]
        return Asking(tuple(dict.fromkeys(there)), self.plan.inbound is Inbound.ON)

    @web.middleware
    async def _balanced(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = request.headers.copy()
        headers.popall(CLIENT_CERT, None)
        chain = chain_of(request.transport)
        if chain:
            headers[CLIENT_CERT] = quote(to_pem(chain[0]))
        try:
            answer = await handler(request.clone(headers=headers))
        except web.HTTPException as refusal:  # aiohttp's 404 and 405
            answer = web.Response(status=refusal.status, text=refusal.text)
        finally:
            answered(request.transport)
        answer.headers["Server"] = "snow_adc" if self.plan.adcv2 else "ServiceNow"
        self.requests.append((request.path, answer.status, answer.get(_USER)))
        del self.requests[:-_KEPT]
        return answer

    async def _supports_tls(self, _request: web.Request) -> web.Response:
        match self.plan.supports_tls or _SUPPORTS[self.plan.inbound]:
            case SupportsTls.MISSING:
                return web.Response(status=404, text="Page not found")
            case SupportsTls.REDIRECT:
                return web.Response(status=302, headers={"Location": "/login.do"})
            case answer:
                return web.Response(text=answer.value)

    # -- the instance --------------------------------------------------------------------------------------------

    def _for_users(self, handler: Callable[[], str]) -> Handler:
        """SOAP for whoever is somebody here."""

        async def handle(request: web.Request) -> web.StreamResponse:
            if "SOAP" not in request.query:
                return web.Response(status=404, text="Page not found")
            await request.read()
            status, who = self._who(request)
            answer = _soap(status, handler() if status == 200 else _fault(who))
            answer[_USER] = who if status == 200 else None
            if status == 401:
                answer.headers["WWW-Authenticate"] = 'Basic realm="Service-now"'
            return answer

        return handle

    def _who(self, request: web.Request) -> tuple[int, str]:
        """200 and the user, or the status of the refusal and why."""
        certificate = _forwarded(request.headers.get(CLIENT_CERT, ""))
        if certificate is None:
            return self._basic(request.headers.get("Authorization", ""))
        facts = read_certificate(certificate)
        if facts.subject == facts.issuer:
            return 403, "Self-signed certificates are not supported"
        if _fingerprint(certificate) in self._revoked:
            return 403, "The certificate has been revoked"
        user = self._user_certificates.get(_fingerprint(certificate))
        return (
            (200, user) if user is not None else (401, "Could not authenticate user 'null' on the ServiceNow instance")
        )

    def _basic(self, header: str) -> tuple[int, str]:
        """RFC 7617 2."""
        scheme, _, token = header.partition(" ")
        try:
            name, _, password = base64.b64decode(token.strip(), validate=True).decode("utf-8").partition(":")
        except (binascii.Error, ValueError):
            name = password = ""
        if scheme.lower() == "basic" and name and self.plan.users.get(name) == password:
            return 200, name
        return 401, _nobody(name)

    async def _root(self, request: web.Request) -> web.Response:
        certificate = _forwarded(request.headers.get(CLIENT_CERT, ""))
        seen = "none" if certificate is None else f"{read_certificate(certificate).subject}"
        return web.Response(text=f"{HOST}; {CLIENT_CERT}: {seen}\n")

    async def _state(self, _request: web.Request) -> web.Response:
        records = [
            {
                "subject": read_certificate(each.der).subject,
                "active": each.active,
                "publish_status": self.publish_status(each),
            }
            for each in self.ca_records
        ]
        requests = [{"path": path, "status": status, "user": user} for path, status, user in self.requests]
        return web.json_response(
            {"schema": 1, "sys_ca_certificate": records, "requests": requests, "refused": list(self.refused)}
        )

    def _instance_info(self) -> str:
        return "<executeResponse><instance_name>lab</instance_name><build>quebec</build></executeResponse>"

    def _file_sync(self) -> str:
        return "<executeResponse><output>&lt;snapshot type=&quot;ecc_agent_jar&quot;/&gt;</output></executeResponse>"

    def _policy(self) -> str:
        policy = self.plan.policy
        checks = {
            "check_cert_chain": policy.chain,
            "check_cert_hostname": policy.hostname,
            "check_cert_revocation": policy.revocation,
        }
        rows = "".join(f"<{name}>{str(on).lower()}</{name}>" for name, on in checks.items())
        row = f"<getRecordsResult><url>*.service-now.com</url>{rows}</getRecordsResult>"
        return f"<getRecordsResponse>{row}</getRecordsResponse>"


def _fingerprint(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()


def _forwarded(header: str) -> bytes | None:
    """The certificate in the header that the load balancer made."""
    return certificates_in(unquote(header).encode("ascii"))[0] if header else None


def _nobody(name: str) -> str:
    return f"Could not authenticate user '{name or 'null'}' on the ServiceNow instance"


def _fault(text: str) -> str:
    return (
        f"<SOAP-ENV:Fault><faultcode>SOAP-ENV:Server</faultcode><faultstring>{html.escape(text, quote=False)}"
        "</faultstring></SOAP-ENV:Fault>"
    )


def _soap(status: int, body: str) -> web.Response:
    envelope = (
        '<?xml version="1.0" encoding="UTF-8"?><SOAP-ENV:Envelope '
        f'xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/"><SOAP-ENV:Body>{body}'
        "</SOAP-ENV:Body></SOAP-ENV:Envelope>"
    )
    return web.Response(status=status, text=envelope, content_type="text/xml")
