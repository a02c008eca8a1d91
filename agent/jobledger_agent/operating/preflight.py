"""Findings of ``doctor`` and what they are judged by; pure, as ``preflight_slurm`` is."""

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final, NamedTuple

SKEW_MS_MAX: Final = 2_000
"""Clocks that differ by more put runs into the wrong period."""
STALE_RUNNING_MAX: Final = 5
"""slurmctld counts what runs only now and then: so few may have ended since."""
CERTIFICATE_WARN_S: Final = 14 * 86_400
MUNGE_SOCKET_DEFAULT: Final = "/run/munge/munge.socket.2"
_DAY_S: Final = 86_400
_VERSION: Final = re.compile(r"(\d+)\.(\d+)")


class Level(Enum):
    """How a check ended; the value is what a person reads."""

    OK = "ok"
    WARNING = "warn"
    FAILED = "FAIL"
    UNCHECKED = "skip"


class Check(NamedTuple):
    """One finding: what was looked at, how it ended, what was found or how to mend it."""

    name: str
    level: Level
    told: str

    @property
    def is_well(self) -> bool:
        """Whether nobody has to do anything for the agent to work."""
        return self.level is not Level.FAILED


def clusters_check(clusters: Iterable[str], registered: frozenset[str]) -> Check:
    """Say whether slurmdbd knows the clusters: for one it does not, sacct answers "nothing"."""
    missing = sorted(set(clusters) - registered)
    if not missing:
        return Check("clusters", Level.OK, f"slurmdbd knows {', '.join(sorted(clusters))}")
    known = ", ".join(sorted(registered)) or "none"
    return Check(
        "clusters",
        Level.FAILED,
        f"slurmdbd knows no cluster {', '.join(missing)}, only {known}: correct clusters in"
        " [[source]], or register it (`sacctmgr add cluster NAME`, or start its slurmctld)",
    )


def queue_check(cluster: str, queue: int, queue_max: int) -> Check:
    """Judge how many messages slurmctld holds for slurmdbd; -1 for unknown."""
    name = f"DBD queue of {cluster}"
    if queue < 0:
        return Check(
            name,
            Level.WARNING,
            "sdiag does not tell it: without it nobody knows when an answer is complete; install"
            " sdiag here and let it reach slurmctld",
        )
    if queue > queue_max:
        return Check(
            name,
            Level.FAILED,
            f"slurmctld holds {queue} messages for slurmdbd, more than {queue_max}: look after"
            " slurmdbd and its database; the agent waits",
        )
    return Check(name, Level.OK, f"{queue} messages wait for slurmdbd")


def open_set_check(cluster: str, running: int, opened: int) -> Check:
    """Compare what slurmctld runs (-1 unknown) with what the accounting shows as open."""
    name = f"open runs of {cluster}"
    if running > 0 and opened == 0:
        return Check(
            name,
            Level.FAILED if running > STALE_RUNNING_MAX else Level.WARNING,
            f"slurmctld runs {running} jobs and slurmdbd shows none: if it still says so in five"
            " minutes, mend it (its count can be as old): the agent's user may not see them"
            " (PrivateData, AdminLevel), or slurmctld does not record them",
        )
    seen = "an unknown number" if running < 0 else str(running)
    return Check(name, Level.OK, f"{opened} in accounting, {seen} in slurmctld")


def versions_check(agent: str, collector: str) -> Check:
    """Say whether two programs may talk: the same minor version, or one apart."""
    ours, theirs = (_VERSION.match(version) for version in (agent, collector))
    if ours is None or theirs is None:
        return Check("versions fit", Level.UNCHECKED, f"agent {agent}, collector {collector!r}")
    apart = abs(int(ours[2]) - int(theirs[2])) if ours[1] == theirs[1] else None
    told = f"agent {agent}, collector {collector}"
    if apart is not None and apart <= 1:
        return Check("versions fit", Level.OK, told)
    return Check(
        "versions fit",
        Level.WARNING,
        f"{told}: more than one version apart is not tested; upgrade the older one",
    )


def skew_check(skew_ms: int) -> Check:
    """Judge the agent's clock minus the collector's."""
    told = f"{abs(skew_ms) / 1000:.1f} s {'ahead of' if skew_ms >= 0 else 'behind'} the collector's"
    if abs(skew_ms) <= SKEW_MS_MAX:
        return Check("clock", Level.OK, told)
    return Check(
        "clock",
        Level.FAILED,
        f"{told}: mend time synchronisation on the one that is wrong (`timedatectl`,"
        " `chronyc tracking`)",
    )


def expiry_check(name: str, what: str, not_after_s: int, now_s: int) -> Check:
    """Judge how long a certificate lasts."""
    left_s = not_after_s - now_s
    days = abs(left_s) // _DAY_S
    if left_s <= 0:
        return Check(name, Level.FAILED, f"{what} ended {days} days ago: put a new one in place")
    if left_s < CERTIFICATE_WARN_S:
        return Check(
            name,
            Level.WARNING,
            f"{what} ends in {days} days: put a new one in place; no restart is needed",
        )
    return Check(name, Level.OK, f"{what} is good for {days} days")


def munge_socket(slurm_conf: str, client: Mapping[str, str]) -> str:
    """Return the munge socket that clients of slurmdbd use.

    AccountingStoragePass names it; AuthInfo is for slurmctld, and only the
    default where neither says so. ``client`` are settings that Slurm told, which
    it cannot while munge is down: then the file's text counts.
    """
    told = dict(re.findall(r"(?im)^\s*(AccountingStoragePass|AuthInfo)\s*=\s*(\S+)", slurm_conf))
    from_file = {key.lower(): value for key, value in told.items()}
    for source in (client, from_file):
        for key in ("accountingstoragepass", "authinfo"):
            for part in source.get(key, "").split(","):
                option, _, path = part.partition("=")
                if option == "socket" and path:
                    return path
                if part.startswith("/"):
                    return part
    return MUNGE_SOCKET_DEFAULT
