"""Runs clients under their scenarios and keeps the verdicts. Arguments: which clients (all without any), and
``--select EXPR`` for those scenarios alone; of the others what is kept stays.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from countersign.scenarios.running.baseline import changes, write_baseline
from countersign.scenarios.selecting import select
from tests.scenarios.running.matrices import CLIENTS
from tests.scenarios.running.playing import known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=f"one of {', '.join(CLIENTS)}")
    parser.add_argument("--select", default="", metavar="EXPR", help="these scenarios alone")
    given = parser.parse_args()
    wanted = {each.id for each in select(known(), given.select)}
    for name in given.clients or CLIENTS:
        client = CLIENTS[name]
        there = {each.id for each in client.scenarios()}
        made = asyncio.run(client.run([each for each in client.scenarios() if each.id in wanted], jobs=2))
        before = client.verdicts() if client.path.exists() else {}
        for change in changes(made.results, before):
            sys.stdout.write(f"{name}: {change}\n")
        kept = {key: verdict for key, verdict in before.items() if key in there - wanted}
        client.path.write_bytes(write_baseline(made.results, kept))


if __name__ == "__main__":
    main()
