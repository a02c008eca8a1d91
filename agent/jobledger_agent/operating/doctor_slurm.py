"""What the doctor asks of Slurm: settings, permission, and whether answers are true ones.

Only questions that ``commands.allowed`` lets through, one at a time, beside a running
agent too. ``preflight`` and ``preflight_slurm`` judge what comes back.
"""

import os
import pwd
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from jobledger_agent import clock
from jobledger_agent.errors import AgentError
from jobledger_agent.operating import preflight, preflight_slurm
from jobledger_agent.operating.preflight import Check, Level
from jobledger_agent.operating.preflight_slurm import Reader, Wanted
from jobledger_agent.reading.accounting import Accounting, Controller
from jobledger_agent.records.job import SlurmJob
from jobledger_agent.settings.sections import (
    AgentConfig,
    PyslurmSection,
    SacctSection,
    SlurmrestdSection,
)
from jobledger_agent.slurm import pyslurm
from jobledger_agent.slurm.commands import Programs, Run
from jobledger_agent.slurm.runner import Runner
from jobledger_agent.slurm.sacct import SacctAccounting
from jobledger_agent.source import SourceError
from jobledger_agent.sources import feeds

ASK_S_MAX: Final = 30
"""How long one question may take here: a person waits."""
ANSWER_BYTES_MAX: Final = 1 << 20
CONF_BYTES_MAX: Final = 1 << 20
CANARY_SPANS_S: Final = (3_600, 86_400, 7 * 86_400)
"""How far back a finished run is looked for, step by step."""
MUNGE_S_MAX: Final = 5
OTHERS_MAY_READ: Final = 0o077
_OPTIONAL: Final = {
    "sdiag": "nobody knows then whether slurmctld has told slurmdbd everything",
    "sacctmgr": "clusters, permissions and the account tree are unknown then",
    "scontrol": "slurmctld's settings cannot be checked then",
}


def checks(section: SacctSection, config: AgentConfig) -> Iterator[Check]:
    """Everything about one [[source]] of kind sacct."""
    programs = list(_programs(section))
    yield from programs
    user = agents_user(config.spool.path)
    yield _user(user)
    conf = _conf_text(section.slurm_conf)
    if isinstance(conf, Check):  # Slurm's programs would look for it for a minute each
        yield conf
        return
    yield Check("slurm.conf", Level.OK, f"{section.slurm_conf} can be read")
    if not programs[0].is_well:
        return
    run = Runner(
        str(section.slurm_conf),
        min(section.timeout_s, ASK_S_MAX),
        lock_path(config.spool.path),
    )
    yield from _slurm(section, config, run, user, conf)


def rest_checks(section: SlurmrestdSection, config: AgentConfig) -> Iterator[Check]:
    """Everything about one [[source]] of kind slurmrestd: it tells no settings of Slurm's."""
    token = section.token_file
    if token and token.exists() and token.stat().st_mode & OTHERS_MAY_READ:
        yield Check("slurmrestd's token", Level.FAILED, f"others can read it: chmod 600 {token}")
    lock = lock_path(config.spool.path)
    try:
        accounting = feeds.slurmrestd_accounting(section, lock)
    except SourceError as error:
        yield Check("slurmrestd", Level.FAILED, str(error))
        return
    yield from accounting_checks(accounting, section.clusters, section.dbd_queue_max)
    told = "what jobs are recorded and shown is Slurm's to set: run doctor once where sacct is"
    yield Check("Slurm's settings", Level.UNCHECKED, f"slurmrestd does not tell them; {told}")


def pyslurm_check(section: PyslurmSection) -> Check:
    """Say whether pyslurm can be used, and what it must not be trusted with."""
    wrong = pyslurm.probe(section)
    if wrong:
        return Check("pyslurm", Level.FAILED, wrong)
    told = "usable for a fast look; it hides earlier runs of requeued jobs, another source has them"
    return Check("pyslurm", Level.OK, told)


