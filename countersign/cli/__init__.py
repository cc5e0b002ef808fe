"""The command line: one file a command, no logic that the rooms lack.

Settings come from flags, then from ``COUNTERSIGN_*`` variables, then from ``countersign.toml`` in the working
directory or the home. A :class:`~countersign.errors.CountersignError` becomes one line and its exit code here.
"""

from countersign.cli.app import run

__all__ = ["run"]
