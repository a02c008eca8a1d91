"""The parts of a printed page: every text final, in one language."""

from typing import NamedTuple

from jobledger_web.documents.figures import Figure
from jobledger_web.documents.texts import Texts
from jobledger_web.documents.words import Language


class Fact(NamedTuple):
    """A label and its value."""

    label: str
    value: str


class Party(NamedTuple):
    """A seller or buyer: the name, address lines, and facts such as the tax id."""

    name: str
    address: tuple[str, ...]
    facts: tuple[Fact, ...]


class Row(NamedTuple):
    """One line of the document."""

    number: str
    name: str
    sku: str
    quantity: Figure
    unit: str
    list_price: Figure
    price: Figure
    discount: str
    amount: str


class Group(NamedTuple):
    """Lines under one heading; an empty heading is not printed."""

    heading: str
    rows: tuple[Row, ...]


class Job(NamedTuple):
    """One job run of the annex; ``mark`` says that it belongs to an earlier period."""

    cluster: str
    job_id: str
    user: str
    project: str
    ended: str
    core_hours: Figure
    gpu_hours: Figure
    cost: str
    mark: str


class Annex(NamedTuple):
    """The jobs behind the lines; ``others`` is empty when all are listed."""

    lead: str
    jobs: tuple[Job, ...]
    others: str
    others_cost: str
    total: str


class Page(NamedTuple):
    """A whole document as it is printed."""

    language: Language
    texts: Texts
    heading: str
    heading_other: str
    title: str
    running_name: str
    running_title: str
    number: str
    issue_date_iso: str
    seller: Party
    buyer: Party
    facts: tuple[Fact, ...]
    due: Fact
    due_note: str
    groups: tuple[Group, ...]
    totals: tuple[Fact, ...]
    total: Fact
    words: str
    payment: tuple[Fact, ...]
    payment_note: str
    notes: tuple[str, ...]
    rate_cards: tuple[Fact, ...]
    prices_in: str
    annex: Annex | None
    generator: str
