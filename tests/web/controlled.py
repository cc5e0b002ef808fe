"""A proxy in this process with its control API, and requests to it byte for byte as an attacker writes them."""

from __future__ import annotations

import asyncio
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countersign.ca.revocation import Register
from countersign.cli.controlled import Controlled, ControlPlan
from countersign.proxy import Address
from countersign.recorder.store import Owner, StoreWriter
from countersign.web.place import Place, read
from tests.proxy.running import AUTHORITY, RunningProxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """What came back; ``status`` 0 where nothing did."""

    status: int
    head: bytes
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.lower() == name.lower().encode():
                return value.strip().decode()
        return None


@dataclass(frozen=True)
class Api:
    """``place`` has the address and the token; ``requests`` counts what aiohttp took for a request."""

    proxy: RunningProxy
    controlled: Controlled
    place: Place

    @property
    def port(self) -> int:
        return int(self.place.control.rpartition(":")[2])

    @property
    def connections(self) -> int:
        """How many have been made to it so far."""
        return self.controlled.server.accepted

    def headers(self, **changed: str | None) -> dict[str, str]:
        """Those of a good request; ``Sec_Fetch_Site=...`` adds one, None leaves one out."""
        good: dict[str, str | None] = {
            "Host": self.place.control,
            "Authorization": f"Bearer {self.place.token}",
            "Content-Type": "application/json",
        }
        good |= {name.replace("_", "-"): value for name, value in changed.items()}
        return {name: value for name, value in good.items() if value is not None}

    def send(self, data: bytes, *, host: str = "127.0.0.1") -> Answer:
        """These bytes as they are."""
        with socket.create_connection((host, self.port), timeout=20) as connection:
            try:
                connection.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass
            return answer_of(connection)

    def request(self, method: str, target: str, body: bytes = b"", /, **changed: str | None) -> Answer:
        """A good request but for what is changed."""
        lines = [f"{method} {target} HTTP/1.1", *(f"{key}: {value}" for key, value in self.headers(**changed).items())]
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        return self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def get(self, target: str, **changed: str | None) -> Answer:
        return self.request("GET", target, **changed)

    def post(self, target: str, told: Any = None, **changed: str | None) -> Answer:
        return self.request("POST", target, json.dumps({} if told is None else told).encode(), **changed)


def answer_of(connection: socket.socket) -> Answer:
    """All that comes until the end."""
    data = bytearray()
    try:
        while piece := connection.recv(1 << 16):
            data += piece
    except ConnectionResetError:
        pass
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    return Answer(int(words[1]) if len(words) > 1 else 0, head, body)


async def _with_one_thread() -> None:
    """For what is read from the store, begun now: no test leaves one behind that was not there before."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    await asyncio.to_thread(lambda: None)


@contextmanager
def controlled_proxy(home: Path, **settings: Any) -> Iterator[Api]:
    """Its store and its control file are in ``home``."""
    store = str(home / "recordings.sqlite")
    controlled = Controlled(
        ControlPlan(Address("127.0.0.1", 0)),
        home,
        store,
        writer=StoreWriter(store, owner=Owner.current(), on_error=lambda _trouble: None),
        authority=AUTHORITY,
        register=Register(),
        first=None,
    )
    with RunningProxy(director=controlled.commanded, **settings) as proxy:
        controlled.commanded.engine = proxy.engine
        proxy.run(_with_one_thread())
        proxy.run(controlled.__aenter__())
        try:
            (file,) = (home / "control").iterdir()
            yield Api(proxy, controlled, read(file))
        finally:
            proxy.run(controlled.__aexit__())
