"""Delimited dumps: what a hostile name can do to its own record, and to its neighbours.

Nothing escapes a name in sacct's output. Whatever a user writes into one, no
record is forged, none is lost without a trace, and the neighbours stay as they are.
"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobledger_agent.parsing.fields import time_reader
from jobledger_agent.parsing.knots import EITHER, Layout
from jobledger_agent.parsing.parsable import Item, Lines
from jobledger_agent.parsing.recognise import header_layout
from jobledger_agent.parsing.rows import RowReader
from jobledger_agent.records.job import SlurmJob, Unreadable
from jobledger_agent.sources.files import FileSource
from tests.agent.dumps import COLUMNS, DATA, PLAIN, Outcome, dump, read, read_rows, row, truth
from tests.agent.test_rows import ORIGIN

# Names in the middle of the row, with figures that vouch on both sides.
MIDDLE = (
    "JobIDRaw|JobID|Cluster|Submit|User|Account|ElapsedRaw|End|JobName|AllocTRES|AllocCPUS|Start"
    "|State|Suspended|Comment|WorkDir|ExitCode"
)
ALL_COLUMNS = {**PLAIN, "WorkDir": "/home/alice"}


def line(columns: str, delimiter: str = "|", **values: str) -> str:
    """One line of a dump of these columns."""
    return delimiter.join({**ALL_COLUMNS, **values}[name] for name in columns.split("|"))


def read_lines(columns: str, *lines: str, delimiter: str = "|", at_a_time: int = 99) -> list[Item]:
    """What these lines say, however many are fed at a time."""
    layout = header_layout(columns.replace("|", delimiter))
    assert layout is not None
    assert layout.delimiter == delimiter
    table = Lines(layout, RowReader(layout.names, ORIGIN), origin="dump", cluster="")
    physical = "\n".join(lines).split("\n")
    fed = [
        item
        for at in range(0, len(physical), at_a_time)
        for item in table.feed(physical[at : at + at_a_time])
    ]
    return [*fed, *table.feed([], final=True)]


def ids(items: list[Item]) -> list[object]:
    """Job ids in order, "?" for what was set aside."""
    return [item.job_id if isinstance(item, SlurmJob) else "?" for item in items]


NAMES = [
    "a|b|c",
    "x|COMPLETED|0:0|999",
    "|",
    "|||||",
    "line1\nline2",
    "l1\r\nl2",
    "\n\n\n",
    "a|b\nc|d",
    "\t",
    'say "hi"',
    '"',
    "a,b",
    "x" * 1024,
    "99999|99999|alpha|1795199294|bob",
    "caf\udce9|\udcff",
    "\x01\x02\x1f\x1e",
    "日本|🚀",
    "#" + MIDDLE,
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("at_a_time", [1, 3, 99])
def test_a_name_changes_nothing(name: str, at_a_time: int) -> None:
    """Conformance case 28: its own record is read whole, and the neighbours too."""
    lines = [
        line(MIDDLE, JobIDRaw="1"),
        line(MIDDLE, JobIDRaw="2", JobName=name, Comment=name, WorkDir=name),
        line(MIDDLE, JobIDRaw="3", JobName=name),
        line(MIDDLE, JobIDRaw="4"),
    ]
    items = read_lines(MIDDLE, *lines, at_a_time=at_a_time)
    assert ids(items) == [1, 2, 3, 4]
    plain = [item._replace(job_id=0) for item in items if isinstance(item, SlurmJob)]
    assert plain == [plain[0]] * 4


def forged(**values: str) -> str:
    """A whole line that a user would like to be a record."""
    return line(MIDDLE, JobIDRaw="66666", JobID="66666", User="victim", **values)


HEAD, TAIL = line(MIDDLE, JobIDRaw="2", JobName="\0").split("\0")
TRUE_TRES = (("billing", 2), ("cpu", 2), ("gres/gpu", 1), ("mem", 100), ("node", 1))
FORGERIES = {
    "a whole record inside a name": f"{HEAD}x\n{forged()}\ny{TAIL}",
    "two whole records inside a name": f"{HEAD}x\n{forged()}\n{forged()}\ny{TAIL}",
    "the front of a record inside a name": f"{HEAD}x\n{forged().rpartition('|AllocTRES')[0]}"
    f"66666|66666|alpha|1795199294|victim|6|1795199306|y{TAIL}",
    "the end of a record inside a name": f"{HEAD}x|cpu=1|1|1795199300|COMPLETED|00:00:00|||nobody"
    f"\ny{TAIL}",
    "an end with other figures": f"{HEAD}x|cpu=1|1|1795199305|FAILED|00:00:00||/|a\ny{TAIL}",
}


@pytest.mark.parametrize("text", FORGERIES.values(), ids=FORGERIES)
@pytest.mark.parametrize("at_a_time", [1, 99])
def test_a_forged_record_is_never_taken_for_one(text: str, at_a_time: int) -> None:
    """Either the true record comes out, or everything in doubt is set aside."""
    before, after = line(MIDDLE, JobIDRaw="1"), line(MIDDLE, JobIDRaw="3")
    items = read_lines(MIDDLE, before, text, after, at_a_time=at_a_time)
    jobs = [item for item in items if isinstance(item, SlurmJob)]
    assert 66666 not in {job.job_id for job in jobs}
    assert {(job.user, job.account) for job in jobs} == {("alice", "phys_theory")}
    assert {job.alloc_tres for job in jobs} == {TRUE_TRES}
    assert {1, 3} <= {job.job_id for job in jobs} <= {1, 2, 3}
    asides = [item for item in items if isinstance(item, Unreadable)]
    assert asides or 2 in {job.job_id for job in jobs}, "the true record left no trace"


def test_two_values_that_a_delimiter_could_part_are_not_guessed() -> None:
    values = {**ALL_COLUMNS, "WCKey": "a|b", "Reservation": "c"}
    columns = f"{MIDDLE}|WCKey|Reservation"
    (job,) = read_lines(columns, "|".join(values[name] for name in columns.split("|")))
    assert isinstance(job, SlurmJob)
    assert (job.wckey, job.reservation) == ("", "")  # neither has a price
    columns = "JobIDRaw|Submit|Start|End|State|AllocTRES|Cluster|JobName|User|Account|WorkDir"
    text = "|".join({**values, "JobName": "p|q|r"}[name] for name in columns.split("|"))
    (only,) = read_lines(columns, text)
    assert isinstance(only, Unreadable)
    assert only.reason == EITHER
    assert only.raw == text.encode()


def other(job_id: int) -> str:
    """Another record, with other figures: 50 seconds on 4 CPUs."""
    return line(
        MIDDLE, JobIDRaw=str(job_id), ElapsedRaw="50", Start="1795199290", End="1795199340",
        AllocCPUS="4", AllocTRES="billing=4,cpu=4,mem=100M,node=1",
    )  # fmt: skip


BROKEN = [
    "garbage",
    "1|2",
    "|" * 40,
    "a|" * 9,
    other(9)[:90],
    other(9)[60:],
    other(9).replace("1795199294", "then"),
    other(9).replace("|50|", "|51|"),
    "\x00\x01\x02\udcff\udcfe",
    other(9) + other(10),
]


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("at_a_time", [1, 2, 99])
def test_a_broken_line_costs_its_neighbours_nothing(broken: str, at_a_time: int) -> None:
    before, after = line(MIDDLE, JobIDRaw="1"), line(MIDDLE, JobIDRaw="3")
    items = read_lines(MIDDLE, before, broken, after, broken, broken, after, at_a_time=at_a_time)
    assert ids(items) == [1, "?", 3, "?", "?", 3]
    aside = items[1]
    assert isinstance(aside, Unreadable)
    assert aside.raw == broken.encode("utf-8", "surrogateescape")
    assert aside.origin == "dump line 3"
    assert aside.reason


def test_a_cut_record_and_a_name_that_forges_one_look_the_same() -> None:
    """Where no figures tell, both lines are kept for a person: nothing is priced, nothing lost."""
    cut, whole = line(MIDDLE, JobIDRaw="9").partition("|billing")[0], line(MIDDLE, JobIDRaw="3")
    items = read_lines(MIDDLE, line(MIDDLE, JobIDRaw="1"), cut, whole, line(MIDDLE, JobIDRaw="4"))
    assert ids(items) == [1, "?", 4]
    aside = items[1]
    assert isinstance(aside, Unreadable)
    assert aside.raw == f"{cut}\n{whole}".encode()
    assert aside.reason == EITHER


def test_blank_lines_and_repeated_headers_are_nothing() -> None:
    """Two dumps in one file."""
    first, second = line(MIDDLE, JobIDRaw="1"), line(MIDDLE, JobIDRaw="2")
    assert ids(read_lines(MIDDLE, first, "", "", MIDDLE, second, "")) == [1, 2]


def test_lines_that_ended_on_another_system() -> None:
    layout = header_layout(MIDDLE + "\r")
    assert layout is not None
    table = Lines(layout, RowReader(layout.names, ORIGIN), origin="dump", cluster="")
    lines = [line(MIDDLE, JobIDRaw=str(n)) + "\r" for n in (1, 2)]
    items = table.feed(lines, final=True)
    assert ids(items) == [1, 2]
    assert {item.account for item in items if isinstance(item, SlurmJob)} == {"phys_theory"}


DELIMITERS = ["|", "\t", ";", "\x1f", "\x01\x02", "~@~", "d41d8cd98f00b204e9800998ecf8427e", "::"]


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("trailing", [False, True])
def test_any_delimiter(tmp_path: Path, delimiter: str, trailing: bool) -> None:
    """``-P`` ends a record with its last value, ``-p`` with one more delimiter."""
    name = "line1\nline2"
    end = delimiter + "\n" if trailing else "\n"
    rows = [row(), row(JobIDRaw="3", JobID="3", JobName=name, Comment=name), row(JobIDRaw="4")]
    path = dump(tmp_path / "dump", rows, delimiter=delimiter, end=end)
    outcome = read(FileSource(path))
    assert not outcome.unreadable
    assert [job.job_id for job in outcome.jobs] == [2, 3, 4]


def test_a_comma_without_quotes(tmp_path: Path) -> None:
    """As ``sacct --delimiter=,`` prints it, with the commas of AllocTRES in between."""
    outcome = read_rows(tmp_path, row(), row(JobIDRaw="3", JobName="a,b"), delimiter=",")
    assert not outcome.unreadable
    assert [job.job_id for job in outcome.jobs] == [2, 3]
    assert {job.alloc_tres for job in outcome.jobs} == {
        (("billing", 2), ("cpu", 2), ("gres/gpu", 1), ("mem", 100), ("node", 1))
    }


@pytest.mark.parametrize("quoted_header", [False, True])
def test_csv(tmp_path: Path, quoted_header: bool) -> None:
    """RFC 4180: quotes, doubled quotes, commas and newlines inside of them."""
    names = ["plain", "a,b", 'say ""hi""', "line1\nline2", "x,y\n1,2,3", ""]
    rows = [row(JobIDRaw=str(n), JobName=name) for n, name in enumerate(names, 1)]
    quoted = [[f'"{value}"' for value in values] for values in rows]
    columns = [f'"{name}"' for name in COLUMNS] if quoted_header else COLUMNS
    outcome = read(
        FileSource(dump(tmp_path / "d.csv", quoted, columns=columns, delimiter=",", end="\r\n"))
    )
    assert not outcome.unreadable
    assert [job.job_id for job in outcome.jobs] == [1, 2, 3, 4, 5, 6]


def test_an_open_quotation_mark_swallows_no_neighbour(tmp_path: Path) -> None:
    rows = [[f'"{value}"' for value in row(JobIDRaw=str(n))] for n in range(1, 5)]
    rows[1][-2] = '"never closed'
    outcome = read(FileSource(dump(tmp_path / "d.csv", rows, delimiter=",")))
    assert [job.job_id for job in outcome.jobs] == [1, 3, 4]
    assert len(outcome.unreadable) == 1


@pytest.mark.parametrize("version", ["22.05", "25.11"])
def test_the_hostile_names_of_the_captures(version: str) -> None:
    """Names and comments with pipes and newlines, against slurmdbd's own table."""
    outcome = read(FileSource(DATA / f"slurm-{version}" / "allfields-D-epoch.txt"))
    table = truth(version)
    assert not outcome.unreadable
    assert {(job.job_id, job.submit) for job in outcome.jobs} <= table.keys()
    assert 999 not in {job.job_id for job in outcome.jobs}  # of the name x|COMPLETED|0:0|999
    for job in outcome.jobs:
        if job.end:
            told = table[job.job_id, job.submit]
            assert (job.start, job.end) == (told.start, told.end)
    text = (DATA / f"slurm-{version}" / "allfields-D-epoch.txt").read_bytes()
    header, *physical = text.split(b"\n")
    odd = [number for number in physical if number and number.count(b"|") != header.count(b"|")]
    assert len(odd) >= 25, "the capture no longer holds what this test is about"


