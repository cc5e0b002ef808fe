"""The register: what is revoked, kept whole, private and seen by everybody at once."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from countersign.ca.revocation import Entry, Reason, Register, RegisterError, State
from countersign.errors import UserError
from countersign.recorder.private_files import FileFault

if TYPE_CHECKING:
    from pathlib import Path

ISSUER = "ab" * 20
AT = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    directory = tmp_path / "ca"
    directory.mkdir(mode=0o700)
    return directory


def held(serial: int = 5) -> Entry:
    return Entry(ISSUER, serial, AT, reason=Reason.CERTIFICATE_HOLD, name="CN=a.lab.test")


def test_what_is_entered_is_there_after_a_restart(kept: Path) -> None:
    register = Register.of_home(kept)
    for entry in (held(), Entry(ISSUER, -7, AT, State.UNKNOWN), Entry("cd" * 20, 5, AT)):
        register.put(entry)
    again = Register.of_home(kept)
    assert list(again) == list(register)
    assert again.find(ISSUER, 5) == held()
    assert [entry.serial for entry in again.of_issuer(ISSUER)] == [5, -7]
    assert again.find(ISSUER, 6) is None


def test_two_issuers_may_use_the_same_number(kept: Path) -> None:
    register = Register.of_home(kept)
    register.put(Entry(ISSUER, 5, AT))
    assert register.find("cd" * 20, 5) is None


def test_the_file_is_private_whatever_the_umask(kept: Path) -> None:
    before = os.umask(0)
    try:
        Register.of_home(kept).put(held())
    finally:
        os.umask(before)
    file = kept / "revoked.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in kept.iterdir()] == ["revoked.json"]


def test_a_running_register_sees_what_another_process_enters(kept: Path) -> None:
    register, other = Register.of_home(kept), Register.of_home(kept)
    other.put(held())
    assert register.find(ISSUER, 5) is None
    register.refresh()
    assert register.find(ISSUER, 5) == held()
    (kept / "revoked.json").unlink()
    register.refresh()
    assert not list(register)


def test_changes_of_many_processes_at_once_all_count(kept: Path) -> None:
    program = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from countersign.ca.revocation.register import Entry, Register
register = Register.of_home(Path(sys.argv[1]))
for serial in range(10):
    register.put(Entry("ab" * 20, int(sys.argv[2]) * 100 + serial, datetime.now(UTC)))
"""
    started = [subprocess.Popen([sys.executable, "-c", program, str(kept), str(number)]) for number in range(4)]
    assert [process.wait(60) for process in started] == [0] * 4
    assert len(Register.of_home(kept)) == 40


def test_only_a_hold_is_released(kept: Path) -> None:
    register = Register.of_home(kept)
    register.put(held(5))
    register.put(Entry(ISSUER, 6, AT, reason=Reason.KEY_COMPROMISE))
    released = register.release(ISSUER, 5, AT)
    assert (released.state, released.reason, released.name) == (
        State.RELEASED,
        Reason.REMOVE_FROM_CRL,
        "CN=a.lab.test",
    )
    assert not released.is_revoked
    with pytest.raises(UserError, match="cannot release the certificate 6: it was revoked for keyCompromise"):
        register.release(ISSUER, 6, AT)
    for serial in (5, 7):
        with pytest.raises(UserError, match=f"cannot release the certificate {serial}: it is not on hold"):
            register.release(ISSUER, serial, AT)
    assert list(Register.of_home(kept)) == list(register)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff",
        b"[]",
        b"{}",
        b'{"schema": 1}',
        b'{"schema": 1, "entries": [1]}',
        b'{"schema": 1, "entries": [{"issuer": "zz", "serial": "1"}]}',
        b"[" * 100_000,
        json.dumps({"schema": 1, "entries": [held().to_json() | {"at": "2026-11-20T08:00:00"}]}).encode(),
        json.dumps({"schema": 1, "entries": [held().to_json() | {"reason": "boredom"}]}).encode(),
        json.dumps({"schema": 1, "entries": [held().to_json() | {"at": "0001-01-01T00:00:00+14:00"}]}).encode(),
        json.dumps({"schema": 1, "entries": [held().to_json()]}).encode()[:-20],
    ],
    ids=range(12),
)
def test_a_broken_file_is_a_sentence_and_stays(kept: Path, data: bytes) -> None:
    file = kept / "revoked.json"
    file.write_bytes(data)
    file.chmod(0o600)
    with pytest.raises(RegisterError, match=r"it is not what countersign wrote there .*put the right file back"):
        Register.of_home(kept)
    assert file.read_bytes() == data


def test_a_file_of_a_newer_schema_is_named_as_one(kept: Path) -> None:
    file = kept / "revoked.json"
    file.write_bytes(b'{"schema": 2, "entries": []}')
    file.chmod(0o600)
    with pytest.raises(RegisterError, match="it is of schema 2, expected 1; a newer countersign wrote it"):
        Register.of_home(kept)


def test_a_file_that_others_may_read_or_a_link_is_not_used(kept: Path, tmp_path: Path) -> None:
    file = kept / "revoked.json"
    file.write_bytes(b'{"schema": 1, "entries": []}')
    file.chmod(0o644)
    with pytest.raises(FileFault, match="others may read it"):
        Register.of_home(kept)
    file.chmod(0o600)
    elsewhere = tmp_path / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    with pytest.raises(FileFault, match="symbolic link"):
        Register.of_home(kept)


def test_a_failed_change_leaves_the_register_as_it_was(kept: Path) -> None:
    register = Register.of_home(kept)
    register.put(held())
    kept.chmod(0o777)  # everybody may write there, and so we do not
    with pytest.raises(FileFault):
        register.put(Entry(ISSUER, 9, AT))
    kept.chmod(0o700)
    assert list(register) == [held()]
    assert list(Register.of_home(kept)) == [held()]


def test_reasons_have_the_numbers_of_the_rfc() -> None:
    assert [reason.code for reason in Reason] == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10]
    assert Reason.of_code(1) is Reason.KEY_COMPROMISE
    assert Reason.of_code(7) is None
    assert Reason.read("Key-Compromise") is Reason.KEY_COMPROMISE
