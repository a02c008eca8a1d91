"""A fast look by pyslurm at what runs and what has just ended: early, never complete.

pyslurm keeps one run of each job id and cannot ask slurmdbd for the others, so
runs that were requeued or resized are not in its answer. What it tells is
therefore never a proof, and another source must read the same clusters. Each run
is told at most twice: once open and once ended.
"""

import json
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC
from os import SEEK_END
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final, NamedTuple

from jobledger_agent import clock
from jobledger_agent.parsing.fields import clean
from jobledger_agent.parsing.jsondump import Unfit
from jobledger_agent.parsing.rows import Origin
from jobledger_agent.records.job import Reading, SlurmJob, set_aside
from jobledger_agent.records.runs import NO_RUNS, Runs, run_of
from jobledger_agent.settings.sections import PyslurmSection
from jobledger_agent.slurm.commands import check_cluster
from jobledger_agent.slurm.pyslurm_jobs import is_nameless, job_of
from jobledger_agent.slurm.turn import alone
from jobledger_agent.source import MAX_BLOCK_READINGS, Block, SourceError

OVERLAP_S: Final = 120
"""How far before the last look the next one begins."""
FIRST_LOOK_S: Final = 600
"""How far back the first one reaches: the past is for the complete source."""
MAX_LINE_BYTES: Final = 262_144
"""Of one job as the child tells it."""
MAX_SAID_CHARS: Final = 200
"""Of what went wrong, in the child's words."""

_CHILD = "pyslurm_child.py"


class _Seen(NamedTuple):
    """What was told of one cluster: runs by how they were told, at the last look (epoch s)."""

    at: int
    open: Runs
    ended: Runs


_NOTHING = _Seen(0, NO_RUNS, NO_RUNS)


class PyslurmSource:
    """Open and just-ended runs of the clusters of one Slurm (see the module)."""

    def __init__(
        self,
        section: PyslurmSection,
        *,
        lock_path: Path | None = None,
        now: Callable[[], int] = clock.now_s,
    ) -> None:
        """``now`` gives epoch seconds. Raises SourceError for a name that is no cluster's."""
        self.clusters = tuple(check_cluster(name) for name in section.clusters)
        self._section = section
        self._lock_path = lock_path
        self._now = now

    @property
    def name(self) -> str:
        """Unique among the agent's sources."""
        return "pyslurm:" + ",".join(self.clusters)

    def read(self, position: str) -> Iterator[Block]:
        """Look at each cluster once; ``complete_through`` stays 0."""
        seen = _parsed(position)
        complaint: SourceError | None = None
        for cluster in self.clusters:
            try:
                yield from self._look(cluster, seen)
            except SourceError as error:
                complaint = complaint or error
        if complaint is not None:
            raise complaint

    def _look(self, cluster: str, seen: dict[str, _Seen]) -> Iterator[Block]:
        before, now = seen.get(cluster, _NOTHING), self._now()
        begin = max(before.at - OVERLAP_S, now - FIRST_LOOK_S)
        opened: list[int] = []
        ended: list[int] = []
        news: list[Reading] = []
        still = _text(seen)
        with self._answer((cluster, str(begin), str(now)), cluster) as told:
            for reading in _readings(told, cluster, now):
                if isinstance(reading, SlurmJob):
                    run = run_of(reading.job_id, reading.submit)
                    (ended if reading.end else opened).append(run)
                    known = run in before.ended or (not reading.end and run in before.open)
                    if known or not reading.start or not reading.alloc_tres:
                        continue
                news.append(reading)
                if len(news) == MAX_BLOCK_READINGS:
                    yield Block(tuple(news), still, 0)
                    news = []
        seen[cluster] = _Seen(now, Runs(opened), Runs(ended))
        yield Block(tuple(news), _text(seen), 0)

    @contextmanager
    def _answer(self, arguments: Sequence[str], cluster: str) -> Iterator[IO[bytes]]:
        """The lines of a child that told everything. Raises SourceError."""
        what = f"pyslurm for cluster {cluster}"
        with TemporaryFile() as output:
            with alone(self._lock_path, self._section.timeout_s, what):
                _run_child(self._section, arguments, output)
            _check_end(output, what)
            yield output


