"""Recordings, the certificates that they showed, and the processes that make them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

    op.create_table(
        "certificates",
        sa.Column("sha256", sa.LargeBinary(), primary_key=True),
        sa.Column("der", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "chains",
        sa.Column("n", number, primary_key=True),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("leaf_client", sa.LargeBinary()),
        sa.Column("leaf_target", sa.LargeBinary()),
        sa.Column("names", sa.Text(), nullable=False),
        sa.UniqueConstraint("digest", name="uq_chains_digest"),
    )
    op.create_table(
        "chain_certificates",
        sa.Column("certificate", sa.LargeBinary(), sa.ForeignKey("certificates.sha256"), primary_key=True),
        sa.Column("chain", number, sa.ForeignKey("chains.n", ondelete="CASCADE"), primary_key=True),
    )
    op.create_index("ix_chain_certificates_chain", "chain_certificates", ["chain"])
    op.create_table(
        "owners",
        sa.Column("n", number, primary_key=True),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("namespace", sa.BigInteger(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("boot_id", "namespace", "pid", "started", name="uq_owners_process"),
    )
    op.create_table(
        "recordings",
        sa.Column("id", key, primary_key=True),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger()),
        sa.Column("written", sa.BigInteger(), nullable=False),
        sa.Column("owner", number, sa.ForeignKey("owners.n", ondelete="SET NULL")),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("scenario", key),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("client", sa.Text()),
        sa.Column("target", key),
        sa.Column("sni", key),
        sa.Column("label", key),
        sa.Column("status", key, nullable=False),
        sa.Column("broken_by", sa.Text()),
        sa.Column("leg", sa.Text()),
        sa.Column("alert", key),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("from_client", sa.BigInteger(), nullable=False),
        sa.Column("from_target", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text()),
        sa.Column("ja4", key),
        sa.Column("chain", number, sa.ForeignKey("chains.n")),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
    )
    op.create_index(
        "ix_recordings_started", "recordings", ["started", "id", "sni", "target", "label", "status", "chain"]
    )
    op.create_index("ix_recordings_status", "recordings", ["status", "started"])
    for name in ("sni", "target", "label", "scenario", "alert", "ja4", "chain"):
        known = sa.column(name).is_not(None)
        looked_up = sa.func.lower(sa.column(name)) if name in ("sni", "target") else name
        op.create_index(
            f"ix_recordings_{name}", "recordings", [looked_up, "started"], sqlite_where=known, postgresql_where=known
        )
    owned = sa.column("owner").is_not(None)
    op.create_index("ix_recordings_owner", "recordings", ["owner"], sqlite_where=owned, postgresql_where=owned)
