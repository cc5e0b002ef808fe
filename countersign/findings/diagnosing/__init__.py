"""One recording: what broke it, the evidence, and the cure.

The smallest call::

    diagnosis = diagnose(recording)
    print(diagnosis.cause.fix if diagnosis.cause else "nothing is wrong")

What can be found stands in ``kinds.toml``: its title, where it is known from, and its cure for each family of clients.
When it is found stands in the modules: :mod:`.refused` (a certificate that a client or a server would not have, with
:mod:`.chain` for what is wrong with a chain by itself) and :mod:`.unseen` (the same where it is encrypted),
:mod:`.answered` (what a server's answer breaks, with :mod:`.signing` for its signature), :mod:`.parameters` (nothing
shared), :mod:`.conversation` (silence, resets, what is not TLS, the way to the target), :mod:`.said` (what a client's
own log says), :mod:`.inspection` (what a device between the two changed) and :mod:`.standing` (what is worth knowing of
a session that went well).
"""

from countersign.findings.diagnosing.case import FAMILIES
from countersign.findings.diagnosing.diagnosing import check_family, diagnose
from countersign.findings.diagnosing.model import Diagnosis, Finding, Severity, kinds

__all__ = ["FAMILIES", "Diagnosis", "Finding", "Severity", "check_family", "diagnose", "kinds"]
