"""What is issued is frozen by the database itself, whoever asks.

Programs have faults and people have consoles; an invoice must survive both.
Charges are guarded once they are on an invoice; issued documents, their lines,
the prices that they refer to and rate cards always.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

# table, trigger, when it fires, which rows, what it says.
_FROZEN_CHARGE = (
    "cluster, job_id, submit, item, segment, kind, revision, segment_start, price_id, base_units,"
    " quantity_micro, billing_account, period, invoice_id"
)
_FROZEN_INVOICE = (
    "id, billing_account, period, number, series, year, sequence, issue_date, issued_at,"
    " issued_by, currency, subtotal_minor, tax_minor, total_minor, document, document_sha256"
)
_ISSUED = "an issued document is never changed: correct it by the next invoice"
_INVOICED = "a charge on an invoice is never changed: reverse it and charge anew"
_GAP = "numbers of a series go up by one"
_REFUSED = (
    ("invoices", "kept", "DELETE", "", _ISSUED),
    ("invoices", "frozen", f"UPDATE OF {_FROZEN_INVOICE}", "", _ISSUED),
    ("invoice_lines", "kept", "DELETE", "", _ISSUED),
    ("invoice_lines", "frozen", "UPDATE", "", _ISSUED),
    ("charges", "kept", "DELETE", "OLD.invoice_id IS NOT NULL", _INVOICED),
    ("charges", "frozen", f"UPDATE OF {_FROZEN_CHARGE}", "OLD.invoice_id IS NOT NULL", _INVOICED),
    (
        "charges", "closed", "UPDATE OF superseded_by",
        "OLD.invoice_id IS NOT NULL AND OLD.superseded_by <> 0", _INVOICED,
    ),
    ("prices", "kept", "DELETE", "", "a price is never deleted: charges refer to it"),
    ("prices", "frozen", "UPDATE", "", "a price is never changed: another price is another row"),
    ("rate_cards", "kept", "DELETE", "", "a rate card is never deleted: prices refer to it"),
    ("rate_cards", "frozen", "UPDATE", "", "a rate card never changes: load the next version"),
    ("document_series", "kept", "DELETE", "", _GAP),
    (
        "document_series", "forward", "UPDATE",
        ("NEW.next_number <> OLD.next_number + 1 OR NEW.last_date < OLD.last_date"
        " OR NEW.series <> OLD.series OR NEW.year <> OLD.year"), _GAP,
    ),
    ("document_series", "first", "INSERT", "NEW.next_number <> 2", _GAP),
)  # fmt: skip

# These look at other rows, which PostgreSQL allows only inside a function.
_LOOKED_UP = (
    (
        "invoices", "next", "INSERT", _GAP,
        ("NEW.sequence <> 1 + (SELECT coalesce(max(sequence), 0) FROM invoices"
        " WHERE series = NEW.series AND year = NEW.year)"),
    ),
    (
        "invoices", "once", "INSERT", _ISSUED,
        (
            "EXISTS (SELECT 1 FROM invoices WHERE id = NEW.id OR number = NEW.number"
            " OR (billing_account = NEW.billing_account AND period = NEW.period))"
        ),
    ),
    (
        "invoice_lines", "once", "INSERT", _ISSUED,
        ("EXISTS (SELECT 1 FROM invoice_lines WHERE invoice_id = NEW.invoice_id"
        " AND line = NEW.line)"),
    ),
    (
        "invoice_lines", "printed", "INSERT", _ISSUED,
        "NEW.line NOT BETWEEN 1 AND (SELECT {lines} FROM invoices WHERE id = NEW.invoice_id)",
    ),
    (
        "charges", "late", "UPDATE OF invoice_id",
        "a charge cannot be added to an issued document: it goes on the next invoice",
        ("NEW.invoice_id IS NOT NULL AND EXISTS"
        " (SELECT 1 FROM invoices WHERE id = NEW.invoice_id)"),
    ),
)  # fmt: skip

_LINES_SQLITE = "json_array_length(document, '$.lines')"
_LINES_POSTGRES = "json_array_length(document::json -> 'lines')"
_NEVER_EMPTIED = ("invoices", "invoice_lines")


def upgrade() -> None:
    """Install the guards."""
    statements = _sqlite() if op.get_bind().dialect.name == "sqlite" else _postgres()
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)


def _sqlite() -> list[str]:
    rows = [(table, name, event, when, said) for table, name, event, when, said in _REFUSED] + [
        (table, name, event, test.format(lines=_LINES_SQLITE), said)
        for table, name, event, said, test in _LOOKED_UP
    ]
    return [
        f"CREATE TRIGGER {table}_{name} BEFORE {event} ON {table}"
        f"{f' WHEN {when}' if when else ''}"
        f" BEGIN SELECT RAISE(ABORT, '{said}'); END"
        for table, name, event, when, said in rows
    ]


def _postgres() -> list[str]:
    refuse = (
        "CREATE FUNCTION jobledger_refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION USING MESSAGE = TG_ARGV[0], ERRCODE = 'restrict_violation';"
        " END $$"
    )
    simple = [
        f"CREATE TRIGGER {table}_{name} BEFORE {event} ON {table} FOR EACH ROW"
        f"{f' WHEN ({when})' if when else ''} EXECUTE FUNCTION jobledger_refuse('{said}')"
        for table, name, event, when, said in _REFUSED
    ]
    emptied = [
        f"CREATE TRIGGER {table}_emptied BEFORE TRUNCATE ON {table} FOR EACH STATEMENT"
        f" EXECUTE FUNCTION jobledger_refuse('{_ISSUED}')"
        for table in _NEVER_EMPTIED
    ]
    looked_up = []
    for table, name, event, said, test in _LOOKED_UP:
        function = f"jobledger_{table}_{name}"
        looked_up.append(
            f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF {test.format(lines=_LINES_POSTGRES)} THEN"
            f" RAISE EXCEPTION '{said}' USING ERRCODE = 'restrict_violation';"
            " END IF; RETURN NEW; END $$"
        )
        looked_up.append(
            f"CREATE TRIGGER {table}_{name} BEFORE {event} ON {table} FOR EACH ROW"
            f" EXECUTE FUNCTION {function}()"
        )
    return [refuse, *simple, *emptied, *looked_up]
