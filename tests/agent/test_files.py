"""The file source: recognised by content, resumed, bounded, and clear when it cannot read."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobledger_agent.parsing.bytestream import MAX_LINE_BYTES
from jobledger_agent.parsing.recognise import Kind, NotAccounting, header_layout, recognise
from jobledger_agent.records.job import MAX_RAW_BYTES, SlurmJob
from jobledger_agent.source import MAX_BLOCK_READINGS, Block, SourceError
from jobledger_agent.sources.files import FileSource
from tests.agent.dumps import COLUMNS, DATA, dump, read, row

HEADER = "|".join(COLUMNS)


def numbered(count: int) -> list[list[str]]:
    """This many different records."""
    return [row(JobIDRaw=str(n), JobID=str(n)) for n in range(1, count + 1)]


def text_file(tmp_path: Path, content: bytes | str, name: str = "dump.txt") -> Path:
    """A file with this content."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


NOT_ACCOUNTING = {
    "empty": b"",
    "blank": b"\n\n  \n",
    "binary": bytes(range(256)) * 40,
    "a picture": b"\x89PNG\r\n\x1a\n" + b"\0" * 200,
    "a web page": b"<!DOCTYPE html><html><body>JobID</body></html>",
    "a letter": b"Dear all,\nthe cluster is down.\n",
    "sinfo": b"PARTITION AVAIL  TIMELIMIT  NODES  STATE NODELIST\ncpu* up infinite 4 idle c[1-4]\n",
    "squeue": b"             JOBID PARTITION     NAME     USER ST       TIME  NODES\n",
    "another table": b"name,size\na,1\n",
    "a list of JSON": b'[{"job_id": 1}]',
    "one long line": b"x" * 300_000,
    "an empty gzip": gzip.compress(b""),
    "a broken gzip": b"\x1f\x8b\x08garbage that is not gzip at all",
    "scontrol": b"JobId=1 JobName=x\n   UserId=alice(12001)\n",
}


@pytest.mark.parametrize("content", NOT_ACCOUNTING.values(), ids=NOT_ACCOUNTING)
def test_what_is_not_accounting_is_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = text_file(tmp_path, content)
    outcome = read(FileSource(path))
    assert not outcome.jobs
    assert not outcome.unreadable
    assert outcome.complaint.startswith(str(path))
    assert "sacct" in outcome.complaint or "take the dump again" in outcome.complaint
    assert outcome.complaint.isprintable(), "a terminal must survive it"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    outcome = read(FileSource(tmp_path / "none.txt"))
    assert outcome.complaint.startswith(f"cannot read {tmp_path / 'none.txt'}: No such file")
    assert "cannot read" in read(FileSource(tmp_path)).complaint  # a folder


def test_a_time_zone_that_is_none(tmp_path: Path) -> None:
    outcome = read(FileSource(dump(tmp_path / "d", [row()]), timezone="Mars/Olympus"))
    assert "no time zone 'Mars/Olympus'" in outcome.complaint


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [
        ("JobIDRaw|Submit|State", "|"),
        ("jobidraw|SUBMIT|State", "|"),
        ("User~@~JobIDRaw~@~UserCPU", "~@~"),
        ("JobIDabc123JobIDRawabc123State", "abc123"),
        ("Account\tJobID\tState", "\t"),
        ("JobID,State,End", ","),
        ("JobIDRaw|Submit|State|", "|"),
        ("JobIDRaw|Brandnew|State", "|"),
        ('"JobID","State"', ","),
        ('"JobID";"State"', ";"),
    ],
)
def test_headers(header: str, delimiter: str) -> None:
    layout = header_layout(header)
    assert layout is not None
    assert layout.delimiter == delimiter
    assert len(layout.names) in {2, 3, 4}


@pytest.mark.parametrize(
    "header",
    [
        "Account|Descr|Org|Cluster|ParentName|User",
        "Cluster|Account|User|Partition",
        "User|State|Start|End",
        "JobID is a nice name",
        "JobID|12|34|56",
        "name,size",
        "",
        "|||",
    ],
)
def test_what_is_no_header(header: str) -> None:
    assert header_layout(header) is None


