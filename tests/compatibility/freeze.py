"""Keep this release for the next one: ``python -m tests.compatibility.freeze``.

Run once at each release, with the code that is released: it writes the contract
as a descriptor and spools as this code leaves them into ``data/<version>/``. What
is there is never written again.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from jobledger_agent import VERSION
from jobledger_agent.protocol import wire
from jobledger_agent.records.job import SlurmJob, Unreadable
from jobledger_agent.spooling.spool import Sighting, Spool
from tests.agent.notebook import a_job
from tests.compatibility.contract import DATA
from tests.compatibility.spools import KINDS

NOW: Final = 1_790_000_000
PROTO: Final = Path(__file__).parents[2] / "proto"
SOURCE: Final = "jobledger_proto/v1/usage.proto"


def main() -> int:
    """Write the data of this release."""
    release = ".".join(VERSION.split(".")[:2])
    folder = DATA / release
    if len(sys.argv) == 3:
        leave_a_spool(Path(sys.argv[1]), sys.argv[2])
        return 0
    if folder.exists():
        sys.stderr.write(f"{folder} is there already: what was released does not change\n")
        return 1
    folder.mkdir(parents=True)
    descriptor = f"--descriptor_set_out={folder / 'contract.binpb'}"
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", descriptor, SOURCE]
    subprocess.run(protoc, check=True, cwd=PROTO)
    for kind in KINDS:
        itself = [sys.executable, "-m", "tests.compatibility.freeze", str(folder), kind]
        subprocess.run(itself, check=False)  # one of them kills itself
    for leftover in (*folder.glob("*.lock"), *folder.glob("*-shm")):
        leftover.unlink()
    sys.stdout.write(f"wrote {folder}: commit it\n")
    return 0


def leave_a_spool(folder: Path, kind: str) -> None:
    """Leave a spool as this release's agent does."""
    spool = Spool(folder / f"{kind}.db", now_s=lambda: NOW + 90_000)
    for number in range(6):
        jobs = [a_run(number * 10 + each) for each in range(1, 11)]
        odd = [Unreadable("alpha", f"sacct row {number}", "End is no time", b"%d|x" % number, 3)]
        spool.append(
            "sacct:alpha",
            wire.encode([*jobs, *(odd if number % 2 else [])]),
            json.dumps(
                {"alpha": {"watermark": NOW + number, "open": "", "open_at": 0}},
                separators=(",", ":"),
            ),
            NOW + number,
            [Sighting("alpha", job.job_id, job.submit, b"%016d" % job.job_id) for job in jobs],
        )
    spool.append("file:/var/tmp/dump", wire.encode([a_run(1000 + n) for n in range(5)]), "whole", 0)
    spool.forget([spool.head(0, 1)[0].block_id])
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "delivered":
        spool.forget([block.block_id for block in spool.head(0, 99)])
    spool.close()


def a_run(job_id: int) -> SlurmJob:
    """Return an ended run of an hour."""
    began = NOW + job_id
    return a_job(job_id)._replace(
        submit=began, eligible=began, start=began, end=began + 3600, observed=NOW + 90_000
    )


if __name__ == "__main__":
    sys.exit(main())
