"""What stands on the page of a document: every text final, in one language.

The template only lays it out; it computes nothing and decides nothing.
"""

from typing import Final, NamedTuple

from jobledger_collector.core.document import AnnexBlock, Document, LineBlock, Text2
from jobledger_web.documents.figures import (
    MINUS,
    date_range,
    figure,
    grouped,
    long_date,
    minor_of,
    places,
    short_time,
)
from jobledger_web.documents.parts import Annex, Fact, Group, Job, Page, Party, Row
from jobledger_web.documents.shape import DocumentUnfit
from jobledger_web.documents.sums import require_sums
from jobledger_web.documents.texts import TEXTS, UNITS_TH, Texts
from jobledger_web.documents.words import COINS, Language, amount_in_words

QUANTITY_DECIMALS_MIN: Final = 2
RUNNING_MAX_CHARS: Final = 60
"""Characters of one text in the running head and foot."""
SHA256_SHOWN_CHARS: Final = 12
"""Hex digits of a rate card's checksum on the page; the document holds all."""


def page_of(document: Document, language: Language) -> Page:
    """Lay a document's content out as texts in ``language``.

    Raises DocumentUnfit when it does not add up, or a figure or date is none.
    """
    require_sums(document)
    try:
        return _page(document, language)
    except ValueError as error:
        raise DocumentUnfit(f"Document {document['number']} cannot be drawn: {error}.") from error


def _page(document: Document, language: Language) -> Page:
    """The page of a document whose sums are right; ValueError for a figure that is none."""
    texts = TEXTS[language]
    coin = _coin(document["currency"], language)
    heading = _heading(document, texts)
    seller = _seller(document, language)
    payable = minor_of(document["totals"]["total"], document["exponent"])
    due = document["due_date"] if payable > 0 else ""
    return Page(
        language=language,
        texts=texts,
        heading=heading,
        heading_other=_heading(document, TEXTS["en"]) if language != "en" else "",
        title=f"{heading} {document['number']}",
        running_title=_cut(f"{heading} {document['number']}", RUNNING_MAX_CHARS),
        running_name=_cut(seller.name, RUNNING_MAX_CHARS),
        number=document["number"],
        issue_date_iso=document["issue_date"],
        seller=seller,
        buyer=_buyer(document, language),
        facts=_facts(document, language, due=due),
        due=Fact(
            texts.amount_due if payable > 0 else texts.nothing_due,
            _priced(document["totals"]["total"], document, language),
        ),
        due_note=texts.due_by.format(long_date(due, language)) if due else "",
        groups=_groups(document, language),
        totals=_totals(document, language),
        total=Fact(texts.total, _priced(document["totals"]["total"], document, language)),
        words=_sentence(
            amount_in_words(payable, document["currency"], document["exponent"], language)
        ),
        payment=_payment(document, language) if payable > 0 else (),
        payment_note=texts.payment_note.format(document["number"]),
        notes=tuple(_told(note, language) for note in document["notes"]),
        rate_cards=tuple(
            Fact(
                texts.rate_card.format(card["card"], card["version"]),
                f"sha256 {card['sha256'][:SHA256_SHOWN_CHARS]}…",
            )
            for card in document["rate_cards"]
        ),
        prices_in=texts.prices_in.format(coin),
        annex=_annex(document, language),
        generator=_cut(document["generator"], RUNNING_MAX_CHARS),
    )


def _heading(document: Document, texts: Texts) -> str:
    """What the document is called."""
    return texts.invoice if document["kind"] == "invoice" else texts.statement


def _seller(document: Document, language: Language) -> Party:
    """Who issues, with what the law wants to be read of them."""
    seller, texts = document["seller"], TEXTS[language]
    thai = language == "th"
    return Party(
        name=(thai and seller["name_th"]) or seller["name"],
        address=_lines((thai and seller["address_th"]) or seller["address"]),
        facts=_filled(
            (texts.tax_id, seller["tax_id"]),
            (texts.branch, (thai and seller["branch_th"]) or seller["branch"]),
            (texts.phone, seller["phone"]),
            (texts.email, seller["email"]),
            (texts.website, seller["website"]),
        ),
    )


