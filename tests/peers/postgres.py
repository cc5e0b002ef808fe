"""A PostgreSQL server of our own, with TLS, and psql."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from countersign.proxy import Address
from tests.peers.process import Completed, run

if TYPE_CHECKING:
    from tests.peers.certs import Issued

_VERSION_OF_TLS = "SELECT coalesce((SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()), 'none')"


class PostgresServer:
    """``with PostgresServer(identity) as server:`` listens on ``server.address``; user ``test``, trusted."""

    def __init__(self, identity: Issued) -> None:
        self._identity = identity
        self._home = Path(tempfile.mkdtemp(prefix="cs-pg-"))  # another user must get there: not under pytest's own
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = Address("127.0.0.1", free.getsockname()[1])

    def __enter__(self) -> Self:
        try:
            for name, source in (("server.crt", self._identity.fullchain_pem), ("server.key", self._identity.key_pem)):
                shutil.copy(source, self._home / name)
                (self._home / name).chmod(0o600)
            if os.geteuid() == 0:  # the server refuses to be root
                for path in (self._home, *self._home.iterdir()):
                    shutil.chown(path, "nobody")
            self._command("initdb", "-D", f"{self._home}/data", "-U", "test", "-A", "trust", "-E", "UTF8")
            options = (
                f"-c port={self.address.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off "
                f"-c ssl=on -c ssl_cert_file={self._home}/server.crt -c ssl_key_file={self._home}/server.key"
            )
            self._command("pg_ctl", "-D", f"{self._home}/data", "-w", "-o", options, "start")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._command("pg_ctl", "-D", f"{self._home}/data", "-w", "-m", "immediate", "stop")
        finally:
            self._remove()

    def _command(self, *arguments: str) -> None:
        as_nobody = ["setpriv", "--reuid=nobody", "--clear-groups", "--"] if os.geteuid() == 0 else []
        log = self._home.with_suffix(".log")
        with log.open("ab") as output:  # the server keeps its descriptors, so a pipe would never end
            done = subprocess.run(
                [*as_nobody, *arguments], stdout=output, stderr=output, cwd="/", timeout=60, check=False
            )
        assert done.returncode == 0, log.read_text()

    def _remove(self) -> None:
        shutil.rmtree(self._home)
        self._home.with_suffix(".log").unlink(missing_ok=True)


def psql(address: Address, options: str, query: str = _VERSION_OF_TLS) -> Completed:
    """One query at this address; ``options`` are those of a connection string. The answer's rows are its output."""
    place = f"host=localhost hostaddr={address.host} port={address.port} user=test dbname=postgres {options}"
    return run("psql", "-X", "-A", "-t", "-c", query, place, timeout=30)
