"""A folder of dumps: each file once, a growing one read on, a bad one beside good ones."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobledger_agent.records.job import SlurmJob, Unreadable
from jobledger_agent.settings.sections import AgentConfig, FileSection
from jobledger_agent.source import SourceError
from jobledger_agent.sources import folder as folder_module
from jobledger_agent.sources.feeds import clusters, feeds
from jobledger_agent.sources.files import GROWN_AGAIN, HEAD_BYTES, FileSource
from jobledger_agent.sources.folder import MAX_POSITIONS, FolderSource
from tests.agent.dumps import dump, row

SUBMIT: Final = 1_795_199_294


class Reader:
    """Reads a folder as the agent does: each block and its position are kept together."""

    def __init__(self, path: Path) -> None:
        self.source = FolderSource(path)
        self.position = ""

    def poll(self, *, blocks: int = 1 << 30, restarted: bool = False) -> tuple[list[int], str]:
        """Ids of what is new, and the complaint; may stop early, as by a crash."""
        if restarted:
            self.source = FolderSource(self.source.path)
        ids: list[int] = []
        try:
            for number, block in enumerate(self.source.read(self.position), 1):
                readings = [each for each in block.readings if isinstance(each, SlurmJob)]
                ids += [job.job_id for job in readings]
                self.position = block.position
                if number >= blocks:
                    return ids, ""
        except SourceError as error:
            return ids, str(error)
        return ids, ""


def put(path: Path, ids: Sequence[int]) -> Path:
    """A dump with these jobs."""
    return dump(path, [row(JobIDRaw=str(n), JobID=str(n), DBIndex=str(n)) for n in ids])


def test_each_file_is_read_once_in_the_order_of_names(tmp_path: Path) -> None:
    put(tmp_path / "b.txt", [3, 4])
    put(tmp_path / "a.txt", [5])
    reader = Reader(tmp_path)
    assert reader.poll() == ([5, 3, 4], "")
    assert reader.poll() == ([], "")
    assert reader.poll(restarted=True) == ([], "")
    put(tmp_path / "aa.txt", [6])
    assert reader.poll() == ([6], "")


@pytest.mark.parametrize("name", [".a.txt", "a.tmp", "a.txt.part", "a.PARTIAL", ".tmp"])
def test_a_file_that_is_being_written_waits_for_its_name(tmp_path: Path, name: str) -> None:
    written = put(tmp_path / name, [1])
    reader = Reader(tmp_path)
    assert reader.poll() == ([], "")
    written.rename(tmp_path / "a.txt")
    assert reader.poll() == ([1], "")


def test_a_replaced_file_is_read_again(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", [1, 2])
    reader = Reader(tmp_path)
    reader.poll()
    put(tmp_path / "new.part", [7, 8]).rename(tmp_path / "a.txt")
    assert reader.poll(restarted=True) == ([7, 8], "")


def test_a_growing_file_is_read_on(tmp_path: Path) -> None:
    first = range(1, 1001)
    path = put(tmp_path / "a.txt", first)
    assert path.stat().st_size > HEAD_BYTES
    reader = Reader(tmp_path)
    assert reader.poll() == (list(first), "")
    put(path, range(1, 1501))
    assert reader.poll(restarted=True) == (list(range(1001 - GROWN_AGAIN, 1501)), "")


def test_a_dump_taken_again_is_read_again_though_it_begins_as_before(tmp_path: Path) -> None:
    """A job that ran when the first was taken stands in the middle of the second, ended."""
    first = [row(JobIDRaw=str(n), JobID=str(n)) for n in range(1, 1001)]
    first[900] = row(JobIDRaw="901", JobID="901", State="RUNNING", End="Unknown")
    path = dump(tmp_path / "a.txt", first)
    reader = Reader(tmp_path)
    reader.poll()
    put(path, range(1, 1101))
    ids, complaint = reader.poll()
    assert (901 in ids, complaint) == (True, "")


def test_a_record_that_was_cut_off_is_whole_after_the_file_has_grown(tmp_path: Path) -> None:
    whole = put(tmp_path / "whole.part", range(1, 1002)).read_bytes()
    path = tmp_path / "a.txt"
    path.write_bytes(whole[:-40])
    reader = Reader(tmp_path)
    ids, complaint = reader.poll()
    assert "a.txt is not whole" in complaint
    assert 1001 not in ids
    path.write_bytes(whole)
    ids, complaint = reader.poll()
    assert (1001 in ids, complaint) == (True, "")


@settings(max_examples=15, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 3000), max_size=5).map(sorted),
    stops=st.lists(st.integers(1, 3), max_size=5),
    steps=st.integers(0, 2),
)
def test_however_a_file_grows_nothing_of_it_is_missed(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], stops: list[int], steps: int
) -> None:
    """Cut anywhere, polled, stopped and restarted at any time: at the end all of it was told."""
    folder = tmp_path_factory.mktemp("folder")
    rows = []
    for n in range(1, 1501):
        rows.append(row(JobIDRaw=str(n), JobID=str(n), DBIndex=str(n)))
        rows += [row(JobIDRaw=f"{n}.{s}", JobID=f"{n}.{s}", DBIndex=str(n)) for s in range(steps)]
    whole = dump(folder / "whole.part", rows).read_bytes()
    path, reader, seen = folder / "a.txt", Reader(folder), set[int]()
    for cut in cuts:
        path.write_bytes(whole[: len(whole) * cut // 3000])
        seen |= set(reader.poll(blocks=stops[0] if stops else 9)[0])
    path.write_bytes(whole)
    for stop in stops:
        seen |= set(reader.poll(blocks=stop, restarted=True)[0])
    ids, complaint = reader.poll(restarted=True)
    assert complaint == ""
    assert seen | set(ids) == set(range(1, 1501))


def test_reading_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", range(1, 3001))
    put(tmp_path / "b.txt", [9001])
    reader = Reader(tmp_path)
    told: list[int] = []
    while ids := reader.poll(blocks=1, restarted=True)[0]:
        told += ids
    told += reader.poll()[0]
    assert told == [*range(1, 3001), 9001]


def test_what_cannot_be_read_does_not_stop_its_neighbours(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", [1])
    (tmp_path / "b.txt").write_text("dear diary,\nno jobs today\n")
    (tmp_path / "c.txt").symlink_to(tmp_path / "a.txt")
    os.mkfifo(tmp_path / "d.txt")
    (tmp_path / "e").mkdir()
    (tmp_path / "f.json").write_text('{"jobs": [')
    put(tmp_path / "g.txt", [2])
    reader = Reader(tmp_path)
    ids, complaint = reader.poll()
    assert ids == [1, 2]
    assert f"{tmp_path}/b.txt" in complaint
    assert f"{tmp_path}/c.txt is no plain file" in complaint
    assert f"{tmp_path}/d.txt is no plain file" in complaint
    assert "2 more files cannot be read" in complaint
    assert reader.poll() == ([], complaint)
    for name in "bcdf":
        next(tmp_path.glob(f"{name}.*")).unlink()
    (tmp_path / "e").rmdir()
    assert reader.poll() == ([], "")


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_a_name_that_turns_into_something_else_is_not_opened(tmp_path: Path, kind: str) -> None:
    """Between the look and the opening: who may write here must not make us read elsewhere."""
    path = tmp_path / "a.txt"
    if kind == "link":
        path.symlink_to(put(tmp_path / "secret", [1]))
    else:
        os.mkfifo(path)
    with pytest.raises(SourceError, match=r"cannot read .*a\.txt"):
        list(FileSource(path, follow_links=False).read(""))


def test_a_folder_that_cannot_be_read_is_a_complaint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)
    assert Reader(tmp_path).poll() == (
        [],
        f"the folder {tmp_path} cannot be read (Permission denied); check its permissions",
    )
    assert FolderSource(tmp_path).clusters() == frozenset()


def test_too_many_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "MAX_FILES", 2)
    for n in (1, 2, 3):
        put(tmp_path / f"{n}.txt", [n])
    ids, complaint = Reader(tmp_path).poll()
    assert ids == [1, 2]
    assert "holds 3 files, of which the first 2 are read; move" in complaint


def test_the_position_stays_small_and_forgets_what_is_gone(tmp_path: Path) -> None:
    names = [f"{n:04}.txt" for n in range(300)]
    for n, name in enumerate(names):
        put(tmp_path / name, [n + 1])
    reader = Reader(tmp_path)
    assert len(reader.poll()[0]) == 300
    assert len(json.loads(reader.position)["at"]) == MAX_POSITIONS
    assert len(reader.position) < 300 * 11 + MAX_POSITIONS * 200
    for name in names[:-1]:
        (tmp_path / name).unlink()
    put(tmp_path / "new.txt", [999])
    assert reader.poll() == ([999], "")
    assert len(reader.position) < 500


def test_a_single_file_is_read_as_before(tmp_path: Path) -> None:
    path = put(tmp_path / "a.txt", [1, 2])
    reader = Reader(path)
    assert reader.poll() == ([1, 2], "")
    assert reader.position == list(FileSource(path).read(""))[-1].position
    assert FolderSource(path).name == FileSource(path).name


@pytest.mark.parametrize("position", ["", "{}", "[]", "nonsense", '{"done":3}', '{"read":"!!"}'])
def test_a_position_that_is_not_ours_means_from_the_beginning(
    tmp_path: Path, position: str
) -> None:
    put(tmp_path / "a.txt", [1])
    reader = Reader(tmp_path)
    reader.position = position
    assert reader.poll() == ([1], "")


def test_the_clusters_of_dumps_are_known_before_they_are_read(tmp_path: Path) -> None:
    dump(tmp_path / "a.txt", [row(Cluster="alpha")])
    dump(tmp_path / "b.txt", [row(Cluster="beta")])
    (tmp_path / "c.txt").write_text("no dump")
    plain = FileSection(tmp_path)
    renamed = FileSection(tmp_path, rename=(("beta", "gamma"),))
    assert clusters(AgentConfig(sources=(plain,))) == ("alpha", "beta")
    assert clusters(AgentConfig(sources=(renamed,))) == ("alpha", "gamma")
    assert clusters(AgentConfig(sources=(FileSection(tmp_path / "none"),))) == ()
    (feed,) = feeds(AgentConfig(sources=(plain,)))
    assert (feed.name, feed.is_live, feed.tells_lag) == (f"file:{tmp_path}", False, False)


def test_records_without_a_cluster_are_not_a_cluster(tmp_path: Path) -> None:
    dump(tmp_path / "a.txt", [row(Cluster="")])
    (block, _) = FolderSource(tmp_path).read("")
    assert all(isinstance(reading, Unreadable) for reading in block.readings)
    assert clusters(AgentConfig(sources=(FileSection(tmp_path),))) == ()
