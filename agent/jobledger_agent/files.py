"""The file source: a recorded dump of Slurm's accounting, recognised by its content."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jobledger_agent.bytestream import CleanJson, Dump, LongLine, Tail, lines
from jobledger_agent.fold import Fold
from jobledger_agent.job import Reading, Unreadable, set_aside
from jobledger_agent.jsondump import read_json
from jobledger_agent.knots import Layout
from jobledger_agent.parsable import Lines
from jobledger_agent.recognise import Kind, NotAccounting, fixed_width_missing, recognise
from jobledger_agent.rows import GOOD_COMMAND, NEEDED, STEP_MARK, Origin, RowReader
from jobledger_agent.source import MAX_BLOCK_BYTES, MAX_BLOCK_READINGS, Block, SourceError

HEAD_BYTES = 65_536
"""By so much of a file it is recognised."""


class _Print(NamedTuple):
    """What tells one version of a file from another."""

    size: int
    mtime: int
    head: str


class FileSource:
    """Job records from one recorded dump: parsable, CSV or JSON, plain or gzipped."""

    def __init__(
        self,
        path: Path | str,
        *,
        default_cluster: str = "",
        cluster_rename: Mapping[str, str] | None = None,
        timezone: str = "UTC",
    ) -> None:
        """Remember what to read; the file is opened by ``read``.

        ``default_cluster`` names the cluster of records without one,
        ``cluster_rename`` then renames clusters, and ``timezone`` (IANA name)
        is the zone of local times that the dump may hold.
        """
        self.path = Path(path)
        self.default_cluster = default_cluster
        self.cluster_rename = dict(cluster_rename or {})
        self.timezone = timezone
        self._finished: tuple[str, _Print] | None = None

    @property
    def name(self) -> str:
        """Unique among the agent's sources."""
        return f"file:{self.path.absolute()}"

    def read(self, position: str) -> Iterator[Block]:
        """Yield the dump's readings after ``position``, then stop.

        Raises SourceError at once if the file is not a dump of accounting, and
        after the last block if the dump was cut off.
        """
        with Dump(self.path) as dump:
            head = dump.peek(HEAD_BYTES)
            stat = self.path.stat()
            now = _Print(stat.st_size, int(stat.st_mtime), hashlib.sha256(head).hexdigest()[:16])
            if self._finished == (position, now):
                return
            done = _done(position, now)
            readings = self._readings(dump, head, now.mtime)
            for _ in islice(readings, done):
                pass
            for block in _blocks(readings, dump, done, now):
                position = block.position
                yield block
            # Polled again, an unchanged file that was read well costs nothing.
            self._finished = position, now

    def clusters(self) -> frozenset[str]:
        """Clusters of the first readings; none where the file cannot be read."""
        try:
            block = next(self.read(""), None)
        except SourceError:
            return frozenset()
        return frozenset(reading.cluster for reading in block.readings) if block else frozenset()

    def _readings(self, dump: Dump, head: bytes, observed: int) -> Iterator[Reading]:
        try:
            kind = recognise(head.decode("utf-8", "surrogateescape"))
        except NotAccounting as what:
            if dump.cut:
                raise SourceError(f"{self.path}: {dump.cut}; take the dump again") from what
            raise SourceError(
                f"{self.path} {what}, so it is not a dump of Slurm's accounting; take one with:"
                f" {GOOD_COMMAND}"
            ) from what
        origin = Origin(self.default_cluster, self.cluster_rename, self._zone(), observed)
        if kind is Kind.JSON:
            yield from read_json(CleanJson(dump), origin, str(self.path))
            self._complain("", dump)
        elif isinstance(kind, Layout):
            yield from self._table(dump, kind, origin)
        else:
            yield from self._unpriceable(dump, kind)

    def _zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise SourceError(
                f"there is no time zone {self.timezone!r}; use a name such as Asia/Bangkok"
            ) from error

    def _cluster(self) -> str:
        return self.cluster_rename.get(self.default_cluster, self.default_cluster)

    def _table(self, dump: Dump, layout: Layout, origin: Origin) -> Iterator[Reading]:
        """A delimited dump: its rows, with the steps folded into their jobs."""
        name = str(self.path)
        table = Lines(layout, RowReader(layout.names, origin), origin=name, cluster=self._cluster())
        fold = Fold(name)
        for block in _after_header(lines(dump)):
            if block is None:
                self._complain("it ends in its first line", dump)
            elif isinstance(block, LongLine):
                items = table.feed([], final=True)
                yield from fold.feed([*items, self._long(block, table.pass_over())])
            elif isinstance(block, Tail):
                yield from fold.feed(table.feed([], final=True))
                items, fault = table.tail(block.text)
                yield from fold.feed(items)
                yield from fold.finish()
                self._complain(fault, dump)
            else:
                yield from fold.feed(table.feed(block))

    def _complain(self, fault: str, dump: Dump) -> None:
        what = dump.cut or fault
        if what:
            raise SourceError(
                f"{self.path} is not whole: {what}; what came before is kept; take the dump again"
            )

    def _long(self, line: LongLine, origin: str) -> Unreadable:
        reason = f"a line of {line.size} bytes, longer than any record of Slurm's"
        return Unreadable(self._cluster(), origin, reason, line.head, line.size)

    def _unpriceable(self, dump: Dump, kind: Kind) -> Iterator[Reading]:
        """Each job's line of a dump whose columns cannot be told or do not suffice."""
        header = dump.peek(HEAD_BYTES).decode("utf-8", "replace").split("\n", 1)[0]
        if kind is Kind.FIXED_WIDTH:
            missing = ", ".join(fixed_width_missing(header, NEEDED))
            reason = f"columns for people, cut to their width, without {missing}"
        else:
            reason = "the dump has no header (sacct -n), so nobody can tell its columns"
        skip = 2 if kind is Kind.FIXED_WIDTH else 0
        number = 0
        for block in lines(dump):
            if isinstance(block, LongLine):
                number += 1
                yield self._long(block, f"{self.path} line {number}")
                continue
            for line in [block.text] if isinstance(block, Tail) else block:
                number += 1
                first = line.split("|", 1)[0].split(" ", 1)[0]
                if number > skip and line.strip() and STEP_MARK not in first:
                    origin = f"{self.path} line {number}"
                    why = f"{reason}; take it again with: {GOOD_COMMAND}"
                    yield set_aside(self._cluster(), origin, why, line)
        self._complain("", dump)


