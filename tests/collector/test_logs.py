"""The log: a line an event, whatever agents or browsers say of themselves."""

import subprocess
import sys

import pytest

SAY = """
import logging, os, sys
from jobledger_collector import logs
logs.start("info", os.environ)
log = logging.getLogger("jobledger_collector.server")
log.debug("nothing")
log.info("agent %s connected", sys.argv[1])
log.error("done")
"""


def said(name: str, environ: dict[str, str]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SAY, name], capture_output=True, text=True, check=True, env=environ
    )
    return done.stderr.splitlines()


def test_in_the_journal_each_line_has_its_priority() -> None:
    assert said("a", {"JOURNAL_STREAM": "8:1"}) == [
        "<6>jobledger_collector.server: agent a connected",
        "<3>jobledger_collector.server: done",
    ]


def test_elsewhere_it_has_its_time_and_level() -> None:
    first, last = said("a", {})
    assert first[:2] == "20"
    assert first.endswith(" INFO jobledger_collector.server: agent a connected")
    assert last.endswith(" ERROR jobledger_collector.server: done")


@pytest.mark.parametrize("forged", ["a\n<0>forged", "a\r\nERROR x", "a\x1b[2Jx", "a\x85x"])
def test_nothing_from_outside_begins_a_line(forged: str) -> None:
    lines = said(forged, {"JOURNAL_STREAM": "8:1"})
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