def test_kinds() -> None:
    assert recognise('\ufeff\n {"jobs": []}') is Kind.JSON
    assert recognise("JobID   JobName \n------- ------- \n1 x\n") is Kind.FIXED_WIDTH
    assert recognise("115|115|name|COMPLETED\n") is Kind.HEADERLESS
    with pytest.raises(NotAccounting):
        recognise("115|115|name|7\n")


SHORT = ("Cluster", "JobIDRaw", "Submit", "Start", "End", "State", "AllocTRES")


def test_blocks_and_their_positions(tmp_path: Path) -> None:
    """A restart repeats at most the block that was not stored, and nothing is left out."""
    short = [COLUMNS.index(name) for name in SHORT]
    rows = [[fields[at] for at in short] for fields in numbered(2_700)]
    source = FileSource(dump(tmp_path / "d.txt", rows, columns=SHORT))
    blocks = list(source.read(""))
    assert [len(block.readings) for block in blocks] == [MAX_BLOCK_READINGS] * 2 + [700]
    assert {block.complete_through for block in blocks} == {0}
    for at, block in enumerate(blocks):
        rest = list(FileSource(source.path).read(block.position))
        assert rest == blocks[at + 1 :]


def test_an_unchanged_file_is_not_read_twice(tmp_path: Path) -> None:
    source = FileSource(dump(tmp_path / "d.txt", numbered(700)))
    position = [block.position for block in source.read("")][-1]
    assert list(source.read(position)) == []
    assert len(read(source).jobs) == 700, "asked from the start, it starts again"
    changed = [row(JobIDRaw="900"), *numbered(701)]
    dump(source.path, changed)
    assert len(read(source, position).jobs) == 702


def test_a_complaint_is_repeated(tmp_path: Path) -> None:
    """A restarted agent must not take a cut dump for a whole one."""
    path = text_file(tmp_path, dump(tmp_path / "d.txt", numbered(3)).read_bytes()[:-9])
    (block,) = blocks_before_error(path)
    assert read(FileSource(path), block.position).complaint == read(FileSource(path)).complaint
    assert "is not whole" in read(FileSource(path)).complaint


def blocks_before_error(path: Path) -> list[Block]:
    """The blocks of a dump that is not whole."""
    blocks: list[Block] = []
    with pytest.raises(SourceError):
        blocks.extend(FileSource(path).read(""))
    return blocks


def test_a_file_that_changed_is_read_from_the_start(tmp_path: Path) -> None:
    path = dump(tmp_path / "d.txt", numbered(3))
    (block,) = FileSource(path).read("")
    assert list(FileSource(path).read(block.position)) == []
    dump(path, numbered(4))
    assert len(read(FileSource(path), block.position).jobs) == 4


@pytest.mark.parametrize("position", ["", "{", "[]", "7", '{"done": 99}', "null", '{"done":"x"}'])
def test_a_position_that_is_not_ours_is_the_start(tmp_path: Path, position: str) -> None:
    assert len(read(FileSource(dump(tmp_path / "d.txt", numbered(3))), position).jobs) == 3


def test_what_the_file_does_not_say(tmp_path: Path) -> None:
    path = dump(tmp_path / "d.txt", [[*row()[1:]]], columns=COLUMNS[1:])
    os.utime(path, (1_795_300_000, 1_795_300_000))
    job = read(FileSource(path, default_cluster="alpha", cluster_rename={"alpha": "old"})).only
    assert (job.cluster, job.observed) == ("old", 1_795_300_000)
    assert "no Cluster;" in read(FileSource(path)).unreadable[0].reason


def test_local_times_need_their_zone(tmp_path: Path) -> None:
    local = {"Submit": "2026-11-21T01:28:14", "Start": "2026-11-21T01:28:20",
             "End": "2026-11-21T01:28:26"}  # fmt: skip
    path = dump(tmp_path / "d.txt", [row(**local)])
    assert read(FileSource(path, timezone="Asia/Bangkok")).only.submit == 1_795_199_294
    assert read(FileSource(path)).only.submit == 1_795_199_294 + 7 * 3600


