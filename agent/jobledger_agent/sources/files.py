"""The file source: a recorded dump of Slurm's accounting, recognised by its content."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jobledger_agent.parsing.bytestream import CHUNK_BYTES, CleanJson, Dump, LongLine, Tail, lines
from jobledger_agent.parsing.fold import Fold
from jobledger_agent.parsing.jsondump import read_json
from jobledger_agent.parsing.knots import Layout
from jobledger_agent.parsing.parsable import Lines
from jobledger_agent.parsing.recognise import Kind, NotAccounting, fixed_width_missing, recognise
from jobledger_agent.parsing.rows import GOOD_COMMAND, NEEDED, STEP_MARK, Origin, RowReader
from jobledger_agent.records.job import Reading, Unreadable, set_aside
from jobledger_agent.source import MAX_BLOCK_BYTES, MAX_BLOCK_READINGS, Block, SourceError

HEAD_BYTES = 65_536
"""By so much of a file it is recognised."""
GROWN_AGAIN = 16
"""Readings that are given again of a file that has grown: the last ones may not have been whole."""


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
        follow_links: bool = True,
    ) -> None:
        """Remember what to read; the file is opened by ``read``.

        ``default_cluster`` names the cluster of records without one,
        ``cluster_rename`` then renames clusters, and ``timezone`` (IANA name)
        is the zone of local times that the dump may hold. Without
        ``follow_links`` only a plain file is opened.
        """
        self.path = Path(path)
        self.default_cluster = default_cluster
        self.cluster_rename = dict(cluster_rename or {})
        self.timezone = timezone
        self.follow_links = follow_links
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
        with Dump(self.path, follow_links=self.follow_links) as dump:
            head = dump.peek(HEAD_BYTES)
            stat = self.path.stat()
            now = _Print(stat.st_size, int(stat.st_mtime), hashlib.sha256(head).hexdigest()[:16])
            if self._finished == (position, now):
                return
            done, whole = _resumed(self.path, position, now)
            readings = self._readings(dump, head, now.mtime)
            for _ in islice(readings, done):
                pass
            for block in _blocks(readings, dump, done, partial(_position, now, whole)):
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


def _blocks(
    readings: Iterator[Reading], dump: Dump, done: int, position: Callable[[int], str]
) -> Iterator[Block]:
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
            yield Block(tuple(block), position(done), 0)
    raise error


def _position(now: _Print, whole: str, done: int) -> str:
    return json.dumps({"done": done, **now._asdict(), "whole": whole}, separators=(",", ":"))


def _resumed(path: Path, position: str, now: _Print) -> tuple[int, str]:
    """Readings that are already stored, and the digest of the file as it is.

    None are if the file is not the one they came from: a dump that is taken
    again begins as the last one did, but what ran then has ended since. So of a
    file that has grown all that was read must be the same.
    """
    whole = _digest(path, now.size)
    kept = _kept(position)
    if kept is None or kept.head != now.head:
        return 0, whole
    if kept.size == now.size:
        return max(0, kept.done) if kept.whole == whole else 0, whole
    has_grown = HEAD_BYTES <= kept.size < now.size and kept.whole == _digest(path, kept.size)
    return max(0, kept.done - GROWN_AGAIN) if has_grown else 0, whole


class _Kept(NamedTuple):
    """What a position says: readings that were stored, of which file."""

    done: int
    size: int
    head: str
    whole: str


def _kept(position: str) -> _Kept | None:
    try:
        stored = json.loads(position)
        done, size = stored["done"], stored["size"]
        head, whole = str(stored["head"]), str(stored["whole"])
    except (ValueError, TypeError, KeyError):
        return None
    fits = isinstance(done, int) and isinstance(size, int)
    return _Kept(done, size, head, whole) if fits else None


def _digest(path: Path, size: int) -> str:
    """Digest of the first ``size`` bytes."""
    digest = hashlib.blake2b(digest_size=8)
    with path.open("rb") as file:
        while size > 0 and (chunk := file.read(min(size, CHUNK_BYTES))):
            digest.update(chunk)
            size -= len(chunk)
    return digest.hexdigest()
