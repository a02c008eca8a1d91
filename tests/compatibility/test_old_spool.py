"""Spools of the release before this one: opened, brought up to date, delivered once."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from jobledger_agent.spooling.spool import Sighting, Spool, SpoolError, peek
from jobledger_agent.spooling.spoolschema import SCHEMA_VERSION
from jobledger_proto.v1 import usage_pb2 as pb
from tests.compatibility.contract import RELEASES
from tests.compatibility.spools import KINDS, a_copy

NOW = 1_790_000_000
JOBS = [*range(11, 21), *range(21, 31), *range(31, 41), *range(41, 51), *range(51, 61),
        *range(1000, 1005)]  # fmt: skip
SACCT, FILE = "sacct:alpha", "file:/var/tmp/dump"


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_waited_waits_and_positions_stand(release: str, kind: str, tmp_path: Path) -> None:
    path = a_copy(release, kind, tmp_path)
    spool = Spool(path, now_s=lambda: NOW + 90_000)
    assert spool.notice == ""
    blocks = spool.head(0, 100)
    jobs: list[int] = []
    unreadable: list[bytes] = []
    for block in blocks:
        batch = pb.ReportRequest.FromString(block.payload).batch
        jobs += batch.jobs.job_id
        unreadable += [each.raw for each in batch.unreadable]
        assert block.records == batch.jobs.rows + len(batch.unreadable)
    waits = kind != "delivered"
    assert jobs == (JOBS if waits else [])
    assert unreadable == ([b"1|x", b"3|x", b"5|x"] if waits else [])
    assert spool.position(SACCT) == '{"alpha":{"watermark":1790000005,"open":"","open_at":0}}'
    assert spool.position(FILE) == "whole"
    marks = {mark.source: mark for mark in spool.marks()}
    assert marks[SACCT].acknowledged_through == (NOW if waits else NOW + 5)
    seen = Sighting("alpha", 60, NOW + 60, b"%016d" % 60)
    assert spool.unseen([seen, seen._replace(job_id=61)]) == [False, True]
    spool.close()


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on_as_one_of_this_release(release: str, kind: str, tmp_path: Path) -> None:
    path = a_copy(release, kind, tmp_path)
    spool = Spool(path)
    last = max((block.block_id for block in spool.head(0, 100)), default=0)
    spool.append_ahead(SACCT, [])
    for block in spool.head(0, 100):
        spool.hold(block.block_id, "a reason")
    spool.release_held()
    spool.forget([block.block_id for block in spool.head(0, 100)])
    spool.close()
    again = Spool(path)
    assert (again.notice, again.head(0, 100)) == ("", [])
    assert again._next_id > max(last, 7)  # noqa: SLF001 - ids of old blocks are not used again
    again.close()
    with sqlite3.connect(path) as plain:
        assert plain.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    plain.close()


KILLED_IN_BETWEEN = """
import os, sys
from pathlib import Path
from jobledger_agent.spooling import spoolschema
from jobledger_agent.spooling.spool import Spool
spoolschema.note_change = lambda *_: os._exit(9)
Spool(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("release", RELEASES[:1])
def test_killed_while_it_is_brought_up_to_date_it_is_as_before(
    release: str, tmp_path: Path
) -> None:
    path = a_copy(release, "waiting", tmp_path)
    for _ in range(2):
        killed = [sys.executable, "-c", KILLED_IN_BETWEEN, str(path)]
        assert subprocess.run(killed, check=False).returncode == 9
    with sqlite3.connect(path) as plain:
        assert plain.execute("PRAGMA user_version").fetchone() == (1,)
    plain.close()
    spool = Spool(path)
    assert (spool.notice, len(spool.head(0, 100))) == ("", 6)
    spool.close()


def test_status_of_a_spool_that_was_not_brought_up_to_date_yet_says_so(tmp_path: Path) -> None:
    path = a_copy("0.2", "waiting", tmp_path)
    with pytest.raises(SpoolError, match=r"has format 1.*start the agent"):
        peek(path)
    Spool(path).close()
    assert peek(path)[0].records == 58
