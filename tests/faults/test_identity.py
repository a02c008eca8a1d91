"""Faults 32 to 35: who reports, and what time it is."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobledger_collector.authority import for_agent, load_authority
from tests.faults.fakeslurm import FakeSlurm
from tests.faults.truth import DELIMITER, Run, add_up, some_runs, write_runs
from tests.faults.world import AGENT, CLUSTER, World, said, until
from tests.system.programs import Running

DAY_S = 86_400
HOUR_S = 3_600
VALID_S = 7
AWAY_S = 1_800
SKEW = "jobledger_agent_clock_skew_seconds"
NAME = "agent"


class Site:
    """A world with enrolment: the agent proves who it is, over TLS if there is an authority."""

    def __init__(self, world: World, folder: Path) -> None:
        """Nothing is enrolled yet."""
        self.world = world
        self.secrets = folder / "secrets"
        self.ca = folder / "ca"
        self.settings = folder / "agent.toml"
        self.admin_settings = world.settings(
            "jobledger.toml",
            f'[agents]\nca_directory = "{self.ca}"\naddress = "127.0.0.1:{world.proxy.port}"\n',
        )
        self.slurm = FakeSlurm(folder)
        self.slurm.settings(folder)

    def admin(self, *arguments: str) -> str:
        """Run ``jobledger`` with these settings."""
        return self.world.admin("--config", str(self.admin_settings), *arguments)

    def enroll(self, code: str) -> None:
        """Take up a code on the agent's machine."""
        argv = [
            sys.executable, "-m", AGENT, "enroll", "--config", str(self.settings), "--directory",
            str(self.secrets), "--write", "--offline",
        ]  # fmt: skip
        done = subprocess.run(argv, input=code, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr

    def serve(self, *, tls: bool) -> None:
        """Start the collector, asking for certificates or not."""
        files = (
            f'[tls]\ncertificate_file = "{self.ca}/collector.pem"\n'
            f'key_file = "{self.ca}/collector.key"\nclient_ca_file = "{self.ca}/ca.pem"\n'
        )
        config = self.world.settings("collector.toml", files if tls else "")
        self.world.start_collector("--config", str(config))

    def start(self) -> Running:
        """Start the enrolled agent; it reads its Slurm each second."""
        agent = Running(
            AGENT, "run", "--config", str(self.settings), "--spool", str(self.world.spool),
            "--metrics-listen", f"127.0.0.1:{self.world.metrics_port}",
            log=self.world.folder / "agent.log",
        )  # fmt: skip
        self.world.agents.append(agent)
        return agent

    def ends(self, number: int) -> None:
        """Let five more runs end, and be in slurmdbd."""
        now = int(time.time()) - 5
        self.slurm.has(*(Run(100 * number + n, now - 60 - n, now - 60, now - n) for n in range(5)))

    def until_all_is_stored(self) -> None:
        """Wait until the ledger has what slurmdbd has, exactly."""
        until("all of it arrives", lambda: self.world.stored() == add_up(self.slurm.runs.values()))
        self.world.assert_exact(add_up(self.slurm.runs.values()))

    def nothing_arrives(self, agent: Running, *words: str) -> None:
        """Wait until the agent says why; what ended since then is not stored but waits."""
        stored = self.world.count("job_runs")
        self.ends(9)
        until(" ".join(words), lambda: said(agent, *words))
        until(
            "records wait",
            lambda: (
                self.world.metric("jobledger_agent_spool_records{") == 5
                or self.world.metric("jobledger_agent_spool_records") == 5
            ),
        )
        assert self.world.count("job_runs") == stored


@pytest.fixture
def site(world: World, tmp_path: Path) -> Site:
    return Site(world, tmp_path)


def test_fault_32_certificate_expires_and_is_renewed(site: Site) -> None:
    """It ends while the stream is open: no batch after that; the renewed one needs no restart."""
    site.admin("agents", "ca", "init", "--host", "127.0.0.1")
    site.enroll(site.admin("agents", "add", CLUSTER, "--name", NAME, "--issue-certificate"))
    authority = load_authority(site.ca)

    def install(begins: int) -> None:
        pair = for_agent(authority, NAME, begins, days=1)
        (site.secrets / "agent.key").write_bytes(pair.key)
        (site.secrets / "agent.pem").write_bytes(pair.certificate)

    install(int(time.time()) - DAY_S + VALID_S)
    ends = time.monotonic() + VALID_S
    site.serve(tls=True)
    site.ends(1)
    agent = site.start()
    site.until_all_is_stored()
    time.sleep(max(0.0, ends - time.monotonic()) + 1.0)
    site.nothing_arrives(agent, "expired")
    install(int(time.time()))
    site.until_all_is_stored()
    site.admin("agents", "ca", "server", "--host", "127.0.0.1", "--days", "30")
    site.world.proxy.cut()
    site.ends(2)
    site.until_all_is_stored()
    assert agent.is_running


def test_fault_33_agent_revoked_mid_stream(site: Site) -> None:
    """From its next batch on it is refused; what it read meanwhile waits for its next code."""
    site.serve(tls=False)
    site.enroll(site.admin("agents", "add", CLUSTER, "--name", NAME))
    site.ends(1)
    agent = site.start()
    site.until_all_is_stored()
    site.admin("agents", "revoke", NAME)
    site.nothing_arrives(agent, "revoked")
    site.admin("agents", "remove", NAME)
    site.enroll(site.admin("agents", "add", CLUSTER, "--name", NAME))
    site.until_all_is_stored()
    assert agent.is_running


def test_fault_34_agent_claims_anothers_cluster(world: World, site: Site) -> None:
    """Who says at once that it speaks for it is refused; a record smuggled in is kept aside."""
    site.serve(tls=False)
    site.enroll(site.admin("agents", "add", "beta", "--name", NAME))
    site.admin("agents", "add", CLUSTER, "--name", "owner")
    agent = site.start()
    until("it is refused", lambda: said(agent, "not for alpha"))
    agent.stop()
    mine = some_runs(2_500)
    others = [DELIMITER.join(run.fields(CLUSTER).values()) for run in some_runs(40, first_id=9_000)]
    dump = write_runs(world.folder / "dump.txt", mine, "beta")
    with dump.open("a", encoding="utf-8") as out:
        out.writelines(f"{line}\n" for line in others)
    finished = Running(
        AGENT, "once", "--config", str(site.settings), "--input", str(dump), "--spool",
        str(world.folder / "once.db"), log=world.folder / "once.log",
    )  # fmt: skip
    world.finishes(finished)
    world.assert_exact(add_up(mine), cluster="beta", quarantined=len(others))
    assert world.count("job_runs", f"cluster = '{CLUSTER}'") == 0


@pytest.mark.parametrize("days", [1, -1], ids=["ahead", "behind"])
def test_fault_35_clock_a_day_off(world: World, tmp_path: Path, days: int) -> None:
    """The agent's clock was wrong until half an hour ago, and is right since it came back.

    Nothing is lost or twice, and the skew is seen on both sides. Half an hour is
    longer than any overlap: what ended in it is found all the same.
    """
    slurm = FakeSlurm(tmp_path)
    config = slurm.settings(tmp_path)
    now = int(time.time())
    ends = [now - AWAY_S - n * HOUR_S for n in range(1, 60)]
    slurm.has(*(Run(n, end - 60, end - 60, end) for n, end in enumerate(ends, 1)))
    options = (
        "--config", str(config), "--metrics-listen", f"127.0.0.1:{world.metrics_port}",
    )  # fmt: skip
    world.start_collector()
    wrong = world.start_agent("run", *options, off_s=days * DAY_S - AWAY_S)
    seen = sum(run.end <= now + days * DAY_S - AWAY_S for run in slurm.runs.values())
    until("what it can see arrives", lambda: world.count("job_runs") == seen)
    until("its skew is seen", lambda: world.metric(SKEW))
    assert abs((world.metric(SKEW) or 0) - (days * DAY_S - AWAY_S)) < 60
    skews = "abs(clock_skew_ms) > 80000000"
    until("the collector sees it, too", lambda: world.count("agents", skews) == 1)
    until("it has read all", lambda: world.metric("jobledger_agent_source_last_success"))
    world.kill_agent(wrong)
    ago = int(time.time()) - AWAY_S + 200
    slurm.has(*(Run(1_000 + n, ago - 60, ago - 60, ago + n) for n in range(10)))
    world.start_agent("run", *options)
    until("all of it arrives", lambda: world.stored() == add_up(slurm.runs.values()))
    world.assert_exact(add_up(slurm.runs.values()))