def agents_user(spool: Path) -> str:
    """Return whom the agent runs as: for root the spool's owner; "uid N" for one without name."""
    uid = os.geteuid()
    if uid == 0:
        for path in (spool, spool.parent):
            if path.exists():
                uid = path.stat().st_uid
                break
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def lock_path(spool: Path) -> Path | None:
    """Return the lock that keeps questions one at a time; root leaves no file of its own there."""
    path = spool.with_name(feeds.LOCK_NAME)
    usable = os.geteuid() != 0 or path.exists()
    return path if usable and spool.parent.is_dir() else None


def accounting_checks(
    accounting: Accounting, clusters: Sequence[str], queue_max: int
) -> Iterator[Check]:
    """What any live source must answer truly: queue, open runs, and a canary for each cluster."""
    try:
        accounting.negotiate()
    except SourceError as error:
        yield Check(accounting.name, Level.FAILED, str(error))
        return
    for cluster in clusters:
        controller = _controller(accounting, cluster)
        yield preflight.queue_check(cluster, controller.dbd_queue, queue_max)
        try:
            with accounting.open(cluster) as answer:
                opened = sum(1 for _ in answer)
            yield preflight.open_set_check(cluster, controller.running, opened)
            yield _canary(accounting, cluster)
        except SourceError as error:
            yield Check(f"accounting of {cluster}", Level.FAILED, str(error))


def _slurm(
    section: SacctSection, config: AgentConfig, run: Run, user: str, conf: str
) -> Iterator[Check]:
    wanted = Wanted(section.clusters, section.sweep_days, section.dbd_queue_max, config.kick.file)
    told, slurmctld = _ask(run, (str(section.scontrol), "show", "config"), "slurmctld")
    controller = preflight_slurm.settings(told)
    yield slurmctld
    if slurmctld.level is Level.OK:
        yield from preflight_slurm.controller_checks(controller, wanted)
    argv = (str(section.sacctmgr), "-nP", "show", "configuration")
    told, slurmdbd = _ask(run, argv, "slurmdbd")
    client, theirs = preflight_slurm.slurmdbd_part(told)
    if not theirs and slurmdbd.level is Level.OK:
        slurmdbd = Check("slurmdbd", Level.FAILED, "it told none of its settings: see its log")
    if client.get("authtype", controller.get("authtype", "auth/munge")) == "auth/munge":
        yield _munge(preflight.munge_socket(conf, client))
    yield slurmdbd
    if slurmdbd.level is Level.FAILED:
        yield Check("accounting", Level.UNCHECKED, "not asked, because slurmdbd does not answer")
        return
    programs = Programs(str(section.sacct), str(section.sdiag), str(section.sacctmgr), run)
    if theirs:
        yield from _slurmdbd(section, programs, theirs, user, wanted)
    accounting = SacctAccounting(section.clusters, programs, now=clock.now_s)
    yield from accounting_checks(accounting, section.clusters, section.dbd_queue_max)


def _slurmdbd(
    section: SacctSection,
    programs: Programs,
    theirs: Mapping[str, str],
    user: str,
    wanted: Wanted,
) -> Iterator[Check]:
    argv = (
        str(section.sacctmgr), "-nP", "show", "user", "where", f"name={user}",
        "format=User,AdminLevel",
    )  # fmt: skip
    level, why = "", None
    if " " not in user:
        told, why = _ask(programs.run, argv, "AdminLevel")
        level = next((line.partition("|")[2] for line in told.splitlines()), "")
    if why is not None and why.level is Level.FAILED:
        yield why
    slurm_user = theirs.get("slurmuser", "").partition("(")[0]
    reader = Reader(user, level, is_root=user in {"root", slurm_user})
    yield from preflight_slurm.slurmdbd_checks(theirs, reader, wanted)
    try:
        registered = programs.clusters()
    except SourceError as error:
        yield Check("clusters", Level.FAILED, str(error))
    else:
        yield preflight.clusters_check(section.clusters, registered or frozenset())


def _ask(run: Run, argv: Sequence[str], name: str) -> tuple[str, Check]:
    """Return what a program printed, and whether it could be asked."""
    if not os.access(argv[0], os.X_OK):
        return "", Check(name, Level.UNCHECKED, f"{argv[0]} is not here")
    try:
        with run(argv, " ".join(argv)) as answer:
            text = answer.read(ANSWER_BYTES_MAX).decode("utf-8", "replace")
    except AgentError as error:
        return "", Check(name, Level.FAILED, f"{error}: check that it runs and that munge does")
    return text, Check(name, Level.OK, "answers")


