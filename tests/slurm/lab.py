"""A whole private Slurm on loopback: munge, MariaDB, slurmdbd, slurmctld, two nodes.

No systemd, no system user is made, nothing outside one directory is written.
Used by the tests, and by hand. As root its daemons and jobs have users of their own;
as anyone else all are that user's:

    python -m tests.slurm.lab up DIR      prints the environment to use
    python -m tests.slurm.lab down DIR

Stopping is by recorded process id, and only of processes that still are ours.
"""

import contextlib
import getpass
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.ports import free_ports
from tests.slurm import conf
from tests.slurm.conf import CLUSTER, Layout, Node
from tests.slurm.daemons import READY_TIMEOUT_S, Daemons, LabError

PROBE_TIMEOUT_S = 10
"""A Slurm command can hang for minutes while a daemon is not well."""
NODE_NAMES = ("n1", "n2")
PROGRAMS = ("munged", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd", "sacct")
# Accounts that every Debian has, so that jobs belong to different people.
ROOTS_JOB_USERS = ("games", "man")
ACCOUNTS = ("physics", "bio")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def missing_programs() -> list[str]:
    """What of a Slurm installation is not on this machine."""
    return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]


def loopback_address(host: str) -> str:
    """What ``host`` resolves to, which must be loopback: Slurm binds to it."""
    address = socket.gethostbyname(host)
    if not address.startswith("127."):
        raise LabError(
            f"this machine's name {host} resolves to {address}, not to loopback;"
            f" add the line '127.0.0.1 {host}' to /etc/hosts"
        )
    return address


