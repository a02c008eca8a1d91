"""A clean Debian 12 to install into: cached once, written over in a layer, booted with systemd.

debootstrap makes the root (some 40 s, once); each test module has a layer of its
own over it. ``Machine.run`` is a chroot with namespaces, ``Machine.boot`` a real
systemd as process 1 in a control group of its own. The network is the host's.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

CACHE = Path("/var/tmp")  # noqa: S108 - survives a restart, unlike /tmp
MIRROR = "http://deb.debian.org/debian"
SUITE = "bookworm"
BASE = ("systemd", "systemd-sysv", "dbus", "ca-certificates")
PACKAGES = ("python3", "slurm-client", "libmunge2", "man-db", "bash-completion", "rpm")
"""What the agent's package depends on or recommends, and what its files are for."""
ENTER = Path(__file__).with_name("enter.sh")
NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=SIGKILL")
BUILD_TIMEOUT_S = 600
RUN_TIMEOUT_S = 120
BOOT_TIMEOUT_S = 60
WAIT_TIMEOUT_S = 60


class MachineError(Exception):
    """The machine could not be made or started; says at which step."""


def why_not() -> str:
    """Why no machine can be made here, "" when one can."""
    if os.geteuid() != 0:
        return "namespaces, mounts and users of a machine need root"
    for program in ("debootstrap", "unshare", "nsenter"):
        if shutil.which(program) is None:
            return f"{program} is not installed: make install"
    if unified_hierarchy() is None:
        return "this system has no cgroup2 mounted, which systemd needs"
    return ""


