"""Writing a document: from a bill and its parties to the JSON that is frozen.

Pure. Every amount becomes a decimal string here, once, and no figure is
computed after this.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from jobledger_collector.core.accounts import BillingAccount
from jobledger_collector.core.card import MeterName, Text2
from jobledger_collector.core.document import (
    SCHEMA,
    AnnexBlock,
    AnnexJob,
    BuyerBlock,
    CardBlock,
    Document,
    Kind,
    LineBlock,
    PeriodBlock,
    Seller,
    TaxBlock,
    TotalsBlock,
)
from jobledger_collector.core.document import Text2 as Text2Block
from jobledger_collector.core.invoicing import Bill, Line, apportion
from jobledger_collector.core.money import format_minor, format_price, format_quantity
from jobledger_collector.core.periods import format_period, next_period, period_bounds, zone

PRIOR_NOTE: Final = Text2Block(
    en="Usage of earlier periods, and corrections of earlier invoices, are shown as"
    " prior-period lines.",
    th="รายการการใช้งานของงวดก่อน และการแก้ไขใบแจ้งหนี้ก่อนหน้า แสดงเป็นรายการของงวดก่อน",
)
EARLY_NOTE: Final = Text2Block(
    en="Issued before the period was over: further usage of this period follows on the"
    " next invoice.",
    th="ออกเอกสารก่อนสิ้นงวด การใช้งานที่เหลือของงวดนี้จะแสดงในใบแจ้งหนี้ฉบับถัดไป",
)


class PriceKey(NamedTuple):
    """Which charges of a run go to which line: their price and prior period."""

    price_id: int
    prior_period: bool


class AnnexRun(NamedTuple):
    """One run of the annex: what this document bills of it.

    ``end`` in epoch seconds; ``quantities`` in millionths of each price's unit.
    """

    cluster: str
    job_id: int
    submit: int
    user: str
    project: str
    end: int
    quantities: Mapping[PriceKey, int]


@dataclass(frozen=True, slots=True)
class Terms:
    """What the rate card says of this payer: tier, tax, names of the SKUs.

    ``tax_percent_e8`` in 10^-8 percent; ``names`` by price id; ``cards`` are the
    versions that prices came from, in order.
    """

    tier: str
    tax_label: Text2
    tax_percent_e8: int
    names: Mapping[int, Text2]
    cards: tuple[CardBlock, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything that a document says, but its number."""

    kind: Kind
    issue_date: dt.date
    due_days: int
    period: int
    timezone: str
    early: bool
    currency: str
    exponent: int
    seller: Seller
    buyer: BillingAccount
    terms: Terms
    bill: Bill
    annex_runs: Sequence[AnnexRun]
    jobs_total: int
    generator: str


def write_document(draft: Draft, number: str) -> Document:
    """The whole document under this number."""
    bill, exponent = draft.bill, draft.exponent
    due = draft.issue_date + dt.timedelta(days=draft.due_days)
    return Document(
        schema=SCHEMA,
        kind=draft.kind,
        number=number,
        issue_date=draft.issue_date.isoformat(),
        due_date=due.isoformat(),
        period=_period_block(draft.period),
        timezone=draft.timezone,
        seller=draft.seller.block(),
        buyer=_buyer_block(draft.buyer),
        tier=draft.terms.tier,
        currency=draft.currency,
        exponent=exponent,
        lines=[_line_block(line, draft.terms, exponent) for line in bill.lines],
        tax=TaxBlock(
            label=_text_block(draft.terms.tax_label),
            rate_percent=format_price(draft.terms.tax_percent_e8),
            base=format_minor(bill.subtotal_minor, exponent),
            amount=format_minor(bill.tax_minor, exponent),
        ),
        totals=TotalsBlock(
            list_amount=format_minor(bill.list_minor, exponent),
            discount=format_minor(bill.discount_minor, exponent),
            subtotal=format_minor(bill.subtotal_minor, exponent),
            tax=format_minor(bill.tax_minor, exponent),
            total=format_minor(bill.total_minor, exponent),
        ),
        annex=_annex_block(draft),
        rate_cards=list(draft.terms.cards),
        notes=_notes(draft),
        generator=draft.generator,
    )


