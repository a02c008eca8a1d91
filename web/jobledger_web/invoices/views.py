"""Invoices as they were issued: the list, one of them, its PDF and its CSVs."""

from flask import Blueprint, Response, abort, render_template, request

from jobledger_collector.core.periods import parse_period
from jobledger_collector.store.invoices import Invoice
from jobledger_web import language
from jobledger_web.access import Permission, requires
from jobledger_web.drawing import draw
from jobledger_web.ledger import ledger
from jobledger_web.streams import csv_response

area = Blueprint("invoices", __name__)

FIELDS = frozenset({"month", "account"})


@area.get("/invoices")
@requires(Permission.INVOICE_READ)
def index() -> str:
    """Every invoice that the viewer may see, newest first."""
    if set(request.args) - FIELDS:
        abort(400, "The page knows no such field.")
    month, account = request.args.get("month", ""), request.args.get("account", "").strip()
    try:
        period = parse_period(month) if month else None
    except ValueError as error:
        abort(400, str(error))
    with ledger() as books:
        rows = books.invoices(period, account or None)
        periods = sorted({row.period for row in books.invoices(None, None)}, reverse=True)
    return render_template(
        "invoices/invoices.html",
        rows=rows,
        month=month,
        account=account,
        months=[(f"{one // 100:04}-{one % 100:02}", one) for one in periods],
    )


def _find(number: str) -> Invoice:
    with ledger() as books:
        found = books.invoice(number)
    if found is None:
        abort(404)
    return found


@area.get("/invoices/<number>")
@requires(Permission.INVOICE_READ)
def invoice(number: str) -> str:
    """One invoice: parties, lines, totals, jobs."""
    found = _find(number)
    return render_template(
        "invoices/invoice.html", row=found.row, document=found.document, thai=language.is_thai()
    )


@area.get("/invoices/<number>/<any(en, th):language_code>.pdf")
@requires(Permission.INVOICE_READ)
def pdf(number: str, language_code: str) -> Response:
    """The invoice as PDF in one language."""
    found = _find(number)
    body = draw(found, "th" if language_code == "th" else "en")
    response = Response(body, mimetype="application/pdf")
    response.headers.set(
        "Content-Disposition", "attachment", filename=f"{found.row.number}-{language_code}.pdf"
    )
    return response


@area.get("/invoices/<number>/lines.csv")
@requires(Permission.INVOICE_READ)
def lines_csv(number: str) -> Response:
    """The invoice's lines as CSV."""
    found = _find(number)
    return csv_response(f"{found.row.number}-lines.csv", lambda books: books.lines_csv(number))


@area.get("/invoices/<number>/jobs.csv")
@requires(Permission.INVOICE_READ)
def jobs_csv(number: str) -> Response:
    """Every job on the invoice as CSV."""
    found = _find(number)
    return csv_response(f"{found.row.number}-jobs.csv", lambda books: books.billed_csv(number))
