"""A dump of as many job runs as wanted, and what they add up to.

Deterministic: the same seed and count give the same bytes. The sums are kept
while writing, by plain integer arithmetic that shares no code with Jobledger.
"""

import random
from dataclasses import dataclass
from pathlib import Path

DELIMITER = "\x01\x02"
COLUMNS = (
    "Cluster", "JobIDRaw", "JobID", "Submit", "Eligible", "Start", "End", "ElapsedRaw",
    "Suspended", "State", "ExitCode", "AllocTRES", "ReqTRES", "AllocCPUS", "NNodes", "UID",
    "User", "Account", "AssocID", "Partition", "QOS", "ReservationId", "WCKey", "DBIndex",
    "NodeList", "TimelimitRaw",
)  # fmt: skip
STATES = ("COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "TIMEOUT", "CANCELLED by 1001")
MONTH_START = 1_790_812_800  # 2026-10-01T00:00:00Z


@dataclass(frozen=True, slots=True)
class Sums:
    """What the runs of a dump add up to, in base units."""

    runs: int
    elapsed_s: int
    cpu_s: int
    gpu_s: int
    mem_mib_s: int
    node_s: int


def write_dump(path: Path, runs: int, *, cluster: str = "bulk", seed: int = 1) -> Sums:
    """Write ``runs`` ended runs to ``path`` and return their sums."""
    dice = random.Random(seed)
    shapes = [_shape(dice) for _ in range(400)]
    people = [(f"user{n:03}", f"acct{n % 40:02}", 10_000 + n) for n in range(200)]
    totals = [0, 0, 0, 0, 0]
    with path.open("w", encoding="utf-8", newline="\n") as out:
        out.write(DELIMITER.join(COLUMNS) + "\n")
        for number in range(1, runs + 1):
            cpus, gpus, mem_mib, nodes, tres = dice.choice(shapes)
            user, account, uid = dice.choice(people)
            submit = MONTH_START + dice.randrange(0, 25 * 86_400)
            start = submit + dice.randrange(0, 3_600)
            elapsed = dice.randrange(1, 86_400)
            fields = (
                cluster, number, number, submit, submit, start, start + elapsed, elapsed,
                "00:00:00", dice.choice(STATES), "0:0", tres, tres, cpus, nodes, uid,
                user, account, uid - 9_000, "gpu" if gpus else "cpu", "normal", "", "",
                5_000_000 + number, f"n{number % 999:03}", 1_440,
            )  # fmt: skip
            out.write(DELIMITER.join(map(str, fields)) + "\n")
            for place, count in enumerate((1, cpus, gpus, mem_mib, nodes)):
                totals[place] += elapsed * count
    return Sums(runs, *totals)


def _shape(dice: random.Random) -> tuple[int, int, int, int, str]:
    nodes = dice.choice((1, 1, 1, 2, 4))
    cpus = nodes * dice.randrange(1, 65)
    mem_mib = cpus * dice.choice((1_000, 2_000, 4_000, 8_000))
    gpus = nodes * dice.choice((0, 0, 0, 0, 0, 0, 0, 0, 1, 4))
    kind = dice.choice(("a100", "h100"))
    gres = f"gres/gpu:{kind}={gpus},gres/gpu={gpus}," if gpus else ""
    tres = f"billing={cpus},cpu={cpus},{gres}mem={mem_mib}M,node={nodes}"
    return cpus, gpus, mem_mib, nodes, tres
