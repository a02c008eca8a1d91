"""Job runs that a test makes up, and what they add up to: the truth beside the programs.

Plain integer arithmetic that shares no code with Jobledger. Every figure is
exact: seconds, MiB-seconds, and money in 10⁻¹⁴ of the card's currency.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

DELIMITER: Final = "\x01\x02"
COLUMNS: Final = (
    "Cluster", "JobIDRaw", "JobID", "DBIndex", "Submit", "Eligible", "Start", "End",
    "ElapsedRaw", "Suspended", "State", "ExitCode", "AllocTRES", "ReqTRES", "AllocCPUS",
    "NNodes", "NodeList", "UID", "User", "Account", "AssocID", "Partition", "QOS",
    "ReservationId", "WCKey", "TimelimitRaw",
)  # fmt: skip
MONTH_START: Final = 1_790_812_800
"""2026-10-01T00:00:00Z."""
CARD: Final = Path(__file__).parents[2] / "packaging" / "rates" / "mahidol.yaml"
"""Its first tier sells a core-hour for 1, a GiB-hour for 0.5, a GPU-hour for 5, 12 or 24."""
CPU_E8: Final = 100_000_000
MEM_E8: Final = 50_000_000
GPU_E8: Final = {"": 500_000_000, "a100": 1_200_000_000, "h100": 2_400_000_000}
HOUR_S: Final = 3_600
GIB_HOUR_MIB_S: Final = 1_024 * 3_600


class Run(NamedTuple):
    """One ended job run; times in epoch seconds."""

    job_id: int
    submit: int
    start: int
    end: int
    cpus: int = 2
    gpus: int = 0
    gpu_kind: str = ""
    mem_mib: int = 4_096
    nodes: int = 1
    user: str = "alice"
    account: str = "physics"
    state: str = "COMPLETED"
    node_list: str = "n001"

    @property
    def tres(self) -> str:
        """What it held, as Slurm writes it."""
        typed = f"gres/gpu:{self.gpu_kind}={self.gpus}," if self.gpu_kind else ""
        gpus = f"{typed}gres/gpu={self.gpus}," if self.gpus else ""
        held = f"mem={self.mem_mib}M,node={self.nodes}"
        return f"billing={self.cpus},cpu={self.cpus},{gpus}{held}"

    def fields(self, cluster: str) -> dict[str, str]:
        """The columns of its row, as sacct gives them with epoch times."""
        values = (
            cluster, self.job_id, self.job_id, 5_000_000 + self.job_id, self.submit, self.submit,
            self.start, self.end, self.end - self.start, "00:00:00", self.state, "0:0", self.tres,
            self.tres, self.cpus, self.nodes, self.node_list, 1_001, self.user, self.account, 7,
            "gpu" if self.gpus else "cpu", "normal", "", "", 1_440,
        )  # fmt: skip
        return dict(zip(COLUMNS, map(str, values), strict=True))


class Sums(NamedTuple):
    """What runs add up to; ``cost_e14`` is money in 10⁻¹⁴ of the currency."""

    runs: int = 0
    elapsed_s: int = 0
    cpu_s: int = 0
    gpu_s: int = 0
    mem_mib_s: int = 0
    node_s: int = 0
    cost_e14: int = 0


def add_up(runs: Iterable[Run]) -> Sums:
    """Return the sums of runs, each charged on its own as the card says."""
    total = [0] * len(Sums._fields)
    for run in runs:
        s = run.end - run.start
        cost = CPU_E8 * micro(s * run.cpus, HOUR_S) + MEM_E8 * micro(
            s * run.mem_mib, GIB_HOUR_MIB_S
        )
        cost += GPU_E8[run.gpu_kind] * micro(s * run.gpus, HOUR_S)
        figures = (1, s, s * run.cpus, s * run.gpus, s * run.mem_mib, s * run.nodes, cost)
        total = [have + more for have, more in zip(total, figures, strict=True)]
    return Sums(*total)


def micro(base_units: int, per_unit: int) -> int:
    """Base units in millionths of a unit that is sold, half to even."""
    whole, rest = divmod(base_units * 1_000_000, per_unit)
    return whole + (2 * rest > per_unit or (2 * rest == per_unit and whole % 2 == 1))


def some_runs(count: int, *, seed: int = 1, first_id: int = 1) -> list[Run]:
    """Return ended runs of all shapes: the same for the same seed."""
    return list(stream_of_runs(count, seed=seed, first_id=first_id))


def stream_of_runs(count: int, *, seed: int = 1, first_id: int = 1) -> Iterator[Run]:
    """Yield what ``some_runs`` returns, one at a time."""
    dice = random.Random(seed)
    for job_id in range(first_id, first_id + count):
        nodes = dice.choice((1, 1, 1, 2, 4))
        cpus = nodes * dice.randrange(1, 65)
        gpus = nodes * dice.choice((0, 0, 0, 1, 4))
        start = MONTH_START + dice.randrange(0, 25 * 86_400)
        yield Run(
            job_id=job_id,
            submit=start - dice.randrange(0, 3_600),
            start=start,
            end=start + dice.randrange(1, 86_400),
            cpus=cpus,
            gpus=gpus,
            gpu_kind=dice.choice(("", "a100", "h100")) if gpus else "",
            mem_mib=cpus * dice.choice((1_000, 2_000, 4_000, 8_000)),
            nodes=nodes,
            user=f"user{dice.randrange(200):03}",
            account=f"acct{dice.randrange(40):02}",
            state=dice.choice(("COMPLETED", "COMPLETED", "FAILED", "TIMEOUT")),
        )


def dump_text(runs: Iterable[Run], cluster: str, extra: Sequence[str] = ()) -> str:
    """Return the runs as a dump of sacct's; ``extra`` lines come after every tenth run."""
    lines, waiting = [DELIMITER.join(COLUMNS)], list(extra)[::-1]
    for number, run in enumerate(runs, 1):
        lines.append(DELIMITER.join(run.fields(cluster).values()))
        if waiting and number % 10 == 0:
            lines.append(waiting.pop())
    return "\n".join([*lines, *waiting[::-1], ""])


def write_runs(path: Path, runs: Iterable[Run], cluster: str, extra: Sequence[str] = ()) -> Path:
    """Write a dump; returns its path."""
    path.write_text(dump_text(runs, cluster, extra), encoding="utf-8")
    return path
