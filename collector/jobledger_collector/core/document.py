"""The frozen content of an invoice: what was said, to whom, at which prices.

A document is plain JSON so that it can be stored, hashed, rendered and read
again in ten years without this program. Every amount is a decimal string: the
reader never needs a float. The PDF, the web and the CSV show it; none computes.

`tests/data/document-example.json` is a full example.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Final, Literal, TypedDict

SCHEMA: Final = "jobledger.document/1"
"""Names the shape below; a changed shape takes the next number."""

ANNEX_JOBS_MAX: Final = 200
"""Jobs listed in a document's annex, rows; the CSV of the invoice holds all."""

DOCUMENT_BYTES_MAX: Final = 4 * 1024 * 1024
"""Largest document that is issued, bytes: beyond it something is wrong."""

Kind = Literal["invoice", "statement"]
"""A statement is a document whose total is zero: nothing is to be paid, so it
takes no number from the invoices' series."""


class Text2(TypedDict):
    """One text in both languages; ``th`` may be empty, then ``en`` serves."""

    en: str
    th: str


class PeriodBlock(TypedDict):
    """The billing period: ``id`` as YYYY-MM, first and last day as ISO dates."""

    id: str
    first_day: str
    last_day: str


class SellerBlock(TypedDict):
    """Who issues. Addresses may hold newlines; unused texts are empty."""

    name: str
    name_th: str
    address: str
    address_th: str
    tax_id: str
    branch: str
    branch_th: str
    phone: str
    email: str
    website: str
    bank_name: str
    bank_name_th: str
    bank_branch: str
    bank_account_name: str
    bank_account_number: str


class BuyerBlock(TypedDict):
    """Who pays; ``account`` is the billing account's id."""

    account: str
    name: str
    name_th: str
    address: str
    tax_id: str
    contact_name: str
    contact_email: str


class LineBlock(TypedDict):
    """One line of a document, in decimal strings.

    ``quantity`` in ``unit`` with 6 places, prices per unit with at most 8,
    amounts with the currency's exponent.

    ``net = list_amount - discount``. ``prior_period``: usage of an earlier
    period, or the correction of an earlier invoice (then it may be negative).
    """

    line: int
    sku: str
    name: Text2
    meter: str
    unit: str
    quantity: str
    list_price: str
    unit_price: str
    list_amount: str
    discount: str
    net: str
    prior_period: bool


class TaxBlock(TypedDict):
    """Tax, computed once on the subtotal. ``rate_percent`` such as "7"."""

    label: Text2
    rate_percent: str
    base: str
    amount: str


class TotalsBlock(TypedDict):
    """``list_amount - discount = subtotal``; ``subtotal + tax = total``."""

    list_amount: str
    discount: str
    subtotal: str
    tax: str
    total: str


class AnnexJob(TypedDict):
    """One job run: ``cost`` is its share of the subtotal.

    ``end`` is local ISO time without zone, in the document's ``timezone``.
    """

    cluster: str
    job_id: int
    user: str
    project: str
    end: str
    core_hours: str
    gpu_hours: str
    cost: str
    prior_period: bool


class AnnexBlock(TypedDict):
    """The jobs behind the lines, costliest first; at most ANNEX_JOBS_MAX.

    ``jobs_total`` counts all; ``others_jobs`` and ``others_cost`` stand for
    those not listed. Listed costs plus ``others_cost`` are the subtotal.
    """

    jobs: list[AnnexJob]
    jobs_total: int
    others_jobs: int
    others_cost: str


class CardBlock(TypedDict):
    """A rate card version that prices on this document came from."""

    card: str
    version: int
    sha256: str


class Document(TypedDict):
    """A whole document. Dates are ISO; ``exponent`` is the currency's."""

    schema: str
    kind: Kind
    number: str
    issue_date: str
    due_date: str
    period: PeriodBlock
    timezone: str
    seller: SellerBlock
    buyer: BuyerBlock
    tier: str
    currency: str
    exponent: int
    lines: list[LineBlock]
    tax: TaxBlock
    totals: TotalsBlock
    annex: AnnexBlock
    rate_cards: list[CardBlock]
    notes: list[Text2]
    generator: str


@dataclass(frozen=True, slots=True)
class Seller:
    """The issuing organisation, from the ``[seller]`` section of jobledger.toml.

    ``name``, ``address`` and ``tax_id`` are required of whoever issues; the
    rest may be empty and is then not printed.
    """

    name: str
    address: str
    tax_id: str
    name_th: str = ""
    address_th: str = ""
    branch: str = ""
    branch_th: str = ""
    phone: str = ""
    email: str = ""
    website: str = ""
    bank_name: str = ""
    bank_name_th: str = ""
    bank_branch: str = ""
    bank_account_name: str = ""
    bank_account_number: str = ""

    def block(self) -> SellerBlock:
        """The seller as it is frozen into a document."""
        return SellerBlock(
            name=self.name,
            name_th=self.name_th,
            address=self.address,
            address_th=self.address_th,
            tax_id=self.tax_id,
            branch=self.branch,
            branch_th=self.branch_th,
            phone=self.phone,
            email=self.email,
            website=self.website,
            bank_name=self.bank_name,
            bank_name_th=self.bank_name_th,
            bank_branch=self.bank_branch,
            bank_account_name=self.bank_account_name,
            bank_account_number=self.bank_account_number,
        )


@dataclass(frozen=True, slots=True)
class DocumentSettings:
    """How documents are numbered, from ``[documents]`` of jobledger.toml.

    ``invoice_series`` and ``statement_series`` are number prefixes; payment is
    due ``due_days`` days after the issue date.
    """

    invoice_series: str = "INV"
    statement_series: str = "STM"
    due_days: int = 30

    def series(self, kind: Kind) -> str:
        """The series that a document of this kind takes its number from."""
        return self.invoice_series if kind == "invoice" else self.statement_series


def canonical_json(document: Document) -> str:
    """The one text form of a document: sorted keys, no spaces, real letters."""
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def sha256_of(text: str) -> str:
    """Hex SHA-256 of a document's canonical text, as stored beside it."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def number_text(series: str, year: int, sequence: int) -> str:
    """A document's number, for example ``INV-2026-000001``."""
    return f"{series}-{year:04d}-{sequence:06d}"
