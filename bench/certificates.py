"""What certificates cost: a mimicked leaf beside the bare signature in it, a thousand from nothing, a recipe.

The measure of a mimicked leaf is the signature that has to be in it: at most one and a half times that and 0.3 ms. The
signature is made over the same bytes with the same key by the library alone. Both are medians of rounds that take
turns; what counts is CPU time, which a busy machine disturbs little.

    python -m bench.certificates --count 2000 --rounds 5 --json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from typing import TYPE_CHECKING

from countersign.ca import Authority, Plan, issue, keys, mint
from countersign.ca.recipes import CertSpec, Recipe
from countersign.recorder.certificates import cut_certificate
from tests.ca.odd_certificates import whole

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ("ec:P-256", "ec:P-384", "rsa:2048", "ed25519")
RATIO, EXTRA = 1.5, 0.3e-3
HOST = "host.example.test"


def each(work: Callable[[], object], count: int) -> float:
    """Seconds of CPU for one."""
    begun = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - begun) / count


def leaves(kind: str, count: int, rounds: int) -> dict[str, float]:
    """A mimicked leaf, one with a field otherwise, and the bare signature, under a CA with this kind of key."""
    authority = Authority.make(Plan(key=kind))
    target = issue(authority, HOST, f"*.{HOST}").chain[0]
    key = keys.new_signer("EC P-256")
    sign, signed = authority.issuer.signer.sign, cut_certificate(target).tbs
    expired = Recipe(leaf=CertSpec(not_after="-1d"))
    pool = keys.KeyPool()
    measured: dict[str, list[float]] = {"signature": [], "leaf": [], "recipe": []}
    for _ in range(rounds):
        measured["signature"].append(each(lambda: sign(signed), count))
        measured["leaf"].append(each(lambda: mint(authority, target, key=key), count))
        measured["recipe"].append(each(lambda: expired.make(authority, target=target, pool=pool), count))
    return {name: statistics.median(values) for name, values in measured.items()}


def thousand(kind: str) -> float:
    """Seconds for a thousand certificates from nothing, each with a key of its own."""
    authority = Authority.make(Plan(key=kind))
    return each(lambda: issue(authority, HOST, key="ec:P-256"), 1000) * 1000


def large(count: int) -> float:
    """Seconds for a leaf that mimics one with every extension there is."""
    authority, target, key = Authority.make(), whole(), keys.new_signer("EC P-256")
    return each(lambda: mint(authority, target, key=key), count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="leaves a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = {kind: leaves(kind, options.count, options.rounds) for kind in KINDS}
    issued = min(thousand("ec:P-256") for _ in range(3))
    every = large(options.count)
    if options.json:
        print(json.dumps({"schema": 1, "leaves": result, "thousand_issued": issued, "every_extension": every}))
        return
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}; microseconds each")
    print(f"{'CA key':10} {'signature':>10} {'leaf':>8} {'allowed':>8} {'recipe':>8}")
    for kind, values in result.items():
        allowed = RATIO * values["signature"] + EXTRA
        row = [f"{seconds * 1e6:8.0f}" for seconds in (values["leaf"], allowed, values["recipe"])]
        print(f"{kind:10} {values['signature'] * 1e6:10.0f} {' '.join(row)}")
    print(f"a leaf with every extension: {every * 1e6:.0f}")
    print(f"a thousand issued from nothing with ECDSA: {issued:.2f} s")


if __name__ == "__main__":
    main()
