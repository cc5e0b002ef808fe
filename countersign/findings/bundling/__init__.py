"""One zip for a ticket, with or without the names of those whom it is about."""

from countersign.findings.bundling.bundling import bundle
from countersign.findings.bundling.pseudonyms import Pseudonyms

__all__ = ["Pseudonyms", "bundle"]