class Lab:
    """One private Slurm in one directory. ``up`` starts it, ``down`` stops it."""

    def __init__(self, home: Path, *, tokens: bool = False, controller_lines: str = "") -> None:
        """``tokens``: the daemons take JSON Web Tokens, too.

        ``controller_lines`` are put at the end of the controller's slurm.conf.
        """
        self.home = home
        self._controller_lines = controller_lines
        self._tokens = tokens
        self.is_root = os.geteuid() == 0
        self.me = getpass.getuser()
        self.job_users = ROOTS_JOB_USERS if self.is_root else (self.me,)
        self.layout: Layout | None = None
        self._daemons = Daemons(home, self.environment)

    # ------------------------------------------------------------ for callers

    @property
    def slurm_conf(self) -> Path:
        """slurm.conf for clients."""
        return self.home / "etc" / "main" / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """All that a Slurm command needs to find this cluster."""
        return {"PATH": PATH, "LC_ALL": "C.UTF-8", "SLURM_CONF": str(self.slurm_conf)}

    def run(
        self, *command: str, user: str | None = None, timeout_s: int = PROBE_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a Slurm command, as another user if asked."""
        as_user = ["runuser", "-u", user, "--"] if user and user != self.me else []
        return subprocess.run(
            [*as_user, *command],
            env=self.environment | {"HOME": "/tmp"},  # noqa: S108 the users have no other
            cwd="/tmp",  # noqa: S108 theirs and ours
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=timeout_s,
            check=False,
        )

    def must(self, *command: str, user: str | None = None, timeout_s: int = 30) -> str:
        """Run a command and return what it printed; LabError when it fails."""
        done = self.run(*command, user=user, timeout_s=timeout_s)
        if done.returncode != 0:
            raise LabError(f"{' '.join(command)}: status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def query(self, sql: str) -> list[list[str]]:
        """Rows of slurmdbd's own database, as text."""
        assert self.layout is not None
        out = self.must(
            "mariadb", "--no-defaults", f"--socket={self.layout.database_socket}",
            "--user=root", "--batch", "--skip-column-names",
            "--execute", sql,
        )  # fmt: skip
        return [line.split("\t") for line in out.splitlines()]

    # ------------------------------------------------------------------- start

    def up(self) -> None:
        """Start every daemon and wait until jobs can run; when one does not, stop all: LabError."""
        absent = missing_programs()
        if absent:
            raise LabError(f"not installed: {', '.join(absent)}; run: make test-slurm")
        if (self.home / "etc").exists():
            raise LabError(f"{self.home} already holds a Slurm: take it down and remove it first")
        try:
            self._bring_up()
        except BaseException:
            self.down()
            raise

    def start_slurmdbd(self) -> None:
        """Start slurmdbd and wait until it answers."""
        self._daemons.start("slurmdbd", "slurmdbd", "-D")
        self._daemons.wait(
            "slurmdbd", lambda: self.must("sacctmgr", "-n", "show", "cluster") is not None
        )

    def stop_slurmdbd(self) -> None:
        """Stop slurmdbd: slurmctld keeps what it has to say."""
        self._daemons.stop("slurmdbd")

    def _bring_up(self) -> None:
        self._make_directories()
        self.layout = self._plan()
        if self.layout.jwt_key:
            self._make_jwt_key(self.layout.jwt_key)
        password = secrets.token_hex(16)
        self._write_files(self.layout, password)
        for tag in ("main", *NODE_NAMES):
            self._start_munged(tag)
        self._start_database(password)
        self.start_slurmdbd()
        self.must("sacctmgr", "-i", "add", "cluster", CLUSTER)
        self._daemons.start("slurmctld", "slurmctld", "-D")
        for node in self.layout.nodes:
            path = self.home / "etc" / node.name / "slurm.conf"
            self._daemons.start(
                f"slurmd-{node.name}", "slurmd", "-D", "-N", node.name, "-f", str(path)
            )
        self._daemons.wait("slurmctld", lambda: " is UP" in self.must("scontrol", "ping"))
        self._make_accounts()
        self._daemons.wait("the nodes", self._nodes_are_idle)

    def _make_directories(self) -> None:
        for name in ("munge", "mysql", "log", "pids", "state", "spool", "dev", "etc/main"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        for name in NODE_NAMES:
            (self.home / "etc" / name).mkdir(exist_ok=True)
            (self.home / "spool" / name).mkdir(exist_ok=True)
        for gpu in range(conf.GPUS_PER_NODE):
            (self.home / "dev" / f"gpu{gpu}").touch()
        # Daemons of three users and the jobs' own look inside.
        for folder in (self.home, self.home / "etc", self.home / "munge"):
            folder.chmod(0o755)
        if self.is_root:
            slurm, mysql = pwd.getpwnam("slurm"), pwd.getpwnam("mysql")
            for name in ("log", "pids", "state"):
                os.chown(self.home / name, slurm.pw_uid, slurm.pw_gid)
            os.chown(self.home / "mysql", mysql.pw_uid, mysql.pw_gid)
            (self.home / "log").chmod(0o1777)
            (self.home / "pids").chmod(0o1777)
            self.home.chmod(0o1777)  # MariaDB's socket

    def _plan(self) -> Layout:
        host = socket.gethostname().partition(".")[0]
        version = re.search(r"(\d+)\.\d+", self.must("slurmctld", "-V"))
        ports = free_ports(3 + len(NODE_NAMES))
        return Layout(
            home=self.home,
            host=host,
            address=loopback_address(host),
            daemon_user="slurm" if self.is_root else self.me,
            database_port=ports[0],
            slurmdbd_port=ports[1],
            slurmctld_port=ports[2],
            nodes=tuple(map(Node, NODE_NAMES, ports[3:])),
            slurm_major=int(version.group(1)) if version else 0,
            jwt_key=self.home / "state" / "jwt.key" if self._tokens else None,
        )

    def _write_files(self, layout: Layout, password: str) -> None:
        etc = self.home / "etc"
        key = self.home / "munge" / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))
        (etc / "my.cnf").write_text(conf.my_cnf(layout, as_user="mysql" if self.is_root else None))
        (etc / "main" / "gres.conf").write_text(conf.controller_gres_conf(layout))
        secret = etc / "main" / "slurmdbd.conf"
        secret.touch(0o600)
        secret.write_text(conf.slurmdbd_conf(layout, password))
        if self.is_root:
            os.chown(secret, pwd.getpwnam("slurm").pw_uid, -1)
        for tag in ("main", *NODE_NAMES):
            (etc / tag / "slurm.conf").write_text(conf.slurm_conf(layout, tag))
            (etc / tag / "cgroup.conf").write_text(conf.cgroup_conf(layout))
            if tag != "main":
                (etc / tag / "gres.conf").write_text(conf.gres_conf(layout))
        with self.slurm_conf.open("a") as settings:
            settings.write(self._controller_lines)

    def _make_jwt_key(self, key: Path) -> None:
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(32))
        if self.is_root:
            os.chown(key, pwd.getpwnam("slurm").pw_uid, -1)

    def _start_munged(self, tag: str) -> None:
        folder = self.home / "munge"
        self._daemons.start(
            f"munged-{tag}", "munged", "--foreground", "--force", "--num-threads=2",
            f"--key-file={folder}/munge.key", f"--socket={folder}/{tag}.sock",
            f"--pid-file={folder}/{tag}.pid", f"--log-file={folder}/{tag}.log",
            f"--seed-file={folder}/{tag}.seed",
        )  # fmt: skip
        self._daemons.wait(f"munged-{tag}", (folder / f"{tag}.sock").is_socket)

    def _start_database(self, password: str) -> None:
        options = f"--defaults-file={self.home}/etc/my.cnf"
        if not (self.home / "mysql" / "mysql").is_dir():
            self.must(
                "mariadb-install-db", options, "--auth-root-authentication-method=normal",
                "--skip-test-db", timeout_s=READY_TIMEOUT_S,
            )  # fmt: skip
        self._daemons.start("mariadbd", "mariadbd", options)
        self._daemons.wait("mariadbd", lambda: self.query("select 1") == [["1"]])
        self.query("create database if not exists slurm_acct_db")
        for host in ("localhost", "127.0.0.1"):
            # Our own random password into our own private server.
            self.query(f"create or replace user slurm@'{host}' identified by '{password}'")
            self.query(f"grant all on slurm_acct_db.* to slurm@'{host}'")

    def _make_accounts(self) -> None:
        for account in ACCOUNTS:
            self.must("sacctmgr", "-i", "add", "account", account, f"cluster={CLUSTER}")
        for number, user in enumerate(self.job_users):
            account = ACCOUNTS[number % len(ACCOUNTS)]
            self.must(
                "sacctmgr", "-i", "add", "user", user, f"account={account}",
                f"cluster={CLUSTER}", f"defaultaccount={account}",
            )  # fmt: skip

    def _nodes_are_idle(self) -> bool:
        states = self.must("sinfo", "-h", "-N", "-o", "%T").split()
        return len(states) == len(NODE_NAMES) and set(states) <= {"idle"}

    def down(self) -> None:
        """Stop all jobs and every daemon that ``up`` started here; keeps the files."""
        with contextlib.suppress(LabError, subprocess.TimeoutExpired):
            self.must("scancel", *(f"--user={user}" for user in self.job_users[:1]))
        self._daemons.stop_all()


