"""A Slurm whose truth a test writes: programs on disk that answer from a file, as sacct would."""

import json
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.faults.truth import COLUMNS, Run
from tests.faults.world import CLUSTER

STEP_COLUMNS: Final = ("TotalCPU", "MaxRSS")
SACCT: Final = """#!{python} -IS
import json, os, sys, time
state = json.load(open({state!r}))
words, mood = sys.argv[1:], state["mood"]
if words == ["-e"]:
    print(*state["columns"])
    sys.exit()
def value(option):
    return words[words.index(option) + 1]
if mood == "hangs":
    time.sleep(600)
if mood == "fails":
    sys.exit("sacct: error: slurmdbd: connection refused")
if mood == "fails and exits 0":
    print("sacct: error: lost the connection", file=sys.stderr)
    sys.exit()
if mood == "garbage":
    print("\\x00\\xff not a record\\n" * 3)
    sys.exit()
if mood == "empty" or "-X" not in words:
    sys.exit()
is_epoch = os.environ.get("SLURM_TIME_FORMAT") == "%s" and os.environ.get("TZ") == "UTC"
def shown(column, text):
    if column in ("Submit", "Eligible", "Start", "End") and text.isdigit() and not is_epoch:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(int(text)))
    return text
delimiter = next(word.partition("=")[2] for word in words if word.startswith("--delimiter="))
answer = ""
for job in state["jobs"]:
    if "-j" in words:
        if job["JobIDRaw"] not in value("-j").split(","):
            continue
    elif "-S" not in words or not int(value("-S")[3:]) <= int(job["End"]) <= int(value("-E")[3:]):
        continue
    fields = [shown(column, job.get(column, "")) for column in value("-o").split(",")]
    answer += "".join(field + delimiter for field in fields) + "\\n"
sys.stdout.write(answer[: len(answer) // 2] if mood == "half" else answer)
"""
SDIAG: Final = """#!{python} -IS
import json
state = json.load(open({state!r}))
print("DBD Agent queue size:", state["queue"])
print("Jobs running:   0")
"""


class FakeSlurm:
    """What slurmdbd has, and the mood that sacct is in."""

    def __init__(self, folder: Path) -> None:
        """Put the programs into a folder; slurmdbd has nothing yet."""
        self.folder = folder / "slurm"
        self.folder.mkdir()
        self._state = self.folder / "state.json"
        self.runs: dict[tuple[int, int], Run] = {}
        self.mood = ""
        self.queue = 0
        self.tell()
        for name, text in (("sacct", SACCT), ("sdiag", SDIAG)):
            program = self.folder / name
            program.write_text(text.format(python=sys.executable, state=str(self._state)))
            program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def has(self, *runs: Run) -> None:
        """Let slurmdbd have these runs (again)."""
        self.runs |= {(run.job_id, run.submit): run for run in runs}
        self.tell()

    def loses(self, runs: Iterable[Run]) -> None:
        """Let slurmdbd have these runs no more."""
        for run in runs:
            del self.runs[run.job_id, run.submit]
        self.tell()

    def is_in(self, mood: str) -> None:
        """Let sacct answer like this from now on; "" is well."""
        self.mood = mood
        self.tell()

    def tell(self) -> None:
        """Write it down, whole: a program in the middle of its answer sees the old state."""
        jobs = [run.fields(CLUSTER) for run in self.runs.values()]
        state = {
            "jobs": jobs, "mood": self.mood, "queue": self.queue,
            "columns": [*COLUMNS, *STEP_COLUMNS],
        }  # fmt: skip
        fresh = self._state.with_suffix(".new")
        fresh.write_text(json.dumps(state))
        fresh.replace(self._state)

    def settings(self, folder: Path, **over: int) -> Path:
        """Write an agent's settings that read this Slurm every second."""
        keys = {"poll_interval_s": 1, "timeout_s": 5, "sweep_days": 0} | over
        path = folder / "agent.toml"
        numbers = "\n".join(f"{name} = {number}" for name, number in keys.items())
        path.write_text(
            f'[kick]\nfile = ""\n[[source]]\nkind = "sacct"\nclusters = ["{CLUSTER}"]\n'
            f'sacct = "{self.folder}/sacct"\nsdiag = "{self.folder}/sdiag"\n'
            'sacctmgr = "/nonexistent/sacctmgr"\nscontrol = "/nonexistent/scontrol"\n'
            f"{numbers}\n"
        )
        return path