def test_gzip_is_seen_by_its_content(tmp_path: Path) -> None:
    plain = dump(tmp_path / "d.txt", numbered(3))
    path = text_file(tmp_path, gzip.compress(plain.read_bytes()), "misnamed.csv")
    assert len(read(FileSource(path)).jobs) == 3


def test_a_gzip_that_breaks_off_loses_nothing_before(tmp_path: Path) -> None:
    plain = dump(tmp_path / "d.txt", numbered(3000))
    packed = gzip.compress(plain.read_bytes())
    path = text_file(tmp_path, packed[: len(packed) // 2], "cut.gz")
    outcome = read(FileSource(path))
    assert [job.job_id for job in outcome.jobs] == list(range(1, len(outcome.jobs) + 1))
    assert len(outcome.jobs) > 500
    assert "is not whole: its compressed data ends or breaks" in outcome.complaint
    assert [r.reason for r in outcome.unreadable] == [
        "truncated: it ends in the middle of a record"
    ]


def test_the_last_line_may_be_cut(tmp_path: Path) -> None:
    """At every byte: whole records come out, the cut one is set aside, and that is said."""
    text = HEADER + "\n" + "".join("|".join(fields) + "\n" for fields in numbered(3))
    for cut in range(text.rindex("\n", 0, -1) + 2, len(text)):
        outcome = read(FileSource(text_file(tmp_path, text[:cut])))
        assert [job.job_id for job in outcome.jobs[:2]] == [1, 2]
        whole = len(outcome.jobs) == 3
        assert whole == (cut == len(text) - 1), text[cut - 9 : cut]
        assert bool(outcome.complaint) != whole
        assert len(outcome.unreadable) == 1 - whole


def test_a_dump_that_ends_in_its_header_is_not_an_empty_one(tmp_path: Path) -> None:
    assert "it ends in its first line" in read(FileSource(text_file(tmp_path, HEADER))).complaint
    assert read(FileSource(text_file(tmp_path, HEADER + "\n"))) == ([], [], "")


@pytest.mark.parametrize("delimiter", ["|", "~@~", ","])
def test_figures_that_contradict_each_other_are_set_aside(tmp_path: Path, delimiter: str) -> None:
    """A digit was lost on the way: 31 years must not be priced."""
    columns = [name for name in COLUMNS if name not in {"AllocTRES", "ReqTRES"}] + ["AllocTRES"]
    values = dict(zip(COLUMNS, row(Start="795199300", AllocTRES="cpu=2"), strict=True))
    path = dump(
        tmp_path / "d", [[values[name] for name in columns]], columns=columns, delimiter=delimiter
    )
    (aside,) = read(FileSource(path)).unreadable
    assert aside.reason.startswith("its figures contradict each other")


def test_a_price_must_not_hang_on_a_value_that_may_be_cut(tmp_path: Path) -> None:
    """mem=100M without its newline may have been mem=100MiB of something longer."""
    columns = [name for name in COLUMNS if name != "AllocTRES"] + ["AllocTRES"]
    values = dict(zip(COLUMNS, row(), strict=True))
    text = "|".join(columns) + "\n" + "|".join(values[name] for name in columns)
    outcome = read(FileSource(text_file(tmp_path, text)))
    assert not outcome.jobs
    assert outcome.complaint.endswith(
        "it ends in the middle of a record; what came before is kept; take the dump again"
    )
    assert len(read(FileSource(text_file(tmp_path, text + "\n"))).jobs) == 1


def test_a_line_of_100_mb_is_one_record_set_aside(tmp_path: Path) -> None:
    """In 64 MiB of memory for everything, and the records after it come through."""
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.write((HEADER + "\n" + "|".join(row()) + "\n").encode())
        for _ in range(100):
            file.write(b"y" * 1_048_576)
        file.write(b"\n" + "|".join(row(JobIDRaw="3", JobID="3")).encode() + b"\n")
    told = json.loads(in_little_memory(path))
    assert told["jobs"] == [2, 3]
    assert told["asides"] == [[104_857_600, MAX_RAW_BYTES]]
    assert told["peak_mib"] < 64


def test_a_gigabyte_of_one_byte_unpacks_into_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write((HEADER + "\n" + "|".join(row()) + "\n").encode())
        for _ in range(200):
            file.write(b"\0" * 1_048_576)
    told = json.loads(in_little_memory(path))
    assert told["jobs"] == [2]
    assert told["asides"] == [[200 << 20, MAX_RAW_BYTES]]
    assert told["peak_mib"] < 64


def test_many_records_need_no_more_memory_than_few(tmp_path: Path) -> None:
    path = tmp_path / "many.txt"
    line = "|".join(row(AllocTRES="cpu=2,mem=100M,node=1")).replace("1795199294", "%d") + "\n"
    with path.open("w", encoding="utf-8") as file:
        file.write(HEADER + "\n")
        for n in range(60_000):
            file.write(line.replace("|2|2|", f"|{n + 1}|{n + 1}|", 1) % (1795199294, 1795199294))
    told = json.loads(in_little_memory(path))
    assert len(told["jobs"]) == 60_000
    assert told["peak_mib"] < 64


SCRIPT = """
import json, sys
from jobledger_agent.sources.files import FileSource
from jobledger_agent.records.job import SlurmJob
jobs, asides = [], []
for block in FileSource(sys.argv[1]).read(""):
    for r in block.readings:
        if isinstance(r, SlurmJob):
            jobs.append(r.job_id)
        else:
            asides.append([r.raw_size, len(r.raw)])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
peak = int(status["VmHWM"].split()[0]) // 1024
sys.stdout.write(json.dumps({"jobs": jobs, "asides": asides, "peak_mib": peak}))
"""


def in_little_memory(path: Path) -> str:
    """Read a file in a program of its own; what it says of its memory."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_long_lines_are_told_from_long_records(tmp_path: Path) -> None:
    """A record may be long; a line beyond any record of Slurm's is cut."""
    long_name = row(JobIDRaw="5", JobID="5", JobName="n" * 200_000)
    outcome = read(FileSource(dump(tmp_path / "d.txt", [row(), long_name, row(JobIDRaw="6")])))
    assert [job.job_id for job in outcome.jobs] == [2, 5, 6]
    too_long = row(JobIDRaw="5", JobID="5", JobName="n" * (2 * MAX_LINE_BYTES))
    outcome = read(FileSource(dump(tmp_path / "d.txt", [row(), too_long, row(JobIDRaw="6")])))
    assert [job.job_id for job in outcome.jobs] == [2, 6]
    (aside,) = outcome.unreadable
    assert aside.raw_size > 2 * MAX_LINE_BYTES
    assert len(aside.raw) == MAX_RAW_BYTES


def test_steps_are_folded_across_blocks(tmp_path: Path) -> None:
    columns = [*COLUMNS, "TotalCPU", "MaxRSS"]
    rows = []
    for n in range(1, 1201):
        rows.append([*row(JobIDRaw=str(n), JobID=str(n), DBIndex=str(n + 50)), "00:00:00", ""])
        for step in ("batch", "0"):
            of_step = row(JobIDRaw=f"{n}.{step}", JobID=f"{n}.{step}", DBIndex=str(n + 50))
            rows.append([*of_step, "00:01.500", "100K"])
    outcome = read(FileSource(dump(tmp_path / "d.txt", rows, columns=columns)))
    assert len(outcome.jobs) == 1200
    assert {(j.steps, j.total_cpu_ms, j.max_rss_bytes) for j in outcome.jobs} == {(2, 3000, 102400)}


def test_every_block_is_of_readings(tmp_path: Path) -> None:
    (block,) = FileSource(dump(tmp_path / "d.txt", numbered(2))).read("")
    assert isinstance(block, Block)
    assert all(isinstance(reading, SlurmJob) for reading in block.readings)
    assert FileSource(DATA / "x.txt").name == f"file:{DATA / 'x.txt'}"
