"""Key stores: PEM, DER, PKCS #7, PKCS #12, JKS, JCEKS and BCFKS, read, written and turned into each other.

::

    store = load_store("agent_keystore", "changeit")        # its type is found from its bytes
    entries = entries_for(store, StoreType.BCFKS)           # checked: keys, chains and their order
    data = write_store(StoreType.BCFKS, entries, "changeit")

No Python library does all of it: ``cryptography`` reads and writes PKCS #12 with one key and knows nothing of Java's
mark of trust, pyjks has had no release since 2020 and brings a Java deserialiser, and nothing writes BCFKS. The
encodings are small and the rules hostile input has to meet are ours (an offset for what is broken, a bound on what a
password may cost), so the structures are read here, and only the ciphers and key derivations come from
``cryptography``.
"""

from countersign.ca.stores.adding import Added, add_to_file
from countersign.ca.stores.bcfks import SCRYPT
from countersign.ca.stores.chains import Pool, check_entry, common_name, leaf_first, public_key_of
from countersign.ca.stores.convert import Addition, entries_for, with_certificates
from countersign.ca.stores.describe import describe_store, problems_of
from countersign.ca.stores.detect import detect
from countersign.ca.stores.errors import (
    AlreadyThere,
    CannotHold,
    ChainOutOfOrder,
    DigestWrong,
    EmptyStore,
    EntryNotFound,
    KeyMismatch,
    KeySealed,
    KeyWithoutChain,
    PasswordMissing,
    StoreError,
    StructureBroken,
    TooCostly,
    UnknownAlgorithm,
    UnknownType,
    WrongKeyPassword,
)
from countersign.ca.stores.model import (
    CertificateEntry,
    Entry,
    Form,
    KeyEntry,
    Scheme,
    SecretEntry,
    Store,
    StoreType,
)
from countersign.ca.stores.pkcs12 import CLEAR, LEGACY
from countersign.ca.stores.reading import LARGEST, load_store, read_store
from countersign.ca.stores.writing import write_store

__all__ = [
    "CLEAR",
    "LARGEST",
    "LEGACY",
    "SCRYPT",
    "Added",
    "Addition",
    "AlreadyThere",
    "CannotHold",
    "CertificateEntry",
    "ChainOutOfOrder",
    "DigestWrong",
    "EmptyStore",
    "Entry",
    "EntryNotFound",
    "Form",
    "KeyEntry",
    "KeyMismatch",
    "KeySealed",
    "KeyWithoutChain",
    "PasswordMissing",
    "Pool",
    "Scheme",
    "SecretEntry",
    "Store",
    "StoreError",
    "StoreType",
    "StructureBroken",
    "TooCostly",
    "UnknownAlgorithm",
    "UnknownType",
    "WrongKeyPassword",
    "add_to_file",
    "check_entry",
    "common_name",
    "describe_store",
    "detect",
    "entries_for",
    "leaf_first",
    "load_store",
    "problems_of",
    "public_key_of",
    "read_store",
    "with_certificates",
    "write_store",
]