def _buyer(document: Document, language: Language) -> Party:
    """Who pays."""
    buyer, texts = document["buyer"], TEXTS[language]
    return Party(
        name=(language == "th" and buyer["name_th"]) or buyer["name"],
        address=_lines(buyer["address"]),
        facts=_filled(
            (texts.tax_id, buyer["tax_id"]),
            (texts.contact, buyer["contact_name"]),
            (texts.email, buyer["contact_email"]),
        ),
    )


def _facts(document: Document, language: Language, *, due: str) -> tuple[Fact, ...]:
    """The block of numbers and dates beside the buyer; ``due`` is empty when nothing is owed."""
    texts, period = TEXTS[language], document["period"]
    currency, coin = document["currency"], _coin(document["currency"], language)
    return _filled(
        (texts.number, document["number"]),
        (texts.issue_date, long_date(document["issue_date"], language)),
        (texts.due_date, long_date(due, language) if due else ""),
        (texts.period, date_range(period["first_day"], period["last_day"], language)),
        (texts.account, document["buyer"]["account"]),
        (texts.tier, document["tier"]),
        (texts.currency, currency if coin == currency else f"{coin} ({currency})"),
    )


def _groups(document: Document, language: Language) -> tuple[Group, ...]:
    """The lines, those of earlier periods apart; one kind alone has no heading of its own."""
    texts, lines = TEXTS[language], document["lines"]
    columns = _columns(document)
    now = tuple(_row(x, columns, language) for x in lines if not x["prior_period"])
    prior = tuple(_row(x, columns, language) for x in lines if x["prior_period"])
    if not prior:
        return (Group("", now),)
    headed = (Group(texts.this_period, now), Group(texts.prior_period, prior))
    return tuple(group for group in headed if group.rows)


class _Columns(NamedTuple):
    """Decimals of each column of the lines: one number for all rows, so that points align."""

    quantity: int
    list_price: int
    price: int
    amount: int


def _columns(document: Document) -> _Columns:
    """The decimals that a document's lines need."""
    lines, exponent = document["lines"], document["exponent"]
    return _Columns(
        places((line["quantity"] for line in lines), QUANTITY_DECIMALS_MIN),
        places((line["list_price"] for line in lines), exponent),
        places((line["unit_price"] for line in lines), exponent),
        exponent,
    )


def _row(line: LineBlock, columns: _Columns, language: Language) -> Row:
    """One line in figures."""
    unit = line["unit"]
    return Row(
        number=str(line["line"]),
        name=_told(line["name"], language) or line["sku"],
        sku=line["sku"],
        quantity=figure(line["quantity"], QUANTITY_DECIMALS_MIN, columns.quantity),
        unit=UNITS_TH.get(unit, unit) if language == "th" else unit,
        list_price=figure(line["list_price"], columns.amount, columns.list_price),
        price=figure(line["unit_price"], columns.amount, columns.price),
        discount=grouped(line["discount"], columns.amount),
        amount=grouped(line["net"], columns.amount),
    )


def _totals(document: Document, language: Language) -> tuple[Fact, ...]:
    """The steps from list prices to the total. No discount: no two lines about it."""
    texts, totals, tax = TEXTS[language], document["totals"], document["tax"]
    exponent = document["exponent"]
    steps = [
        Fact(texts.subtotal, grouped(totals["subtotal"], exponent)),
        Fact(
            texts.tax.format(_told(tax["label"], language), grouped(tax["rate_percent"], 0)),
            grouped(totals["tax"], exponent),
        ),
    ]
    if minor_of(totals["discount"], exponent) != 0:
        steps[:0] = [
            Fact(texts.list_total, grouped(totals["list_amount"], exponent)),
            Fact(texts.discount_total, _negated(grouped(totals["discount"], exponent))),
        ]
    return tuple(steps)


