"""The tables. Money and usage are integers; times are epoch seconds (BIGINT).

Every unique key leads with the cluster or the billing account, so that the
large tables can be partitioned or distributed without changing a query. Those
about agents are in ``schema_agents``.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from jobledger_collector.store import schema_agents
from jobledger_collector.store.schema_base import Id, metadata

__all__ = [
    "account_map", "billing_accounts", "books", "charges", "document_series", "invoice_lines",
    "invoices", "job_runs", "login_failures", "metadata", "people", "prices", "quarantine",
    "rate_cards", "run_revisions", "schema_agents", "sessions",
]  # fmt: skip


def _int(name: str, default: str = "0") -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=default)


def _text(name: str, default: str = "") -> Column[str]:
    return Column(name, Text, nullable=False, server_default=default)


# One row a job run: its newest revision.
job_runs = Table(
    "job_runs",
    metadata,
    Column("cluster", Text, primary_key=True),
    Column("job_id", BigInteger, primary_key=True, autoincrement=False),
    Column("submit", BigInteger, primary_key=True, autoincrement=False),
    Column("revision", Integer, nullable=False),
    Column("digest", Text, nullable=False),  # of the content, without `observed`
    _int("observed"),
    _int("eligible"),
    _int("start"),  # as Slurm gave it; billing uses max(start, submit)
    _int("end"),
    _int("suspended_s"),
    _int("slurm_elapsed_s", "-1"),
    _text("state"),
    _int("cancelled_by_uid", "-1"),
    _int("exit_code"),
    _int("exit_signal"),
    _text("alloc_tres"),  # canonical: "cpu=2,gres/gpu:a100=1,mem=4000,node=1"
    _text("req_tres"),
    _int("alloc_cpus", "-1"),
    _int("nodes"),
    _text("node_list"),
    _text("user"),
    _int("uid", "-1"),
    _text("account"),
    _int("assoc_id"),
    _text("partition"),
    _text("qos"),
    _text("wckey"),
    _text("reservation"),
    _int("reservation_id"),
    _int("array_job_id"),
    _int("array_task", "-1"),
    _int("het_job_id"),
    _int("het_offset", "-1"),
    _int("restarts", "-1"),
    _text("sluid", "0"),  # unsigned 64 bit: beyond BIGINT, so text
    _int("timelimit_s", "-1"),
    _int("energy_j", "-1"),
    _int("total_cpu_ms", "-1"),
    _int("max_rss_bytes", "-1"),
    _int("steps"),
    # What it used, in base units; 0 until it has ended.
    _int("elapsed_s"),
    _int("cpu_s"),
    _int("gpu_s"),
    _int("mem_mib_s"),
    _int("node_s"),
    # What else of its history decides what comes next, as JSON (core/carried.py); "" none.
    _text("carried"),
    _text("flags"),  # comma-separated: "no_price,unknown_state,merged_run"
    _text("billing_account"),
    Column("period", Integer, nullable=False, server_default="0"),  # yyyymm; 0 open
    Index(None, "period", "billing_account"),
    CheckConstraint("elapsed_s >= 0 AND cpu_s >= 0 AND gpu_s >= 0", name="usage"),
    CheckConstraint("revision >= 1", name="revision"),
)

# What a run said before: one row each time that a revision replaced another.
run_revisions = Table(
    "run_revisions",
    metadata,
    Column("cluster", Text, primary_key=True),
    Column("job_id", BigInteger, primary_key=True, autoincrement=False),
    Column("submit", BigInteger, primary_key=True, autoincrement=False),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("record", Text, nullable=False),  # the replaced row, as JSON
    Column("replaced_at", BigInteger, nullable=False),
)

# Every price ever chosen, interned; rows are never changed. Id 0 is NO_PRICE.
prices = Table(
    "prices",
    metadata,
    Column("id", Id, primary_key=True),
    Column("card", Text, nullable=False),
    Column("card_version", Integer, nullable=False),
    Column("card_sha256", Text, nullable=False),
    Column("sku", Text, nullable=False),
    Column("meter", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("list_e8", BigInteger, nullable=False),
    Column("unit_e8", BigInteger, nullable=False),
    UniqueConstraint(
        "card", "card_version", "card_sha256", "sku", "meter", "unit", "tier", "rule",
        "currency", "list_e8", "unit_e8", name="prices_identity_key",
    ),
)  # fmt: skip

# What runs owe. The key is the promise: an item of a segment of a run is owed
# once (superseded_by = 0), and undone at most once by each later revision.
charges = Table(
    "charges",
    metadata,
    Column("cluster", Text, primary_key=True),
    Column("job_id", BigInteger, primary_key=True, autoincrement=False),
    Column("submit", BigInteger, primary_key=True, autoincrement=False),
    Column("item", Text, primary_key=True),
    Column("segment", SmallInteger, primary_key=True, autoincrement=False),
    # Number of the change that replaced it; 0 while it stands. Each change of a
    # run's charges (a revision or a re-rating) takes the next number.
    Column("superseded_by", Integer, primary_key=True, autoincrement=False),
    # 1 usage; -1 reversal of an invoiced usage charge, with its quantity negated.
    Column("kind", SmallInteger, primary_key=True, autoincrement=False),
    Column("revision", Integer, nullable=False),  # of the run that it was priced from
    Column("segment_start", BigInteger, nullable=False),
    Column("price_id", BigInteger, nullable=False),  # 0: no price, flagged
    Column("base_units", BigInteger, nullable=False),
    Column("quantity_micro", BigInteger, nullable=False),
    Column("billing_account", Text, nullable=False),
    Column("period", Integer, nullable=False),  # yyyymm of the run's end
    Column("invoice_id", BigInteger, nullable=True),
    CheckConstraint(
        "(kind = 1 AND quantity_micro >= 0) OR"
        " (kind = -1 AND quantity_micro <= 0 AND superseded_by > 0)",
        name="kind",
    ),
)
Index(
    "charges_invoice_idx",
    charges.c.invoice_id,
    postgresql_where=charges.c.invoice_id.isnot(None),
    sqlite_where=charges.c.invoice_id.isnot(None),
)

# Records that could not be stored, kept as they came.
quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Id, primary_key=True),
    Column("cluster", Text, nullable=False),
    Column("raw_sha256", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("raw_size", BigInteger, nullable=False),
    Column("first_seen", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
    Column("times", Integer, nullable=False, server_default="1"),
    UniqueConstraint("cluster", "raw_sha256", "reason"),
)

# Rate cards, whole, as they were loaded: (card, version) never changes.
rate_cards = Table(
    "rate_cards",
    metadata,
    Column("card", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("sha256", Text, nullable=False),
    Column("effective_from", BigInteger, nullable=False),
    Column("document", Text, nullable=False),  # the YAML as it was given
    Column("loaded_at", BigInteger, nullable=False),
    Column("loaded_by", Text, nullable=False),
    UniqueConstraint("card", "effective_from"),
)

# Who pays. An account that no document names comes into being at first use.
billing_accounts = Table(
    "billing_accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("name_th", Text, nullable=False, server_default=""),
    Column("tier", Text, nullable=False, server_default=""),  # "": the card's default
    Column("address", Text, nullable=False, server_default=""),
    Column("tax_id", Text, nullable=False, server_default=""),
    Column("contact_name", Text, nullable=False, server_default=""),
    Column("contact_email", Text, nullable=False, server_default=""),
    Column("declared", SmallInteger, nullable=False, server_default="0"),
)

# Which Slurm account is paid by which billing account; cluster "*" is any.
account_map = Table(
    "account_map",
    metadata,
    Column("cluster", Text, primary_key=True),
    Column("slurm_account", Text, primary_key=True),
    Column("billing_account", Text, ForeignKey("billing_accounts.id"), nullable=False),
)

# One row: what the books are kept in. Set by the first rate card.
books = Table(
    "books",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("currency", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("generation", BigInteger, nullable=False, server_default="1"),
    CheckConstraint("id = 1", name="single"),
)

document_series = Table(
    "document_series",
    metadata,
    Column("series", Text, primary_key=True),
    Column("year", Integer, primary_key=True, autoincrement=False),
    Column("next_number", Integer, nullable=False),
    Column("last_date", Text, nullable=False, server_default=""),
)

# Documents as issued: frozen. `document` holds parties, rates, texts and totals.
invoices = Table(
    "invoices",
    metadata,
    Column("id", Id, primary_key=True),
    Column("billing_account", Text, nullable=False),
    Column("period", Integer, nullable=False),  # yyyymm
    Column("number", Text, nullable=False, unique=True),
    Column("series", Text, nullable=False),
    Column("year", Integer, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("issue_date", Text, nullable=False),  # ISO date in the books' time zone
    Column("issued_at", BigInteger, nullable=False),
    Column("issued_by", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("subtotal_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("status", Text, nullable=False),  # issued (later issues add more)
    Column("document", Text, nullable=False),  # canonical JSON
    Column("document_sha256", Text, nullable=False),
    UniqueConstraint("billing_account", "period"),
    UniqueConstraint("series", "year", "sequence"),
    CheckConstraint("subtotal_minor + tax_minor = total_minor", name="total"),
)

invoice_lines = Table(
    "invoice_lines",
    metadata,
    Column("invoice_id", BigInteger, ForeignKey("invoices.id"), primary_key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("price_id", BigInteger, ForeignKey("prices.id"), nullable=False),
    Column("prior_period", SmallInteger, nullable=False, server_default="0"),
    Column("sku", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("quantity_micro", BigInteger, nullable=False),
    Column("list_e8", BigInteger, nullable=False),
    Column("unit_e8", BigInteger, nullable=False),
    Column("list_minor", BigInteger, nullable=False),
    Column("discount_minor", BigInteger, nullable=False),
    Column("net_minor", BigInteger, nullable=False),
    CheckConstraint("list_minor - discount_minor = net_minor", name="sum"),
)

# People who may sign in to the web.
people = Table(
    "people",
    metadata,
    Column("login", Text, primary_key=True),
    Column("role", Text, nullable=False),  # admin, finance, member
    Column("password_hash", Text, nullable=False),  # argon2id
    Column("slurm_user", Text, nullable=False, server_default=""),
    Column("accounts", Text, nullable=False, server_default=""),  # comma-separated
    Column("must_change", SmallInteger, nullable=False, server_default="0"),
    Column("disabled", SmallInteger, nullable=False, server_default="0"),
    Column("created_at", BigInteger, nullable=False),
    CheckConstraint("role IN ('admin', 'finance', 'member')", name="role"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id_sha256", Text, primary_key=True),
    Column("login", Text, nullable=False),
    Column("csrf", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)

login_failures = Table(
    "login_failures",
    metadata,
    Column("scope", Text, primary_key=True),  # "login:alice" or "addr:192.0.2.7"
    Column("window_start", BigInteger, primary_key=True, autoincrement=False),
    Column("failures", Integer, nullable=False),
)
