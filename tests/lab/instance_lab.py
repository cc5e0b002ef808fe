"""An instance of the lab in the test's own loop, and clients for it."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from countersign.ca import KeyPool, Minted, issue
from countersign.ca.pem import to_pem
from countersign.lab.instance import Instance, InstancePlan
from countersign.lab.target import HOST, Pki
from countersign.scenarios.catalogue import catalogue

if TYPE_CHECKING:
    from pathlib import Path


@cache
def pki() -> Pki:
    return Pki.make(HOST)


def instance(**plan: Any) -> Instance:
    return Instance.of(pki(), InstancePlan(**plan))


def client(purpose: Any = "client", **more: Any) -> Minted:
    return issue(pki().clients, "mid.lab.test", purpose=purpose, **more)


def files(folder: Path, shown: Minted) -> tuple[Path, Path]:
    """The chain and the key in PEM."""
    assert not isinstance(shown.key, bytes)
    chain, key = folder / "client.pem", folder / "client.key"
    chain.write_bytes(b"".join(map(to_pem, shown.chain)))
    key.write_bytes(shown.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return chain, key


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: str


async def ask(
    made: Instance, path: str, shown: tuple[Path, Path] | None = None, *, method: str = "POST", **headers: str
) -> Answer:
    """One request by the machine's own Python; a refused handshake raises ssl.SSLError or ConnectionError."""
    context = ssl.create_default_context(cadata=pki().public.root_pem.decode("ascii"))
    if shown:
        context.load_cert_chain(*shown)
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port, ssl=context, server_hostname=HOST)
    try:
        lines = {"Host": HOST, "Connection": "close", "Content-Length": "0", **headers}
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())
        answer = (await reader.read()).decode()
    finally:
        writer.close()
    if not answer:
        raise ConnectionError("no answer")
    top, _, body = answer.partition("\r\n\r\n")
    first, *rest = top.split("\r\n")
    named = dict(line.split(": ", 1) for line in rest)
    return Answer(int(first.split()[1]), named, body)


def self_signed() -> Minted:
    """A client's certificate that vouches for itself."""
    scenario = catalogue().open("client-certificate-self-signed")
    assert scenario.client_certificate is not None
    recipe = scenario.client_certificate.own_recipe
    assert recipe is not None
    return recipe.make(pki().clients, name="mid.lab.test", pool=KeyPool())
