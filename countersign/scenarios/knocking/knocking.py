"""Tries each knock at a server, one connection each, and gives the verdicts with their recordings."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.ca import Authority, KeyPool, Plan as CaPlan
from countersign.ca.pem import to_pem
from countersign.ca.recipes import catalogue
from countersign.ca.signer import pkcs8_der
from countersign.errors import EnvironmentFault
from countersign.findings.probing.clear import other_way
from countersign.findings.probing.handshaking import PLAINLY, converse
from countersign.recorder.files.ladder import render_ladder
from countersign.recorder.private_files import write_private
from countersign.recorder.wire.text import printable
from countersign.scenarios.knocking.judging import in_view_of, judge, no_handshake, what_first
from countersign.scenarios.knocking.knocks import KNOCKS
from countersign.scenarios.running.results import Matrix, Result
from countersign.scenarios.running.verdict import Kind, skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from countersign.ca.recipes import Recipe
    from countersign.findings.probing import Plan
    from countersign.recorder.recording import Recording
    from countersign.scenarios.knocking.knocks import Knock
    from countersign.scenarios.running.verdict import Verdict

RIGHT = "client"
"""The recipe, and the knock, of a client that a server has to take."""

_LADDER_WIDTH = 100
_LISTENS = 1.0  # seconds for a refusal or a ticket, where nothing is said that could be answered


@dataclass(frozen=True, slots=True)
class Server:
    """Who is knocked at: ``plan`` says how it is reached. ``clients`` is the CA that it believes, ``subject`` the name
    in the certificates that are shown. ``says`` is what a client says inside, so that there is an answer.
    """

    plan: Plan
    clients: Authority
    subject: str = "client.countersign.test"
    says: bytes = b""


def request(host: str) -> bytes:
    """What a client says that speaks HTTP."""
    lines = ("GET / HTTP/1.1", f"Host: {printable(host, ascii_only=True)}", "User-Agent: countersign")
    return "\r\n".join((*lines, "Connection: close", "", "")).encode("ascii")


def knock(
    server: Server,
    knocks: Sequence[Knock],
    *,
    keep: Callable[[Recording], None] = lambda _recording: None,
    told: Callable[[Result], None] = lambda _result: None,
    ladders: bool = False,
) -> Matrix:
    """All of these, one after the other, behind one by a right client, without which a refusal says nothing: where it
    is refused its result comes first, with what to do about that.

    ``keep`` gets each recording, ``told`` each result as it comes.

    Raises :class:`EnvironmentFault` where the server cannot be reached at all, or answers a right client with no TLS.
    """
    started, began = datetime.now(UTC), time.monotonic()
    results = []
    known: dict[str, Result] = {}
    with tempfile.TemporaryDirectory(prefix="countersign-knock-") as folder:
        shown = _Shown(server, Path(folder))

        def tried(each: Knock) -> Result:
            if each.id not in known:
                if each.needs is not None and tried(KNOCKS[each.needs]).verdict.kind is not Kind.ACCEPTED:
                    known[each.id] = _result(each, skipped(f"it says nothing where {each.needs} is not accepted"))
                    return known[each.id]
                result, recording = _one(server, each, shown, ladders=ladders)
                keep(recording)
                known[each.id] = replace(result, verdict=in_view_of(result.verdict, right.verdict))
            return known[each.id]

        right, recording = _one(server, KNOCKS[RIGHT], shown, ladders=ladders)
        keep(recording)
        _want_handshake(server.plan, recording)
        first = what_first(right.verdict, recording)
        known[RIGHT] = right
        if first is not None:
            known[RIGHT] = replace(right, verdict=replace(right.verdict, notes=(*right.verdict.notes, first)))
            knocks = [KNOCKS[RIGHT], *(each for each in knocks if each.id != RIGHT)]
        for each in knocks:
            results.append(tried(each))
            told(results[-1])
    return Matrix(
        client=(server.plan.place,),
        subject="server",
        family=None,
        way="direct" if server.plan.via is None else "connect",
        started=started,
        seconds=time.monotonic() - began,
        results=tuple(results),
    )


def _want_handshake(plan: Plan, recording: Recording) -> None:
    why = no_handshake(recording)
    if why is not None:
        cannot = f"cannot judge {plan.place}, which takes part in no handshake (recording {recording.id})"
        raise EnvironmentFault(". ".join(filter(None, (cannot, why.rstrip("."), other_way(plan, recording)))))


def _one(server: Server, knock: Knock, shown: _Shown, *, ladders: bool) -> tuple[Result, Recording]:
    plan = replace(
        server.plan,
        name=server.plan.name if knock.name is None else knock.name,
        certificate=shown.file(knock.recipe or catalogue()[RIGHT]),
    )
    manner = replace(knock.manner, says=server.says, listens=plan.seconds if server.says else _LISTENS)
    if server.says and manner.alpn == PLAINLY.alpn:
        manner = replace(manner, alpn=("http/1.1",))  # that is what is said
    began = time.monotonic()
    recording, heard = converse(plan, manner, label=None)
    recording = replace(recording, scenario=knock.id)
    seconds = time.monotonic() - began
    result = replace(
        _result(knock, judge(knock, recording, heard)),
        seconds=seconds,
        client_seconds=seconds,
        recordings=(recording.id,),
        ladders=(render_ladder(recording, width=_LADDER_WIDTH),) if ladders else (),
    )
    return result, recording


def _result(knock: Knock, verdict: Verdict) -> Result:
    return Result(
        scenario=knock.id, tls=None, family=knock.family, title=knock.title, right=knock.right, verdict=verdict
    )


class _Shown:
    """The certificates that are shown, as files: each with its chain and key, made when it is first needed."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server, self._folder = server, folder
        self._pool = KeyPool()
        self._stranger: Authority | None = None
        self._files: dict[str, Path | None] = {}

    def file(self, recipe: Recipe) -> Path | None:
        """None for a recipe that shows nothing."""
        if recipe.id not in self._files:
            minted = recipe.make(self._signs(recipe), name=self._server.subject, pool=self._pool)
            path = self._folder / f"{recipe.id}.pem"
            key = minted.key if isinstance(minted.key, bytes) else pkcs8_der(minted.key)
            if minted.chain:
                write_private(path, b"".join([*map(to_pem, minted.chain), to_pem(key, "PRIVATE KEY")]))
            self._files[recipe.id] = path if minted.chain else None
        return self._files[recipe.id]

    def _signs(self, recipe: Recipe) -> Authority:
        """The CA that the server believes; another, where the recipe is about one that nobody there knows."""
        if recipe.trust == ("root",):
            return self._server.clients
        if self._stranger is None:
            self._stranger = Authority.make(CaPlan(name="countersign strangers"))
        return self._stranger
