"""Asks for the status of a certificate as a careful client would, and says in words what came.

:func:`ask` puts one question to one URL over real HTTP: OCSP by POST or GET, a CRL, or the issuer's certificate;
:func:`ask_all` follows every URL that a certificate names. What an answer is worth is decided in
:mod:`~countersign.ca.revocation.judging`.

The URLs come out of certificates, and so from strangers. Only ``http`` is spoken, as RFC 5280 8 advises for these;
link-local addresses (a cloud's metadata service) are never asked, not as the target of a redirect either; no answer
takes more time or more bytes than it is given. Nothing is raised: that nobody answered is an answer.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import ipaddress
import os
import socket
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from countersign.ca.revocation import ocsp
from countersign.ca.revocation.faults import Kind
from countersign.ca.revocation.judging import Answer, Doubt, Judging, Patience, Verdict
from countersign.recorder.certificates import read_certificate
from countersign.recorder.der import DerError
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_HOPS = 5
_PIECE = 1 << 16
_MOST_URLS = 16


async def ask(
    url: str,
    certificate: bytes,
    issuer: bytes,
    *,
    kind: Kind = Kind.OCSP,
    method: str = "POST",
    nonce: bool = True,
    digest: str = "sha1",
    patience: Patience | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Answer:
    """Ask ``url`` about ``certificate``, issued by ``issuer`` (both DER; of kind AIA the issuer is what is looked for).

    ``method``, ``nonce`` and ``digest`` (of the CertID: sha1 or sha256) are for OCSP. Never raises for anything that a
    certificate says or a server does.
    """
    patience, began = patience or Patience(), time.monotonic()
    method = method if kind is Kind.OCSP else "GET"
    judging = Judging(printable(url, ascii_only=True), kind, method, certificate, issuer, patience, None, now())
    verdict, text = Verdict.NO_ANSWER, ""
    try:
        if kind is Kind.OCSP:
            asked = ocsp.CertId.of(certificate, issuer, digest=digest)
            judging.asked = ocsp.Request((asked,), os.urandom(32) if nonce else None)
        async with asyncio.timeout(patience.seconds):
            fetched = await _fetch(judging, url)
        if fetched:
            verdict, text = await asyncio.to_thread(judging.judge, now())
    except DerError as wrong:
        judging.doubt(Doubt.NOT_ASKED, f"the certificate or its issuer cannot be read: {wrong}")
    except TimeoutError:
        got = f" ({len(judging.body)} bytes came)" if judging.body else ""
        judging.doubt(Doubt.TIMEOUT, f"no whole answer within {patience.seconds:g} s{got}")
    if verdict is Verdict.NO_ANSWER:
        text = f"no answer: {'; '.join(why for _, why in judging.doubts)}"
    return judging.answer(verdict, text, seconds=time.monotonic() - began)


async def ask_all(certificate: bytes, issuer: bytes | None, *, patience: Patience | None = None) -> tuple[Answer, ...]:
    """Ask every responder, CRL and place of the issuer's certificate that ``certificate`` names, all at once.

    An ``issuer`` that nobody has (the server left it out) is looked for first, where ``certificate`` says that it is
    (RFC 5280 4.2.2.1); without it a responder cannot be asked, and a CRL not be believed. Empty where it names none;
    at most 16 URLs are asked.
    """
    facts = read_certificate(certificate)
    issuers = [(Kind.AIA, url) for url in facts.ca_issuers]
    others = [*((Kind.OCSP, url) for url in facts.ocsp), *((Kind.CRL, url) for url in facts.crl)]

    async def asked(places: Sequence[tuple[Kind, str]], signer: bytes) -> list[Answer]:
        return await asyncio.gather(
            *(ask(url, certificate, signer, kind=kind, patience=patience) for kind, url in places)
        )

    if issuer is not None:
        return tuple(await asked([*others, *issuers][:_MOST_URLS], issuer))
    found = await asked(issuers[:_MOST_URLS], b"")
    fetched = next((answer.issuer for answer in found if answer.issuer is not None), None)
    if fetched is None:
        return tuple(found)
    return (*await asked(others[: _MOST_URLS - len(found)], fetched), *found)


async def fetch_issuers(certificate: bytes, *, patience: Patience | None = None) -> tuple[Answer, ...]:
    """Who issued ``certificate`` (DER), who issued that one, and on up to a root, each from where the one below says.

    One answer for each URL asked, in this order; an issuer that was found is the answer's ``issuer``, and its signature
    holds. Ends where a certificate names no place or none of its places has the issuer.
    """
    answers: list[Answer] = []
    while not (facts := read_certificate(certificate)).self_issued:
        for url in facts.ca_issuers[: _MOST_URLS - len(answers)]:
            answers.append(await ask(url, certificate, b"", kind=Kind.AIA, patience=patience))
            if answers[-1].verdict is Verdict.FOUND:
                break
        else:
            break
        certificate = answers[-1].issuer or b""
    return tuple(answers)


# -- fetching ----------------------------------------------------------------------------------------------------


class _Resolver(AbstractResolver):
    """The system's, without the addresses that are nobody's business."""

    def __init__(self) -> None:
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        allowed = [one for one in found if not _is_barred(one["host"])]
        if not allowed:
            raise OSError(None, f"{host} has only link-local addresses, which are not asked")
        return allowed

    async def close(self) -> None:
        await self._inner.close()


def _is_barred(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_link_local or address.is_multicast


def _why_not(url: str) -> str:
    """Why this URL is not asked, if it is not."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError as wrong:
        return f"it is no URL ({wrong})"
    if parts.scheme.lower() != "http":
        return f"only http is asked, not {printable(parts.scheme, limit=20) or 'nothing'}"
    if not host:
        return "it names no host"
    return "link-local addresses are not asked" if _is_barred(host) else ""


