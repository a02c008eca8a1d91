"""A collector whose store is a dictionary; what it decides is the collector's own code.

Decoding, the border's checks and the join of sightings are production code
(``wire``, ``columns``, ``core.revise``). What is simulated is the transaction: a
batch is applied to a copy that a commit puts in the place of the original.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jobledger_collector.columns import Row
from jobledger_collector.core.record import Quarantined, Verdict, content_digest
from jobledger_collector.core.revise import History, join, settle, sighting
from jobledger_collector.wire import Decoded, decode, read_request
from jobledger_proto.v1 import usage_pb2 as pb

Key = tuple[int, int]


class Refused(Exception):
    """What came is no proper batch."""


class Posting(NamedTuple):
    """CPU-seconds that a run is charged with; a revision posts the difference."""

    key: Key
    cpu_s: int


class Change(NamedTuple):
    """What a batch comes to, not yet committed."""

    verdicts: tuple[Verdict, ...]
    histories: dict[Key, History]
    postings: tuple[Posting, ...]
    quarantined: frozenset[bytes]


class Ledger:
    """What is durable."""

    def __init__(self) -> None:
        self.histories: dict[Key, History] = {}
        self.postings: list[Posting] = []
        self.quarantined: set[bytes] = set()
        self.poison: set[int] = set()
        """Jobs whose batches this collector, for a defect of its own, refuses."""

    def read(self, message: bytes, expected: int, now_ms: int) -> Decoded | None:
        """Decode what an agent says after Hello; None for what is no batch. Raises Refused."""
        request = pb.ReportRequest.FromString(message)
        if self.poison & set(request.batch.jobs.job_id):
            raise Refused("its columns are not equal")
        said = read_request(request, expected, now_ms)
        return said if isinstance(said, Decoded) else None

    def prepare(self, decoded: Decoded) -> Change:
        """Compare a batch with what is stored."""
        histories: dict[Key, History] = {}
        postings: list[Posting] = []
        quarantined: set[bytes] = set()
        verdicts: list[Verdict] = []
        for entry in decoded.entries:
            if isinstance(entry, Quarantined):
                quarantined.add(entry.raw)
                verdicts.append(Verdict.QUARANTINED)
                continue
            key = (entry.record.job_id, entry.record.submit)
            known = histories.get(key) or self.find(key)
            verdict, history, posting = compare(known, entry)
            verdicts.append(verdict)
            histories[key] = history
            postings += posting
        return Change(tuple(verdicts), histories, tuple(postings), frozenset(quarantined))

    def find(self, key: Key) -> History | None:
        """What is stored of a run."""
        return self.histories.get(key)

    def commit(self, change: Change) -> None:
        """Make a batch durable."""
        self.histories |= change.histories
        self.postings += change.postings
        self.quarantined |= change.quarantined

    def would(self, rows: Sequence[Row]) -> list[Verdict]:
        """What would become of these rows, as Verify says it."""
        return [compare(self.find((r.record.job_id, r.record.submit)), r)[0] for r in rows]

    def ends(self) -> dict[Key, int]:
        """The end of each run that is stored as ended."""
        settled = {key: settle(history) for key, history in self.histories.items()}
        return {key: each.record.end for key, each in settled.items() if each.record.end}

    def cpu_s(self) -> int:
        """All that was charged."""
        return sum(posting.cpu_s for posting in self.postings)


def compare(known: History | None, row: Row) -> tuple[Verdict, History, list[Posting]]:
    """What a sighting comes to beside what is known of its run."""
    record = row.record
    key = (record.job_id, record.submit)
    seen = sighting(record, content_digest(row.content))
    if known is None:
        return Verdict.NEW, seen, [Posting(key, settle(seen).usage.cpu_s)]
    joined = join(known, seen)
    if joined == known:
        return Verdict.KNOWN, known, []
    before, after = settle(known), settle(joined)
    if before.record[:-1] == after.record[:-1] and before.usage == after.usage:
        return Verdict.KNOWN, joined, []
    return Verdict.REVISED, joined, [Posting(key, after.usage.cpu_s - before.usage.cpu_s)]


def rows_of(columns: pb.JobColumns, now_s: int) -> list[Row]:
    """Decode columns outside a stream."""
    return [
        r for r in decode(pb.Batch(number=1, jobs=columns), now_s).entries if isinstance(r, Row)
    ]
