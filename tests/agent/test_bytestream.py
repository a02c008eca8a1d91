"""Lines of a dump, whatever their length: a line that is too long costs only itself."""

import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_agent.parsing.bytestream import CHUNK_BYTES, MAX_LINE_BYTES, LongLine, Tail, lines
from jobledger_agent.records.job import MAX_RAW_BYTES
from jobledger_agent.sources.files import FileSource
from tests.agent.dumps import COLUMNS, read, row

LONG = MAX_LINE_BYTES + CHUNK_BYTES + 1
"""Bytes of a line that is too long wherever it begins in a chunk."""
PATTERNS = {
    "in the middle": "..L..",
    "first": "L....",
    "last": "....L",
    "several": ".L.L.",
    "in a row": ".LLL.",
    "nothing else": "LL",
}


def told(content: bytes) -> str:
    """The lines as letters: a whole one is its first character, L is a long one."""
    said = ""
    for block in lines(io.BytesIO(content)):
        if isinstance(block, LongLine):
            said += "L"
        elif isinstance(block, Tail):
            assert "\n" not in block.text
            said += f"<{block.text[:1]}>"
        else:
            said += "".join(line[:1] for line in block)
    return said


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
@pytest.mark.parametrize("short", [10, CHUNK_BYTES - 1, CHUNK_BYTES, MAX_LINE_BYTES])
def test_neighbours_of_long_lines_stay_whole(pattern: str, short: int) -> None:
    each = {"L": b"L" * (2 * LONG) + b"\n", ".": b"." * short + b"\n"}
    assert told(b"".join(each[mark] for mark in pattern)) == f"{pattern}<>"


@given(sizes=st.lists(st.sampled_from([0, 1, 7, CHUNK_BYTES, LONG, 3 * LONG]), max_size=6))
def test_no_byte_of_a_whole_line_is_lost(sizes: list[int]) -> None:
    content = b"".join(bytes([97 + n]) * size + b"\n" for n, size in enumerate(sizes))
    kept: list[str] = []
    lost: list[int] = []
    for block in lines(io.BytesIO(content)):
        if isinstance(block, LongLine):
            lost.append(block.size)
            assert len(block.head) == MAX_RAW_BYTES
        elif isinstance(block, list):
            kept.extend(block)
    assert [len(line) for line in kept] == [size for size in sizes if size < LONG]
    assert lost == [size for size in sizes if size >= LONG]


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
@pytest.mark.parametrize("delimiter", ["|", "\x01\x02", "f00f" * 8])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_dump_loses_only_its_long_lines(
    tmp_path: Path, pattern: str, delimiter: str, newline: str, *, zipped: bool
) -> None:
    rows = [
        row(JobIDRaw=str(n), JobID=str(n), JobName="n" * LONG if mark == "L" else "short")
        for n, mark in enumerate(pattern, 1)
    ]
    text = "".join(delimiter.join(cells) + newline for cells in [COLUMNS, *rows])
    path = tmp_path / "dump.txt"
    path.write_bytes(gzip.compress(text.encode(), 1) if zipped else text.encode())
    outcome = read(FileSource(path))
    good = [n for n, mark in enumerate(pattern, 1) if mark == "."]
    assert [job.job_id for job in outcome.jobs] == good
    assert len(outcome.unreadable) == pattern.count("L")
    assert all(aside.raw_size > LONG for aside in outcome.unreadable)
    assert [aside.origin for aside in outcome.unreadable] == [
        f"{path} line {n}" for n, mark in enumerate(pattern, 2) if mark == "L"
    ]
    assert not outcome.complaint
