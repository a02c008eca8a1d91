"""The file source: a recorded dump of Slurm's accounting, recognised by content."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from jobledger_agent.source import Block


class FileSource:
    """Job records from one recorded dump (see ``read``)."""

    def __init__(
        self,
        path: Path | str,
        *,
        default_cluster: str = "",
        cluster_rename: Mapping[str, str] | None = None,
        timezone: str = "UTC",
    ) -> None:
        """Remember what to read; the file is opened by ``read``.

        ``default_cluster`` names the cluster of records without one,
        ``cluster_rename`` then renames clusters, and ``timezone`` (IANA name)
        is the zone of local times that the dump may hold.
        """
        self.path = Path(path)
        self.default_cluster = default_cluster
        self.cluster_rename = dict(cluster_rename or {})
        self.timezone = timezone

    @property
    def name(self) -> str:
        """Unique among the agent's sources."""
        return f"file:{self.path.absolute()}"

    def read(self, position: str) -> Iterator[Block]:
        """Yield the dump's records after ``position``, then stop."""
        raise NotImplementedError
