"""A MID Server's folder, made as the articles describe it, read and explained."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from countersign.errors import UserError
from countersign.findings.doctoring import Checkup, examine, find_home
from countersign.findings.doctoring.config import read_parameters
from countersign.findings.doctoring.showing import show
from countersign.recorder.wire.text import printable
from tests.peers.java import java_truststore
from tests.peers.process import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.certs import Issued, Lab

PASSWORD = "mid-secret"
CONFIG = """<?xml version="1.0" encoding="UTF-8"?>
<parameters>
  <parameter name="url" value="https://dev1.service-now.com/"/>
  <parameter name="name" value="mid one"/>
  <parameter name="mid.instance.username" value="mid.user"/>
  <parameter name="mid.instance.password" encrypt="true" value="encrypted:TOPSECRET"/>
  <parameter name="mid.proxy.password" value="hunter2"/>
  <!-- <parameter name="mid.proxy.use_proxy" value="true"/> -->
  {more}
</parameters>
"""


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """A MID Server's folder with a configuration that is in order."""
    agent = tmp_path / "mid" / "agent"
    for name in ("logs", "keystore", "security", "jre/lib/security"):
        (agent / name).mkdir(parents=True)
    (agent / "config.xml").write_text(CONFIG.format(more=""))
    (agent / "jre" / "release").write_text('IMPLEMENTOR="x"\nJAVA_VERSION="11.0.20"\n')
    return tmp_path / "mid"


def configure(folder: Path, *parameters: tuple[str, str], without: str | None = None) -> None:
    more = "".join(f'<parameter name="{name}" value="{value}"/>\n' for name, value in parameters)
    text = CONFIG.format(more=more)
    if without is not None:
        text = "\n".join(line for line in text.splitlines() if without not in line)
    (folder / "agent" / "config.xml").write_text(text)


def ids(checkup: Checkup, severity: str | None = None) -> set[str]:
    return {one.id for one in checkup.remarks if severity in {None, one.severity}}


def pkcs12(identity: Issued, path: Path) -> Path:
    words = ("openssl", "pkcs12", "-export", "-in", identity.fullchain_pem, "-inkey", identity.key_pem)
    run(*words, "-out", path, "-passout", f"pass:{PASSWORD}", "-name", "defaultsecuritykeypairhandle").check()
    return path


def test_a_folder_in_order_is_well_and_no_secret_is_shown(folder: Path) -> None:
    for place in (folder, folder / "agent"):
        checkup = examine(find_home(place))
        assert not checkup.sick
        assert checkup.facts["java"] == "11.0.20"
        assert checkup.facts["url"] == "https://dev1.service-now.com/"
        said = show(checkup, width=100) + json.dumps(checkup.to_json())
        assert "TOPSECRET" not in said
        assert "hunter2" not in said


def test_a_secret_is_one_by_its_name_its_mark_or_its_value(folder: Path) -> None:
    text = "".join(
        f'<parameter name="{name}" {mark} value="{value}"/>'
        for name, mark, value in (
            ("mid.ssl.truststore.pass", "", "zq1"),
            ("mid.ssl.own", 'secure="true"', "zq2"),
            ("mid.ssl.other", 'encrypt="TRUE"', "zq3"),
            ("mid.ssl.third", "", "encrypted:zq4"),
            ("mid.proxy.host", "", "http://me:zq5@proxy.example:8080/"),
            ("mid.ssl.compass", 'secure="false"', "shown"),
        )
    )
    (folder / "agent" / "config.xml").write_text(f"<parameters>{text}</parameters>")
    checkup = examine(find_home(folder))
    assert "zq" not in show(checkup, width=100) + json.dumps(checkup.to_json())
    assert checkup.facts["mid.ssl.third"] == "(set)"
    assert checkup.facts["mid.ssl.compass"] == "shown"
    assert checkup.facts["mid.proxy.host"] == "http://(redacted)@proxy.example:8080/"


