"""Servers under test: we are the client, a right one or one that is not, and judge what the server makes of it.

:mod:`.knocks` has what can be tried, :mod:`.knocking` tries it, :mod:`.judging` says what the server did. The results
have the form of those of ``countersign run`` (:mod:`countersign.scenarios.running.results`), and so have the reports.
"""

from countersign.scenarios.knocking.knocking import Server, knock
from countersign.scenarios.knocking.knocks import KNOCKS, Knock, chosen

__all__ = ["KNOCKS", "Knock", "Server", "chosen", "knock"]
