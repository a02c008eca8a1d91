"""The live source against programs that answer with captured bytes.

Slurm itself is not here: small shell scripts stand in for its programs. They
print what sacct printed, fail as it failed, and write down how they were called.
"""

import stat
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from jobledger_agent.reading import window
from jobledger_agent.reading.canary import Canary
from jobledger_agent.reading.cycle import Cycle, CycleSettings
from jobledger_agent.reading.sweep import Progress
from jobledger_agent.reading.window import Known
from jobledger_agent.records.job import UNKNOWN, SlurmJob, Unreadable
from jobledger_agent.records.runs import Runs, run_of
from jobledger_agent.slurm.answers import JOB_COLUMNS, NEWER_COLUMNS, STEP_COLUMNS
from jobledger_agent.slurm.sacct import sacct_cycle
from jobledger_agent.source import Block, SourceError
from tests.agent.dumps import DATA, PLAIN, as_truth, truth

NOW = 1_795_300_000
END = NOW - 100

SACCT = r"""#!/bin/sh
dir="$(dirname "$0")"
for each in "$@"; do case "$each" in --delimiter=*) nonce="${each#--delimiter=}";; esac; done
case " $* " in
  *" -e "*) cat "$dir/columns"; exit 0;;
  *" -s R,S "*) which=open;;
  *" -X -j "*) which=byid;;
  *" -j "*) which=steps;;
  *) which=ended;;
esac
echo "$which $*" >> "$dir/calls"
env | sort > "$dir/environment"
[ -e "$dir/$which.err" ] && cat "$dir/$which.err" >&2
[ -e "$dir/$which.sleep" ] && sleep "$(cat "$dir/$which.sleep")"
[ "$which" = byid ] && [ ! -e "$dir/byid" ] && which=history
[ -e "$dir/$which" ] && sed "s/|/$nonce/g" "$dir/$which"
[ -e "$dir/$which.rc" ] && exit "$(cat "$dir/$which.rc")"
exit 0
"""


SACCTMGR = r"""#!/bin/sh
case "$*" in
  *"show cluster "*) printf 'alpha
beta
';;
  *"show account format=account") echo root;;
  *"show account "*) echo "root|";;
  *"show assoc "*) echo "1|root||0|||normal|";;
  *"show user "*) echo "root|root|Administrator";;
  *"show qos format=name,usagefactor,priority") echo "normal|1.000000|0";;
  *"show qos "*) echo "normal|";;
  *"show configuration") printf 'CommitDelay = No
PurgeJobAfter = NONE
';;
esac
"""


class Lab:
    """A folder with programs that stand in for Slurm's, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW
        self.columns = [*JOB_COLUMNS, *NEWER_COLUMNS]
        self.program("sacct", SACCT)
        self.write("columns", " ".join([*JOB_COLUMNS, *NEWER_COLUMNS, "TotalCPU MaxRSS"]))

    def program(self, name: str, text: str) -> None:
        """Put a program there."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def write(self, name: str, text: str) -> None:
        """What a kind of call answers (``ended``), or fails with (``ended.err``, ``.rc``)."""
        (self.folder / name).write_text(text, encoding="utf-8")

    def forget(self, name: str) -> None:
        """Take an answer away."""
        (self.folder / name).unlink()

    def answer(self, kind: str, *rows: Sequence[str]) -> None:
        """These rows, each ended by one more delimiter as ``-p`` does."""
        text = "".join("|".join(row) + "|\n" for row in rows)
        self.write(kind, text)
        if kind == "ended":  # and whoever asks by id is told of them for ever
            with (self.folder / "history").open("a", encoding="utf-8") as history:
                history.write(text)

    def source(self, *clusters: str, timeout_s: int = 20, open_every_s: int = 300) -> Cycle:
        """A source that asks these programs."""
        return sacct_cycle(
            clusters or ("alpha",),
            CycleSettings(lookback_s=600, open_every_s=open_every_s),
            now=lambda: self.now,
            sacct=str(self.folder / "sacct"),
            slurm_conf="/srv/slurm.conf",
            sdiag=str(self.folder / "sdiag"),
            sacctmgr=str(self.folder / "sacctmgr"),
            scontrol=str(self.folder / "scontrol"),
            timeout_s=timeout_s,
        )

    def asked(self, kind: str) -> list[str]:
        """The calls of one kind, in order."""
        return [call for call in self.calls if call.startswith(f"{kind} ")]

    @property
    def calls(self) -> list[str]:
        """How sacct was called for records, in order."""
        path = self.folder / "calls"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def row(**values: str) -> list[str]:
    """A row of the live source's columns: a run of 50 s that ended 100 s ago."""
    plain = {
        **PLAIN, "Submit": str(END - 60), "Eligible": str(END - 60), "Start": str(END - 50),
        "End": str(END), "ElapsedRaw": "50", "NNodes": "1", "NodeList": "c1", "ReservationId": "",
        "TimelimitRaw": "30", "Restarts": "0", "SLUID": "",
    }  # fmt: skip
    return [{**plain, **values}[name] for name in [*JOB_COLUMNS, *NEWER_COLUMNS]]


