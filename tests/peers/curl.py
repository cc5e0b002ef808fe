"""curl, with its answer read from its own JSON report."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.peers.process import Arg, Completed, run

# The exit code that tests name (https://curl.se/libcurl/c/libcurl-errors.html).
PEER_FAILED_VERIFICATION = 60


@dataclass(frozen=True, slots=True)
class CurlAnswer:
    """``status`` is 0 where no HTTP answer came; ``http`` is ``1.1`` or ``2``; ``error`` curl's own sentence."""

    exit_code: int
    status: int
    http: str
    body: bytes
    error: str
    completed: Completed

    @property
    def ok(self) -> bool:
        return self.exit_code == 0


def curl(
    url: str,
    *args: Arg,
    ca: Path | None = None,
    proxy: str | None = None,
    keylog: Path | None = None,
    timeout: float = 40,
) -> CurlAnswer:
    """``curl URL``; no .curlrc, no proxy but the one given here, and an end after ``timeout`` seconds."""
    with tempfile.TemporaryDirectory() as directory:
        body = Path(directory) / "body"
        words: list[Arg] = ["curl", "-q", "-sS", "--max-time", str(timeout), "-o", body, "-w", "%{json}"]
        if ca:
            words += ["--cacert", ca]
        words += ["--proxy", proxy, "--noproxy", ""] if proxy else ["--noproxy", "*"]
        env = {"SSLKEYLOGFILE": str(keylog)} if keylog else {}
        done = run(*words, *args, url, timeout=timeout + 5, env=env)
        report = json.loads(done.stdout or "{}")
        return CurlAnswer(
            exit_code=done.returncode,
            status=report.get("response_code", 0),
            http=str(report.get("http_version", "")),
            body=body.read_bytes() if body.exists() else b"",
            error=report.get("errormsg") or "",
            completed=done,
        )
