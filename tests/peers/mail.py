"""Dovecot and Postfix as anybody may start them: on loopback, with a configuration and folders of their own.

Dovecot gives IMAP and POP3, Postfix SMTP; TLS begins by STARTTLS or STLS alone. User ``me``, password ``hunter2``. What
is sent to ``lab.test`` is taken and dropped.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from countersign.proxy import Address
from tests.peers.process import Background

if TYPE_CHECKING:
    from tests.peers.certs import Issued

USER, PASSWORD = "me", "hunter2"

_DOVECOT = """
base_dir = {home}/run
log_path = /dev/stderr
listen = 127.0.0.1
protocols = imap pop3
ssl = required
ssl_cert = <{cert}
ssl_key = <{key}
default_internal_user = nobody
default_internal_group = nogroup
default_login_user = nobody
mail_location = maildir:{home}/mail
first_valid_uid = 1
passdb {{
  driver = static
  args = password=hunter2
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={home}/mail
}}
service anvil {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {ports[0]}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {ports[1]}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
"""
_MAIN = """
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mail.lab.test
mydestination = lab.test
alias_maps =
local_recipient_maps =
local_transport = discard:
default_transport = discard:
smtpd_relay_restrictions = reject_unauth_destination
smtpd_tls_cert_file = {cert}
smtpd_tls_key_file = {key}
smtpd_tls_security_level = encrypt
"""
_MASTER = """
127.0.0.1:{ports[0]} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
anvil unix - - n - 1 anvil
discard unix - - n - - discard
"""


class _Server:
    """What both have in common: a folder that their users may enter, free ports, and that they are waited for."""

    ports: ClassVar[int]

    def __init__(self, identity: Issued) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="cs-mail-"))  # other users must get there: not under pytest's own
        self._home.chmod(0o755)
        free = [socket.create_server(("127.0.0.1", 0)) for _ in range(self.ports)]
        self.addresses = [Address("127.0.0.1", one.getsockname()[1]) for one in free]
        for one in free:
            one.close()
        given = {"home": self._home, "ports": [each.port for each in self.addresses]}
        given |= {"cert": self._copy(identity.fullchain_pem), "key": self._copy(identity.key_pem)}
        self._process = Background(*self._prepare(given))

    def _copy(self, source: Path) -> Path:
        made = self._home / source.name
        shutil.copy(source, made)
        made.chmod(0o600)
        return made

    def _prepare(self, given: dict[str, object]) -> tuple[str | Path, ...]:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._process.__enter__()
        deadline = time.monotonic() + 40
        while True:
            try:
                for address in self.addresses:
                    socket.create_connection((address.host, address.port), 5).close()
                return self
            except OSError:
                if time.monotonic() > deadline or self._process.ended():
                    said = f"{self._process.stdout}{self._process.stderr}"
                    self.__exit__()
                    raise AssertionError(said) from None
                time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self._process.stop()
        shutil.rmtree(self._home, ignore_errors=True)


class Dovecot(_Server):
    ports = 2

    @property
    def imap(self) -> Address:
        return self.addresses[0]

    @property
    def pop3(self) -> Address:
        return self.addresses[1]

    def _prepare(self, given: dict[str, object]) -> tuple[str | Path, ...]:
        (self._home / "mail").mkdir()
        shutil.chown(self._home / "mail", "nobody", "nogroup")
        file = self._home / "dovecot.conf"
        file.write_text(_DOVECOT.format_map(given))
        return _found("dovecot"), "-F", "-c", file


class Postfix(_Server):
    ports = 1

    @property
    def smtp(self) -> Address:
        return self.addresses[0]

    def _prepare(self, given: dict[str, object]) -> tuple[str | Path, ...]:
        conf = self._home / "conf"
        for folder in (conf, self._home / "queue", self._home / "data"):
            folder.mkdir()
        shutil.chown(self._home / "data", "postfix")
        (conf / "main.cf").write_text(_MAIN.format_map(given))
        (conf / "master.cf").write_text(_MASTER.format_map(given))
        done = subprocess.run(
            [_found("postfix"), "-c", conf, "check"], capture_output=True, env=os.environ | {"LC_ALL": "C"}, check=False
        )
        assert done.returncode == 0, done
        return "/usr/lib/postfix/sbin/master", "-d", "-c", conf


def _found(program: str) -> str:
    return shutil.which(program) or f"/usr/sbin/{program}"
