"""The live source: ``sacct`` asked again and again, every answer validated.

``commands`` says what may be run. The environment is built from nothing, for
``sacct`` obeys a dozen variables. An answer goes to a file first: it is looked
at only once the program has ended well.
"""

import os
import secrets
import selectors
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from tempfile import SpooledTemporaryFile
from typing import IO, Any, BinaryIO, cast

from jobledger_agent import clock
from jobledger_agent.answers import (
    JOB_COLUMNS,
    NEWER_COLUMNS,
    STEP_COLUMNS,
    Question,
    job_readings,
    step_use,
)
from jobledger_agent.commands import MAX_IDS, Programs, TooMuch, check_cluster, verdict
from jobledger_agent.job import Reading, SlurmJob, weight_bytes
from jobledger_agent.source import MAX_BLOCK_BYTES, MAX_BLOCK_READINGS, Block, SourceError
from jobledger_agent.stepmemory import StepMemory
from jobledger_agent.window import (
    NOTHING_KNOWN,
    Known,
    Run,
    complete_through,
    halves,
    in_batches,
    job_id_of,
    reached,
    read_position,
    run_of,
    spans,
    write_position,
)

MAX_ANSWER_BYTES = 1 << 30
"""Of one answer; a larger one is asked for in smaller spans."""
MAX_IN_MEMORY_BYTES = 1 << 20
"""Of one answer; what is more waits in a temporary file."""
MAX_STDERR_BYTES = 65_536
"""Of what a program says on stderr; the rest is read and dropped."""

HALF_TOLD_S = 300
"""How long an ended run without AllocTRES is asked for again before it is passed on."""

_PIPE_BYTES = 65_536


class Runner:
    """Runs programs in an environment built from nothing, for a limited time."""

    def __init__(self, slurm_conf: str, timeout_s: int) -> None:
        self._slurm_conf = slurm_conf
        self._timeout_s = timeout_s

    @contextmanager
    def __call__(self, argv: Sequence[str], what: str) -> Iterator[BinaryIO]:
        """Run a program to its end; its stdout, only if it succeeded."""
        with SpooledTemporaryFile(MAX_IN_MEMORY_BYTES) as output:
            said = self._finish(argv, what, cast("IO[bytes]", output))
            if said:
                raise SourceError(said)
            output.seek(0)
            yield cast("BinaryIO", output)

    def _finish(self, argv: Sequence[str], what: str, output: IO[bytes]) -> str:
        """Run a program, its stdout into ``output``; what went wrong, or nothing."""
        try:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment(),
                start_new_session=True,
            )
        except OSError as error:
            return f"{argv[0]} cannot be run ({error.strerror}); check its path in the settings"
        with child:
            try:
                stderr = self._drain(child, what, output)
                code = child.wait(timeout=self._timeout_s)
            except OSError as error:
                return (
                    f"the answer of {what} cannot be kept ({error.strerror}); make room in TMPDIR"
                )
            except subprocess.TimeoutExpired as error:
                raise TooMuch(f"{what} did not end in {self._timeout_s} s; asked again") from error
            finally:
                _kill(child)
        return verdict(what, code, stderr.decode("utf-8", "replace"))

    def _drain(self, child: subprocess.Popen[bytes], what: str, output: IO[bytes]) -> bytes:
        """Read both pipes to their ends. Raises TooMuch at the time or size limit."""
        deadline = clock.monotonic_ms() + 1000 * self._timeout_s
        stderr, size = b"", 0
        with selectors.DefaultSelector() as selector:
            for pipe in (child.stdout, child.stderr):
                selector.register(cast("IO[bytes]", pipe), selectors.EVENT_READ)
            while selector.get_map():
                left_ms = deadline - clock.monotonic_ms()
                ready = selector.select(left_ms / 1000) if left_ms > 0 else []
                if not ready:
                    raise TooMuch(
                        f"{what} gave no answer in {self._timeout_s} s; it was stopped and is asked"
                        " again; check slurmdbd, its database and munge"
                    )
                for key, _ in ready:
                    chunk = os.read(key.fd, _PIPE_BYTES)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is child.stderr:
                        stderr = (stderr + chunk)[:MAX_STDERR_BYTES]
                    else:
                        size += output.write(chunk)
                        if size > MAX_ANSWER_BYTES:
                            raise TooMuch(f"the answer of {what} is larger than 1 GiB")
        return stderr

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "SLURM_TIME_FORMAT": "%s",
            "SLURM_CONF": self._slurm_conf,
        }


