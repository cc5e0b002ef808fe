"""The tables of a store, the same in SQLite and PostgreSQL.

One recording is one row: the columns that a list shows or a filter asks for, and ``blob``, which holds all of it
(:mod:`countersign.recorder.store.blob`). The columns are an index and nothing more: a recording is rebuilt from its
blob alone, so what is odd on the wire (a NUL in a server name) may be escaped in a column without being lost.

Certificates are kept once, by SHA-256. Which certificates a session showed is a *chain*, and kept once as well: ten
thousand sessions with one target show one chain, so a search by fingerprint or by a name in a certificate looks at
the few chains and then at the recordings that refer to them, never at a million rows.

An *owner* is the process that has open recordings here (:mod:`countersign.recorder.store.owner`); only what it has
not finished refers to it.

Moments are whole microseconds since 1970, UTC: exact in both databases, and they sort.

How the tables came to be is in :mod:`countersign.recorder.store.migrations`; a test holds the two to each other.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
)

VERSION_TABLE = "countersign_version"
VERSIONS = ("0001",)
"""Every version of the schema that this countersign knows, oldest first; the last is what it works with."""

Number = BigInteger().with_variant(Integer, "sqlite")
"""A row number; in SQLite only ``INTEGER`` is an alias of the rowid."""

Key = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that is compared byte by byte in both databases, so that a prefix is a range."""

metadata = MetaData()

certificates = Table(
    "certificates",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("der", LargeBinary, nullable=False),
)

chains = Table(
    "chains",
    metadata,
    Column("n", Number, primary_key=True),
    Column("digest", LargeBinary, nullable=False),  # SHA-256 over which leg and side showed which certificates
    Column("leaf_client", LargeBinary),  # SHA-256 of the leaf that the client was shown
    Column("leaf_target", LargeBinary),  # SHA-256 of the leaf that the target showed
    Column("names", Text, nullable=False),  # lower case, one a line: subjects, issuers, alternative names
    UniqueConstraint("digest", name="uq_chains_digest"),
)

chain_certificates = Table(
    "chain_certificates",
    metadata,
    Column("certificate", LargeBinary, ForeignKey("certificates.sha256"), primary_key=True),
    Column("chain", Number, ForeignKey("chains.n", ondelete="CASCADE"), primary_key=True),
    Index("ix_chain_certificates_chain", "chain"),
)

owners = Table(
    "owners",
    metadata,
    Column("n", Number, primary_key=True),
    Column("boot_id", Text, nullable=False),
    Column("namespace", BigInteger, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("seen", BigInteger, nullable=False),  # when it last wrote, or said that it is still there
    UniqueConstraint("boot_id", "namespace", "pid", "started", name="uq_owners_process"),
)

recordings = Table(
    "recordings",
    metadata,
    Column("id", Key, primary_key=True),
    Column("started", BigInteger, nullable=False),
    Column("ended", BigInteger),
    Column("written", BigInteger, nullable=False),
    Column("owner", Number, ForeignKey("owners.n", ondelete="SET NULL")),
    Column("mode", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("scenario", Key),
    Column("step", BigInteger, nullable=False),
    Column("client", Text),
    Column("target", Key),
    Column("sni", Key),
    Column("label", Key),
    Column("status", Key, nullable=False),
    Column("broken_by", Text),
    Column("leg", Text),
    Column("alert", Key),
    Column("text", Text, nullable=False),
    Column("from_client", BigInteger, nullable=False),
    Column("from_target", BigInteger, nullable=False),
    Column("version", Text),
    Column("ja4", Key),
    Column("chain", Number, ForeignKey("chains.n")),
    Column("blob", LargeBinary, nullable=False),  # last: SQLite then finds every other column without reading it
)

# A list is newest first, so each index ends with `started`. The first one holds what the filters without an index of
# their own look at, so that SQLite passes over a row that does not match without opening it. Host names are the same
# in capitals.
Index(
    "ix_recordings_started",
    *(recordings.c[name] for name in ("started", "id", "sni", "target", "label", "status", "chain")),
)
Index("ix_recordings_status", recordings.c.status, recordings.c.started)
for _name in ("sni", "target"):
    _known = recordings.c[_name].is_not(None)
    Index(
        f"ix_recordings_{_name}",
        func.lower(recordings.c[_name]),
        recordings.c.started,
        sqlite_where=_known,
        postgresql_where=_known,
    )
for _name in ("label", "scenario", "alert", "ja4", "chain"):
    _known = recordings.c[_name].is_not(None)
    Index(
        f"ix_recordings_{_name}",
        recordings.c[_name],
        recordings.c.started,
        sqlite_where=_known,
        postgresql_where=_known,
    )
_known = recordings.c.owner.is_not(None)
Index("ix_recordings_owner", recordings.c.owner, sqlite_where=_known, postgresql_where=_known)
