"""The first tables."""

from alembic import op

from jobledger_collector.store.migrations.tables_v0001 import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create all tables of the first version, frozen in ``tables_v0001``."""
    metadata.create_all(op.get_bind(), checkfirst=False)