RUNNING = {"End": "Unknown", "State": "RUNNING"}


def step(job_id: str, name: str, cpu: str, rss: str, row_index: str = "7") -> list[str]:
    """A row of the question about steps."""
    values = {"JobIDRaw": f"{job_id}.{name}", "DBIndex": row_index, "TotalCPU": cpu, "MaxRSS": rss}
    return [{**PLAIN, **values}[column] for column in STEP_COLUMNS]


def cycle(source: Cycle, position: str = "") -> tuple[list[SlurmJob], Block]:
    """One cycle: the jobs, and the last block."""
    blocks = list(source.read(position))
    jobs = [r for block in blocks for r in block.readings if isinstance(r, SlurmJob)]
    return jobs, blocks[-1]


def marks(block: Block) -> dict[str, Known]:
    """What a block's position says."""
    return window.read_position(block.position)


def test_a_cycle(lab: Lab) -> None:
    lab.answer("ended", row(), row(JobIDRaw="3", JobID="3"))
    lab.answer("open", row(JobIDRaw="4", JobID="4", **RUNNING))
    jobs, last = cycle(lab.source())
    assert [(job.job_id, job.end, job.observed) for job in jobs] == [
        (2, END, NOW), (3, END, NOW), (4, 0, NOW),
    ]  # fmt: skip
    assert last.complete_through == NOW - window.SLACK_S
    assert marks(last) == {
        "alpha": Known(
            NOW - 60,
            Runs([run_of(4, END - 60)]),
            NOW,
            read_to=NOW,
            read_at=NOW,
            sweep=Progress(begun=NOW),
            canaries=(Canary(END, run_of(3, END - 60), 12001),),
        )
    }