def test_what_a_log_wants_imported_goes_into_the_store_that_is_there(folder: Path, lab: Lab) -> None:
    jre = folder / "agent" / "jre"
    java_truststore(jre / "lib" / "security" / "cacerts", lab.root_pem)
    (folder / "agent" / "logs" / "agent0.log").write_text(
        "unable to find valid certification path to requested target\n"
    )
    (untrusted,) = (one for one in examine(find_home(folder)).remarks if one.id == "untrusted")
    assert f"{jre}/bin/keytool -importcert" in untrusted.fix
    assert f"-keystore {jre}/lib/security/cacerts" in untrusted.fix


def test_a_log_that_is_not_read_is_said_not_to_be(folder: Path) -> None:
    logs = folder / "agent" / "logs"
    with (logs / "agent9.log").open("wb") as file:
        file.truncate((2 << 30) + 1)
    (logs / "agent8.log").symlink_to("/dev/zero")
    checkup = examine(find_home(folder))
    assert [text for text in checkup.unseen if "agent9.log" in text and "2 GiB" in text]


@pytest.mark.peer("setpriv")
@pytest.mark.parametrize("name", ["config.xml", "."])
def test_what_we_may_not_read_is_said_and_is_no_fault_of_the_mid_servers(folder: Path, name: str) -> None:
    """In a process that may read no more than its files' modes say, whoever runs the tests."""
    place = folder / "agent" / name
    mode = place.stat().st_mode
    place.chmod(0)
    less = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    words = (*less, sys.executable, "-m", "countersign", "doctor", "--mid-home", folder)
    try:
        done = run(*words, timeout=60)
    finally:
        place.chmod(mode)
    assert "Traceback" not in done.stderr
    assert "Put the copy back" not in done.stdout
    if name == ".":
        assert (done.returncode, "permission denied" in done.stderr) == (3, True)
    else:
        assert "permission denied" in done.stdout.partition("Not read")[2]


def test_nothing_is_written_there(folder: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    try:
        examine(find_home(folder))
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(path.stat().st_mode | stat.S_IWUSR)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("parameters", "without", "expected"),
    [
        ((("mid.ssl.bootstrap.default.check_cert_hostname", "false"),), None, {"certificate-checks-off"}),
        ((("mid.ssl.bootstrap.default.check_cert_chain", "false"),), "mid.instance.username", {"bootstrap-checks-off"}),
        ((("mid.proxy.use_proxy", "true"),), None, {"proxy-without-host"}),
        ((("mid.proxy.use_proxy", "true"), ("mid.proxy.host", "p")), None, set()),
        ((("url", "http://dev1.service-now.com/"),), None, {"instance-url-not-https"}),
        ((), "mid.instance.username", {"mutual-authentication"}),
    ],
)
def test_what_config_xml_says_is_judged(
    folder: Path, parameters: tuple[tuple[str, str], ...], without: str | None, expected: set[str]
) -> None:
    configure(folder, *parameters, without=without)
    found = ids(examine(find_home(folder))) - {"no-proxy-configured"}
    assert expected <= found
    assert expected or not found


@pytest.mark.peer("openssl")
def test_the_agents_key_store_is_looked_at(folder: Path, lab: Lab) -> None:
    """The article's own cases: no clientAuth, an incomplete chain, a store that is no BCFKS in FIPS mode."""
    place = folder / "agent" / "security" / "agent_keystore"
    configure(folder, without="mid.instance.username")

    def found(identity: Issued) -> set[str]:
        pkcs12(identity, place)
        return ids(examine(find_home(folder), keystore_password=PASSWORD), "cause")

    assert found(lab.client) == set()
    assert found(lab.server) == {"key-wrong-eku"}
    old = lab.issue(common_name="Old", usages=("client",), days=0.01)
    assert found(old) == {"certificate-expired"}
    own = lab.issue(common_name="Own", usages=("client",), signer=None)
    assert found(own) == {"key-self-signed"}
    configure(folder, ("mid.fips.enabled", "true"), without="mid.instance.username")
    assert "store-not-bcfks" in found(lab.client)
    wrong = examine(find_home(folder), keystore_password="not it")
    assert "key-store-password" in ids(wrong)
    remark = next(one for one in wrong.remarks if one.id == "key-store-password")
    assert "Re-key will not do" in remark.fix
    place.write_bytes(place.read_bytes()[:200])
    assert "key-store-broken" in ids(examine(find_home(folder), keystore_password=PASSWORD))


