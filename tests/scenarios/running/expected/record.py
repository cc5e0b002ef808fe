"""Runs the clients under all their scenarios and keeps the verdicts. Arguments: which of them; all without any."""

from __future__ import annotations

import asyncio
import sys

from countersign.scenarios.running.baseline import changes, write_baseline
from tests.scenarios.running.matrices import CLIENTS


def main() -> None:
    for name in sys.argv[1:] or CLIENTS:
        client = CLIENTS[name]
        made = asyncio.run(client.run(client.scenarios(), jobs=2))
        before = client.verdicts() if client.path.exists() else {}
        for change in changes(made.results, before):
            sys.stdout.write(f"{name}: {change}\n")
        client.path.write_bytes(write_baseline(made.results, {}))


if __name__ == "__main__":
    main()
