"""``countersign`` and ``python -m countersign``."""

from __future__ import annotations

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
    from countersign.cli.app import run

    run()


if __name__ == "__main__":
    main()
