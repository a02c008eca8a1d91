"""One agent, one collector and their network, all real, and the invariant over them.

Whatever a test does to them, in the end ``assert_exact`` compares what the database
holds with what the test knows that Slurm had.
"""

import json
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import Engine, text

from jobledger_collector.store.engine import open_engine
from tests.faults.nursery import PATH, shared
from tests.faults.proxy import Proxy
from tests.faults.truth import Sums
from tests.ports import free_port
from tests.system.programs import Running, start_collector

PATIENCE_S: Final = 30.0
LOOK_EVERY_S: Final = 0.02
AGENT: Final = "jobledger_agent.cli"
COLLECTOR: Final = "jobledger_collector.cli"
ADMIN: Final = "jobledger_collector.admin.cli"
CLUSTER: Final = "alpha"


def until(what: str, condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Wait until something holds; fails with ``what`` if it never does."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            message = f"not after {patience_s:.0f} s: {what}"
            raise AssertionError(message)
        time.sleep(LOOK_EVERY_S)


class World:
    """Starts and kills the programs of one test; a context manager that leaves nothing running."""

    def __init__(self, url: str, folder: Path) -> None:
        """Start nothing yet but the proxy, which passes everything on."""
        self.url = url
        self.folder = folder
        self.spool = folder / "spool.db"
        self.dice = random.Random(folder.name)
        self.kills = 0
        self.port = free_port()
        self.metrics_port = free_port()
        self.collector: Running | None = None
        self.agents: list[Running] = []
        self._stack = ExitStack()
        self._engine: Engine | None = None

    def __enter__(self) -> Self:
        """Listen with the proxy."""
        self.proxy = self._stack.enter_context(Proxy(self.port))
        return self

    def __exit__(self, *_: object) -> None:
        """Kill what runs; these are not counted."""
        for program in (self.collector, *self.agents):
            if program:
                program.kill()
        if self._engine:
            self._engine.dispose()
        self._stack.close()

    @property
    def is_postgres(self) -> bool:
        """Which database it is; else SQLite."""
        return self.url.startswith("postgresql")

    @property
    def engine(self) -> Engine:
        """The test's own way into the database."""
        self._engine = self._engine or open_engine(self.url)
        return self._engine

    # --------------------------------------------------------------- programs

    def start_collector(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> Running:
        """Start the collector and wait until it listens."""
        log = self.folder / "collector.log"
        self.collector = start_collector(
            self.url,
            self.port,
            log,
            *arguments,
            environment=environment,
            starter=None if environment else shared(),
        )
        return self.collector

    def _of_collector(self) -> str:
        """What the collector does and last said, for a message."""
        if not self.collector:
            return "there is no collector"
        status = (
            "runs" if self.collector.is_running else f"ended {self.collector.process.returncode}"
        )
        return f"the collector {status}: {self.collector.output()[-2_000:]}"

    def kill_collector(self) -> None:
        """Kill -9 the collector."""
        assert self.collector
        self.kills += self.collector.kill()

    def start_agent(
        self,
        command: str,
        *arguments: str,
        name: str = "agent",
        port: int = 0,
        spool: Path | None = None,
        under: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        off_s: int = 0,
    ) -> Running:
        """Start ``jobledger-agent command``, its collector behind the proxy."""
        program = ("tests.faults.shifted", str(off_s), AGENT) if off_s else (AGENT,)
        address = f"127.0.0.1:{port or self.proxy.port}"
        agent = Running(
            *program, command, "--name", name, "--collector", address,
            "--spool", str(spool or self.spool), *arguments,
            log=self.folder / f"{name}.log", under=under,
            environment={"PYTHONPATH": PATH, **(environment or {})},
            starter=None if off_s or "PYTHONPATH" in (environment or {}) else shared(),
        )  # fmt: skip
        self.agents.append(agent)
        return agent

    def start_once(self, *dumps: Path | str, timeout_s: int = 60, **how: Any) -> Running:  # noqa: ANN401
        """Start an agent that delivers dumps to their end and exits."""
        inputs = [part for dump in dumps for part in ("--input", str(dump))]
        return self.start_agent("once", "--timeout", str(timeout_s), *inputs, **how)

    def kill_agent(self, agent: Running) -> None:
        """Kill -9 an agent."""
        self.kills += agent.kill()

    def delivers(self, *dumps: Path | str, **how: Any) -> None:  # noqa: ANN401
        """Run an agent over dumps to its end; it must say that all was delivered."""
        self.finishes(self.start_once(*dumps, **how))

    def finishes(self, agent: Running, status: int = 0, patience_s: float = PATIENCE_S) -> None:
        """Wait for the agent's end, which must be ``status``."""
        try:
            found = agent.process.wait(patience_s)
        except subprocess.TimeoutExpired as error:
            message = f"the agent does not end: {agent.output()[-2_000:]}\n{self._of_collector()}"
            raise AssertionError(message) from error
        assert found == status, agent.output()[-3_000:]

    def admin(self, *arguments: str, status: int = 0) -> str:
        """Run ``jobledger arguments`` on the database; returns its stdout."""
        done = subprocess.run(
            [sys.executable, "-m", ADMIN, "--db", self.url, *arguments],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == status, done.stderr[-3_000:]
        return done.stdout

    def metric(self, name: str, port: int = 0) -> float | None:
        """A figure of the agent's metrics (or another port's); None while there is none."""
        where = f"http://127.0.0.1:{port or self.metrics_port}/metrics"
        try:
            with urllib.request.urlopen(where, timeout=5) as page:
                lines = page.read().decode().splitlines()
        except OSError:
            return None
        found = [line for line in lines if line.startswith(name)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found) if found else None

    def settings(self, name: str, body: str) -> Path:
        """Write a settings file."""
        path = self.folder / name
        path.write_text(body, encoding="utf-8")
        return path

    # -------------------------------------------------------------- invariant

    def count(self, table: str, where: str = "1 = 1") -> int:
        """Rows of a table."""
        return int(self.ask(f"SELECT count(*) FROM {table} WHERE {where}")[0][0])

    def stored(self, cluster: str = CLUSTER) -> Sums:
        """What the database holds of a cluster: its runs, and what stands charged for them."""
        (figures,) = self.ask(
            "SELECT count(*), sum(elapsed_s), sum(cpu_s), sum(gpu_s), sum(mem_mib_s),"
            f" sum(node_s) FROM job_runs WHERE cluster = '{cluster}' AND \"end\" > 0"
        )
        costs = self.ask(
            "SELECT p.unit_e8, sum(c.quantity_micro) FROM charges c JOIN prices p"
            f" ON p.id = c.price_id WHERE c.cluster = '{cluster}' AND c.superseded_by = 0"
            " GROUP BY p.unit_e8"
        )
        cost_e14 = sum(int(price) * int(quantity) for price, quantity in costs)
        return Sums(*(int(figure or 0) for figure in [*figures, cost_e14]))

    def assert_exact(
        self, expected: Sums, *, quarantined: int = 0, revisions: int = 0, cluster: str = CLUSTER
    ) -> None:
        """Σ stored + Σ quarantined = Σ in Slurm, nothing twice, nothing replaced unasked."""
        found = self.stored(cluster)
        assert found == expected, f"stored {found}, in Slurm {expected}"
        counts = {
            "quarantined": (self.count("quarantine"), quarantined),
            "without a reason": (self.count("quarantine", "reason = ''"), 0),
            "revisions": (self.count("run_revisions"), revisions),
        }
        wrong = {what: pair for what, pair in counts.items() if pair[0] != pair[1]}
        assert not wrong, f"found and expected: {wrong}"

    def ask(self, query: str) -> Sequence[Any]:
        """Ask the database; returns the rows."""
        with self.engine.connect() as connection:
            return connection.execute(text(query)).all()


def said(agent: Running, *words: str) -> bool:
    """Whether a program's log has all these words."""
    return all(word in agent.output() for word in words)


def last_json(output: str) -> dict[str, object]:
    """The last JSON object that a program wrote."""
    found: dict[str, object] = json.loads(output.strip().splitlines()[-1])
    return found
