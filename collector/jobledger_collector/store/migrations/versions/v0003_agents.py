"""Who may report, what clusters' account trees were, and what comparisons found.

The index by the end of runs is for comparisons: block ranges, since runs arrive
nearly in that order and a tree of it would cost each batch. SQLite has none; it
finds a span by the period.
"""

from alembic import op
from sqlalchemy import Connection, text

from jobledger_collector.store.migrations.tables_v0003 import agents, metadata

revision = "0003"
down_revision = "0002"

KEPT = (
    "name, version, clusters, first_seen, last_seen, clock_skew_ms, spool_records,"
    " complete_through, source_error, records_new, records_known, records_revised,"
    " records_quarantined"
)
PAGES_A_RANGE = 16


def upgrade() -> None:
    """Widen ``agents`` and create the other tables."""
    conn = op.get_bind()
    _widen_agents(conn)
    others = [table for table in metadata.sorted_tables if table is not agents]
    metadata.create_all(conn, tables=others, checkfirst=False)
    conn.execute(text("INSERT INTO enrolment_changes (id, generation) VALUES (1, 1)"))
    if conn.dialect.name == "postgresql":
        conn.execute(
            text(
                'CREATE INDEX job_runs_end_brin ON job_runs USING brin ("end")'
                f" WITH (pages_per_range = {PAGES_A_RANGE})"
            )
        )


def _widen_agents(conn: Connection) -> None:
    if conn.dialect.name == "postgresql":
        conn.execute(text("ALTER TABLE agents ADD COLUMN held_records BIGINT DEFAULT 0 NOT NULL"))
        conn.execute(text("ALTER TABLE agents ADD COLUMN dbd_queue BIGINT DEFAULT -1 NOT NULL"))
        return
    conn.execute(text("ALTER TABLE agents RENAME TO agents_v0002"))
    agents.create(conn)
    copy = f"INSERT INTO agents ({KEPT}) SELECT {KEPT} FROM agents_v0002"  # noqa: S608 - our own
    conn.execute(text(copy))
    conn.execute(text("DROP TABLE agents_v0002"))
