"""Recordings on disk: SQLite by default, PostgreSQL where many proxies share one store.

The only package that imports SQLAlchemy, and slow to import for that reason: import it where it is used.
"""

from __future__ import annotations

from countersign.recorder.store.database import Store
from countersign.recorder.store.engine import StoreDamaged
from countersign.recorder.store.owner import Owner
from countersign.recorder.store.search import Filters, Summary
from countersign.recorder.store.writer import StoreTrouble, StoreWriter, Trouble

__all__ = ["Filters", "Owner", "Store", "StoreDamaged", "StoreTrouble", "StoreWriter", "Summary", "Trouble"]
