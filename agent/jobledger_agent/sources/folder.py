"""A folder that dumps are put into, for sites where nothing may run beside slurmctld.

Each file is read once, in the order of their names. One that has grown is read
on, one that was replaced is read again: the collector knows its records by their
keys. Whoever writes a file writes it under a name that is skipped (``x.part``)
and renames it once it is whole.
"""

import json
import os
import stat
from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

from jobledger_agent.source import Block, SourceError
from jobledger_agent.sources.files import FileSource

MAX_FILES: Final = 10_000
"""In one folder, in the order of their names; more are a complaint."""
MAX_POSITIONS: Final = 64
"""Files whose position is remembered; of the others only that they were read."""
MAX_COMPLAINTS: Final = 3
"""Files that are named in one complaint."""
MAX_PEEKED: Final = 8
"""Files of which the first records tell the clusters."""
SKIPPED_SUFFIXES: Final = (".tmp", ".part", ".partial")
"""Names of files that are still being written; those that begin with a dot are skipped, too."""

_DIGEST_BYTES = 8


class _File(NamedTuple):
    """One file of the folder as it is now."""

    name: str
    digest: int
    fault: str


class FolderSource:
    """Job records from all dumps in one folder, or from one dump if the path is a file."""

    def __init__(
        self,
        path: Path,
        *,
        default_cluster: str = "",
        cluster_rename: Mapping[str, str] | None = None,
        timezone: str = "UTC",
    ) -> None:
        """Remember what to read; the options are those of ``FileSource``, for every file."""
        self.path = path

        def of_file(file: Path, *, is_ours: bool) -> FileSource:
            return FileSource(
                file,
                default_cluster=default_cluster,
                cluster_rename=cluster_rename,
                timezone=timezone,
                follow_links=is_ours,
            )

        self._of_file: Callable[..., FileSource] = of_file
        self._plain = of_file(path, is_ours=True)
        self._faulty: dict[int, str] = {}
        """What was wrong with files that have not changed since."""

    @property
    def name(self) -> str:
        """Unique among the agent's sources."""
        return self._plain.name

    def clusters(self) -> frozenset[str]:
        """Clusters of the first records; none where nothing can be read."""
        if not self.path.is_dir():
            return self._plain.clusters()
        try:
            files = [file for file in self._files() if not file.fault][:MAX_PEEKED]
        except SourceError:
            return frozenset()
        found = (self._of_file(self.path / file.name, is_ours=False).clusters() for file in files)
        return frozenset().union(*found)

    def read(self, position: str) -> Iterator[Block]:
        """Yield what is new in the folder; a file that cannot be read does not stop the others.

        Raises SourceError after all others if there was such a one.
        """
        if not self.path.is_dir():
            yield from self._plain.read(position)
            return
        files = self._files()
        known = _Known.parse(position)
        known.forget_others({file.name for file in files}, {file.digest for file in files})
        self._faulty = {
            digest: fault
            for digest, fault in self._faulty.items()
            if digest in {file.digest for file in files}
        }
        for file in files[:MAX_FILES]:
            if file.digest not in known.read and file.digest not in self._faulty:
                yield from self._one(file, known)
        self._complain(len(files))

    def _one(self, file: _File, known: "_Known") -> Iterator[Block]:
        """What is new in one file, then that it was read; or remember what is wrong with it."""
        fault = file.fault
        try:
            source = self._of_file(self.path / file.name, is_ours=False)
            for block in source.read(known.at.get(file.name, "")) if not fault else ():
                known.at[file.name] = block.position
                yield block._replace(position=known.text())
        except SourceError as error:
            fault = str(error)
        if fault:
            self._faulty[file.digest] = fault
            return
        known.finish(file)
        yield Block((), known.text(), 0)

    def _files(self) -> list[_File]:
        """All that is meant to be read, by name. Raises SourceError if the folder cannot be."""
        try:
            with os.scandir(self.path) as entries:
                found = [_file(entry) for entry in entries if not _is_skipped(entry.name)]
        except OSError as error:
            raise SourceError(
                f"the folder {self.path} cannot be read ({error.strerror}); check its permissions"
            ) from error
        return sorted(found)

    def _complain(self, count: int) -> None:
        faults = sorted(self._faulty.values())
        said = faults[:MAX_COMPLAINTS]
        if len(faults) > len(said):
            said.append(f"{len(faults) - len(said)} more files cannot be read")
        if count > MAX_FILES:
            said.append(
                f"{self.path} holds {count} files, of which the first {MAX_FILES} are read; move"
                " what was read elsewhere"
            )
        if said:
            raise SourceError("; ".join(said))


class _Known:
    """What was read: digests of whole files, and positions in those that may grow."""

    def __init__(self, read: Iterable[int], at: Mapping[str, str]) -> None:
        self.read = set(read)
        self.at = dict(at)

    @classmethod
    def parse(cls, position: str) -> "_Known":
        """What a position says; nothing if it is not a folder's."""
        try:
            stored = json.loads(position) if position else {}
            read = array("Q", b64decode(stored.get("read", ""), validate=True))
            at = {str(name): str(text) for name, text in stored.get("at", {}).items()}
        except (ValueError, TypeError, AttributeError):
            return cls((), {})
        return cls(read, at)

    def text(self) -> str:
        """The position that says this; the same bytes for the same knowledge."""
        read = b64encode(array("Q", sorted(self.read))).decode()
        return json.dumps({"read": read, "at": self.at}, separators=(",", ":"))

    def finish(self, file: _File) -> None:
        """A file was read to its end; of all but the latest only that is remembered."""
        self.read.add(file.digest)
        if file.name in self.at:
            self.at[file.name] = self.at.pop(file.name)
        while len(self.at) > MAX_POSITIONS:
            del self.at[next(iter(self.at))]

    def forget_others(self, names: set[str], digests: set[int]) -> None:
        """Files that are gone are not remembered."""
        self.read &= digests
        self.at = {name: text for name, text in self.at.items() if name in names}


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name.lower().endswith(SKIPPED_SUFFIXES)


def _file(entry: os.DirEntry[str]) -> _File:
    """A file as it is now, or why it is none; never follows a link."""
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError as error:
        return _File(entry.name, _digest(entry.name), f"cannot read {entry.path}: {error.strerror}")
    if stat.S_ISREG(status.st_mode):
        return _File(entry.name, _digest(entry.name, status.st_size, status.st_mtime_ns), "")
    fault = f"{entry.path} is no plain file, so it is not opened; put a copy there"
    if stat.S_ISDIR(status.st_mode):
        fault = f"{entry.path} is a folder in a folder; move its files"
    return _File(entry.name, _digest(entry.name), fault)


def _digest(*what: object) -> int:
    text = repr(what).encode(errors="surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=_DIGEST_BYTES).digest())
