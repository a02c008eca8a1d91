"""``jobledger invoices``: issue a period's documents, list and show them."""

import argparse
from pathlib import Path
from typing import Any, Final

from jobledger_collector.admin.context import Context
from jobledger_collector.admin.export import write_csv, write_file
from jobledger_collector.admin.jobs import period_argument
from jobledger_collector.admin.outcome import BadUsage, CommandFailed
from jobledger_collector.admin.output import json_line, say, table
from jobledger_collector.core.document import Document, Seller
from jobledger_collector.core.errors import ConfigInvalid
from jobledger_collector.core.money import format_minor
from jobledger_collector.core.periods import format_period
from jobledger_collector.currency import exponent_of
from jobledger_collector.exports import export_invoice_jobs, export_lines
from jobledger_collector.issuing import Order, Outcome, Result, issue
from jobledger_collector.pdf import RenderFailed, render_pdf
from jobledger_collector.store.handles import Connection
from jobledger_collector.store.invoices import Invoice, InvoiceRow, get_invoice, list_invoices

EPILOG: Final = """\
examples:
  jobledger invoices issue --period 2026-10 --dry-run
  jobledger invoices issue --period 2026-10
  jobledger invoices --json
  jobledger invoices pdf INV-2026-000001 --lang th --out invoice.pdf
  jobledger invoices csv INV-2026-000001 --jobs --out jobs.csv
"""
HEADINGS: Final = (
    "NUMBER", "DATE", "ACCOUNT", "PERIOD", "SUBTOTAL", "TAX", "TOTAL", "CURRENCY", "STATUS",
)  # fmt: skip


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the group to the program; without a sub-command it lists."""
    group = subparsers.add_parser(
        "invoices",
        help="issue, list and show invoices",
        description="Issue a period's invoices, list them, show one.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_selection(group, default=None, json=False)
    group.set_defaults(run=run_list)
    what = group.add_subparsers(metavar="WHAT")
    _register_issue(what.add_parser("issue", help="issue the documents of a period"))
    listing = what.add_parser("list", help="list issued documents (the default)")
    # SUPPRESS: `invoices --json list` must not be undone by the default here.
    _add_selection(listing, default=argparse.SUPPRESS, json=argparse.SUPPRESS)
    listing.set_defaults(run=run_list)
    show = what.add_parser("show", help="show one document")
    show.add_argument("number", metavar="NUMBER")
    show.add_argument("--json", action="store_true", help="the frozen document as JSON")
    show.set_defaults(run=run_show)
    pdf = what.add_parser("pdf", help="draw one document")
    pdf.add_argument("number", metavar="NUMBER")
    pdf.add_argument("--lang", choices=("en", "th"), default="en", help="its language (en)")
    pdf.add_argument("--out", metavar="FILE", type=Path, help="default: NUMBER-LANG.pdf")
    pdf.set_defaults(run=run_pdf)
    table_of = what.add_parser("csv", help="CSV of one document's lines, or of its jobs")
    table_of.add_argument("number", metavar="NUMBER")
    table_of.add_argument("--jobs", action="store_true", help="every job on it, with its cost")
    table_of.add_argument("--out", metavar="FILE", type=Path, help="write here")
    table_of.set_defaults(run=run_csv)


def _add_selection(parser: argparse.ArgumentParser, *, default: Any, json: Any) -> None:  # noqa: ANN401 - argparse's
    parser.add_argument("--period", metavar="YYYY-MM", default=default, help="of this period")
    parser.add_argument("--account", metavar="ID", default=default, help="of this account")
    parser.add_argument("--json", action="store_true", default=json, help="one object a line")


def _register_issue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--period", metavar="YYYY-MM", required=True, help="the month to bill")
    parser.add_argument("--account", metavar="ID", help="only this billing account")
    parser.add_argument("--early", action="store_true", help="although the month is not over")
    parser.add_argument("--dry-run", action="store_true", help="say what would be issued")
    parser.add_argument("--json", action="store_true", help="one JSON object an account")
    parser.set_defaults(run=run_issue)


def run_issue(args: argparse.Namespace, context: Context) -> int:
    """Issue; returns 1 when an account failed, although the others are issued."""
    period = period_argument(args.period)
    if period is None:
        raise BadUsage("--period: say which month to bill, such as 2026-10")
    order = Order(
        period=period,
        seller=_seller(context),
        settings=context.config.documents,
        now_s=context.now_s(),
        person=context.person,
        account=args.account,
        early=args.early,
        dry_run=args.dry_run,
    )
    failed = done = 0
    for outcome in issue(context.engine(), order):
        failed += outcome.result is Result.FAILED
        done += outcome.result in {Result.ISSUED, Result.WOULD_ISSUE}
        _print_outcome(outcome, context, as_json=args.json)
    if not args.json:
        verb = "would be issued" if args.dry_run else "issued"
        say(context.out, f"{done} documents {verb} for {format_period(period)}")
    if failed:
        raise CommandFailed(
            f"{failed} billing accounts could not be invoiced for the reasons given above;"
            " the others are done: mend these and run the same command again"
        )
    return 0


def _seller(context: Context) -> Seller:
    seller = context.config.seller
    missing = [key for key in ("name", "address", "tax_id") if not getattr(seller, key, "")]
    if seller is None or missing:
        raise ConfigInvalid(
            "An invoice must say who issues it: give " + ", ".join(missing) + " under [seller] in"
            " jobledger.toml (see packaging/jobledger.example.toml)"
        )
    return seller


def _print_outcome(outcome: Outcome, context: Context, *, as_json: bool) -> None:
    if as_json:
        row = {
            "account": outcome.account,
            "result": outcome.result.value,
            "number": outcome.number or None,
            "kind": outcome.kind,
            "subtotal": outcome.subtotal or None,
            "tax": outcome.tax or None,
            "total": outcome.total or None,
            "currency": outcome.currency or None,
            "unpriced": outcome.unpriced,
            "message": outcome.message,
        }
        json_line(context.out, row)
        return
    money = f"{outcome.total} {outcome.currency}" if outcome.total else ""
    parts = (outcome.result.value, outcome.number, outcome.account, money)
    say(context.out, "  ".join(part for part in parts if part))
    if outcome.message:
        say(context.err, f"{outcome.account}: {outcome.message}")


def run_list(args: argparse.Namespace, context: Context) -> int:
    """List the documents, newest first; returns the exit code."""
    period = period_argument(args.period)
    with context.reading() as conn:
        rows = list_invoices(conn, period=period, account=args.account)
    if args.json:
        for row in rows:
            json_line(context.out, invoice_json(row))
    else:
        table(context.out, HEADINGS, [_table_row(row) for row in rows])
    return 0


def invoice_json(row: InvoiceRow) -> dict[str, Any]:
    """One document as scripts read it; money as decimal strings."""
    exponent = exponent_of(row.currency)
    return {
        "number": row.number,
        "account": row.billing_account,
        "period": format_period(row.period),
        "issue_date": row.issue_date,
        "subtotal": format_minor(row.subtotal_minor, exponent),
        "tax": format_minor(row.tax_minor, exponent),
        "total": format_minor(row.total_minor, exponent),
        "currency": row.currency,
        "status": row.status,
        "sha256": row.document_sha256,
    }


def _table_row(row: InvoiceRow) -> tuple[object, ...]:
    shown = invoice_json(row)
    keys = ("number", "issue_date", "account", "period", "subtotal", "tax", "total", "currency")
    return (*(shown[key] for key in keys), row.status)


def run_show(args: argparse.Namespace, context: Context) -> int:
    """Show one document; returns the exit code."""
    with context.reading() as conn:
        invoice = _find(conn, args.number)
    document = invoice.document
    if args.json:
        json_line(context.out, dict(document))
        return 0
    _print_document(document, context)
    say(context.out, f"status {invoice.row.status}   sha256 {invoice.row.document_sha256}")
    return 0


def _print_document(document: Document, context: Context) -> None:
    buyer, totals, currency = document["buyer"], document["totals"], document["currency"]
    say(context.out, f"{document['kind']} {document['number']}  {document['issue_date']}")
    say(context.out, f"period {document['period']['id']}, due {document['due_date']}")
    say(context.out, f"to {buyer['name']} ({buyer['account']}), tier {document['tier']}")
    say(context.out)
    headings = ("SKU", "UNIT", "QUANTITY", "LIST", "PRICE", "DISCOUNT", "NET", "PRIOR")
    keys = ("sku", "unit", "quantity", "list_price", "unit_price", "discount", "net")
    rows = [
        (*(str(line[key]) for key in keys), "prior" if line["prior_period"] else "")  # type: ignore[literal-required]
        for line in document["lines"]
    ]
    table(context.out, headings, rows)
    say(context.out)
    tax = document["tax"]
    say(context.out, f"subtotal {totals['subtotal']} {currency}")
    say(context.out, f"{tax['label']['en']} {tax['rate_percent']}%  {totals['tax']} {currency}")
    say(context.out, f"total {totals['total']} {currency}")


def run_pdf(args: argparse.Namespace, context: Context) -> int:
    """Draw one document; returns the exit code."""
    with context.reading() as conn:
        invoice = _find(conn, args.number)
    path = args.out or Path(f"{invoice.row.number}-{args.lang}.pdf")
    try:
        drawn = render_pdf(dict(invoice.document), args.lang)
    except RenderFailed as error:
        raise CommandFailed(str(error)) from error
    write_file(path, [drawn])
    say(context.out, f"wrote {path}")
    return 0


def run_csv(args: argparse.Namespace, context: Context) -> int:
    """Write one document's lines, or its jobs; returns the exit code."""
    with context.reading() as conn:
        number = _find(conn, args.number).row.number
        pieces = (
            export_invoice_jobs(conn, number) if args.jobs else export_lines(conn, number=number)
        )
        write_csv(pieces, args.out, context)
    return 0


def _find(conn: Connection, number: str) -> Invoice:
    invoice = get_invoice(conn, number)
    if invoice is None:
        raise CommandFailed(f"There is no document {number}: `jobledger invoices` lists them")
    return invoice
