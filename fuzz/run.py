"""Throw changed inputs at the decoders until the time is over: ``python fuzz/run.py --seconds 60``.

Every target of ``targets.py`` gets its share of the time, in a process of its own. Where atheris is installed (``pip
install 'countersign[fuzz]'``), it looks for inputs that reach new code; elsewhere a plain loop changes the seeds, with
the same promises checked. Work is kept in ``build/fuzz``: the corpus (delete it for a new one), what reached new code,
and ``crashes/``. The same corpus and ``--seed`` give the same inputs again with the plain loop, and with atheris too as
long as nothing that it found before is there (``--fresh``).

It exits with 1 and the input, printed and saved, when a promise is broken; ``--reproduce TARGET FILE`` runs one input.
What is found and mended goes into ``regressions/TARGET/``, which tests/test_fuzz.py runs each time.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import random
import resource
import shutil
import subprocess
import sys
import time
import traceback
from hashlib import sha256
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

WORK = ROOT / "build" / "fuzz"
_SHOWN = 2048
_MEGABYTES = 512
"""A target's process may use so much more than it begins with."""
_GRACE = 120


def main() -> int:
    given = _arguments()
    if given.reproduce:
        target, file = given.reproduce
        return _reproduce(target, Path(file))
    if given.worker:
        _work(given)
        return 0
    return _run(given)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together (default 60)")
    parser.add_argument("--seed", type=int, default=1, help="of the changes (default 1); 0 takes another each time")
    parser.add_argument("--targets", default="", help="names, with commas (default: all)")
    parser.add_argument("--engine", choices=["auto", "atheris", "plain"], default="auto")
    parser.add_argument("--fresh", action="store_true", help="forget the corpus and what was found before")
    parser.add_argument("--reproduce", nargs=2, metavar=("TARGET", "FILE"), help="run one input and end")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


# -- all the targets