@contextlib.contextmanager
def folder_for_daemons(parent: str | None = None) -> Iterator[Path]:
    """A folder that is gone afterwards. Not pytest's: daemons of other users look inside."""
    home = Path(tempfile.mkdtemp(prefix="jobledger-slurm-", dir=parent))
    home.chmod(0o755)
    try:
        yield home
    finally:
        shutil.rmtree(home)


@contextlib.contextmanager
def a_lab(parent: str | None = None, *, tokens: bool = False) -> Iterator[Lab]:
    """A private Slurm that is up, and afterwards down and gone."""
    with folder_for_daemons(parent) as home:
        slurm = Lab(home, tokens=tokens)
        try:
            slurm.up()
            yield slurm
        finally:
            slurm.down()


def main(arguments: Sequence[str]) -> int:
    """``up DIR`` or ``down DIR``."""
    match list(arguments):
        case ["up", folder]:
            lab = Lab(Path(folder).resolve())
            try:
                lab.up()
            except LabError as problem:
                sys.stderr.write(f"lab: {problem}\n")
                return 1
            sys.stdout.write(f"export SLURM_CONF={lab.slurm_conf}\n")
            return 0
        case ["down", folder]:
            Lab(Path(folder).resolve()).down()
            return 0
        case _:
            sys.stderr.write("usage: python -m tests.slurm.lab up|down DIR\n")
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