class SacctSource:
    """Job records from a running Slurm (see ``read``)."""

    def __init__(  # noqa: PLR0913 - the settings of one [[source]]
        self,
        clusters: Sequence[str],
        *,
        now: Callable[[], int],
        sacct: str = "/usr/bin/sacct",
        slurm_conf: str = "/etc/slurm/slurm.conf",
        sdiag: str = "/usr/bin/sdiag",
        sacctmgr: str = "/usr/bin/sacctmgr",
        overlap_s: int = 600,
        lookback_s: int = 31 * 86_400,
        open_every_s: int = 300,
        settle_s: int = 60,
        timeout_s: int = 120,
    ) -> None:
        """``now`` gives epoch seconds. Without sdiag or sacctmgr their checks are left out.

        Each cycle reads again what ended in the last ``overlap_s``, the first
        one what ended in the last ``lookback_s``. What runs is asked for every
        ``open_every_s``, steps ``settle_s`` after the end of their job. Raises
        SourceError for a name that is not one cluster's.
        """
        self.clusters = tuple(check_cluster(name) for name in clusters)
        self._programs = Programs(sacct, sdiag, sacctmgr, Runner(slurm_conf, timeout_s))
        self._now = now
        self._overlap_s = overlap_s
        self._lookback_s = lookback_s
        self._open_every_s = open_every_s
        self._steps = StepMemory(settle_s)
        self._columns: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Unique among the agent's sources."""
        return "sacct:" + ",".join(self.clusters)

    def read(self, position: str) -> Iterator[Block]:
        """Do one cycle of questions: what ended, then what runs and what vanished.

        A cluster that cannot be read does not stop the others; its complaint is
        raised after their blocks. Steps come last: nothing waits for them.
        """
        known = read_position(position)
        complaint: SourceError | None = None
        self._negotiate()
        for cluster in self.clusters:
            try:
                yield from self._ended(cluster, known)
                yield from self._open(cluster, known)
            except SourceError as error:
                complaint = complaint or error
        self._ask_steps()
        if complaint is not None:
            self._columns = ()  # Slurm may have been upgraded
            raise complaint

    def _negotiate(self) -> None:
        """Find out, once, what this sacct can tell and whether the clusters exist."""
        if self._columns:
            return
        there = {name.lower() for name in self._programs.columns()}
        lacks = [name for name in JOB_COLUMNS if name.lower() not in there]
        if lacks:
            raise SourceError(
                f"this sacct has no {', '.join(lacks)}; it must be Slurm 20.11 or newer"
            )
        registered = self._programs.clusters()
        for cluster in self.clusters:
            if registered is not None and cluster not in registered:
                raise SourceError(
                    f"slurmdbd knows no cluster {cluster}, only {', '.join(sorted(registered))};"
                    " correct clusters in [[source]]"
                )
        newer = [name for name in NEWER_COLUMNS if name.lower() in there]
        self._columns = (*JOB_COLUMNS, *newer)

    def _question(self, cluster: str, span: tuple[int, int] = (0, 0)) -> Question:
        return Question(cluster, self._columns, secrets.token_hex(16), span, self._now())

    def _ended(self, cluster: str, known: dict[str, Known]) -> Iterator[Block]:
        """What ended since the watermark; each span that was read moves it."""
        now = self._now()
        empty = self._programs.queue_is_empty(cluster)
        before = known.get(cluster, NOTHING_KNOWN)
        todo = spans(before, now, overlap_s=self._overlap_s, lookback_s=self._lookback_s)[::-1]
        while todo:
            span = todo.pop()
            question = self._question(cluster, span)
            try:
                with self._programs.ended(cluster, span, self._columns, question.nonce) as answer:
                    seen: set[Run] = set()
                    readings = job_readings(answer, question)
                    yield from self._full(_noting(readings, ended=seen), known)
            except TooMuch:
                parts = halves(span)
                if not parts:
                    raise
                todo.extend(reversed(parts))
                continue
            state = known.get(cluster, NOTHING_KNOWN)
            mark = reached(state, span[1], now, queue_is_empty=empty)
            known[cluster] = state.without(seen)._replace(watermark=mark)
            yield self._block(known)

    def _open(self, cluster: str, known: dict[str, Known]) -> Iterator[Block]:
        """What runs now, and what ran before and is neither there nor ended: asked by id."""
        state, now = known.get(cluster, NOTHING_KNOWN), self._now()
        if now - state.open_at < self._open_every_s:
            return
        question = self._question(cluster)
        opened: set[Run] = set()
        with self._programs.running(cluster, self._columns, question.nonce) as answer:
            readings = job_readings(answer, question)
            yield from self._full(_noting(readings, opened=opened), known)
        for ids in in_batches(map(job_id_of, state.open - opened), MAX_IDS):
            question = self._question(cluster)
            asked = self._programs.by_id(cluster, ids, self._columns, question.nonce, steps=False)
            with asked as answer:
                readings = job_readings(answer, question)
                yield from self._full(_noting(readings, opened=opened), known)
        known[cluster] = state._replace(open=opened, open_at=now)
        yield self._block(known)

    def _full(self, readings: Iterable[Reading], known: dict[str, Known]) -> Iterator[Block]:
        """The readings in blocks that do not move the position."""
        block: list[Reading] = []
        now, size_bytes = self._now(), 0
        still = self._block(known)  # what is open may be much to write: once, not for each block
        for reading in readings:
            size_bytes += weight_bytes(reading)
            if isinstance(reading, SlurmJob):
                if _is_half_told(reading, now, min(HALF_TOLD_S, self._overlap_s // 2)):
                    continue
                block.append(self._steps.complete(reading, now))
            else:
                block.append(reading)
            if len(block) == MAX_BLOCK_READINGS or size_bytes > MAX_BLOCK_BYTES:
                yield still._replace(readings=tuple(block))
                block, size_bytes = [], 0
        if block:
            yield still._replace(readings=tuple(block))

    def _block(self, known: dict[str, Known]) -> Block:
        """The position that says what is known."""
        return Block((), write_position(known), complete_through(known, self.clusters))

    def _ask_steps(self) -> None:
        """Ask what the steps used; a failure leaves that unknown and is no complaint."""
        for cluster in self.clusters:
            for ids in in_batches(self._steps.wanted(cluster), MAX_IDS):
                nonce = secrets.token_hex(16)
                question = Question(cluster, STEP_COLUMNS, nonce, (0, 0), self._now())
                asked = self._programs.by_id(cluster, ids, STEP_COLUMNS, nonce, steps=True)
                try:
                    with asked as answer:
                        self._steps.learn(cluster, ids, step_use(answer, question))
                except SourceError:
                    self._steps.give_up()
                    return


def _kill(child: subprocess.Popen[Any]) -> None:
    """End a program that still runs, and all that it started."""
    if child.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def _noting(
    readings: Iterable[Reading], *, ended: set[Run] | None = None, opened: set[Run] | None = None
) -> Iterator[Reading]:
    """The readings as they are; the runs among them are added to these sets."""
    for reading in readings:
        if isinstance(reading, SlurmJob):
            runs = ended if reading.end else opened
            if runs is not None:
                runs.add(run_of(reading.job_id, reading.submit))
        yield reading


def _is_half_told(job: SlurmJob, now: int, patience_s: int) -> bool:
    """Whether to leave a run for the next cycle, which reads it again.

    When sacct cannot fetch the list of TRES it prints an empty AllocTRES and
    exits 0. A run that is like this for good is passed on after ``patience_s``.
    """
    ran = job.start and job.end > job.start and job.slurm_elapsed_s
    return bool(ran) and not job.alloc_tres and now - job.end < patience_s