def unified_hierarchy() -> Path | None:
    """Where cgroup2 is mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return None


def base() -> Path:
    """The cached root, made when it is not there. Raises MachineError."""
    digest = hashlib.sha256(" ".join((SUITE, *BASE, "+", *PACKAGES)).encode()).hexdigest()[:12]
    root = CACHE / f"jobledger-{SUITE}-{digest}"
    if root.is_dir():
        return root
    unfinished = root.with_suffix(f".{os.getpid()}")
    _must(
        "debootstrap", "--variant=minbase", f"--include={','.join(BASE)}", SUITE,
        str(unfinished), MIRROR, timeout_s=BUILD_TIMEOUT_S,
    )  # fmt: skip
    sources = f"deb {MIRROR} {SUITE} main\n"
    (unfinished / "etc/apt/sources.list").write_text(sources)
    _must(
        "chroot", str(unfinished), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install",
        "--yes", "--quiet", "--no-install-recommends", *PACKAGES, timeout_s=BUILD_TIMEOUT_S,
    )  # fmt: skip
    (unfinished / "etc/machine-id").write_text("")
    # minbase leaves the manual out of what it installs.
    for excluding in (unfinished / "etc/dpkg/dpkg.cfg.d").glob("*exclude*"):
        excluding.unlink()
    with contextlib.suppress(OSError):  # another test run was faster
        unfinished.rename(root)
    return root


def _must(*command: str, timeout_s: int) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    if done.returncode != 0:
        raise MachineError(f"{command[0]}: status {done.returncode}: {done.stdout[-2000:]}"
                           f"{done.stderr[-2000:]}")  # fmt: skip
    return done.stdout


def wait_for(what: Callable[[], object], why: Callable[[], str]) -> None:
    """Return once it is so, or fail with what is known."""
    deadline = time.monotonic() + WAIT_TIMEOUT_S
    while not what():
        assert time.monotonic() < deadline, why()
        time.sleep(0.25)


class Machine:
    """One layer over the cached root. ``binds`` are folders of the host, at the same path."""

    def __init__(self, layer: Path, binds: Sequence[Path] = ()) -> None:
        self.layer = layer
        self._binds = ":".join(map(str, binds))
        self._base = base()
        self._outer: subprocess.Popen[bytes] | None = None
        self._group: Path | None = None
        layer.mkdir(parents=True, exist_ok=True)

    # --------------------------------------------------------------- not booted

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine: in its running systemd, else in a chroot."""
        if self._outer is not None:
            words = ["nsenter", "-t", str(self.init_pid), "-m", "-p", "-u", "-i", "--", *command]
        else:
            words = [
                "unshare", *NAMESPACES, "bash", str(ENTER), str(self._base), str(self.layer),
                self._binds, "run", *command,
            ]  # fmt: skip
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
        }
        return subprocess.run(
            words, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False,
            env=environment, cwd="/",
        )  # fmt: skip

    def must(self, *command: str) -> str:
        """Run a command that succeeds; what it printed. Raises MachineError."""
        done = self.run(*command)
        if done.returncode != 0:
            raise MachineError(
                f"{' '.join(command)}: status {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done.stdout

    def install(self, package: Path) -> str:
        """Install a .deb with what is there already, keeping settings that a person changed."""
        target = self.write(f"/var/cache/{package.name}", b"")
        shutil.copyfile(package, target)
        return self.must(
            "apt-get", "install", "--yes", "--quiet", "--reinstall",
            "--allow-downgrades", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0",
            "-o", "Dpkg::Options::=--force-confold", f"/var/cache/{package.name}",
        )  # fmt: skip

    def write(self, path: str, content: bytes, mode: int = 0o644) -> Path:
        """Write a file of the machine; its path on the host."""
        target = self._host_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)
        return target

    def read(self, path: str) -> str:
        """Return the text of a file of the machine."""
        return self.must("cat", path)

    def exists(self, path: str) -> bool:
        """Whether the machine has a file or folder of that name."""
        return self.run("test", "-e", path).returncode == 0

    def _host_path(self, path: str) -> Path:
        if self._outer is not None:
            return Path(f"/proc/{self.init_pid}/root{path}")
        return self.layer / "upper" / path.lstrip("/")

    # ------------------------------------------------------------------- booted

    @property
    def init_pid(self) -> int:
        """The machine's process 1, as the host counts."""
        assert self._outer is not None
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text()
        return int(children.split()[0])

    def boot(self) -> None:
        """Start systemd as process 1 and wait until it has started everything."""
        hierarchy = unified_hierarchy()
        assert hierarchy is not None
        self._group = hierarchy / f"jobledger-test-{os.getpid()}"
        self._group.mkdir(exist_ok=True)
        group = self._group

        def join() -> None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

        log = (self.layer / "boot.log").open("wb")
        with log:
            self._outer = subprocess.Popen(
                [
                    "unshare", "--cgroup", *NAMESPACES, "bash", str(ENTER), str(self._base),
                    str(self.layer), self._binds, "boot",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                preexec_fn=join,  # noqa: PLW1509 - no other threads run while a machine starts
            )  # fmt: skip
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._outer.poll() is not None:
                break
            with contextlib.suppress(IndexError, OSError):
                state = self.run("systemctl", "is-system-running").stdout.strip()
                if state in ("running", "degraded"):
                    return
            time.sleep(0.2)
        said = (self.layer / "boot.log").read_text()[-2000:]
        self.halt()
        raise MachineError(f"systemd did not start: {said}")

    def halt(self) -> None:
        """End every process of the machine."""
        if self._outer is not None:
            self._outer.send_signal(signal.SIGKILL)  # and with it process 1, and with that all
            self._outer.wait()
            self._outer = None
        if self._group is not None:
            self._remove_groups(self._group)
            self._group = None

    def _remove_groups(self, group: Path) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        folders = sorted(group.rglob("*/"), key=lambda path: -len(path.parts))
        for folder in (*folders, group):
            while folder.is_dir() and time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    folder.rmdir()
                    break
                time.sleep(0.05)

    def journal(self, unit: str) -> str:
        """What a unit has said since the start."""
        return self.must("journalctl", "--no-pager", "-o", "cat", "-u", unit)

    def shown(self, unit: str, key: str) -> str:
        """One property of a unit, as systemd has it."""
        return self.must("systemctl", "show", "--value", "-p", key, unit).strip()