def test_the_command_line_and_the_environment(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is set around the agent, sacct sees these variables only."""
    for name in ("SACCT_FORMAT", "SLURM_CLUSTERS", "SACCT_FEDERATION", "SLURM_TIME_FORMAT"):
        monkeypatch.setenv(name, "hostile")
    cycle(lab.source())
    ended, running = lab.calls
    nonce = ended.split("--delimiter=")[1].split(" ")[0]
    assert len(nonce) == 32
    assert nonce not in running, "each question has its own"
    columns = ",".join([*JOB_COLUMNS, *NEWER_COLUMNS])
    shape = f"-n -p --noconvert --delimiter={nonce} -o {columns}"
    states = "BF,CA,CD,DL,F,NF,OOM,PR,RQ,RS,RV,TO"
    when = f"-S uts{NOW - 600} -E uts{NOW}"
    assert ended == f"ended -M alpha -a -D -X -s {states} {when} {shape}"
    assert running.startswith("open -M alpha -a -D -X -s R,S -n -p")
    seen = dict(
        line.split("=", 1)
        for line in (lab.folder / "environment").read_text(encoding="utf-8").splitlines()
    )
    assert {k: v for k, v in seen.items() if k not in {"PWD", "SHLVL", "_", "OLDPWD"}} == {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SLURM_TIME_FORMAT": "%s",
        "SLURM_CONF": "/srv/slurm.conf",
    }


def test_columns_are_negotiated(lab: Lab) -> None:
    """An unknown column would fail the question; those of 20.11 are enough."""
    lab.write("columns", " ".join(JOB_COLUMNS))
    lab.answer("ended", row()[: len(JOB_COLUMNS)])
    jobs, _ = cycle(lab.source())
    assert jobs[0].restarts == UNKNOWN
    assert "Restarts" not in lab.calls[0]
    lab.write("columns", "JobID State")
    with pytest.raises(SourceError, match="this sacct has no Cluster, JobIDRaw"):
        cycle(lab.source())


def test_a_job_that_ended_just_now_is_read_at_once(lab: Lab) -> None:
    """Only the watermark stays behind the clock, not the question."""
    lab.answer("ended", row(Start=str(NOW - 50), End=str(NOW)))
    jobs, last = cycle(lab.source())
    assert [job.end for job in jobs] == [NOW]
    assert last.complete_through == NOW - 60


def test_each_cycle_reads_the_overlap_again(lab: Lab) -> None:
    """Conformance cases 22 and 43: what appears late, or on a clock that was set back."""
    source = lab.source()
    _, last = cycle(source)
    lab.now += 7200  # slurmdbd and agent were away for two hours
    lab.answer("ended", row())
    jobs, last = cycle(source, last.position)
    assert {job.end for job in jobs} == {END}
    assert f"-S uts{NOW - 60 - 600} -E uts{NOW + 7200}" in lab.asked("ended")[-1]


FAILURES = [
    (version, name)
    for version, names in {
        "22.05": [
            "dbd-down-parsable", "dbd-hung", "dbd-kill9-midquery", "dbd-term-midquery",
            "mariadb-down-parsable", "mariadb-hung", "mariadb-kill9-midquery",
            "mariadb-killconn-midquery", "munge-down", "no-conf",
        ],
        "25.11": ["dbd-down-parsable", "dbd-kill9-midquery", "mariadb-kill9-midquery",
                  "noauth-json"],
    }.items()
    for name in names
]  # fmt: skip


@pytest.mark.parametrize(("version", "name"), FAILURES)
@pytest.mark.parametrize("code", [0, 95])
def test_a_failure_moves_nothing(lab: Lab, version: str, name: str, code: int) -> None:
    """Conformance cases 23 and 24: also when sacct exits with 0, as it did until 23.11.3."""
    source = lab.source()
    _, before = cycle(source)
    stderr = (DATA / f"slurm-{version}" / "failures" / f"{name}.err").read_text(encoding="utf-8")
    lab.write("ended.err", stderr)
    lab.write("ended.rc", str(code))
    lab.answer("ended", row())
    blocks: list[Block] = []
    with pytest.raises(SourceError, match="sacct for cluster alpha failed with exit") as caught:
        blocks.extend(source.read(before.position))
    assert blocks == []
    assert "\n" not in str(caught.value)


def test_an_exit_without_a_reason_is_a_failure_too(lab: Lab) -> None:
    lab.answer("ended", row())
    lab.write("ended.rc", "1")
    with pytest.raises(SourceError, match="no reason given"):
        cycle(lab.source())


def test_a_hung_sacct_is_stopped(lab: Lab) -> None:
    lab.write("ended.sleep", "60")
    with pytest.raises(SourceError, match="gave no answer in 1 s; it was stopped"):
        cycle(lab.source(timeout_s=1))


def test_a_program_that_is_not_there(lab: Lab) -> None:
    lab.forget("sacct")
    with pytest.raises(SourceError, match="cannot be run"):
        cycle(lab.source())


BAD_ANSWERS = {
    "a field too few": "|".join(row()[:-1]) + "|\n",
    "a field too many": "|".join([*row(), "x"]) + "|\n",
    "no end of line": "|".join(row()) + "|",
    "half a record": "|".join(row())[:80],
    "a message": "slurm_load_jobs: something went wrong\n",
    "another cluster's": "|".join(row(Cluster="beta")) + "|\n",
    "before the span": "|".join(row(End="1795199306", Start="1795199256")) + "|\n",
    "after the span": "|".join(row(End=str(NOW + 900), Start=str(NOW + 850))) + "|\n",
    "not ended": "|".join(row(**RUNNING)) + "|\n",
}


@pytest.mark.parametrize("text", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_an_answer_that_cannot_be_one_is_refused(lab: Lab, text: str) -> None:
    source = lab.source()
    _, before = cycle(source)
    lab.write("ended", text)
    blocks: list[Block] = []
    with pytest.raises(SourceError, match="sacct for cluster alpha"):
        blocks.extend(source.read(before.position))
    assert all(marks(block) == marks(before) for block in blocks)


def test_one_bad_value_costs_one_record(lab: Lab) -> None:
    """It is set aside without the random delimiter, so that the next cycle knows it again."""
    lab.answer("ended", row(), row(JobIDRaw="3", AllocTRES="cpu=lots"), row(JobIDRaw="4"))
    source = lab.source()
    first, second = (list(source.read("")) for _ in range(2))
    readings = [reading for block in first for reading in block.readings]
    assert [r.job_id for r in readings if isinstance(r, SlurmJob)] == [2, 4]
    (aside,) = [r for r in readings if isinstance(r, Unreadable)]
    assert aside.reason == "AllocTRES is 'cpu=lots'"
    assert aside.raw.startswith(b"alpha|3|2|7|")
    assert aside.origin == "sacct for cluster alpha"
    again = [r for block in second for r in block.readings if isinstance(r, Unreadable)]
    assert again == [aside]


def test_a_key_with_a_newline_is_one_record(lab: Lab) -> None:
    lab.answer("ended", row(WCKey="a\nb|".replace("|", "")), row(JobIDRaw="3"))
    jobs, _ = cycle(lab.source())
    assert [(job.job_id, job.wckey) for job in jobs] == [(2, "a\nb"), (3, "*")]


def test_the_watermark_waits_for_slurmctlds_queue(lab: Lab) -> None:
    """What still waits there will appear with an End in the past."""
    lab.program("sdiag", '#!/bin/sh\necho "Agent queue size: 5"; cat "$(dirname "$0")/queue"\n')
    lab.write("queue", "\tDBD Agent queue size: 0\n")
    source = lab.source()
    _, last = cycle(source)
    assert last.complete_through == NOW - 60
    for queue in ("\tDBD Agent queue size: 8\n", "", "slurm_load_ctl_conf error\n"):
        lab.now += 100
        lab.write("queue", queue)
        lab.answer("ended", row())
        jobs, last = cycle(source, last.position)
        assert jobs, "records are read all the same"
        assert last.complete_through == NOW - 60
    lab.write("queue", "DBD Agent queue size: 0")
    _, last = cycle(source, last.position)
    assert last.complete_through == NOW + 300 - 60
    assert f"uts{NOW - 60 - 600} " in lab.asked("ended")[-1], "all that time is read again"


def test_the_local_controller_is_asked_without_slurmdbd(lab: Lab) -> None:
    """``-M`` would ask slurmdbd where the controller is, which may be the one that is away."""
    script = '#!/bin/sh\necho "$*" >> "$(dirname "$0")/sdiags"; echo "DBD Agent queue size: 0"\n'
    lab.program("sdiag", script)
    lab.program("scontrol", "#!/bin/sh\n[ \"$*\" = 'show config' ] && echo 'ClusterName = beta'\n")
    cycle(lab.source("alpha", "beta"))
    assert (lab.folder / "sdiags").read_text(encoding="utf-8").splitlines() == ["-M alpha", ""]


def test_a_cluster_that_slurmdbd_does_not_know(lab: Lab) -> None:
    """Conformance case 26: sacct would answer with nothing and exit with 0."""
    lab.program(
        "sacctmgr", "#!/bin/sh\n[ \"$*\" = '-nP show cluster format=cluster' ] && echo beta\n"
    )
    with pytest.raises(SourceError, match="slurmdbd knows no cluster alpha, only beta"):
        cycle(lab.source())
    lab.program("sacctmgr", "#!/bin/sh\n[ \"$3\" = cluster ] && printf 'alpha\\nbeta\\n'; exit 0\n")
    with pytest.raises(SourceError, match="sacctmgr shows no account root"):
        cycle(lab.source())  # an account tree that is not shown is not an empty one
    lab.program("sacctmgr", SACCTMGR)
    assert cycle(lab.source())[1].complete_through == NOW - 60


@pytest.mark.parametrize("name", ["all", "", "-L", "a,b", "a b", "x;y", "ALL"])
def test_what_is_not_one_cluster(name: str) -> None:
    """Several in one question would hide that one of them failed."""
    with pytest.raises(SourceError, match="is not the name of one cluster"):
        sacct_cycle(["alpha", name], now=lambda: NOW)


@pytest.mark.parametrize("path", ["/usr/bin/sacct-wrapper", "/bin/sh", "scancel"])
def test_a_program_of_another_name(path: str) -> None:
    """What may be run is judged by the program's name."""
    with pytest.raises(SourceError, match=f"{path} is not called sacct"):
        sacct_cycle(["alpha"], now=lambda: NOW, sacct=path)


def test_one_cluster_does_not_stop_another(lab: Lab) -> None:
    lab.program(
        "sacct",
        SACCT.replace("env | sort", 'case "$*" in *"-M beta"*) echo "error: x" >&2;; esac; env'),
    )
    source = lab.source("beta", "alpha")
    lab.answer("ended", row())
    blocks: list[Block] = []
    with pytest.raises(SourceError, match="cluster beta"):
        blocks.extend(source.read(""))
    assert [r.job_id for b in blocks for r in b.readings if isinstance(r, SlurmJob)] == [2]
    assert {block.complete_through for block in blocks} == {0}, "beta is unread"


def test_a_run_that_vanished_is_asked_for_by_its_id(lab: Lab) -> None:
    """Conformance case 8: killed while suspended, its End lies days back."""
    lab.answer("open", row(State="SUSPENDED", End="Unknown"), row(JobIDRaw="9", **RUNNING))
    source = lab.source(open_every_s=0)
    _, last = cycle(source)
    lab.now += 3 * 86_400
    lab.answer("open", row(JobIDRaw="9", **RUNNING))
    lab.answer("byid", row(State="CANCELLED by 12001"))
    jobs, last = cycle(source, last.position)
    assert [(job.job_id, job.state, job.end) for job in jobs] == [
        (9, "RUNNING", 0), (2, "CANCELLED", END),
        (2, "CANCELLED", END),  # again, now that its steps are known
    ]  # fmt: skip
    assert all(" -a -D -X -j 2 -n -p " in asked for asked in lab.asked("byid"))
    asked = len(lab.asked("byid"))
    assert marks(last)["alpha"].open == Runs([run_of(9, END - 60)])
    cycle(source, last.position)
    assert len(lab.asked("byid")) == asked, "and not again"


def test_a_run_that_ended_in_the_window_is_not_asked_for_again(lab: Lab) -> None:
    lab.answer("open", row(**RUNNING))
    source = lab.source(open_every_s=0)
    _, last = cycle(source)
    lab.forget("open")
    lab.answer("ended", row())
    cycle(source, last.position)
    assert [call.split(" ")[0] for call in lab.calls[2:]] == ["ended", "open", "steps"]


def test_open_runs_are_asked_for_now_and_then(lab: Lab) -> None:
    source = lab.source(open_every_s=300)
    _, last = cycle(source)
    for _ in range(4):
        lab.now += 100
        _, last = cycle(source, last.position)
    assert [call.split(" ")[0] for call in lab.calls] == ["ended", "open", *["ended"] * 3, "open",
                                                          "ended"]  # fmt: skip


def test_steps_come_later_and_nothing_waits_for_them(lab: Lab) -> None:
    lab.answer("ended", row())
    lab.answer("steps", step("2", "batch", "00:01.500", "100K"), step("2", "0", "00:02.000", "7M"))
    source = lab.source()
    (first,), last = cycle(source)
    assert (first.steps, first.total_cpu_ms, first.max_rss_bytes) == (0, UNKNOWN, UNKNOWN)
    assert " -a -D -j 2 -n -p --noconvert " in lab.calls[-1]
    for _ in range(2):
        (again,), last = cycle(source, last.position)
        assert again == first._replace(steps=2, total_cpu_ms=3500, max_rss_bytes=7 << 20)
    assert len(lab.asked("steps")) == 1


@pytest.mark.parametrize("failure", [("steps.rc", "1"), ("steps.err", "sacct: error: x\n")])
def test_steps_that_cannot_be_read_block_nothing(lab: Lab, failure: tuple[str, str]) -> None:
    lab.answer("ended", row())
    lab.write(*failure)
    (job,), last = cycle(lab.source())
    assert job.total_cpu_ms == UNKNOWN
    assert last.complete_through == NOW - 60


def test_a_job_that_has_just_ended_keeps_its_steps_for_later(lab: Lab) -> None:
    """Their last figures reach slurmdbd after the job's."""
    lab.answer("ended", row(Start=str(NOW - 60), End=str(NOW - 10)))
    source = lab.source()
    _, last = cycle(source)
    assert lab.asked("steps") == []
    lab.now += 60
    cycle(source, last.position)
    assert len(lab.asked("steps")) == 1


def test_a_list_of_tres_that_sacct_could_not_fetch(lab: Lab) -> None:
    """Conformance case 27: asked again, and for a person only if it stays so."""
    lab.answer("ended", row(AllocTRES="", AllocCPUS="0"), row(JobIDRaw="3"))
    source = lab.source()
    jobs, last = cycle(source)
    assert [job.job_id for job in jobs] == [3]
    lab.now += 250
    jobs, _ = cycle(source, last.position)
    assert [(job.job_id, job.alloc_tres == ()) for job in jobs] == [(2, True), (3, False)]


def test_a_span_that_is_too_wide_is_halved(lab: Lab) -> None:
    """Conformance case 25: "too wide" is not "no jobs"."""
    script = SACCT.replace(
        "env | sort",
        r"""
span="$(echo "$*" | sed -n 's/.*-S uts\([0-9]*\) -E uts\([0-9]*\).*/\2 - \1/p')"
if [ "$which" = ended ] && [ "$(expr $span)" -gt 3000 ]; then
  echo "sacct: error: Too wide of a date range in query" >&2; exit 95
fi
env""",
    )
    lab.program("sacct", script)
    source = lab.source()
    _, last = cycle(source)
    lab.now += 10_000
    _, last = cycle(source, last.position)
    assert last.complete_through == lab.now - 60
    asked = [call.split("-S uts")[1].split(" -n")[0] for call in lab.asked("ended")]
    spans = [tuple(int(end) for end in each.split(" -E uts")) for each in asked[1:]]
    read = sorted(span for span in spans if span[1] - span[0] <= 3000)
    assert read[0][0] == NOW - 660
    assert read[-1][1] == lab.now
    assert all(a[1] == b[0] for a, b in pairwise(read))


def captured(version: str) -> Iterator[list[str]]:
    """Job rows of a capture in the columns of the live source."""
    text = (DATA / f"slurm-{version}" / "safe-billing-X-terminal.txt").read_bytes().decode()
    lines = text.split("\n")
    names = lines[0].split("\x01\x02")
    for line in lines[1:-1]:
        fields = line.split("\x01\x02")
        if len(fields) == len(names):
            values = dict(zip(names, fields, strict=True))
            extra = {"AssocID": "1", "NNodes": "1", "NodeList": "", "ReservationId": "",
                     "TimelimitRaw": "", "Restarts": "0", "SLUID": ""}  # fmt: skip
            yield [{**extra, **values}[name] for name in [*JOB_COLUMNS, *NEWER_COLUMNS]]


@pytest.mark.parametrize("version", ["22.05", "25.11"])
def test_captured_rows_say_what_slurmdbd_says(lab: Lab, version: str) -> None:
    rows = [row for row in captured(version) if row[0] == "alpha" and "|" not in "".join(row)]
    lab.now = max(int(row[7]) for row in rows) + 5
    lab.answer("ended", *rows)
    source = sacct_cycle(["alpha"], CycleSettings(lookback_s=86_000), now=lambda: lab.now,
                         sacct=str(lab.folder / "sacct"), sdiag="", sacctmgr="")  # fmt: skip
    jobs = list({(job.job_id, job.submit): job for job in cycle(source)[0]}.values())
    table = truth(version)
    assert len(jobs) == len(rows) > 280
    same = [job for job in jobs if table.get((job.job_id, job.submit)) == as_truth(job)]
    assert len(jobs) - len(same) <= 3  # ended after the table was copied; test_captures names them
