"""From a source into the spool: what one reading of a source stores."""

import hashlib
import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from jobledger_agent import clock
from jobledger_agent.health import Health
from jobledger_agent.job import UNKNOWN, Reading, SlurmJob, Unreadable
from jobledger_agent.source import Block, SourceError
from jobledger_agent.sources import Feed
from jobledger_agent.spool import Sighting, Spool, SpoolFull
from jobledger_agent.wire import encode

FULL_RETRY_S: Final = 1.0
"""How soon a full spool is tried again."""
PORTION_RAW_BYTES_MAX: Final = 192 * 1024
"""Of unreadable records, stored at one time: it bounds memory and fits any quota."""
DIGEST_BYTES: Final = 16
_SQLITE_INTEGER_MAX: Final = (1 << 63) - 1
_STEPS_UNKNOWN: Final = (UNKNOWN, UNKNOWN, 0)

log = logging.getLogger(__name__)


def read_through(feed: Feed, spool: Spool, health: Health, stored: Callable[[], None],
                 stop: threading.Event) -> None:  # fmt: skip
    """Read a source to its end and store what it gives; returns early once ``stop`` is set.

    ``stored`` is called after each block. Raises SourceError (everything before it
    is stored) and SpoolError.
    """
    for block in feed.source.read(spool.position(feed.name)):
        if not _store(feed, block, spool, health, stop):
            return
        stored()
        if stop.is_set():
            return
        del block  # or two blocks of large records are in memory while the next one is read
    health.source_went_well(feed.name, clock.now_s())


def keep_reading(feed: Feed, spool: Spool, health: Health, stored: Callable[[], None],
                 stop: threading.Event) -> None:  # fmt: skip
    """Read a source again and again, each poll interval, until ``stop``. Raises SpoolError."""
    while not stop.is_set():
        try:
            read_through(feed, spool, health, stored, stop)
        except SourceError as error:
            if health.source_complained(feed.name, str(error)):
                log.error("source %s: %s", feed.name, error)  # noqa: TRY400  no defect of ours
        stop.wait(_jittered(feed.poll_interval_s))


def _store(feed: Feed, block: Block, spool: Spool, health: Health, stop: threading.Event) -> bool:
    """Store a block, waiting while the spool is full; False if stopped before it was stored."""
    readings: Sequence[Reading] = block.readings
    sightings: list[Sighting] = []
    if feed.is_live:
        readings, sightings = _news(block.readings, spool)
    *ahead, last = _portions(readings)
    for portion in ahead:
        if not _wait_for_room(
            partial(spool.append_ahead, feed.name, encode(portion)), health, stop
        ):
            return False
    # Position and sightings only now: until then the source must give all of it again.
    append = partial(
        spool.append, feed.name, encode(last), block.position, block.complete_through, sightings
    )
    if not _wait_for_room(append, health, stop):
        return False
    unreadable = sum(isinstance(reading, Unreadable) for reading in readings)
    health.count_read(len(block.readings), unreadable, len(block.readings) - len(readings))
    return True


def _wait_for_room(append: Callable[[], None], health: Health, stop: threading.Event) -> bool:
    """Append as soon as the spool takes it; False if stopped before."""
    while True:
        try:
            append()
        except SpoolFull as full:
            if health.spool_is_full(str(full)):
                log.warning("%s; sources wait until there is room", full)
            if stop.wait(FULL_RETRY_S):
                return False
        else:
            break
    if health.spool_is_full(""):
        log.info("the spool has room again; sources are read on")
    return True


def _portions(readings: Sequence[Reading]) -> Iterator[Sequence[Reading]]:
    """Cut where unreadable records grow large; at least one portion, the last may be empty."""
    start = raw_bytes = 0
    for end, reading in enumerate(readings, 1):
        if isinstance(reading, Unreadable):
            raw_bytes += len(reading.raw)
            if raw_bytes > PORTION_RAW_BYTES_MAX:
                yield readings[start:end]
                start, raw_bytes = end, 0
    yield readings[start:]


def _news(readings: Sequence[Reading], spool: Spool) -> tuple[list[Reading], list[Sighting]]:
    """Leave out what was stored before with the same content."""
    sightings = [sighting_of(reading) for reading in readings]
    unseen = spool.unseen(sightings)
    return (
        [reading for reading, is_news in zip(readings, unseen, strict=True) if is_news],
        [sighting for sighting, is_news in zip(sightings, unseen, strict=True) if is_news],
    )


def sighting_of(reading: Reading) -> Sighting:
    """Name a reading and its content, without when it was seen."""
    if isinstance(reading, SlurmJob):
        job_id = min(max(reading.job_id, 0), _SQLITE_INTEGER_MAX)
        submit = min(max(reading.submit, 0), _SQLITE_INTEGER_MAX)
        return Sighting(reading.cluster, job_id, submit, _job_digest(reading))
    digest = _digest((reading.cluster, reading.raw, reading.raw_size))
    # It has no key: part of its digest, where no run has a submit time, stands for one.
    return Sighting(reading.cluster, UNKNOWN, -(int.from_bytes(digest[:7]) + 1), digest)


def _job_digest(job: SlurmJob) -> bytes:
    """Name what a run's row says, then what its steps used if that is known."""
    content = job._replace(observed=0, total_cpu_ms=0, max_rss_bytes=0, steps=0)
    if not job.end:
        # These grow while a run is open, as its steps' use does: their growth alone is no news.
        return _digest(content._replace(slurm_elapsed_s=0, energy_j=0))
    use = (job.total_cpu_ms, job.max_rss_bytes, job.steps)
    return _digest(content) + (b"" if use == _STEPS_UNKNOWN else _digest(use))


def _digest(content: object) -> bytes:
    text = repr(content).encode(errors="surrogatepass")
    return hashlib.blake2b(text, digest_size=DIGEST_BYTES).digest()


def _jittered(interval_s: int) -> float:
    """Spread the polls of many agents: within a tenth below the interval."""
    return interval_s * (0.9 + secrets.randbelow(101) / 1000)
