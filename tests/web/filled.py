"""Books filled the way production fills them: Slurm's own dumps through every real part."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from jobledger_agent import wire as agent_wire
from jobledger_agent.files import FileSource
from jobledger_collector.core.document import DocumentSettings, Seller
from jobledger_collector.ingest import Ingest
from jobledger_collector.issuing import Order, Outcome, issue
from jobledger_collector.rating import Rating
from jobledger_collector.store import agents, migrate
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
NOW_S: Final = 1_795_300_000
"""22 November 2026: two days after the captures were taken."""
SELLER: Final = Seller(
    name="Example University Computing Centre",
    name_th="ศูนย์คอมพิวเตอร์ มหาวิทยาลัยตัวอย่าง",
    address="999 Example Road\nBangkok 10400",
    address_th="999 ถนนตัวอย่าง\nกรุงเทพฯ 10400",
    tax_id="0994000000001",
)


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


def feed(engine: Engine, sources: Iterable[FileSource], agent: str = "lab") -> None:
    """Read dumps as the agent does and apply them as the collector does."""
    ingest = Ingest(engine, Rating(engine), agent)
    for source in sources:
        for block in source.read(""):
            for encoded in agent_wire.encode(block.readings):
                request = usage_pb2.ReportRequest.FromString(agent_wire.request(1, encoded.payload))
                ingest.apply(ingest.prepare(decode(request.batch, NOW_S)))


def bill(engine: Engine, period: int) -> list[Outcome]:
    """Issue the period's invoices, although the month is not over."""
    order = Order(period, SELLER, DocumentSettings(), NOW_S, "test", early=True)
    return list(issue(engine, order))


def captured() -> list[FileSource]:
    """Two clusters, one of each Slurm version."""
    return [
        FileSource(OLD, cluster_rename={"alpha": "alpha-2205", "beta": "beta-2205"}),
        FileSource(NEW),
    ]
