"""Bad input, each kind: one clear sentence, a non-zero exit, and nothing lost."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import func, select

from jobledger_collector.store.engine import open_engine
from jobledger_collector.store.migrate import upgrade
from jobledger_collector.store.schema import job_runs, quarantine
from tests.agent.dumps import DATA
from tests.ports import free_port
from tests.system.programs import Running, start_agent_once, start_collector

WHOLE = DATA / "slurm-22.05" / "safe-billing-X.txt"
LONG_LINE_BYTES = 100_000_000


class River(NamedTuple):
    """A running collector and its database."""

    url: str
    port: int
    folder: Path

    def deliver(self, dump: Path) -> tuple[int, str]:
        """Deliver one dump; return the agent's exit status and last words."""
        agent = start_agent_once(
            self.port, self.folder / "spool.db", str(dump), log=self.folder / f"{dump.name}.log"
        )
        status = agent.process.wait(timeout=120)
        return status, agent.output().strip().splitlines()[-1]

    def counts(self) -> tuple[int, int]:
        """Return runs stored and records in quarantine."""
        engine = open_engine(self.url)
        with engine.connect() as conn:
            runs = conn.execute(select(func.count()).select_from(job_runs)).scalar_one()
            kept = conn.execute(select(func.count()).select_from(quarantine)).scalar_one()
        engine.dispose()
        return int(runs), int(kept)


@pytest.fixture
def river(sqlite_url: str, tmp_path: Path) -> Iterator[River]:
    port = free_port()
    with start_collector(sqlite_url, port, tmp_path / "collector.log"):
        yield River(sqlite_url, port, tmp_path)


def test_a_truncated_dump_keeps_what_came_before(river: River) -> None:
    dump = river.folder / "truncated.txt"
    whole = WHOLE.read_bytes()
    cut = whole.index(b"\n", len(whole) // 2) + 40
    dump.write_bytes(whole[:cut])
    status, said = river.deliver(dump)
    assert status == 5
    assert "truncated.txt is not whole" in said
    assert "take the dump again" in said
    runs, kept = river.counts()
    assert runs > 150
    assert kept == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.txt", b"", "is empty"),
        ("garbage.bin", bytes(range(256)) * 4096, "is binary"),
        (
            "passwd.txt",
            b"root:x:0:0:root:/root:/bin/bash\n" * 9,
            "not a dump of Slurm's accounting",
        ),
        ("page.html", b"<!doctype html><title>x</title>", "not a dump of Slurm's accounting"),
        ("other.json", json.dumps({"nodes": [1]}).encode(), "other.json"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    river: River, name: str, content: bytes, says: str
) -> None:
    dump = river.folder / name
    dump.write_bytes(content)
    status, said = river.deliver(dump)
    assert status == 5
    assert says in said
    assert "sacct" in said
    assert river.counts() == (0, 0)


@pytest.mark.timeout(120)
def test_a_line_of_100_mb_costs_only_itself(river: River) -> None:
    header, *records = WHOLE.read_bytes().splitlines(keepends=True)
    dump = river.folder / "long.txt"
    with dump.open("wb") as out:
        out.writelines([header, *records[:9]])
        for _ in range(100):
            out.write(b"x" * (LONG_LINE_BYTES // 100))
        out.writelines([b"\n", *records[9:19]])
    status, _ = river.deliver(dump)
    assert status == 0
    assert river.counts() == (19, 1)


@pytest.mark.parametrize(
    ("module", "arguments", "status", "says"),
    [
        ("jobledger_agent.cli", ("run", "--config", "/nope.toml"), 3, "/nope.toml"),
        ("jobledger_collector.cli", ("serve", "--config", "/nope.toml"), 3, "/nope.toml"),
        ("jobledger_web.cli", ("serve", "--config", "/nope.toml"), 3, "/nope.toml"),
        ("jobledger_collector.admin.cli", ("--config", "/nope.toml", "jobs"), 3, "/nope.toml"),
        (
            "jobledger_collector.cli",
            ("serve", "--db", "postgresql://nobody:hidden@127.0.0.1:1/x"),
            4,
            "is not available",
        ),
        (
            "jobledger_collector.admin.cli",
            ("--db", "postgresql://nobody:hidden@127.0.0.1:1/x", "jobs"),
            4,
            "is not available",
        ),
        ("jobledger_collector.admin.cli", ("--db", "nonsense", "jobs"), 4, "sqlite:////"),
        ("jobledger_web.cli", ("serve", "--db", "mysql://x/y"), 4, "neither SQLite nor PostgreSQL"),
        ("jobledger_web.cli", ("serve", "--db", "sqlite:////nope/x.db"), 4, "There is no database"),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    module: str, arguments: tuple[str, ...], status: int, says: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={name: value for name, value in os.environ.items() if "JOBLEDGER" not in name},
    )
    assert done.returncode == status, done.stderr
    (sentence,) = done.stderr.strip().splitlines()
    assert says in sentence
    assert "hidden" not in sentence


def test_a_wrong_rate_card_names_file_line_and_key(tmp_path: Path, sqlite_url: str) -> None:
    card = tmp_path / "card.yaml"
    card.write_text("schema: jobledger.ratecard/1\ncard: x\nversion: 1\nprices: 3\n")
    done = subprocess.run(
        [
            sys.executable, "-m", "jobledger_collector.admin.cli", "--db", sqlite_url,
            "rates", "load", str(card),
        ],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 5
    assert "card.yaml, line 4: prices: unknown key" in done.stderr


@pytest.mark.parametrize(
    ("module", "option"),
    [
        ("jobledger_collector.cli", "--listen"),
        ("jobledger_collector.cli", "--metrics-listen"),
        ("jobledger_web.cli", "--listen"),
    ],
)
def test_a_busy_port_is_one_sentence(tmp_path: Path, module: str, option: str) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    upgrade(open_engine(url))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = () if option == "--listen" else ("--listen", f"127.0.0.1:{free_port()}")
        program = Running(
            module, "serve", "--db", url, option, f"127.0.0.1:{port}", *other, log=tmp_path / "log"
        )
        with program:
            assert program.process.wait(timeout=60) == 1
    (sentence,) = program.output().strip().splitlines()
    assert f"127.0.0.1:{port}" in sentence