@pytest.mark.peer("keytool")
def test_cacerts_is_looked_at(folder: Path, lab: Lab) -> None:
    cacerts = folder / "agent" / "jre" / "lib" / "security" / "cacerts"
    java_truststore(cacerts, lab.root_pem, lab.server.cert_pem)
    checkup = examine(find_home(folder))
    assert "leaf-in-trust-store" in ids(checkup, "warning")
    assert checkup.facts["cacerts"].endswith("2 entries")
    later = examine(find_home(folder), now=datetime.now(UTC) + timedelta(days=360))
    assert "certificate-expires-soon" in ids(later)


def test_a_store_that_no_store_can_be_is_not_read_and_the_rest_is(folder: Path) -> None:
    with (folder / "agent" / "jre" / "lib" / "security" / "cacerts").open("wb") as sparse:
        sparse.truncate(1 << 30)
    checkup = examine(find_home(folder))
    assert any("cacerts" in one for one in checkup.unseen)
    assert checkup.facts["java"] == "11.0.20"


def test_logs_are_explained_with_their_lines(folder: Path) -> None:
    text = (
        "12/01/24 10:00:00 (123) File sync worker: ecc_agent_jar WARNING *** WARNING *** Request not sent to uri= "
        "https://x.service-now.com/MIDFileSyncSnapshot.do?SOAP : javax.net.ssl.SSLHandshakeException: "
        "sun.security.validator.ValidatorException: PKIX path building failed: "
        "java.security.cert.CertPathBuilderException: Unable to find certificate chain.\r\n"
    )
    (folder / "agent" / "logs" / "agent0.log.0").write_text("nothing\r\n" + text * 3)
    (folder / "agent" / "logs" / "wrapper.log").write_text(text)
    checkup = examine(find_home(folder))
    assert checkup.sick
    evidence = [piece for one in checkup.remarks for piece in one.evidence]
    assert any(piece.startswith("agent0.log.0, line 2: ") for piece in evidence)
    assert any(piece.startswith("wrapper.log, line 1: ") for piece in evidence)


def test_a_folder_that_is_none_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no MID Server's folder"):
        find_home(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"<parameters><parameter name='a'", "line 1: it is no XML"),
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>", "declares a document type or an entity"),
        (b"<?xml version='1.0' encoding='nonsense'?><x/>", "config.xml"),
        (b"\x00\xff", "config.xml"),
    ],
)
def test_a_configuration_that_is_none_is_named_with_its_line(folder: Path, text: bytes, expected: str) -> None:
    (folder / "agent" / "config.xml").write_bytes(text)
    checkup = examine(find_home(folder))
    assert checkup.sick
    assert checkup.facts["java"] == "11.0.20"  # the rest is looked at all the same
    assert re.search(expected, next(one.text for one in checkup.remarks if one.id == "config-unreadable"))


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reading_of_a_configuration(data: bytes) -> None:
    try:
        read_parameters(b"<parameters>" + data + b"</parameters>")
    except UserError:
        pass


def test_what_a_stranger_wrote_is_escaped(folder: Path) -> None:
    configure(folder, ("mid.ssl.x&#x202e;", "&#x9b;31m"))
    (folder / "agent" / "logs" / "agent0.log.0").write_bytes(b"\x1b]0;x\x07 PKIX path building failed \x9b\n")
    os.utime(folder / "agent" / "logs" / "agent0.log.0")
    assert all(line == printable(line) for line in show(examine(find_home(folder)), width=90).splitlines())