def _payment(document: Document, language: Language) -> tuple[Fact, ...]:
    """Where to pay; nothing when the seller gave no account."""
    seller, texts = document["seller"], TEXTS[language]
    if not seller["bank_account_number"]:
        return ()
    bank = (language == "th" and seller["bank_name_th"]) or seller["bank_name"]
    return _filled(
        (texts.bank, bank),
        (texts.bank_branch, seller["bank_branch"]),
        (texts.bank_account_name, seller["bank_account_name"]),
        (texts.bank_account_number, seller["bank_account_number"]),
    )


def _annex(document: Document, language: Language) -> Annex | None:
    """The jobs, or None when the document stands for none."""
    annex, texts, exponent = document["annex"], TEXTS[language], document["exponent"]
    if not annex["jobs"]:
        return None
    lead = texts.annex_lead.format(f"{annex['jobs_total']:,}")
    times = texts.annex_times.format(document["timezone"], _coin(document["currency"], language))
    return Annex(
        lead=f"{lead} {times}",
        jobs=_jobs(annex, exponent, language),
        others=texts.others.format(f"{annex['others_jobs']:,}") if annex["others_jobs"] else "",
        others_cost=grouped(annex["others_cost"], exponent),
        total=grouped(document["totals"]["subtotal"], exponent),
    )


def _jobs(annex: AnnexBlock, exponent: int, language: Language) -> tuple[Job, ...]:
    """The annex's rows in figures."""
    core = places((job["core_hours"] for job in annex["jobs"]), QUANTITY_DECIMALS_MIN)
    gpu = places((job["gpu_hours"] for job in annex["jobs"]), QUANTITY_DECIMALS_MIN)
    return tuple(
        Job(
            cluster=job["cluster"],
            job_id=str(job["job_id"]),
            user=job["user"],
            project=job["project"],
            ended=short_time(job["end"], language),
            core_hours=figure(job["core_hours"], QUANTITY_DECIMALS_MIN, core),
            gpu_hours=figure(job["gpu_hours"], QUANTITY_DECIMALS_MIN, gpu),
            cost=grouped(job["cost"], exponent),
            mark=TEXTS[language].prior_mark if job["prior_period"] else "",
        )
        for job in annex["jobs"]
    )


def _priced(amount: str, document: Document, language: Language) -> str:
    """An amount with its currency: "THB 4,634.48", "4,634.48 บาท"."""
    figure, currency = grouped(amount, document["exponent"]), document["currency"]
    return f"{figure} {_coin(currency, language)}" if language == "th" else f"{currency} {figure}"


def _coin(currency: str, language: Language) -> str:
    """What a currency is called beside a figure: its code, in Thai its name."""
    coins = COINS.get(currency)
    return coins.thai if coins is not None and language == "th" else currency


def _sentence(text: str) -> str:
    """A text with a capital at its start; Thai has none and stays."""
    return text[:1].upper() + text[1:]


def _negated(figure: str) -> str:
    """A printed figure with the other sign."""
    return figure.removeprefix(MINUS) if figure.startswith(MINUS) else f"{MINUS}{figure}"


def _told(text: Text2, language: Language) -> str:
    """A text in ``language``, in English where there is no Thai."""
    return (language == "th" and text["th"]) or text["en"]


def _lines(text: str) -> tuple[str, ...]:
    """The lines of an address that say something."""
    return tuple(line.strip() for line in text.split("\n") if line.strip())


def _filled(*facts: tuple[str, str]) -> tuple[Fact, ...]:
    """The facts that have a value."""
    return tuple(Fact(label, value) for label, value in facts if value)


def _cut(text: str, chars: int) -> str:
    """A text of ``chars`` characters at most."""
    return text if len(text) <= chars else text[: chars - 1] + "…"
