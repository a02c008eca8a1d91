"""What Slurm must be like for its accounting to be billed: verdicts over its own answers.

Pure: texts of ``scontrol show config`` and ``sacctmgr show configuration`` in,
findings out. ``doctor_slurm`` asks.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from jobledger_agent.operating.preflight import Check, Level

OLDEST_SLURM: Final = (20, 11)
"""The first version whose sacct has every column that is asked for."""
_DAY_S: Final = 86_400
_PURGE_UNITS_S: Final = {"hour": 3_600, "day": _DAY_S, "month": 28 * _DAY_S}
"""A month counts as its shortest: nothing is promised that February breaks."""
_SETTING: Final = re.compile(r"^([A-Za-z_]+)(?:\[\d+\])?\s*=[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_PURGE: Final = re.compile(r"(\d+) ?(hour|day|month)s?\*?")
_SPAN: Final = re.compile(r"(?:(\d+)-)?(\d+):(\d+):(\d+)")
_VERSION: Final = re.compile(r"(\d+)\.(\d+)")
_NOTHING: Final = frozenset({"", "(null)", "none", "n/a"})
_SEES_ALL: Final = frozenset({"operator", "administrator", "admin"})


class Reader(NamedTuple):
    """Who asks slurmdbd, and the AdminLevel it gave him ("": it knows no such user).

    ``is_root`` for root and SlurmUser, who may see everything.
    """

    user: str
    level: str
    is_root: bool


class Wanted(NamedTuple):
    """What the settings of one source rely on."""

    clusters: tuple[str, ...]
    sweep_days: int
    dbd_queue_max: int
    kick_file: str


def settings(text: str) -> dict[str, str]:
    """Read "Key = Value" lines; keys in lower case. The last one of a name stands."""
    return {key.lower(): value for key, value in _SETTING.findall(text)}


def slurmdbd_part(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """Read ``sacctmgr show configuration``: the client's settings and slurmdbd's ({}: absent)."""
    ours, _, theirs = text.partition("SlurmDBD configuration:")
    return settings(ours), settings(theirs)


def controller_checks(config: Mapping[str, str], wanted: Wanted) -> Iterator[Check]:
    """Judge ``scontrol show config``: what slurmctld tells slurmdbd at all."""
    yield _version("Slurm's version", config.get("slurm_version", ""))
    yield _storage_type(config)
    yield _enforce(config)
    yield _gather(config)
    yield _tres(config)
    yield _epilog(config, wanted.kick_file)


def slurmdbd_checks(config: Mapping[str, str], reader: Reader, wanted: Wanted) -> Iterator[Check]:
    """Judge slurmdbd's part: what it keeps, for how long, and what it shows to whom."""
    yield _version("slurmdbd's version", config.get("slurmdbd_version", ""))
    yield _private_data(config, reader)
    yield _query_range(config, reader)
    yield _purge(config, wanted.sweep_days)
    delay = config.get("commitdelay", "")
    told = "none" if delay.lower() in {"no", "0", ""} else f"{delay}; the agent waits that long"
    yield Check("CommitDelay", Level.OK, told)


def purge_s(text: str) -> int | None:
    """Return seconds of "40 days", 0 for never, None for what is not understood."""
    if text.lower() in _NOTHING:
        return 0
    found = _PURGE.fullmatch(text.strip().lower())
    return int(found[1]) * _PURGE_UNITS_S[found[2]] if found else None


def span_s(text: str) -> int | None:
    """Return seconds of "1-00:00:00", 0 for UNLIMITED, None for what is not understood."""
    if text.lower() in _NOTHING | {"unlimited", "infinite"}:
        return 0
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _version(name: str, text: str) -> Check:
    found = _VERSION.match(text)
    if found is None:
        return Check(name, Level.UNCHECKED, f"not understood: {text[:40]!r}")
    if (int(found[1]), int(found[2])) < OLDEST_SLURM:
        oldest = ".".join(map(str, OLDEST_SLURM))
        return Check(name, Level.FAILED, f"{text} is too old: {oldest} or newer is needed")
    return Check(name, Level.OK, text)


def _storage_type(config: Mapping[str, str]) -> Check:
    kind = config.get("accountingstoragetype", "")
    if kind == "accounting_storage/slurmdbd":
        return Check("AccountingStorageType", Level.OK, kind)
    return Check(
        "AccountingStorageType",
        Level.FAILED,
        f"it is {kind or 'not set'}: no job is recorded. Set"
        " AccountingStorageType=accounting_storage/slurmdbd in slurm.conf and restart slurmctld",
    )


def _enforce(config: Mapping[str, str]) -> Check:
    name = "AccountingStorageEnforce"
    flags = _listed(config.get("accountingstorageenforce", ""))
    if "nojobs" in flags:
        return Check(
            name,
            Level.FAILED,
            "it holds nojobs: no job is recorded. Remove nojobs in slurm.conf, then"
            " `scontrol reconfigure`",
        )
    if "nosteps" in flags:
        return Check(
            name,
            Level.WARNING,
            "it holds nosteps: runs are billed by what they held, but CPU time and memory that"
            " they used, and energy, stay unknown. Remove nosteps in slurm.conf to know them",
        )
    return Check(name, Level.OK, ",".join(sorted(flags)) or "none")


