"""The tables that version 0003 brought or changed: frozen; ``schema_agents`` is the living one."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    }
)

# Who reports, and how far each has come.
agents = Table(
    "agents",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("clusters", Text, nullable=False),  # comma-separated
    Column("first_seen", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
    Column("clock_skew_ms", BigInteger, nullable=False, server_default="0"),
    Column("spool_records", BigInteger, nullable=False, server_default="0"),
    Column("complete_through", BigInteger, nullable=False, server_default="0"),
    Column("source_error", Text, nullable=False, server_default=""),
    Column("records_new", BigInteger, nullable=False, server_default="0"),
    Column("records_known", BigInteger, nullable=False, server_default="0"),
    Column("records_revised", BigInteger, nullable=False, server_default="0"),
    Column("records_quarantined", BigInteger, nullable=False, server_default="0"),
    Column("held_records", BigInteger, nullable=False, server_default="0"),
    Column("dbd_queue", BigInteger, nullable=False, server_default="-1"),  # -1 unknown
)

# Who may report, and what each must show: all that its row asks for.
enrolments = Table(
    "enrolments",
    metadata,
    Column("agent", Text, primary_key=True),
    Column("asks_token", SmallInteger, nullable=False),
    Column("certificate_name", Text, nullable=False, server_default=""),  # "": none is asked
    Column("enrolled_at", BigInteger, nullable=False),
    Column("enrolled_by", Text, nullable=False),
    Column("revoked_at", BigInteger, nullable=False, server_default="0"),  # 0: not
    Column("revoked_by", Text, nullable=False, server_default=""),
    CheckConstraint("asks_token = 1 OR certificate_name <> ''", name="asks_something"),
)
Index(
    "enrolments_certificate_name_key",
    enrolments.c.certificate_name,
    unique=True,
    postgresql_where=enrolments.c.certificate_name != "",
    sqlite_where=enrolments.c.certificate_name != "",
)

# For which clusters an enrolled agent speaks; nobody else speaks for these.
enrolled_clusters = Table(
    "enrolled_clusters",
    metadata,
    Column("cluster", Text, primary_key=True),
    Column("agent", Text, ForeignKey("enrolments.agent"), primary_key=True),
)

# Tokens: only what they hash to. Several are valid while one is being replaced.
agent_tokens = Table(
    "agent_tokens",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("agent", Text, ForeignKey("enrolments.agent"), nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False, server_default="0"),  # 0: never
)

# One row: goes up with each change of the tables above, so that a batch need
# not read them again to know that its agent may still report.
enrolment_changes = Table(
    "enrolment_changes",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("generation", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="single"),
)

# Accounts, users, associations and QOS as they were: a row holds from valid_from
# until the next row of the same cluster, kind and name.
tree_entries = Table(
    "tree_entries",
    metadata,
    Column("cluster", Text, primary_key=True),
    Column("kind", SmallInteger, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),
    Column("valid_from", BigInteger, primary_key=True, autoincrement=False),
    Column("gone", SmallInteger, nullable=False),
    Column("attributes", Text, nullable=False),  # canonical JSON
    Column("seen_at", Text, nullable=False),  # later sightings, newest few (core/tree.py)
)

# What comparisons with Slurm found: the last one of each span.
verified_spans = Table(
    "verified_spans",
    metadata,
    Column("cluster", Text, primary_key=True),
    Column("begin_s", BigInteger, primary_key=True, autoincrement=False),
    Column("end_s", BigInteger, primary_key=True, autoincrement=False),
    Column("agent", Text, nullable=False),
    Column("verified_at", BigInteger, nullable=False),
    *(
        Column(f"{side}_{name}", BigInteger, nullable=False)
        for side in ("told", "stored")
        for name in ("runs", "elapsed_s", "cpu_s", "gpu_s", "mem_mib_s", "node_s")
    ),
    Column("missing", Integer, nullable=False),
    Column("known", Integer, nullable=False),
    Column("differing", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("extra", Integer, nullable=False),
)
