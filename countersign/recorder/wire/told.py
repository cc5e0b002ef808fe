"""What somebody else wrote down of a message whose bytes were not kept.

A debug log prints a message field by field and not its bytes. Most of what it prints can be put in wire form again, and
then everything that reads messages reads these too: fields, fingerprints, what was agreed on. Three things cannot:

- a field that the log leaves out (the age of a ticket): a stand-in is in the form, and :attr:`Told.absent` names it, so
  that nothing is said of it;
- a certificate of which the names and dates were printed and not the DER;
- a name of a CA, whose text does not tell how it was encoded.

Those are kept as they were told. A form is never taken for the bytes: it stands in :attr:`~.events.Message.told`, and
the message's ``raw`` is empty.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from countersign.errors import UserError
from countersign.recorder.certificates import CertificateFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

_FACTS = frozenset(one.name for one in fields(CertificateFacts)) - {"scts"}


@dataclass(frozen=True, slots=True)
class Told:
    """``form`` is the message in wire form, header included, as far as it is known; empty where too little is.

    ``absent`` are fields of the JSON form that were not told, as paths (``extensions[3].identities[0].age``); a path to
    an object means all that is in it. ``certificates`` are those of a Certificate message in their order,
    ``authorities`` the CA names of a CertificateRequest as RFC 4514 texts (None: it is none, or did not tell).
    """

    form: bytes = b""
    absent: tuple[str, ...] = ()
    certificates: tuple[CertificateFacts, ...] = ()
    authorities: tuple[str, ...] | None = None

    @property
    def whole(self) -> bool:
        """Whether the form says all that the message said."""
        return bool(self.form) and not self.absent and not self.certificates and self.authorities is None

    def lacks(self, *names: str) -> bool:
        """Whether one of these fields of the message was not told."""
        return any(path in names for path in self.absent)

    def to_json(self) -> dict[str, Any]:
        return {
            "form": base64.b64encode(self.form).decode("ascii") if self.form else None,
            "absent": list(self.absent),
            "certificates": [facts.to_json() for facts in self.certificates],
            "authorities": None if self.authorities is None else list(self.authorities),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Told:
        """The reverse of :meth:`to_json`. Raises UserError, KeyError, TypeError, ValueError for none."""
        authorities = document["authorities"]
        try:
            form = base64.b64decode(document["form"] or "", validate=True)
        except binascii.Error as wrong:
            raise UserError("cannot read the recording: the form of a message is no base64") from wrong
        return cls(
            form,
            tuple(document["absent"]),
            tuple(_facts(entry) for entry in document["certificates"]),
            None if authorities is None else tuple(authorities),
        )


def _facts(document: Mapping[str, Any]) -> CertificateFacts:
    known: dict[str, Any] = {name: value for name, value in document.items() if name in _FACTS}
    known["sha256"] = known.get("sha256") or ""
    for name in ("not_before", "not_after"):
        if known.get(name) is not None:
            datetime.fromisoformat(known[name])
    listed: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in known.items()}
    return CertificateFacts(**listed)
