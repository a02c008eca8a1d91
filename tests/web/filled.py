"""Books filled the way production fills them: Slurm's own dumps through every real part."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jobledger_agent.protocol import wire as agent_wire
from jobledger_agent.records.job import Reading, SlurmJob, Unreadable
from jobledger_agent.sources.files import FileSource
from jobledger_collector.core.document import DocumentSettings, Seller
from jobledger_collector.core.reporter import Greeting, Health
from jobledger_collector.core.verification import NOTHING, Compared, ToldSpan
from jobledger_collector.ingest import Ingest
from jobledger_collector.issuing import Order, Outcome, issue
from jobledger_collector.rating import Rating
from jobledger_collector.store import agents, migrate, people, verifications
from jobledger_collector.store.accounts import load_accounts
from jobledger_collector.store.cards import load_card
from jobledger_collector.store.engine import open_engine, transaction
from jobledger_collector.store.handles import Engine
from jobledger_collector.wire import decode
from jobledger_proto.v1 import usage_pb2

ROOT: Final = Path(__file__).resolve().parents[2]
CAPTURES: Final = ROOT / "tests" / "data"
OLD: Final = CAPTURES / "slurm-22.05" / "safe-billing.txt"
NEW: Final = CAPTURES / "slurm-25.11" / "safe-billing.txt"
BRIEF: Final = CAPTURES / "slurm-25.11" / "brief.txt"
AGENT: Final = "lab"
PERIOD: Final = 202611
NOW_S: Final = 1_795_300_000
"""22 November 2026: two days after the captures were taken."""
SELLER: Final = Seller(
    name="Example University Computing Centre",
    name_th="ศูนย์คอมพิวเตอร์ มหาวิทยาลัยตัวอย่าง",
    address="999 Example Road\nBangkok 10400",
    address_th="999 ถนนตัวอย่าง\nกรุงเทพฯ 10400",
    tax_id="0994000000001",
)

PASSWORD: Final = "four quiet green kettles"
PEOPLE: Final = (
    people.Person("ada", "admin"),
    people.Person("finn", "finance"),
    people.Person("alice", "member", slurm_user="alice", accounts=("physics",)),
    people.Person("dave", "member", slurm_user="dave"),
    people.Person("pia", "member", accounts=("bio_genomics", "beta_only")),
    people.Person("nobody", "member"),
    people.Person("newcomer", "member", slurm_user="bob", must_change=True),
)
"""Everybody's password is PASSWORD; kettles are not in anybody's name."""
HOSTILE: Final = Unreadable(
    "alpha", "line 7", "<script>alert(1)</script> is not a job", b"<b>\x00\xff\x1b[31m</b>", 18
)
"""A record that would do harm if a page trusted it."""

COMPARED: Final = Compared(NOTHING, NOTHING, 5, 1_234, 6, 0, (), 7)
"""What a comparison of cluster alpha with Slurm found."""


def fresh(url: str) -> Engine:
    """An empty database with the sample rate card and accounts in its books."""
    engine = open_engine(url)
    migrate.upgrade(engine)
    with transaction(engine) as conn:
        card = ROOT / "packaging" / "rates" / "mahidol.yaml"
        load_card(conn, card.read_text("utf-8"), str(card), NOW_S, "test")
        accounts = ROOT / "packaging" / "accounts.example.yaml"
        load_accounts(conn, accounts.read_text("utf-8"), str(accounts))
    return engine


def deliver(engine: Engine, readings: Sequence[Reading], agent: str = AGENT) -> None:
    """Send readings as the agent does and apply them as the collector does."""
    ingest = Ingest(engine, Rating(engine), agent)
    for encoded in agent_wire.encode(readings):
        request = usage_pb2.ReportRequest.FromString(agent_wire.request(1, encoded.payload))
        ingest.apply(ingest.prepare(decode(request.batch, NOW_S)))


def read(*sources: FileSource) -> list[Reading]:
    """Every reading of some dumps."""
    return [one for source in sources for block in source.read("") for one in block.readings]


def bill(engine: Engine, period: int = 202611) -> list[Outcome]:
    """Issue the period's invoices, although the month is not over."""
    order = Order(period, SELLER, DocumentSettings(), NOW_S, "test", early=True)
    return list(issue(engine, order))


def captured() -> list[Reading]:
    """Two clusters, one of each Slurm version, and a dump that lacks what prices need."""
    older = FileSource(OLD, cluster_rename={"alpha": "alpha-2205", "beta": "beta-2205"})
    return [*read(older, FileSource(NEW)), *read(FileSource(BRIEF))]


def a_revised_job(readings: Sequence[Reading]) -> SlurmJob:
    """A job of eng-ml whose energy Slurm adds later, as it does."""
    job = next(
        one
        for one in readings
        if isinstance(one, SlurmJob) and one.account == "eng-ml" and one.end and one.alloc_tres
    )
    return job._replace(energy_j=125_000, observed=job.observed + 60)


def fill(url: str) -> Engine:
    """Everything the pages show: jobs, a revision, invoices, quarantine, agents, people."""
    engine = fresh(url)
    with transaction(engine) as conn:
        agents.greet(conn, Greeting(AGENT, "0.1.0", ("alpha", "beta"), 12), NOW_S)
    readings = captured()
    deliver(engine, readings)
    deliver(engine, [a_revised_job(readings)])
    deliver(engine, [HOSTILE])
    bill(engine, PERIOD)
    with transaction(engine) as conn:
        health = Health(3, NOW_S - 95, 12, "", held_records=2, dbd_queue=40)
        agents.note_health(conn, AGENT, health, NOW_S)
        verifications.note(conn, ToldSpan(AGENT, "alpha", 1, 2), COMPARED, NOW_S)
        for person in PEOPLE:
            people.add_person(conn, person, PASSWORD)
    return engine
