"""What a scenario costs over the client's own time, and how long a matrix of curl takes.

The overhead of a scenario is the time from setting its stage to having its verdict, less the time that the client ran;
it is taken one scenario at a time, for the plain one (nothing wrong, an answer relayed) and for one that is refused.
Beside it stands the CPU time of ours, which other programs on the machine do not add to.

    python -m bench.matrix --rounds 100 --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from typing import Any

from countersign.cli.log import logs
from countersign.scenarios.catalogue import catalogue
from countersign.scenarios.running.clients import family_of
from countersign.scenarios.running.matrix import PLAIN, Client, Runner
from countersign.scenarios.running.stage import Props

CURL = ("curl", "-sS", "{url}")


async def measure(rounds: int, jobs: int) -> dict[str, Any]:
    with logs(only_errors=True):  # as `countersign matrix` has it
        return await _measured(rounds, jobs)


async def _measured(rounds: int, jobs: int) -> dict[str, Any]:
    known = catalogue()
    chosen = [scenario for scenario in known.values() if not scenario.waits]
    client = Client(argv=CURL, family=family_of(CURL), env=dict(os.environ))
    async with Props() as props:
        runner = Runner(client, props, plain=known[PLAIN])
        await runner.check()
        overhead = {}
        for name in (PLAIN, "missing-intermediate"):
            began = time.process_time()
            results = [await runner.result(known[name]) for _ in range(rounds)]
            cpu = 1000 * (time.process_time() - began) / rounds
            spent = sorted(1000 * (result.seconds - result.client_seconds) for result in results)
            overhead[name] = {
                "median_ms": statistics.median(spent),
                "p95_ms": spent[int(0.95 * len(spent))],
                "cpu_ms": cpu,
            }
        began = time.monotonic()
        made = await runner.matrix(chosen, jobs=jobs)
        seconds = time.monotonic() - began
    return {"overhead": overhead, "scenarios": len(made.results), "seconds": seconds, "counts": made.counts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50, help="of each scenario whose overhead is taken")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2, help="clients at the same time")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    given = parser.parse_args()
    found = asyncio.run(measure(given.rounds, given.jobs))
    if given.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    for name, spent in found["overhead"].items():
        wall = f"{spent['median_ms']:.1f} ms over curl's own time, p95 {spent['p95_ms']:.1f} ms"
        sys.stdout.write(f"{name}: {wall}; {spent['cpu_ms']:.1f} ms of CPU, legs included\n")
    sys.stdout.write(f"{found['scenarios']} scenarios with curl in {found['seconds']:.1f} s: {found['counts']}\n")


if __name__ == "__main__":
    main()