def _gather(config: Mapping[str, str]) -> Check:
    kind = config.get("jobacctgathertype", "")
    if kind.lower() not in _NOTHING | {"jobacct_gather/none"}:
        return Check("JobAcctGatherType", Level.OK, kind)
    return Check(
        "JobAcctGatherType",
        Level.WARNING,
        "nothing is gathered: CPU time and memory that runs used stay unknown (what they held is"
        " billed all the same). Set JobAcctGatherType=jobacct_gather/cgroup in slurm.conf",
    )


def _tres(config: Mapping[str, str]) -> Check:
    """Compare the kinds of GRES that nodes have with those that accounting counts."""
    name = "AccountingStorageTRES"
    counted = _listed(config.get("accountingstoragetres", ""))
    gres = _listed(config.get("grestypes", ""))
    lost = sorted(kind for kind in gres if f"gres/{kind}" not in counted)
    if lost:
        untold = ",".join(f"gres/{kind}" for kind in lost)
        return Check(
            name,
            Level.FAILED if "gpu" in lost else Level.WARNING,
            f"{untold} of GresTypes is not recorded, so that it cannot be billed: add {untold} to"
            " AccountingStorageTRES in slurm.conf and restart slurmctld; earlier runs stay without",
        )
    typed = sorted(each for each in counted if each.startswith("gres/") and ":" in each)
    told = ",".join(sorted(counted))
    if "gpu" in gres and not typed:
        told += " (a price for one type of GPU needs gres/gpu:TYPE here)"
    return Check(name, Level.OK, told)


def _epilog(config: Mapping[str, str], kick_file: str) -> Check:
    script = config.get("epilogslurmctld", "")
    if not kick_file:
        return Check("EpilogSlurmctld", Level.OK, "no kick is wanted (kick.file is empty)")
    if script.lower() in _NOTHING:
        told = "not set: a run is seen at the next poll; the shipped script makes that seconds"
        return Check("EpilogSlurmctld", Level.OK, told)
    return Check("EpilogSlurmctld", Level.OK, script)


def _private_data(config: Mapping[str, str], reader: Reader) -> Check:
    name = "permission to see all jobs"
    hidden = _listed(config.get("privatedata", ""))
    sees_all = reader.is_root or reader.level.lower() in _SEES_ALL
    if "jobs" not in hidden:
        note = f"; {reader.user} is {reader.level} and need not be" if sees_all else ""
        note = "" if reader.is_root else note
        return Check(name, Level.OK, f"slurmdbd hides no jobs (PrivateData){note}")
    if sees_all:
        level = "root or SlurmUser" if reader.is_root else reader.level
        return Check(name, Level.OK, f"PrivateData=jobs, and {reader.user} is {level}")
    how = (
        f"`sacctmgr modify user where name={reader.user} set adminlevel=Operator`"
        if reader.level
        else f"`sacctmgr add user {reader.user} account=root adminlevel=Operator`"
    )
    return Check(
        name,
        Level.FAILED,
        f"slurmdbd hides jobs (PrivateData=jobs) from {reader.user}, silently: run {how} as a"
        " Slurm administrator, or take jobs out of PrivateData in slurmdbd.conf",
    )


def _query_range(config: Mapping[str, str], reader: Reader) -> Check:
    name, text = "MaxQueryTimeRange", config.get("maxquerytimerange", "")
    range_s = span_s(text)
    if range_s is None:
        return Check(name, Level.UNCHECKED, f"not understood: {text[:40]!r}")
    sees_all = reader.is_root or reader.level.lower() in _SEES_ALL
    if range_s == 0 or range_s >= _DAY_S or sees_all:
        return Check(name, Level.OK, text or "unlimited")
    return Check(
        name,
        Level.WARNING,
        f"{text}: a day of history takes {-(-_DAY_S // range_s)} questions or more; make it a day"
        " or longer in slurmdbd.conf, or the agent's user an Operator",
    )


def _purge(config: Mapping[str, str], sweep_days: int) -> Check:
    name, text = "PurgeJobAfter", config.get("purgejobafter", "")
    kept_s = purge_s(text)
    if kept_s is None:
        return Check(name, Level.UNCHECKED, f"not understood: {text[:40]!r}")
    if kept_s == 0 or kept_s > sweep_days * _DAY_S:
        return Check(name, Level.OK, text if kept_s else "jobs are never purged")
    return Check(
        name,
        Level.WARNING,
        f"Slurm deletes runs {text} after their end and sweep_days is {sweep_days}: keep them"
        " longer in slurmdbd.conf; what the agent could not read by then is lost to Slurm, too",
    )


def _listed(text: str) -> frozenset[str]:
    return frozenset(part.strip().lower() for part in text.split(",")) - _NOTHING