async def _fetch(judging: Judging, url: str) -> bool:
    """Get the body and what HTTP says of it; ``False`` where there is nothing to judge."""
    method, body = judging.method, None
    headers = {"User-Agent": "countersign", "Accept-Encoding": "identity"}
    if judging.asked is not None and method == "POST":
        body = judging.asked.encoded
        headers["Content-Type"] = "application/ocsp-request"
    elif judging.asked is not None:
        url = f"{url.rstrip('/')}/{quote(base64.b64encode(judging.asked.encoded), safe='')}"
    connector = aiohttp.TCPConnector(resolver=_Resolver(), force_close=True, limit=1)
    try:
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False, trust_env=False) as session:
            for _ in range(_HOPS + 1):
                if reason := _why_not(url):
                    judging.doubt(Doubt.NOT_ASKED, f"{_shown(url)} is not asked: {reason}")
                    return False
                asking = session.request(
                    method, URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
                )
                async with asking as response:
                    judging.http_status = response.status
                    location = response.headers.get("Location")
                    if response.status not in {301, 302, 303, 307, 308} or location is None:
                        return await _take(judging, response)
                url = urljoin(url, location)
            judging.doubt(Doubt.REDIRECTS, f"redirected more than {_HOPS} times, at last to {_shown(url)}")
    except aiohttp.ClientPayloadError:
        judging.doubt(Doubt.CUT, f"the answer broke off after {len(judging.body)} bytes")
    except (aiohttp.ClientError, OSError, ValueError) as wrong:
        judging.doubt(*_network(wrong))
    return False


async def _take(judging: Judging, response: aiohttp.ClientResponse) -> bool:
    """Read the body of the last response."""
    judging.content_type = printable(response.headers.get("Content-Type", ""), limit=100, ascii_only=True)
    if response.status != 200:
        judging.doubt(Doubt.HTTP, f"HTTP {response.status}")
        return False
    most = judging.patience.size
    declared = response.content_length or 0
    while declared <= most and (piece := await response.content.read(_PIECE)):
        judging.body += piece
        declared = max(declared, len(judging.body))
    if declared > most:
        judging.doubt(Doubt.TOO_LARGE, f"the answer has {declared} bytes or more, and {most} are read")
        return False
    return True


def _network(wrong: Exception) -> tuple[Doubt, str]:
    """What a failure of the network is called."""
    number = wrong.errno if isinstance(wrong, OSError) else None
    if number == errno.ECONNREFUSED:
        return Doubt.REFUSED, "the connection was refused: nobody listens there"
    if number in {errno.ECONNRESET, errno.EPIPE} or isinstance(wrong, ConnectionResetError):
        return Doubt.RESET, "the connection was reset"
    if isinstance(wrong, aiohttp.ServerDisconnectedError):
        return Doubt.RESET, "the connection was closed without an answer"
    if isinstance(wrong, OSError):
        return Doubt.UNREACHABLE, f"it cannot be reached: {printable(wrong.strerror or str(wrong), limit=200)}"
    return Doubt.HTTP, f"what came is no HTTP ({type(wrong).__name__})"


def _shown(url: str) -> str:
    return printable(url, limit=200, ascii_only=True)
