"""``countersign`` and ``python -m countersign``."""

from __future__ import annotations

import os
import signal
import sys

from countersign.cli.streams import ending_with_output, guard_streams


def main() -> None:
    """Run the command line. ``--version`` alone answers before anything heavy is imported."""
    guard_streams()
    ending_with_output(_version if sys.argv[1:] == ["--version"] else _command)


def _version() -> None:
    from countersign import __version__

    sys.stdout.write(f"countersign {__version__}\n")


def _command() -> None:
    # Until the command line is there to say what Ctrl-C means, it ends the process, in which nothing has begun.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # it stays ignored where it was
    if ours:
        signal.signal(signal.SIGINT, _interrupted)
    from countersign.cli.app import run

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _interrupted(_number: int, _frame: object) -> None:
    sys.stderr.write("countersign: interrupted\n")
    sys.stderr.flush()
    os._exit(130)


if __name__ == "__main__":
    main()
