"""Books with runs in them, filled as they are in service: through ingest."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jobledger_collector.columns import Row
from jobledger_collector.core.document import DocumentSettings, Seller
from jobledger_collector.core.record import JobRecord, content_text
from jobledger_collector.ingest import Ingest
from jobledger_collector.issuing import Order, Outcome, issue
from jobledger_collector.rating import Rating
from jobledger_collector.store.accounts import load_accounts
from jobledger_collector.store.cards import load_card
from jobledger_collector.store.engine import open_engine, transaction
from jobledger_collector.store.handles import Engine
from jobledger_collector.store.migrate import upgrade
from jobledger_collector.wire import Decoded

MAHIDOL: Final = Path(__file__).parents[2] / "packaging" / "rates" / "mahidol.yaml"
BANGKOK: Final = dt.timezone(dt.timedelta(hours=7))
SELLER: Final = Seller(
    name="Example University Computing Centre",
    name_th="ศูนย์คอมพิวเตอร์ มหาวิทยาลัยตัวอย่าง",
    address="999 Phutthamonthon 4 Road, Nakhon Pathom 73170",
    tax_id="0994000158378",
)
ACCOUNTS: Final = """\
schema: jobledger.accounts/1
accounts:
  - {id: physics, name: Department of Physics, name_th: ภาควิชาฟิสิกส์, tier: mu, slurm: [physics]}
  - {id: acme, name: Acme Co. Ltd., tier: private, tax_id: "0105500000001", slurm: [acme]}
"""


def at(text: str) -> int:
    """Epoch seconds of a local time in Bangkok."""
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=BANGKOK).timestamp())


NOVEMBER: Final = at("2026-11-02T09:00:00")
DECEMBER: Final = at("2026-12-02T09:00:00")


def a_run(job_id: int = 1, **over: Any) -> JobRecord:  # noqa: ANN401 - any field
    """Two hours of alice's on four cores in October, under physics, ended."""
    empty = {name: "" if kind is str else 0 for name, kind in JobRecord.__annotations__.items()}
    start = at("2026-10-12T08:00:00")
    usual = {
        "cluster": "alpha", "job_id": job_id, "submit": start - 60, "start": start,
        "end": start + 7200, "state": "COMPLETED", "user": "alice", "account": "physics",
        "alloc_tres": (("cpu", 4), ("mem", 8192), ("node", 1)), "req_tres": (), "alloc_cpus": 4,
        "partition": "main", "qos": "normal", "energy_j": -1, "nodes": 1,
        "observed": start + 7300,
    }  # fmt: skip
    return JobRecord(**{**empty, **usual, **over})


@dataclass(frozen=True)
class Books:
    """A migrated database with a card and accounts."""

    engine: Engine
    url: str

    def ingest(self, *runs: JobRecord) -> None:
        """Store runs as a collector does."""
        self.ingest_all(runs)

    def ingest_all(self, runs: Iterable[JobRecord]) -> None:
        """Store runs as a collector does, in batches of 500."""
        everything = list(runs)
        service = Ingest(self.engine, Rating(self.engine), "test")
        for number, first in enumerate(range(0, len(everything), 500), 1):
            rows = [Row(run, content_text(run)) for run in everything[first : first + 500]]
            service.apply(service.prepare(Decoded(number, rows, clean=True)))

    def issue(self, period: int = 202610, now_s: int = NOVEMBER, **over: Any) -> list[Outcome]:  # noqa: ANN401
        """Issue a period and say what became of each account."""
        return list(issue(self.engine, an_order(period, now_s, **over)))


def an_order(period: int = 202610, now_s: int = NOVEMBER, **over: Any) -> Order:  # noqa: ANN401
    """An order to issue October on 2 November."""
    usual = {"seller": SELLER, "settings": DocumentSettings(), "person": "tester"}
    return Order(period=period, now_s=now_s, **{**usual, **over})


def open_books(url: str, card: str = MAHIDOL.read_text("utf-8")) -> Books:
    """Books in a database of this URL, with the sample card and two accounts."""
    engine = open_engine(url)
    upgrade(engine)
    with transaction(engine) as conn:
        load_card(conn, card, "mahidol.yaml", NOVEMBER, "tester")
        load_accounts(conn, ACCOUNTS, "accounts.yaml")
    return Books(engine, url)