def probe(section: PyslurmSection) -> str:
    """What keeps this Python's pyslurm from being a source, in one sentence; "" if nothing."""
    try:
        with TemporaryFile() as output:
            _run_child(section, ("probe",), output)
            output.seek(0)
            said = _object(output.read(MAX_LINE_BYTES))
    except SourceError as error:
        return str(error)
    problem = said.get("problem") if isinstance(said, Mapping) else "it gave no answer"
    return _advice(section, str(problem)) if problem else ""


def _run_child(section: PyslurmSection, arguments: Sequence[str], output: IO[bytes]) -> None:
    """Run the child to its end, its lines into ``output``. Raises SourceError."""
    python = str(section.python or sys.executable)
    source = (pkgutil.get_data(__package__, _CHILD) or b"").decode()
    environment = {
        "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC",
        "SLURM_CONF": str(section.slurm_conf),
    }  # fmt: skip
    errors = TemporaryFile()  # noqa: SIM115 - closed below, whatever happens
    try:
        done = subprocess.run(  # noqa: S603 - our own text, in the Python of the settings
            [python, "-I", "-c", source, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=environment,
            timeout=section.timeout_s,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise SourceError(
            f"pyslurm gave no answer in {section.timeout_s} s; it was stopped and is asked again;"
            " check slurmdbd, its database and munge"
        ) from error
    except OSError as error:
        raise SourceError(
            f"{python} cannot be run ({error.strerror}); correct python in [[source]]"
        ) from error
    else:
        if done.returncode:
            raise SourceError(
                f"pyslurm in {python} ended with {done.returncode} ({_last_line(errors)}); it is"
                " asked again; check slurmdbd, and that this pyslurm was made for this Slurm"
            )
    finally:
        errors.close()


def _last_line(errors: IO[bytes]) -> str:
    """The last thing that a child said before it gave up."""
    size = errors.seek(0, SEEK_END)
    errors.seek(max(0, size - MAX_LINE_BYTES))
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    return " ".join(clean(lines[-1]).split())[:MAX_SAID_CHARS] if lines else "no reason given"


def _check_end(output: IO[bytes], what: str) -> None:
    """Wind back an answer whose last line says how many jobs it holds. Raises SourceError."""
    output.seek(0)
    lines, last = 0, b""
    for line in iter(lambda: output.readline(MAX_LINE_BYTES), b""):
        lines, last = lines + 1, line
    end = _object(last)
    if isinstance(end, Mapping) and "problem" in end:
        raise SourceError(f"{what}: {str(end['problem'])[:MAX_SAID_CHARS]}")
    if not isinstance(end, Mapping) or end.get("end") != lines - 1:
        raise SourceError(f"the answer of {what} is cut off; it is asked again")
    output.seek(0)


def _readings(output: IO[bytes], cluster: str, now: int) -> Iterator[Reading]:
    """Each job of a whole answer. Raises SourceError for one of another cluster."""
    origin = Origin(cluster, {}, UTC, now)
    for line in iter(lambda: output.readline(MAX_LINE_BYTES), b""):
        told = _object(line)
        if isinstance(told, Mapping) and "end" in told:
            return
        if is_nameless(told):
            continue  # left to the source that knows
        try:
            job = job_of(told, origin)
        except Unfit as unfit:
            text = line.decode("utf-8", "surrogateescape")
            yield set_aside(cluster, f"pyslurm for cluster {cluster}", str(unfit), text)
            continue
        if job.cluster != cluster:
            raise SourceError(
                f"pyslurm for cluster {cluster} told of job {job.job_id} of cluster {job.cluster}"
            )
        yield job


def _advice(section: PyslurmSection, problem: str) -> str:
    python = section.python or sys.executable
    return (
        f"{python}: {problem[:MAX_SAID_CHARS]}; install pyslurm 25.11 or newer there, made for this"
        " Slurm, or name another python in [[source]]"
    )


def _object(line: bytes) -> Any:  # noqa: ANN401 - what JSON may hold
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _parsed(position: str) -> dict[str, _Seen]:
    """What a position says, by cluster; nothing if it is not ours."""
    try:
        stored = json.loads(position) if position else {}
        return {
            str(name): _Seen(
                int(one["at"]), Runs.unpacked(one["open"]), Runs.unpacked(one["ended"])
            )
            for name, one in stored.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _text(seen: Mapping[str, _Seen]) -> str:
    plain = {
        name: {"at": one.at, "open": one.open.packed(), "ended": one.ended.packed()}
        for name, one in sorted(seen.items())
    }
    return json.dumps(plain, separators=(",", ":"))
