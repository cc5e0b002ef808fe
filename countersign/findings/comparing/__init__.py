"""Two recordings, or two legs of one: what differs, in sentences first.

The smallest call::

    comparison = compare(Subject("good", good), Subject("bad", bad))
    for difference in comparison.differences:
        print(difference.text)

:mod:`.comparing` says which leg is held to which; :mod:`.essence` what of a message is more than noise; :mod:`.hellos`,
:mod:`.chains` and :mod:`.course` find the differences; :mod:`.showing` puts them on a terminal.
"""

from countersign.findings.comparing.comparing import compare
from countersign.findings.comparing.model import Comparison, Difference, Weight

__all__ = ["Comparison", "Difference", "Weight", "compare"]