def _run(given: argparse.Namespace) -> int:
    engine = given.engine
    has_atheris = importlib.util.find_spec("atheris") is not None
    if engine == "auto":
        engine = "atheris" if has_atheris else "plain"
        if not has_atheris:
            print("atheris is not installed for this Python: a plain loop changes the seeds, without coverage")
    elif engine == "atheris" and not has_atheris:
        print("atheris is not installed for this Python (pip install 'countersign[fuzz]')", file=sys.stderr)
        return 3
    if given.fresh:
        shutil.rmtree(WORK, ignore_errors=True)
    from fuzz import seeds
    from fuzz.targets import TARGETS

    wanted = given.targets.split(",") if given.targets else list(TARGETS)
    unknown = [name for name in wanted if name not in TARGETS]
    if unknown:
        print(f"no target is called {', '.join(unknown)}; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    if not all((WORK / "corpus" / name).exists() for name in wanted):
        counts = seeds.build(WORK / "corpus")
        print("corpus:", ", ".join(f"{name} {count}" for name, count in counts.items()), flush=True)
    shares = sum(TARGETS[name].share for name in wanted)
    seed = given.seed or random.SystemRandom().randrange(1, 1 << 31)
    broken = []
    for name in wanted:
        seconds = max(1, round(given.seconds * TARGETS[name].share / shares))
        if not _target(name, seconds, seed, engine):
            broken.append(name)
    print("broken: " + ", ".join(broken) if broken else "every promise was kept", flush=True)
    return 1 if broken else 0


def _target(name: str, seconds: int, seed: int, engine: str) -> bool:
    print(f"{name}: {seconds} s with {engine}, seed {seed}", flush=True)
    crashes = WORK / "crashes"
    crashes.mkdir(parents=True, exist_ok=True)
    before = set(crashes.iterdir())
    words = ["--worker", name, "--seconds", str(seconds), "--seed", str(seed), "--engine", engine]
    log = WORK / f"{name}.log"
    with log.open("wb") as out:
        try:
            code = subprocess.run(
                [sys.executable, __file__, *words],
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=seconds + _GRACE,
                check=False,
                env={**os.environ, "PYTHONHASHSEED": "0"},
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    said = log.read_text(errors="backslashreplace")
    if code == 0:
        tail = [line for line in said.splitlines() if line.startswith(("stat::number_of_executed", "inputs:", "Done "))]
        print("  " + "; ".join(tail[-2:] or ["done"]), flush=True)
        return True
    print(said[-6000:])
    print(f"{name}: broken (exit code {code}); the whole output is in {log}")
    for path in sorted(set(crashes.iterdir()) - before):
        data = path.read_bytes()
        print(f"input ({len(data)} bytes) in {path}:\n{data[:_SHOWN].hex()}{'...' if len(data) > _SHOWN else ''}")
        print(f"again: {sys.executable} fuzz/run.py --reproduce {name} {path}", flush=True)
    return False


def _reproduce(name: str, file: Path) -> int:
    from fuzz.targets import TARGETS, quiet

    try:
        quiet(TARGETS[name].run, file.read_bytes())
    except Exception:  # noqa: BLE001  whatever it is, it is what was asked for
        traceback.print_exc()
        return 1
    print("every promise was kept")
    return 0


# -- one target


def _work(given: argparse.Namespace) -> None:
    if given.engine == "atheris":
        _with_atheris(given.worker, int(given.seconds), given.seed)
    else:
        _plainly(given.worker, given.seconds, given.seed)


def _with_atheris(name: str, seconds: int, seed: int) -> None:
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["countersign.recorder"]):
        from fuzz.targets import TARGETS, in_time
    target = TARGETS[name]
    found = WORK / "found" / name
    found.mkdir(parents=True, exist_ok=True)
    dictionary = WORK / "words.dict"
    from fuzz.mutate import WORDS

    words = ["".join(f"\\x{byte:02x}" for byte in word) for word in WORDS]
    dictionary.write_text("".join(f'"{word}"\n' for word in words))
    options = {
        "max_total_time": seconds,
        "seed": seed,
        "max_len": target.longest,
        "timeout": 20,
        "rss_limit_mb": 2 * _MEGABYTES,
        "artifact_prefix": f"{WORK / 'crashes'}/{name}-",
        "dict": dictionary,
        "print_final_stats": 1,
        "verbosity": 1,
    }
    arguments = [f"-{key}={value}" for key, value in options.items()]
    atheris.Setup(
        [sys.argv[0], *arguments, str(found), str(WORK / "corpus" / name)],
        lambda data: in_time(target.run, data),
        enable_python_coverage=True,
    )
    atheris.Fuzz()


def _plainly(name: str, seconds: float, seed: int) -> None:
    from fuzz.mutate import mutated
    from fuzz.targets import TARGETS, quiet

    target = TARGETS[name]
    corpus = [path.read_bytes() for path in sorted((WORK / "corpus" / name).iterdir())]
    dice = random.Random(f"{name} {seed}")
    begun = time.monotonic()
    inputs = 0
    most = 0
    while time.monotonic() - begun < seconds:
        # First the seeds as they are, then changed ones.
        data = corpus[inputs] if inputs < len(corpus) else mutated(dice.choice(corpus), corpus, dice, target.longest)
        try:
            quiet(target.run, data)
            if inputs == len(corpus):
                most = _resident() + (_MEGABYTES << 10)
            if most and _resident() > most:
                raise MemoryError(f"more than {_MEGABYTES} MB beyond what the seeds took")
        except Exception:  # noqa: BLE001  whatever it is, it is a find
            traceback.print_exc()
            (WORK / "crashes" / f"{name}-crash-{sha256(data).hexdigest()[:16]}").write_bytes(data)
            sys.exit(1)
        inputs += 1
    print(f"inputs: {inputs} in {time.monotonic() - begun:.0f} s")


def _resident() -> int:
    """The most that this process ever had in memory, in kilobytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // 1024 if sys.platform == "darwin" else most


if __name__ == "__main__":
    sys.exit(main())
