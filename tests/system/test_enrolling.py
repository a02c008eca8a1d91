"""Enrolment, rotation and revocation with the real programs, over TLS."""

import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from sqlalchemy import func, select

from jobledger_collector.authority import for_agent, for_server, load_authority, new_authority
from jobledger_collector.clock import now_s
from jobledger_collector.store.engine import open_engine, reading
from jobledger_collector.store.schema import job_runs
from tests.ports import free_port
from tests.system.bulk import write_dump
from tests.system.programs import Running

WAIT_S: Final = 40
HOUR_S: Final = 3_600


class Site:
    """A collector with an authority of its own, and the folder of one agent."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.port, self.metrics_port = free_port(), free_port()
        self.ca = folder / "ca"
        self.settings = folder / "agent.toml"
        self.secrets = folder / "secrets"
        self.inbox = folder / "inbox"
        self.inbox.mkdir()
        (folder / "jobledger.toml").write_text(
            f'[agents]\nca_directory = "{self.ca}"\naddress = "localhost:{self.port}"\n'
        )
        self.admin("agents", "ca", "init", "--host", "localhost", "--host", "127.0.0.1")
        self.collector: Running | None = None
        self.start()

    def start(self, *, asks_certificates: bool = True) -> None:
        """Start the collector and wait until it listens."""
        client = f'client_ca_file = "{self.ca}/ca.pem"\n' if asks_certificates else ""
        settings = self.folder / "collector.toml"
        settings.write_text(
            f'[database]\nurl = "{self.url}"\n'
            f'[server]\nlisten = "127.0.0.1:{self.port}"\n'
            f'[metrics]\nlisten = "127.0.0.1:{self.metrics_port}"\n'
            f'[tls]\ncertificate_file = "{self.ca}/collector.pem"\n'
            f'key_file = "{self.ca}/collector.key"\n{client}'
        )
        self.collector = Running(
            "jobledger_collector.cli", "serve", "--config", str(settings),
            log=self.folder / "collector.log",
        )  # fmt: skip
        wait_until(self.listens, self.collector.output)

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def admin(self, *arguments: str, status: int = 0) -> str:
        """Run ``jobledger``; returns what it printed."""
        return run_program(
            "jobledger_collector.admin.cli",
            *("--config", str(self.folder / "jobledger.toml"), "--db", self.url),
            *arguments,
            status=status,
        )

    def enroll(self, code: str, *options: str, status: int = 0) -> str:
        """Run ``jobledger-agent enroll`` with a code on its standard input."""
        arguments = ("--config", str(self.settings), "--directory", str(self.secrets), *options)
        return run_program("jobledger_agent.cli", "enroll", *arguments, given=code, status=status)

    def once(self, status: int = 0) -> str:
        """Run ``jobledger-agent once`` with the enrolled settings."""
        return run_program(
            "jobledger_agent.cli", "once", "--config", str(self.settings), "--timeout", "3",
            status=status,
        )  # fmt: skip

    def configure(self) -> None:
        """Write settings as a person had them before there was an enrolment."""
        self.settings.write_text(
            '# ours\n[agent]\nname = "old"  # named by hand\n\n'
            f'[spool]\npath = "{self.folder}/spool.db"\n\n'
            '[metrics]\nlisten = ""\n\n'
            f'[[source]]\nkind = "file"\npath = "{self.inbox}/bulk.txt"\npoll_interval_s = 1\n'
        )

    def stored(self) -> int:
        """Return how many runs the books hold."""
        engine = open_engine(self.url)
        with reading(engine) as conn:
            found = conn.execute(select(func.count()).select_from(job_runs)).scalar_one()
        engine.dispose()
        return int(found)

    def metric(self, name: str) -> str:
        """Return the lines of one metric of the collector."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as page:
            text = page.read().decode()
        return "\n".join(line for line in text.splitlines() if line.startswith(name))


