"""What slurmdbd's own database says was used: the sum that ours must equal.

Written without any code of the project, from the definition of usage: nothing
before the later of start and submit, nothing while suspended, nothing without a
start or an end.
"""

from typing import NamedTuple

from tests.slurm.conf import CLUSTER
from tests.slurm.lab import Lab

COLUMNS = (
    "id_job, time_submit, time_start, time_end, time_suspended, tres_alloc, account, id_user, state"
)


class Row(NamedTuple):
    """One row of slurmdbd's job table, with what it used."""

    job_id: int
    submit: int
    end: int
    account: str
    elapsed_s: int
    cpu_s: int
    gpu_s: int
    mem_mib_s: int
    node_s: int

    @property
    def key(self) -> tuple[int, int]:
        """slurmdbd's own unique index."""  # noqa: D403 a program's name
        return self.job_id, self.submit


def rows(lab: Lab) -> list[Row]:
    """Every run that slurmdbd has accounted, also those still running (end 0)."""
    names = {
        number: f"{kind}/{name}".rstrip("/")
        for number, kind, name in lab.query(
            "select id, type, name from slurm_acct_db.tres_table where deleted = 0"
        )
    }
    query = f"select {COLUMNS} from slurm_acct_db.{CLUSTER}_job_table where deleted = 0"  # noqa: S608
    return [_row(values, names) for values in lab.query(query)]


def _row(values: list[str], names: dict[str, str]) -> Row:
    job_id, submit, start, end, suspended = (int(value) for value in values[:5])
    held = {
        names[number]: int(count)
        for number, _, count in (item.partition("=") for item in values[5].split(",") if item)
    }
    active_s = max(0, end - max(start, submit) - suspended) if start and end else 0
    return Row(
        job_id=job_id,
        submit=submit,
        end=end,
        account=values[6],
        elapsed_s=active_s,
        cpu_s=active_s * held.get("cpu", 0),
        gpu_s=active_s * held.get("gres/gpu", 0),
        mem_mib_s=active_s * held.get("mem", 0),
        node_s=active_s * held.get("node", 0),
    )
