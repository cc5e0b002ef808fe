"""Results and recordings for the tests of what is made of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from countersign.recorder.recording import DataCount, Leg, LegRole, Outcome, Party, Recording, Status
from countersign.recorder.wire.events import Content, Message, Side
from countersign.scenarios.expect import Expect
from countersign.scenarios.model import Scenario
from countersign.scenarios.running.process import Ran
from countersign.scenarios.running.results import Matrix, Result
from countersign.scenarios.running.texts import Said
from countersign.scenarios.running.verdict import Kind, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

STARTED = datetime(2026, 11, 21, 9, 6, 12, tzinfo=UTC)
UNKNOWN_CA, CERTIFICATE_REQUIRED = 48, 116


def scenario(right: str = "refuse", **settings: Any) -> Scenario:
    return Scenario(id="made", family="own", expect=Expect(right=right, **settings))  # type: ignore[arg-type]


def ran(code: int | None = 0, **settings: Any) -> Ran:
    made = Ran(("client",), code, None, timed_out=False, output="", errors="", seconds=0.1)
    return replace(made, **settings)


def alert(sender: Side, code: int, t: float, *, level: int = 2, encrypted: bool = False) -> Message:
    return Message(t, sender, Content.ALERT, code, encrypted, 2, bytes([level, code]))


def session(
    status: Status,
    *,
    by: Party | None = None,
    named: str | None = None,
    sent: int = 0,
    first: float = 0.2,
    messages: Iterable[Message] = (),
    faults: Iterable[dict[str, Any]] = (),
    step: int = 1,
    number: int = 0,
    **settings: Any,
) -> Recording:
    """One session: how it ended, what the client sent, the alerts on its leg, what was broken on purpose and when."""
    data = {Side.CLIENT: DataCount(1, sent, first, first)} if sent else {}
    leg = Leg(LegRole.CLIENT, tuple(messages), data=data, faults=tuple(faults))
    made = Recording(
        f"{number:016x}",
        STARTED,
        "connect",
        "intercept",
        ended=STARTED,
        step=step,
        legs=(leg,),
        outcome=Outcome(status, by, LegRole.CLIENT if by else None, named),
    )
    return replace(made, **settings)


def result(name: str, kind: Kind, *, family: str = "chain", right: str = "refuse", **settings: Any) -> Result:
    verdict = Verdict(kind=kind, text=settings.pop("text", kind.value), said=settings.pop("said", ()))
    return Result(
        scenario=name, tls=settings.pop("tls", None), family=family, title=f"About {name}", right=right,
        verdict=verdict, **settings,
    )  # fmt: skip


def matrix(*results: Result, **settings: Any) -> Matrix:
    made = Matrix(
        client=("curl", "-s", "{url}"), family="curl", way="connect", started=STARTED, seconds=1.5, results=results
    )
    return replace(made, **settings)


ONE_OF_EACH = matrix(
    result("plain", Kind.ACCEPTED, family="plain", right="accept"),
    result("missing-intermediate", Kind.REFUSED, recordings=("a" * 16,), ladders=("client  ──►  proxy",)),
    result(
        "leaf-expired",
        Kind.ACCEPTED_WRONGLY,
        family="validity",
        text="accepted but should have refused (sent 87 bytes of application data)",
        said=(Said("curl: (60) all is lost", "nothing good"), Said("curl: again", None)),
        argv=("curl", "-s", "https://instance.lab.test/"),
        code=0,
        ladders=("client  ──►  proxy",),
    ),
    result("wildcard", Kind.REFUSED_WRONGLY, family="names", right="accept", tls="TLSv1.2", code=60),
    result("silence", Kind.HUNG, family="wire", signal="SIGKILL"),
    result("garbage", Kind.CRASHED, family="wire", signal="SIGSEGV"),
    result("proxy-403", Kind.NEVER_CONNECTED, family="proxy"),
    result("client-leaf-only", Kind.SKIPPED, family="mtls"),
    result("stapled-revoked", Kind.UNPROVED, family="stapling"),
)
"""A matrix with a result of each kind."""
