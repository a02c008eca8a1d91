"""The real programs between a lab and a database: one agent, one collector."""

import json
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple, cast

from tests.slurm.conf import CLUSTER
from tests.slurm.lab import Lab
from tests.system.programs import Running, start_collector

REPOSITORY = Path(__file__).parents[2]
RATE_CARD = REPOSITORY / "packaging" / "rates" / "mahidol.yaml"
POLL_INTERVAL_S = 5
AGENT_SETTINGS = """\
[agent]
name = "lab-agent"
[collector]
address = "127.0.0.1:{port}"
[spool]
path = "{folder}/spool.db"
[metrics]
listen = "127.0.0.1:0"
[kick]
file = "{kick}"
[[source]]
kind = "sacct"
clusters = ["{cluster}"]
slurm_conf = "{slurm_conf}"
poll_interval_s = {poll_interval_s}
"""


class Run(NamedTuple):
    """What ``jobledger jobs --json`` says of one run, as far as the tests look."""

    job_id: int
    submit: int
    end: int
    user: str
    account: str
    elapsed_s: int
    cpu_s: int
    gpu_s: int
    mem_mib_s: int
    node_s: int
    cost: Decimal
    list_cost: Decimal

    @property
    def key(self) -> tuple[int, int]:
        """Identity within the lab's one cluster."""
        return self.job_id, self.submit


class River:
    """One agent and one collector over one database, started and killed as wanted."""

    def __init__(
        self,
        url: str,
        port: int,
        lab: Lab,
        folder: Path,
        *,
        poll_interval_s: int = POLL_INTERVAL_S,
        kick: str = "",
    ) -> None:
        """``kick`` is the file that EpilogSlurmctld touches; none without it."""
        self.name = url.partition(":")[0]
        self.url = url
        self.folder = folder
        self.first_seen: dict[tuple[int, int], float] = {}
        self.port = port
        self._lab = lab
        self._collector: Running | None = None
        self._agent: Running | None = None
        (folder / "agent.toml").write_text(
            AGENT_SETTINGS.format(
                port=port,
                folder=folder,
                cluster=CLUSTER,
                slurm_conf=lab.slurm_conf,
                poll_interval_s=poll_interval_s,
                kick=kick,
            )
        )

    def open(self) -> None:
        """Make the tables, load the rate card, start collector and agent."""
        self.command("jobledger_collector.cli", "migrate", "--db", self.url)
        self.jobledger("rates", "load", str(RATE_CARD))
        self.start_collector()
        self.start_agent()

    def start_collector(self) -> None:
        """Start the collector, on the same port as before."""
        self._collector = start_collector(self.url, self.port, self.folder / "collector.log")

    def start_agent(self) -> None:
        """Start the agent on its spool."""
        self._agent = Running(
            "jobledger_agent.cli", "run", "--config", str(self.folder / "agent.toml"),
            log=self.folder / "agent.log",
        )  # fmt: skip

    def kill_collector(self) -> None:
        """Kill -9."""
        if self._collector is not None:
            self._collector.kill()

    def kill_agent(self) -> None:
        """Kill -9."""
        if self._agent is not None:
            self._agent.kill()

    def must_run(self) -> None:
        """Fail when one of the programs has ended by itself."""
        for program in (self._agent, self._collector):
            assert program is not None
            assert program.process.poll() is None, program.output()[-3000:]

    def close(self) -> None:
        """Leave nothing running."""
        self.kill_agent()
        self.kill_collector()

    def command(self, module: str, *arguments: str) -> str:
        """Run one of our programs to its end; what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{module} {arguments}: {done.stderr}"
        return done.stdout

    def jobledger(self, *arguments: str) -> str:
        """Run the ``jobledger`` program on this database."""
        return self.command("jobledger_collector.admin.cli", "--db", self.url, *arguments)

    def runs(self) -> list[Run]:
        """Every run in the books; notes when each ended one was first seen here."""
        found = [_run(json.loads(line)) for line in self.jobledger("jobs", "--json").splitlines()]
        now_s = time.time()
        for run in found:
            if run.end:
                self.first_seen.setdefault(run.key, now_s)
        return found

    def quarantined(self) -> list[dict[str, object]]:
        """What was kept aside."""
        lines = self.jobledger("quarantine", "--json").splitlines()
        return [cast("dict[str, object]", json.loads(line)) for line in lines]

    def log(self) -> str:
        """The end of what both programs said, for a failed assertion."""
        names = ("agent.log", "collector.log")
        return "\n".join((self.folder / name).read_text()[-3000:] for name in names)


def _run(row: dict[str, str]) -> Run:
    return Run(
        job_id=int(row["job_id_raw"]),
        submit=int(row["submit"]),
        end=int(row["end"] or 0),
        user=row["user"],
        account=row["account"],
        elapsed_s=int(row["elapsed_s"]),
        cpu_s=int(row["cpu_s"]),
        gpu_s=int(row["gpu_s"]),
        mem_mib_s=int(row["mem_mib_s"]),
        node_s=int(row["node_s"]),
        cost=Decimal(row["cost"]),
        list_cost=Decimal(row["list_cost"]),
    )
