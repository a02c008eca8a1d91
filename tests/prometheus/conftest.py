"""A real Prometheus that scrapes a real agent and a real collector, while records pass.

Slurm's part is played by programs that answer from files: what is tested here is
what the two programs tell of themselves. Everything is started once.
"""

import json
import re
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from jobledger_agent.spooling.spool import Spool
from tests.agent.test_doctor import authority, signed
from tests.agent.test_live import FakeSlurm
from tests.agent.test_sacct import SACCTMGR
from tests.ports import free_port
from tests.system.programs import Running

REPOSITORY: Final = Path(__file__).parents[2]
RULES: Final = REPOSITORY / "packaging" / "prometheus" / "jobledger.rules.yml"
TOKEN: Final = "4f1c2d3e4b5a69788796a5b4c3d2e1f0"  # made up for this test
SDIAG: Final = "#!/bin/sh\nprintf 'DBD Agent queue size: 0\\nJobs running:   1\\n'\n"
READY_WITHIN_S: Final = 60
ENDED_JOBS: Final = 5
SPOOL_BYTES: Final = 16 << 20
AGENT: Final = """\
[agent]
name = "slurm-1"
[collector]
address = "127.0.0.1:{port}"
ca_file = "{folder}/ca.pem"
token_file = "{folder}/token"
[spool]
path = "{folder}/spool/spool.db"
max_bytes = {spool_bytes}
[metrics]
listen = "127.0.0.1:{agent_metrics}"
[kick]
file = "{folder}/kick"
[[source]]
kind = "sacct"
clusters = ["alpha"]
sacct = "{folder}/sacct"
sdiag = "{folder}/sdiag"
sacctmgr = "{folder}/sacctmgr"
scontrol = "/nonexistent/scontrol"
slurm_conf = "{folder}/sdiag"
poll_interval_s = 1
overlap_s = 60
lookback_s = 3600
sweep_days = 1
"""
COLLECTOR: Final = """\
[database]
url = "sqlite:///{folder}/jobledger.db"
[server]
listen = "127.0.0.1:{port}"
token_file = "{folder}/token"
[tls]
certificate_file = "{folder}/collector.pem"
key_file = "{folder}/collector.key"
[metrics]
listen = "127.0.0.1:{collector_metrics}"
"""
PROMETHEUS: Final = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: jobledger-agent
    static_configs: [{{targets: ["127.0.0.1:{agent_metrics}"]}}]
  - job_name: jobledger-collector
    static_configs: [{{targets: ["127.0.0.1:{collector_metrics}"]}}]
