"""How a store's tables came to be, one version after the other.

There is no ``alembic.ini``: :func:`upgrade` is all there is to run, and it needs nothing but a connection. Alembic is
imported only when there is something to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration for these migrations, over the given connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "countersign.recorder.store:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection) -> None:
    """Bring the tables behind ``connection`` to the newest version, inside its transaction."""
    from alembic import command

    command.upgrade(configuration(connection), "head")
