"""What goes wrong with an authority."""

from __future__ import annotations

from countersign.errors import EnvironmentFault


class AuthorityError(EnvironmentFault):
    """An authority that is missing, broken, unsafe, expired, or not allowed to do this; the text says what to do."""


class PassphraseNeeded(AuthorityError):  # noqa: N818 - what is needed
    """The keys of an authority are encrypted, and nobody gave the passphrase."""
