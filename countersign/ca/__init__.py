"""Makes certificates: the authority of an install, leaves that mimic a target's, and what the user brings.

The smallest calls::

    authority = Authority.open(home / "ca")
    leaves = LeafMint(authority)
    minted = await leaves.leaf_for(target_der)      # minted.key, minted.chain
"""

from countersign.ca.authority import Authority, Issuer, Plan, Retired
from countersign.ca.client import ClientMint
from countersign.ca.errors import AuthorityError
from countersign.ca.issue import issue
from countersign.ca.keypair import KeyPair, KeyPairError, load_key_pair
from countersign.ca.keys import KeyPool
from countersign.ca.leaf import CannotMimic, LeafMint, Minted, mint
from countersign.ca.trust import TrustError, load_roots

__all__ = [
    "Authority",
    "AuthorityError",
    "CannotMimic",
    "ClientMint",
    "Issuer",
    "KeyPair",
    "KeyPairError",
    "KeyPool",
    "LeafMint",
    "Minted",
    "Plan",
    "Retired",
    "TrustError",
    "issue",
    "load_key_pair",
    "load_roots",
    "mint",
]