def _period_block(period: int) -> PeriodBlock:
    first = dt.date(period // 100, period % 100, 1)
    following = next_period(period)
    last = dt.date(following // 100, following % 100, 1) - dt.timedelta(days=1)
    return PeriodBlock(
        id=format_period(period), first_day=first.isoformat(), last_day=last.isoformat()
    )


def _buyer_block(buyer: BillingAccount) -> BuyerBlock:
    return BuyerBlock(
        account=buyer.id,
        name=buyer.name,
        name_th=buyer.name_th,
        address=buyer.address,
        tax_id=buyer.tax_id,
        contact_name=buyer.contact_name,
        contact_email=buyer.contact_email,
    )


def _text_block(text: Text2) -> Text2Block:
    return Text2Block(en=text.en, th=text.th)


def _line_block(line: Line, terms: Terms, exponent: int) -> LineBlock:
    # Prices of one line may come from several card versions: the newest names it.
    name = terms.names.get(line.price_ids[-1], Text2(line.sku, ""))
    return LineBlock(
        line=line.line,
        sku=line.sku,
        name=_text_block(name),
        meter=line.meter,
        unit=line.unit,
        quantity=format_quantity(line.quantity_micro),
        list_price=format_price(line.list_e8, exponent),
        unit_price=format_price(line.unit_e8, exponent),
        list_amount=format_minor(line.list_minor, exponent),
        discount=format_minor(line.discount_minor, exponent),
        net=format_minor(line.net_minor, exponent),
        prior_period=line.prior_period,
    )


def _notes(draft: Draft) -> list[Text2Block]:
    notes = [EARLY_NOTE] if draft.early else []
    if any(line.prior_period for line in draft.bill.lines):
        notes.append(PRIOR_NOTE)
    return notes


def _annex_block(draft: Draft) -> AnnexBlock:
    shares, others_minor = share_out(draft.bill.lines, draft.annex_runs, draft.exponent)
    meters = {price: line.meter for line in draft.bill.lines for price in line.price_ids}
    listed = sorted(
        zip(shares, draft.annex_runs, strict=True), key=lambda one: (-one[0], one[1][:3])
    )
    return AnnexBlock(
        jobs=[_annex_job(run, share, meters, draft) for share, run in listed],
        jobs_total=draft.jobs_total,
        others_jobs=draft.jobs_total - len(draft.annex_runs),
        others_cost=format_minor(others_minor, draft.exponent),
    )


def share_out(
    lines: Sequence[Line], runs: Sequence[AnnexRun], exponent: int
) -> tuple[list[int], int]:
    """Each run's share of the subtotal, and that of all other runs, in minor units.

    Every line is shared out exactly, so the shares and the rest are the sum of
    the lines.
    """
    shares, others_minor = [0] * len(runs), 0
    for line in lines:
        keys = [PriceKey(price_id, line.prior_period) for price_id in line.price_ids]
        costs = [line.unit_e8 * sum(run.quantities.get(key, 0) for key in keys) for run in runs]
        rest_e14 = line.quantity_micro * line.unit_e8 - sum(costs)
        parts = apportion(line.net_minor, [*costs, rest_e14], exponent)
        others_minor += parts.pop()
        shares = [share + part for share, part in zip(shares, parts, strict=True)]
    return shares, others_minor


def _annex_job(
    run: AnnexRun, share_minor: int, meters: Mapping[int, str], draft: Draft
) -> AnnexJob:
    def used(meter: MeterName) -> str:
        quantities = run.quantities.items()
        return format_quantity(
            sum(micro for key, micro in quantities if meters.get(key.price_id) == meter)
        )

    end = dt.datetime.fromtimestamp(run.end, zone(draft.timezone))
    return AnnexJob(
        cluster=run.cluster,
        job_id=run.job_id,
        user=run.user,
        project=run.project,
        end=end.strftime("%Y-%m-%dT%H:%M:%S"),
        core_hours=used(MeterName.CPU),
        gpu_hours=used(MeterName.GPU),
        cost=format_minor(share_minor, draft.exponent),
        prior_period=all(key.prior_period for key in run.quantities),
    )


def is_over(period: int, timezone: str, now_s: int) -> bool:
    """Whether the period has ended in the books' time zone."""
    return now_s >= period_bounds(period, timezone)[1]