def run_program(module: str, *arguments: str, given: str = "", status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        input=given, capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == status, (arguments, done.stdout, done.stderr)
    return done.stdout if status == 0 else done.stderr


def wait_until(is_so: Callable[[], bool], said: Callable[[], str]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, said()[-2_000:]
        time.sleep(0.1)


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(database_url, tmp_path)
    made.configure()
    yield made
    if made.collector:
        made.collector.kill()


@pytest.fixture
def sqlite_site(sqlite_url: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(sqlite_url, tmp_path)
    made.configure()
    yield made
    if made.collector:
        made.collector.kill()


def test_one_command_on_each_side_and_the_agent_reports(site: Site) -> None:
    write_dump(site.inbox / "bulk.txt", 300)
    code = site.admin("agents", "add", "bulk", "--name", "head-1", "--issue-certificate")
    assert max(map(len, code.splitlines())) <= 76
    told = site.enroll(code)
    assert "admits it" in told
    assert "[collector]" in told, "settings that are there are not changed unasked"
    assert 'name = "old"' in site.settings.read_text()
    assert {path.stat().st_mode & 0o777 for path in site.secrets.iterdir()} == {0o600}
    assert f"changed {site.settings}" in site.enroll(code, "--write")
    assert site.settings.read_text().startswith("# ours\n[agent]\n")
    assert "says all of this already" in site.enroll(code, "--write")
    site.once()
    assert site.stored() == 300
    assert "head-1" in site.admin("agents")
    show = site.admin("agents", "show", "head-1")
    assert "certificate spiffe://jobledger/agent/head-1" in show
    assert "clusters bulk" in show


def test_what_is_not_enrolled_for_it_is_refused(sqlite_site: Site) -> None:
    site = sqlite_site
    write_dump(site.inbox / "bulk.txt", 20)
    code = site.admin("agents", "add", "alpha", "--name", "head-1", "--issue-certificate")
    site.enroll(code, "--write")
    assert "Agent head-1 is enrolled for alpha, not for bulk" in site.once(status=1)
    assert site.stored() == 0
    taken = site.admin("agents", "add", "alpha", "--name", "head-2", status=1)
    assert "Cluster alpha belongs to agent head-1" in taken
    again = site.admin("agents", "add", "alpha", "--name", "head-1", status=1)
    assert "There is an agent head-1 already" in again


def test_a_revoked_agent_is_told_so(sqlite_site: Site) -> None:
    site = sqlite_site
    code = site.admin("agents", "add", "bulk", "--issue-certificate")
    site.enroll(code, "--write")
    write_dump(site.inbox / "bulk.txt", 20)
    assert "reports no more" in site.admin("agents", "revoke", "bulk")
    assert "was revoked" in site.once(status=1)
    assert "was revoked" in site.enroll(code, status=1)
    assert site.stored() == 0
    site.admin("agents", "remove", "bulk")
    site.enroll(site.admin("agents", "add", "bulk", "--issue-certificate"), "--write")
    site.once()
    assert site.stored() == 20


def test_token_and_certificates_rotate_under_load_without_a_restart(site: Site) -> None:
    add = ("agents", "add", "bulk", "--issue-certificate")
    site.enroll(site.admin(*add), "--write")
    write_dump(site.inbox / "bulk.txt", 40_000)
    arguments = ("run", "--config", str(site.settings))
    with Running("jobledger_agent.cli", *arguments, log=site.folder / "agent.log") as agent:
        wait_until(lambda: site.stored() > 0, agent.output)
        before = served_serial(site.port)
        expiry = site.metric("jobledger_collector_certificate_expiry")
        site.admin("agents", "ca", "server", "--host", "localhost", "--days", "30")
        assert served_serial(site.port) != before, "the next handshake has the new certificate"
        assert site.metric("jobledger_collector_certificate_expiry") != expiry
        rotate = ("agents", "rotate", "bulk", "--grace-days", "0", "--issue-certificate")
        site.enroll(site.admin(*rotate), "--write")
        wait_until(lambda: site.stored() == 40_000, agent.output)
        write_dump(site.inbox / "more.txt", 40_100)
        shutil.move(site.inbox / "more.txt", site.inbox / "bulk.txt")
        wait_until(lambda: site.stored() == 40_100, agent.output)
        assert agent.stop() == 0


def served_serial(port: int) -> int:
    """Return the serial number of the certificate that a listener shows now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as tls:
        der = tls.getpeercert(binary_form=True)
    assert der
    return x509.load_der_x509_certificate(der).serial_number


def test_an_expired_or_foreign_certificate_is_refused_with_a_sentence(sqlite_site: Site) -> None:
    site = sqlite_site
    site.enroll(site.admin("agents", "add", "bulk", "--issue-certificate"), "--write")
    write_dump(site.inbox / "bulk.txt", 5)
    authority = load_authority(site.ca)
    expired = for_agent(authority, "bulk", now_s() - 25 * HOUR_S, days=1)
    (site.secrets / "agent.pem").write_bytes(expired.certificate)
    (site.secrets / "agent.key").write_bytes(expired.key)
    assert "expired on" in site.once(status=3)
    foreign, _ = new_authority("elsewhere", now_s())
    theirs = for_agent(foreign, "bulk", now_s())
    (site.secrets / "agent.pem").write_bytes(theirs.certificate)
    (site.secrets / "agent.key").write_bytes(theirs.key)
    assert "cannot be reached" in site.once(status=1)
    mine = for_agent(authority, "bulk", now_s())
    (site.secrets / "agent.pem").write_bytes(mine.certificate)
    (site.secrets / "agent.key").write_bytes(mine.key)
    past = for_server(authority, ["localhost"], now_s() - 25 * HOUR_S, days=1)
    (site.ca / "collector.key").write_bytes(past.key)
    (site.ca / "collector.pem").write_bytes(past.certificate)
    assert "certificate" in site.once(status=1)
    assert site.stored() == 0
    site.admin("agents", "ca", "server", "--host", "localhost")
    site.once()
    assert site.stored() == 5


def test_a_token_alone_will_do_where_no_certificates_are_asked(sqlite_site: Site) -> None:
    site = sqlite_site
    assert site.collector
    site.collector.stop()
    site.start(asks_certificates=False)
    site.enroll(site.admin("agents", "add", "bulk"), "--write")
    assert not (site.secrets / "agent.pem").exists()
    write_dump(site.inbox / "bulk.txt", 5)
    site.once()
    assert site.stored() == 5
    (site.secrets / "token").write_text("x" * 43 + "\n")
    site.inbox.joinpath("bulk.txt").unlink()
    write_dump(site.inbox / "bulk.txt", 9)
    assert "none of its own" in site.once(status=1)


BROKEN: list[tuple[str, Callable[[str], str], str]] = [
    ("a line is missing", lambda code: "\n".join(code.splitlines()[:-2]), "must be given whole"),
    ("a letter changed", lambda code: code.replace("a", "b", 1), "copy all of its lines|no code"),
    ("another form", lambda code: code.replace("jobledger1", "jobledger2", 1), "form 2"),
    ("nothing", lambda _: "", "no code"),
]


def test_a_code_that_is_not_whole_changes_nothing(sqlite_site: Site) -> None:
    site = sqlite_site
    code = site.admin("agents", "add", "bulk", "--issue-certificate")
    for what, spoil, says in BROKEN:
        said = site.enroll(spoil(code), status=1)
        assert any(part in said for part in says.split("|")), (what, said)
    assert "would write" in site.enroll(code, "--dry-run")
    assert not site.secrets.exists()
    site.settings.unlink()
    site.enroll("\r\n".join(code.splitlines()) + "\n\n")
    assert 'clusters = ["bulk"]' in site.settings.read_text()