HOSTILE = st.text(
    st.sampled_from([*"|\n\r\t,;=:\"'\\ 0179aZ_-[]%", "é", "\udce9", "\x00", "日", "\u2028"]),
    max_size=60,
)
MANY = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@MANY
@given(st.lists(HOSTILE, min_size=11, max_size=11), st.integers(1, 9))
def test_hostile_lines_never_change_a_neighbour(broken: list[str], at_a_time: int) -> None:
    """Lines of anything between records: 2,200 of them."""
    good = [line(MIDDLE, JobIDRaw=str(n)) for n in range(1, 13)]
    mixed = [text for pair in zip(good, broken, strict=False) for text in pair]
    items = read_lines(MIDDLE, *mixed, good[-1], at_a_time=at_a_time)
    assert [item.job_id for item in items if isinstance(item, SlurmJob)] == list(range(1, 13))


@MANY
@given(st.lists(st.tuples(HOSTILE, HOSTILE, HOSTILE), min_size=11, max_size=11), st.integers(1, 9))
def test_hostile_names_never_change_a_record(
    names: list[tuple[str, str, str]], at_a_time: int
) -> None:
    """2,200 records with three hostile texts each: read as they are, or set aside."""
    lines = [line(MIDDLE, JobIDRaw="100")]
    for n, (name, comment, folder) in enumerate(names, 101):
        lines.append(line(MIDDLE, JobIDRaw=str(n), JobName=name, Comment=comment, WorkDir=folder))
        lines.append(line(MIDDLE, JobIDRaw=str(n + 100)))
    items = read_lines(MIDDLE, *lines, at_a_time=at_a_time)
    jobs = {item.job_id: item for item in items if isinstance(item, SlurmJob)}
    assert set(range(201, 212)) <= jobs.keys() <= set(range(100, 212))
    assert {job._replace(job_id=0) for job in jobs.values()} == {jobs[100]._replace(job_id=0)}
    asides = sum(isinstance(item, Unreadable) for item in items)
    assert len(jobs) == 23 or asides


def test_a_dump_of_two_hundred_thousand_lines_is_read_in_blocks() -> None:
    """Nothing is held but what may still change: memory does not grow with the input."""
    layout = Layout(tuple(MIDDLE.split("|")), "|", quoted=False)
    table = Lines(layout, RowReader(layout.names, ORIGIN), origin="dump", cluster="")
    text = line(MIDDLE, JobIDRaw="5")
    total = sum(len(table.feed([text] * 500)) for _ in range(40))
    assert total == 19_999
    assert len(table.feed([], final=True)) == 1


def test_local_times_are_read_by_zone_once_a_value() -> None:
    read_time = time_reader(ORIGIN.zone)
    assert read_time("2026-11-20T18:28:14") == read_time("1795199294")


def test_outcome_names_the_line(tmp_path: Path) -> None:
    outcome: Outcome = read_rows(tmp_path, row(), ["x", "y"], row(JobIDRaw="3"))
    (aside,) = outcome.unreadable
    assert aside.origin == f"{tmp_path / 'dump.txt'} line 3"
    assert aside.reason == f"2 fields instead of {len(COLUMNS)}"
