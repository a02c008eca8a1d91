"""The live source: ``sacct`` asked again and again, every answer validated."""

from collections.abc import Callable, Iterator, Sequence

from jobledger_agent.source import Block


class SacctSource:
    """Job records from a running Slurm (see ``read``)."""

    def __init__(
        self,
        clusters: Sequence[str],
        *,
        now: Callable[[], int],
        sacct: str = "/usr/bin/sacct",
        slurm_conf: str = "/etc/slurm/slurm.conf",
        sdiag: str = "/usr/bin/sdiag",
        sacctmgr: str = "/usr/bin/sacctmgr",
        overlap_s: int = 600,
        lookback_s: int = 31 * 86_400,
        open_every_s: int = 300,
        settle_s: int = 60,
        timeout_s: int = 120,
    ) -> None:
        """``now`` gives epoch seconds; programs that do not exist are done without."""
        self.clusters = tuple(clusters)
        self.now = now
        self.sacct = sacct
        self.slurm_conf = slurm_conf
        self.sdiag = sdiag
        self.sacctmgr = sacctmgr
        self.overlap_s = overlap_s
        self.lookback_s = lookback_s
        self.open_every_s = open_every_s
        self.settle_s = settle_s
        self.timeout_s = timeout_s

    @property
    def name(self) -> str:
        """Unique among the agent's sources."""
        return "sacct:" + ",".join(self.clusters)

    def read(self, position: str) -> Iterator[Block]:
        """Do one cycle of questions; the last block moves the watermark."""
        raise NotImplementedError
