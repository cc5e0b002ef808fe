"""A MID Server's folder, read and explained. Nothing is ever written there, and no secret of it is ever shown.

:mod:`.home` finds the files, :mod:`.config` reads ``config.xml``, :mod:`.checks` has what is looked at in them.
"""

from countersign.findings.doctoring.checks import Checkup, Remark, examine
from countersign.findings.doctoring.home import MidHome, find_home

__all__ = ["Checkup", "MidHome", "Remark", "examine", "find_home"]
