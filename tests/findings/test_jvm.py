"""How a JVM's trust store is named in a cure: so that it can be run, by what is known of the JVM."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import PurePosixPath, PureWindowsPath

import pytest

from countersign.findings import explaining
from countersign.findings.diagnosing import diagnose, kinds
from countersign.findings.jvm import ANY, Jvm, by_user_agent
from countersign.recorder.recording import Leg, LegRole, Outcome, Party, Status
from countersign.recorder.wire.events import Content, Message, Side
from tests.findings.test_comparing import recorded
from tests.recorder.transcripts import transcript

WHICH = "keytool is that of the JVM in which the client runs; where that is Java 8:"
OF_JAVA_8 = '-keystore "$JAVA_HOME/jre/lib/security/cacerts"'


@pytest.mark.parametrize(
    ("agent", "store"),
    [
        ("Java/17.0.15", "keytool -importcert -cacerts."),
        ("Java/9", "keytool -importcert -cacerts."),
        ("Java/1.8.0_252", f"keytool -importcert {OF_JAVA_8}."),
        ("curl/8", f"keytool -importcert -cacerts. {WHICH} {OF_JAVA_8}."),
    ],
)
def test_the_trust_store_is_named_as_the_release_of_the_jvm_has_it(agent: str, store: str) -> None:
    assert by_user_agent(agent).filled("{keytool} -importcert {cacerts}.") == store


def test_a_jvm_whose_place_is_known_is_told_by_its_place() -> None:
    windows = Jvm(PureWindowsPath("C:/Program Files/mid/agent/jre")).filled("{keytool} -list {cacerts}")
    cacerts = r'-keystore "C:\Program Files\mid\agent\jre\lib\security\cacerts"'
    assert windows == rf'"C:\Program Files\mid\agent\jre\bin\keytool.exe" -list {cacerts}'
    here = Jvm(PurePosixPath("/opt/my mid/jre")).filled("{keytool} {cacerts}")
    assert here == "'/opt/my mid/jre/bin/keytool' -keystore '/opt/my mid/jre/lib/security/cacerts'"


def test_a_client_that_tells_a_proxy_its_release_gets_the_cure_for_that() -> None:
    flight = transcript("tls12-ecdhe")
    flight = flight[: next(n for n, one in enumerate(flight) if n and one.sender is Side.CLIENT)]
    alert = Message(0.1, Side.CLIENT, Content.ALERT, 48, False, 2, b"\x02\x30")
    failed = Outcome(Status.FAILED, Party.CLIENT)
    recording = replace(recorded(()).recording, legs=(Leg(LegRole.THROUGH, (*flight, alert)),), outcome=failed)
    for agent, store in (("Java/1.8.0_252", OF_JAVA_8), ("Java/17.0.15", " -cacerts.")):
        asked = {"request": {"method": "CONNECT", "headers": [["User-Agent", agent]]}, "answer": 200}
        cause = diagnose(replace(recording, prelude=asked), family="java").cause
        assert cause is not None
        assert store in cause.fix
    for headers in ([], None, ["x"], [["User-Agent"]]):
        cause = diagnose(replace(recording, prelude={"request": {"headers": headers}}), family="java").cause
        assert cause is not None
        assert "where that is Java 8" in cause.fix


def test_a_mid_server_has_a_jvm_of_its_own() -> None:
    words = b"PKIX path building failed: unable to find valid certification path to requested target\n"
    (java,) = explaining.explain(BytesIO(words)).findings
    assert "root.pem -cacerts" in java.fix
    assert "/opt/mid/agent/jre/bin/keytool" in java.cure(Jvm(PurePosixPath("/opt/mid/agent/jre")))
    mid = replace(java, family="mid")
    assert mid.fix.startswith("agent/jre/bin/keytool -importcert")
    assert "-keystore agent/jre/lib/security/cacerts;" in mid.fix


def test_no_cure_names_a_place_that_nobody_has() -> None:
    cures = [words for kind in kinds().values() for words in (kind.fix, *kind.fixes.values())]
    cures += [words for kind in explaining.kinds().values() for words in (kind.fix, *kind.fixes.values())]
    assert not [words for words in cures if "JRE/" in words or '"$JAVA_HOME/lib' in words]
    assert all(
        "keytool" in ANY.filled(words) and "{" not in ANY.filled(words) for words in cures if "{cacerts" in words
    )