def _programs(section: SacctSection) -> Iterator[Check]:
    """Yield one check a program; the first is sacct's, without which nothing goes."""
    for path in (section.sacct, section.sdiag, section.sacctmgr, section.scontrol):
        if os.access(path, os.X_OK):
            yield Check(str(path), Level.OK, "is there")
        elif path == section.sacct:
            told = "is not there or cannot be run: install Slurm's client programs"
            yield Check(str(path), Level.FAILED, told)
        else:
            lost = _OPTIONAL.get(path.name, "what it tells is unknown then")
            told = f"is not there or cannot be run: {lost}; install Slurm's client programs"
            yield Check(str(path), Level.WARNING, told)


def _user(user: str) -> Check:
    name = "agent's user"
    if user.startswith("uid "):
        return Check(
            name,
            Level.FAILED,
            f"{user} has no name here: slurmdbd knows users by name; make the same user with the"
            " same uid here and on slurmdbd's host",
        )
    if user == "root":
        return Check(
            name,
            Level.WARNING,
            "root: the agent needs no root; give the spool's directory to a user of its own and"
            " run it as that",
        )
    return Check(name, Level.OK, f"{user}; slurmdbd's host must know the same name and uid")


def _conf_text(path: Path) -> str | Check:
    try:
        with path.open("rb") as file:
            return file.read(CONF_BYTES_MAX).decode("utf-8", "replace")
    except OSError as error:
        return Check(
            "slurm.conf",
            Level.FAILED,
            f"{path} cannot be read ({error.strerror}): correct slurm_conf in [[source]] (a"
            " configless host has it in /run/slurm/conf) and let the agent's user read it",
        )


def _munge(path: str) -> Check:
    """Connect to munge as Slurm's programs do; nothing is asked of it."""
    try:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
            connection.settimeout(MUNGE_S_MAX)
            connection.connect(path)
    except OSError as error:
        return Check(
            "munge",
            Level.FAILED,
            f"its socket {path} does not take a connection ({error.strerror or error}): start"
            " munge (`systemctl start munge`) and let the agent's user into its directory;"
            " AccountingStoragePass in slurm.conf names another socket",
        )
    return Check("munge", Level.OK, f"{path} answers")


def _controller(accounting: Accounting, cluster: str) -> Controller:
    """What slurmctld says of itself; nothing where it cannot be asked."""
    try:
        return accounting.controller(cluster)
    except SourceError:
        return Controller()


def _canary(accounting: Accounting, cluster: str) -> Check:
    """Look for a run that ended and ask for it by id: proves that answers are not emptied."""
    name, now_s = f"canary of {cluster}", clock.now_s()
    for span_s in CANARY_SPANS_S:
        newest: tuple[int, int, int] = (0, 0, 0)
        with accounting.ended(cluster, (now_s - span_s, now_s)) as answer:
            for reading in answer:
                if isinstance(reading, SlurmJob):
                    newest = max(newest, (reading.end, reading.job_id, reading.submit))
        if newest[0]:
            return _found_again(accounting, cluster, newest)
    days = CANARY_SPANS_S[-1] // 86_400
    return Check(name, Level.UNCHECKED, f"no run ended within {days} days: nothing to prove with")


def _found_again(accounting: Accounting, cluster: str, newest: tuple[int, int, int]) -> Check:
    _, job_id, submit = newest
    with accounting.by_id(cluster, [job_id]) as answer:
        keys = {(job.job_id, job.submit) for job in answer if isinstance(job, SlurmJob)}
    name = f"canary of {cluster}"
    if (job_id, submit) in keys:
        return Check(name, Level.OK, f"job {job_id}, which has ended, is found again by its id")
    return Check(
        name,
        Level.FAILED,
        f"job {job_id} has ended and is not found by its id: answers are not complete; see"
        " slurmdbd's log and the agent's AdminLevel",
    )
