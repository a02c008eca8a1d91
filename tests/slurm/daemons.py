"""Starting, watching and stopping daemons in one directory, by recorded process id."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

READY_TIMEOUT_S = 90
STOP_TIMEOUT_S = 30
STOP_ORDER = ("slurmctld", "slurmd-", "slurmdbd", "mariadbd", "munged")
"""Prefixes of names: whoever reports to another stops before it."""


class LabError(Exception):
    """The private Slurm could not be started; says which part and where its log is."""


def is_running(pid: int, marker: str) -> bool:
    """Whether ``pid`` lives, is no zombie, and still is the process we started."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z" and marker.encode() in words


class Daemons:
    """The daemons of one lab. Their ids are files, so another process can stop them."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self._home = home
        self._environment = environment
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str) -> None:
        """Start ``command`` in the background; its output goes to log/NAME.out."""
        with (self._home / "log" / f"{name}.out").open("ab") as log:
            child = subprocess.Popen(
                command,
                env=self._environment,
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children[name] = child
        record = self._home / "pids" / f"{name}.json"
        record.write_text(json.dumps({"pid": child.pid, "marker": command[0]}))

    def wait(self, what: str, ready: Callable[[], bool]) -> None:
        """Return once ``ready``; LabError when it takes too long or a daemon has died."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        reason = "not yet"
        while time.monotonic() < deadline:
            dead = [name for name, child in self._children.items() if child.poll() is not None]
            if dead:
                raise LabError(f"{', '.join(dead)} ended by itself; see {self._home}/log")
            try:
                if ready():
                    return
            except (LabError, subprocess.TimeoutExpired) as problem:
                reason = str(problem)
            time.sleep(0.2)
        raise LabError(f"{what} not ready after {READY_TIMEOUT_S} s ({reason}); {self._home}/log")

    def stop_all(self) -> None:
        """Stop every daemon recorded here, also those of an earlier process."""
        for pid in job_processes(self._home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        names = (path.stem for path in (self._home / "pids").glob("*.json"))
        for name in sorted(names, key=_stop_rank):
            self.stop(name)

    def stop(self, name: str) -> None:
        """Stop one daemon and wait for its end."""
        path = self._home / "pids" / f"{name}.json"
        record: Mapping[str, int | str] = json.loads(path.read_text())
        pid, marker = int(record["pid"]), str(record["marker"])
        deadline = time.monotonic() + STOP_TIMEOUT_S
        if is_running(pid, marker):
            os.kill(pid, signal.SIGTERM)
        while is_running(pid, marker):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        child = self._children.pop(name, None)
        if child is not None:
            child.wait()
        path.unlink()


def _stop_rank(name: str) -> int:
    return next(rank for rank, prefix in enumerate(STOP_ORDER) if name.startswith(prefix))


def job_processes(home: Path) -> list[int]:
    """Step daemons of this lab and all that they started, children first."""
    parents: dict[int, list[int]] = {}
    ours: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text()
            pid, parent = int(entry.name), int(stat.rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(pid)
            if "(slurmstepd)" in stat and _has_open(entry, f"{home}/log/"):
                ours.append(pid)
        except OSError:
            continue  # it ended while we looked

    def family(pid: int) -> list[int]:
        return [member for child in parents.get(pid, []) for member in family(child)] + [pid]

    return [member for pid in ours for member in family(pid)]


def _has_open(process: Path, prefix: str) -> bool:
    for link in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            if str(link.readlink()).startswith(prefix):
                return True
    return False