"""


class Watched(NamedTuple):
    """A running river and the Prometheus that watches it."""

    prometheus: int
    agent_metrics: int
    collector_metrics: int

    def ask(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON
        """What Prometheus' API answers."""
        query = urllib.parse.urlencode(parameters)
        url = f"http://127.0.0.1:{self.prometheus}/api/v1/{path}?{query}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            document = json.load(answer)
        assert document["status"] == "success", document
        return document["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression now."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def metrics(self, program: str) -> str:
        """What a program itself serves."""
        port = self.agent_metrics if program == "agent" else self.collector_metrics
        return read(f"http://127.0.0.1:{port}/metrics")


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own
        text: str = answer.read().decode()
    return text


def wait_for(what: str, ready: Any, logs: list[Path]) -> None:  # noqa: ANN401 - any predicate
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            if ready():
                return
        except (OSError, AssertionError):
            pass  # not up yet
        if time.monotonic() > deadline:
            told = "\n".join(log.read_text(errors="replace")[-2_000:] for log in logs)
            raise AssertionError(f"{what} after {READY_WITHIN_S} s\n{told}")
        time.sleep(0.2)


def sample(text: str, name: str) -> float:
    """The value of the first sample of a name; -1 without one."""
    found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else -1.0


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    ports = [free_port() for _ in range(4)]
    assert len(set(ports)) == len(ports)
    port, agent_metrics, collector_metrics, prometheus_port = ports
    authority(folder)
    signed(folder, "collector", "IP:127.0.0.1", 90)
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    (folder / "kick").touch()
    (folder / "spool").mkdir()
    slurm = a_slurm(folder)
    for name, text in (
        ("agent.toml", AGENT), ("collector.toml", COLLECTOR), ("prometheus.yml", PROMETHEUS),
    ):  # fmt: skip
        (folder / name).write_text(
            text.format(
                spool_bytes=SPOOL_BYTES, folder=folder, port=port, rules=RULES,
                agent_metrics=agent_metrics,
                collector_metrics=collector_metrics,
            )
        )  # fmt: skip
    found = Watched(prometheus_port, agent_metrics, collector_metrics)
    logs = [folder / f"{name}.log" for name in ("collector", "agent", "prometheus")]
    with ExitStack() as running:
        module = "jobledger_collector.cli"
        collector = Running(module, "serve", "--config", str(folder / "collector.toml"),
                            log=logs[0])  # fmt: skip
        running.enter_context(collector)
        wait_for("no collector", lambda: is_open(port), logs[:1])
        running.enter_context(prometheus(folder, prometheus_port, logs[2]))
        with agent(folder, logs[1]) as first:
            wait_for("records do not pass", lambda: acknowledged(found) >= ENDED_JOBS, logs)
            first.stop()
        a_day_passes(folder / "spool" / "spool.db")
        running.enter_context(agent(folder, logs[1]))
        # More of them while Prometheus looks: rates need a change to see.
        wait_for("Prometheus does not scrape", lambda: len(found.query("up == 1")) == 2, logs)
        (folder / "kick").touch()
        slurm.ends(slurm.starts(500))
        slurm.tell()
        wait_for("the river does not settle", lambda: is_settled(found), logs)
        yield found


def agent(folder: Path, log: Path) -> Running:
    module = "jobledger_agent.cli"
    return Running(module, "run", "--config", str(folder / "agent.toml"), log=log)


def a_day_passes(path: Path) -> None:
    """Make the position's memory of the last sweep a day older: then one is due."""
    with closing(Spool(path, SPOOL_BYTES)) as spool:
        (mark,) = spool.marks()
        position = json.loads(spool.position(mark.source))
        position["alpha"]["sweep"][0] -= 86_400
        position["alpha"]["open_at"] -= 86_400  # what runs is asked for again at once
        spool.append(mark.source, (), json.dumps(position), mark.complete_through)


def a_slurm(folder: Path) -> FakeSlurm:
    """Programs that answer as Slurm's: five runs that ended, one that runs."""
    slurm = FakeSlurm(folder)
    for name, text in (("sdiag", SDIAG), ("sacctmgr", SACCTMGR)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for job_id in range(1, ENDED_JOBS + 1):
        slurm.ends(slurm.starts(job_id))
    slurm.starts(100)
    slurm.tell()
    return slurm


def prometheus(folder: Path, port: int, log: Path) -> "subprocess.Popen[bytes]":
    """Debian's Prometheus; closing the process object waits for its end."""
    with log.open("ab") as out:
        return Killed(
            [
                "prometheus", f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip


class Killed(subprocess.Popen[bytes]):
    """A process that does not outlive its block."""

    def __exit__(self, *about: object) -> None:
        self.kill()
        self.wait()


def is_open(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def acknowledged(found: Watched) -> float:
    text = found.metrics("agent")
    return sum(float(value) for value in re.findall(r"_records_total\{.*\} (\S+)", text))


def is_settled(found: Watched) -> bool:
    """Everything that comes only after a while has come, and was scraped more than once."""
    agent = found.metrics("agent")
    names = (
        "jobledger_agent_source_canary_success_timestamp_seconds",
        "jobledger_agent_source_sweep_through_timestamp_seconds",
        "jobledger_agent_clock_skew_seconds",
    )
    stored = 'rate(jobledger_collector_records_total{verdict="new"}[1m]) > 0'
    return not [
        what
        for what, is_there in (
            *((name, sample(agent, name) != -1) for name in names),
            ("the last run", acknowledged(found) >= 1),
            ("rates", bool(found.query(stored))),
            ("recordings", bool(found.query("jobledger:agent_records:rate5m > 0"))),
        )
        if not is_there
    ]
