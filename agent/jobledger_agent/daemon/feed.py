"""From a source into the spool: what one reading of a source stores."""

import hashlib
import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Final, NamedTuple

from jobledger_agent import clock
from jobledger_agent.daemon.kick import KICK_STAT_MS, Kicks, Look, Pace
from jobledger_agent.delivery.comparing import PutOff, Sweeping
from jobledger_agent.delivery.verifier import Verifier
from jobledger_agent.health import Health
from jobledger_agent.protocol.wire import encode, encode_tree
from jobledger_agent.records.job import UNKNOWN, Reading, SlurmJob, Unreadable
from jobledger_agent.source import Block, Glancing, SourceError, Telling
from jobledger_agent.sources.feeds import Feed
from jobledger_agent.spooling.spool import Sighting, Spool, SpoolFull

ALIVE_EVERY_MS: Final = 10_000
"""A source that rests says so at least this often."""
FULL_RETRY_S: Final = 1.0
"""How soon a full spool is tried again."""
PORTION_RAW_BYTES_MAX: Final = 192 * 1024
"""Of unreadable records, stored at one time: it bounds memory and fits any quota."""
DIGEST_BYTES: Final = 16
_SQLITE_INTEGER_MAX: Final = (1 << 63) - 1
_STEPS_UNKNOWN: Final = (UNKNOWN, UNKNOWN, 0)

log = logging.getLogger(__name__)


class Intake(NamedTuple):
    """What readings pass on their way into the spool, and who is told of it."""

    spool: Spool
    health: Health
    verifier: Verifier | None
    """None: sweeps are stored as other readings are."""
    stored: Callable[[], None]
    """Called after each block."""
    stop: threading.Event
    alive: Callable[[], None] = lambda: None
    """Called while the reading goes on or waits; not while the source itself is waited for."""


def read_through(feed: Feed, intake: Intake, look: Look = Look.FULL) -> bool:
    """Read a source to its end and store what it gives; returns early once ``stop`` is set.

    Returns whether it held a run that ended and was not known to have. Raises
    SourceError (everything before it is stored) and SpoolError.
    """
    saw_an_end = False
    began_ms = clock.monotonic_ms()
    health, verifier = intake.health, intake.verifier
    try:
        with (
            Sweeping(verifier, intake.spool, health, intake.stop)
            if verifier
            else nullcontext() as sweeping
        ):
            for block in _blocks(feed, intake.spool.position(feed.name), look):
                intake.alive()
                ended = _store(feed, block, intake, sweeping)
                if ended is None:
                    return saw_an_end
                saw_an_end = saw_an_end or ended
                intake.stored()
                if intake.stop.is_set():
                    return saw_an_end
                del block  # or two blocks of large records are in memory while the next is read
    except PutOff as why:
        if health.sweep_put_off(feed.name, str(why)):
            log.info("source %s: its sweep is put off: %s", feed.name, why)
    finally:
        if isinstance(feed.source, Telling):
            health.source_told(feed.name, feed.source.facts())
    took_ms = clock.monotonic_ms() - began_ms
    health.source_went_well(feed.name, clock.now_s(), took_ms)
    return saw_an_end


def keep_reading(feed: Feed, intake: Intake, kicks: Kicks) -> None:
    """Read a source again and again, each poll interval and after kicks, until ``stop``.

    Raises SpoolError.
    """
    pace = Pace(feed.poll_interval_s, lambda most: secrets.randbelow(most + 1))
    known_kicks = kicks.look()
    while not intake.stop.is_set():
        look = pace.due(clock.monotonic_ms())
        if look is not None:
            _read_once(feed, intake, pace, look)
            continue
        wait_ms = min(pace.wait_ms(clock.monotonic_ms()), ALIVE_EVERY_MS)
        if feed.is_live and kicks.are_wanted:
            wait_ms = min(wait_ms, KICK_STAT_MS)
            total = kicks.look()
            if total != known_kicks:
                known_kicks = total
                pace.kicked(clock.monotonic_ms())
        intake.alive()
        intake.stop.wait(wait_ms / 1000)


def _read_once(feed: Feed, intake: Intake, pace: Pace, look: Look) -> None:
    was_silent = intake.health.report().last_success.get(feed.name, 0) == 0
    failures = pace.failures
    try:
        saw_an_end = read_through(feed, intake, look)
    except SourceError as error:
        if intake.health.source_complained(feed.name, str(error)):
            log.error("source %s: %s", feed.name, error)  # noqa: TRY400  no defect of ours
        pace.failed(clock.monotonic_ms())
        return
    pace.went_well(look, clock.monotonic_ms(), saw_an_end=saw_an_end)
    if was_silent and not intake.stop.is_set():
        log.info("source %s was read for the first time since the start", feed.name)
    elif failures:
        log.info("source %s is read again after %d failures", feed.name, failures)


def _blocks(feed: Feed, position: str, look: Look) -> Iterator[Block]:
    if look is Look.GLANCE and isinstance(feed.source, Glancing):
        return feed.source.glance(position)
    return feed.source.read(position)


def _store(feed: Feed, block: Block, intake: Intake, sweeping: Sweeping | None) -> bool | None:
    """Store a block, waiting while the spool is full.

    Returns whether it told of an end that is news, None if stopped before it was
    stored. Raises PutOff.
    """
    spool = intake.spool
    readings: Sequence[Reading] = block.readings
    sightings: list[Sighting] = []
    found = sweeping.found(block, block.sweep) if sweeping and block.sweep else None
    if found is not None:
        readings, sightings = _news(found.untold, spool)
        readings += found.lacking
        sightings += map(sighting_of, found.lacking)
    elif feed.is_live:
        readings, sightings = _news(block.readings, spool)
    *ahead, last = _portions(readings)
    for portion in ahead:
        if not _wait_for_room(partial(spool.append_ahead, feed.name, encode(portion)), intake):
            return None
    # Position and sightings only now: until then the source must give all of it again.
    append = partial(
        spool.append,
        feed.name,
        (*encode(last), *encode_tree(block.tree)),
        block.position,
        block.complete_through,
        sightings,
    )
    if not _wait_for_room(append, intake):
        return None
    unreadable = sum(isinstance(reading, Unreadable) for reading in readings)
    intake.health.count_read(len(block.readings), unreadable, len(block.readings) - len(readings))
    return found is None and any(isinstance(each, SlurmJob) and each.end for each in readings)


def _wait_for_room(append: Callable[[], None], intake: Intake) -> bool:
    """Append as soon as the spool takes it; False if stopped before."""
    while True:
        try:
            append()
        except SpoolFull as full:
            intake.alive()
            if intake.health.spool_is_full(str(full)):
                log.warning("%s; sources wait until there is room", full)
            if intake.stop.wait(FULL_RETRY_S):
                return False
        else:
            break
    if intake.health.spool_is_full(""):
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
