"""``countersign`` and ``python -m countersign``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. ``--version`` alone answers before anything heavy is imported."""
    if sys.argv[1:] == ["--version"]:
        from countersign import __version__

        sys.stdout.write(f"countersign {__version__}\n")
        return
    from countersign.cli import run

    run()


if __name__ == "__main__":
    main()