def _after_header(
    blocks: Iterable[list[str] | LongLine | Tail],
) -> Iterator[list[str] | LongLine | Tail | None]:
    """The blocks without the first line of the first; None if there is nothing else."""
    first = True
    for block in blocks:
        if not first:
            yield block
        elif isinstance(block, Tail):
            yield None
        elif not isinstance(block, LongLine):
            yield block[1:]
        first = False


def _blocks(readings: Iterator[Reading], dump: Dump, done: int, now: _Print) -> Iterator[Block]:
    """The readings in blocks; what was read before an error comes out before it."""
    error: SourceError | None = None
    while error is None:
        block: list[Reading] = []
        enough_bytes = dump.taken_bytes + MAX_BLOCK_BYTES
        try:
            for reading in islice(readings, MAX_BLOCK_READINGS):
                block.append(reading)  # what came before an error must stay
                if dump.taken_bytes >= enough_bytes:
                    break
        except SourceError as fault:
            error = fault
        if not block and error is None:
            return
        done += len(block)
        if block:
            yield Block(tuple(block), _position(done, now), 0)
    raise error


def _position(done: int, now: _Print) -> str:
    return json.dumps({"done": done, **now._asdict()}, separators=(",", ":"))


def _done(position: str, now: _Print) -> int:
    """Readings that are already stored; 0 if the file is not the one they came from."""
    try:
        kept = json.loads(position) if position else {}
    except ValueError:
        return 0
    if not isinstance(kept, dict) or any(kept.get(k) != v for k, v in now._asdict().items()):
        return 0
    done = kept.get("done")
    return done if isinstance(done, int) and done >= 0 else 0
