"""A chain whose certificates are answered for, in files that peers read."""

from __future__ import annotations

import asyncio
import base64
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countersign.ca import Authority, Plan, issue
from countersign.ca.pem import to_pem
from countersign.ca.revocation import Kind, Responder, ask, parse_fault
from countersign.ca.revocation.ocsp import serial_of
from countersign.ca.revocation.points import CrlForm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from countersign.ca.leaf import Minted

NAME = "revoked.lab.test"


@dataclass(frozen=True, slots=True)
class Chain:
    """A leaf of ``responder.authority`` and what is above it; ``files`` holds root.pem, leaf.pem, ..., root.crl."""

    responder: Responder
    minted: Minted
    files: Path

    @property
    def leaf(self) -> bytes:
        return self.minted.chain[0]

    @property
    def issuer(self) -> bytes:
        return self.responder.authority.issuer.der

    @property
    def serial(self) -> int:
        return serial_of(self.leaf)

    @property
    def ocsp(self) -> str:
        return self.responder.urls().ocsp

    def crl(self, form: CrlForm = CrlForm.FULL, label: str | None = None) -> str:
        return self.responder.urls(label).crl(form)

    async def fault(self, *words: str) -> None:
        """Faults in words, where ``SERIAL`` stands for the leaf's."""
        await self.responder.change([parse_fault(each.replace("SERIAL", f"{self.serial:x}")) for each in words])


@asynccontextmanager
async def answered(files: Path, *faults: str, plan: Plan | None = None, **settings: Any) -> AsyncIterator[Chain]:
    """A running responder for a new authority, and a leaf."""
    responder = Responder(Authority.make(plan), **settings)
    async with responder:
        chain = Chain(responder, issue(responder.authority, NAME), files)
        await write(chain)
        await chain.fault(*faults)
        yield chain


async def write(chain: Chain) -> None:
    """The files: certificates, the served chain, and the root's own CRL, which ``openssl verify`` wants at hand."""
    authority = chain.responder.authority
    chain.files.mkdir(exist_ok=True)
    for name, certificates in {
        "root": [authority.root.der],
        "leaf": [chain.leaf],
        "issuer": [chain.issuer],
        "intermediates": authority.chain,
        "chain": chain.minted.chain,
    }.items():
        (chain.files / f"{name}.pem").write_bytes(b"".join(map(to_pem, certificates)))
    of_root = await ask(chain.crl(label="root"), authority.issuers[-1].der, authority.root.der, kind=Kind.CRL)
    (chain.files / "root.crl").write_bytes(crl_pem(of_root.body))


def crl_pem(body: bytes) -> bytes:
    return b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(body) + b"-----END X509 CRL-----\n"


def path_of(url: str) -> bytes:
    """As it stands in a request."""
    return b"/" + url.split("/", 3)[3].encode()


async def until(come_true: Callable[[], bool]) -> None:
    """Wait for something that the event loop is about to bring about."""
    async with asyncio.timeout(10):
        while not come_true():  # noqa: ASYNC110 - it is another's state, and there is no event for it
            await asyncio.sleep(0.01)
