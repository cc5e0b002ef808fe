"""What a test pays for its proxy: the first one of a session, and each after it.

The time is that of the caller from asking for a proxy under a scenario to having its url, and of stopping it again; the
first one makes the thread, authorities, keys and the embedded target. What importing takes is apart, since it is there
once and the rest of a session is not. CPU time is of the whole process, for a busy machine says little by the clock.

    python -m bench.fixture --rounds 100 --json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

SCENARIOS = ("plain", "missing-intermediate", "expired", "root-sent", "other-name")


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it gives, and the milliseconds it takes: by the clock, and of CPU."""
    began, spent = time.perf_counter(), time.process_time()
    made = work()
    return made, 1000 * (time.perf_counter() - began), 1000 * (time.process_time() - spent)


def imported() -> Any:
    from countersign.scenarios.running.house import House

    return House


def measure(rounds: int) -> dict[str, Any]:
    House, *importing = timed(imported)  # noqa: N806 - a class
    known = {}

    def first() -> Any:
        known["house"] = House()
        return known["house"].open(SCENARIOS[0])

    proxy, *beginning = timed(first)
    proxy.close()
    house = known["house"]
    starts: list[list[float]] = []
    stops: list[list[float]] = []
    readings: list[list[float]] = []
    for number in range(rounds):
        proxy, *start = timed(partial(house.open, SCENARIOS[number % len(SCENARIOS)]))
        _, *stop = timed(proxy.close)
        (readings if number < len(SCENARIOS) else starts).append(start)
        stops.append(stop)
    house.close()
    return {
        "import": _both(importing),
        "first of the session": _both(beginning),
        "first under a scenario": _both(max(readings)),
        "each start": _median(starts),
        "each stop": _median(stops),
    }


def _both(taken: list[float]) -> dict[str, float]:
    return {"ms": round(taken[0], 2), "cpu_ms": round(taken[1], 2)}


def _median(taken: list[list[float]]) -> dict[str, float]:
    return _both([statistics.median(each) for each in zip(*taken, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help="proxies after the first")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    given = parser.parse_args()
    found = measure(max(given.rounds, 2 * len(SCENARIOS)))
    if given.json:
        print(json.dumps(found, indent=2))
        return
    for what, taken in found.items():
        print(f"{what:24} {taken['ms']:8.1f} ms by the clock {taken['cpu_ms']:8.1f} ms of CPU")


if __name__ == "__main__":
    main()
