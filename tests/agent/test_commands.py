"""Which command lines may be run, and what their answers mean."""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_agent.reading.accounting import Controller, SlurmdbdSettings, TooMuch
from jobledger_agent.records.job import UNKNOWN
from jobledger_agent.slurm import commands
from jobledger_agent.slurm.commands import Forbidden, Programs, allowed, slurmdbd_settings
from jobledger_agent.slurm.runner import Runner
from jobledger_agent.source import SourceError
from tests.agent.dumps import DATA

AGENT = Path(commands.__file__).parent
NONCE = "--delimiter=" + "0123456789abcdef" * 2

READS = [
    "sacct -e",
    f"/usr/bin/sacct -M alpha -a -D -X -s CD,F -S uts1 -E uts2 -n -p --noconvert {NONCE} -o End",
    "sacct -M alpha -j 1,2,3",
    "sdiag",
    "/opt/slurm/bin/sdiag -M alpha",
    "sacctmgr -nP show cluster format=cluster",
    "sacctmgr -nP show assoc cluster=alpha format=id,account",
    "sacctmgr -nP show account where name=a,b.c,d@e format=account,description",
    "sacctmgr -nP show configuration",
    "scontrol show config",
]
OTHERS = [
    "",
    "sh -c true",
    "rm -rf /",
    "scancel 1",
    "sbatch x",
    "scontrol",
    "scontrol show job",
    "scontrol show config -M all",
    "scontrol update JobId=1 TimeLimit=1",
    "scontrol reconfigure",
    "sacctmgr",
    "sacctmgr show cluster",
    "sacctmgr -nP",
    "sacctmgr -nP show",
    "sacctmgr -i show runawayjobs",
    "sacctmgr -nP show runawayjobs",
    "sacctmgr -nPi show cluster",
    "sacctmgr -nP -i show cluster",
    "sacctmgr -nP show cluster -i",
    "sacctmgr -nP show cluster --immediate",
    "sacctmgr -nP show stats",
    "sacctmgr -nP modify user a set adminlevel=admin",
    "sacctmgr -nP delete user a",
    "sacctmgr -nP add user a",
    "sacctmgr -nP archive load file=x",
    "sacctmgr -nP show account where name=a;b",
    "sacctmgr -nP show account where name=",
    "sacctmgr -nP show account where cluster='a b'",
    "sacct -M alpha -c",
    "sacct -M all,-x -a",
    "sacct -L",
    "sacct --federation",
    "sacct -f /etc/passwd",
    "sacct --file=/etc/passwd",
    "sacct -o",
    "sacct -j 1;2",
    "sacct -j $(reboot)",
    "sacct -S now",
    "sacct -B -j 1",
    "sacct --delimiter=|",
    "sdiag --reset",
    "sdiag -r",
    "sdiag -M",
    "sdiag -M alpha --reset",
    "sreport cluster utilization",
    "env sacct -e",
]  # fmt: skip


@pytest.mark.parametrize("line", READS)
def test_what_only_reads_may_run(line: str) -> None:
    assert allowed(line.split()) == line.split()


@pytest.mark.parametrize("line", OTHERS)
def test_nothing_else_may_run(line: str) -> None:
    with pytest.raises(Forbidden):
        allowed(line.split() or [""])


@pytest.mark.parametrize("line", ["sdiag --reset", "sacctmgr -i show runawayjobs"])
def test_the_runner_starts_nothing_else(line: str, tmp_path: Path) -> None:
    """A program of an allowed name, too, that would leave a mark."""
    program, *words = line.split()
    path = tmp_path / program
    path.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n", encoding="utf-8")
    path.chmod(0o755)
    with pytest.raises(Forbidden), Runner("", 5)([str(path), *words], "x"):
        raise AssertionError
    assert not (tmp_path / "ran").exists()


PIECES = [word for line in (*READS, *OTHERS) for word in line.split()] + ["-i", "show", "-M"]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), min_size=1, max_size=9))
def test_no_mixture_gets_an_option_through_that_changes_something(words: list[str]) -> None:
    try:
        allowed(words)
    except Forbidden:
        return
    assert words[0].rpartition("/")[2] in {"sacct", "sacctmgr", "sdiag", "scontrol"}
    changing = {
        "-i",
        "--immediate",
        "-r",
        "--reset",
        "modify",
        "delete",
        "add",
        "runawayjobs",
        "-c",
    }
    assert not changing.intersection(words[1:])


OWNERS = {"subprocess", "os", "asyncio"}


def test_a_process_is_started_in_one_place_and_only_with_an_allowed_line() -> None:
    """The runner's Popen gets ``argv`` of a function that is only called with ``allowed(…)``."""
    starters = {"Popen", "run", "call", "check_call", "check_output", "system", "execv", "execve",
                "spawnv", "posix_spawn", "fork", "popen", "create_subprocess_exec"}  # fmt: skip
    found: list[tuple[str, str]] = []
    for path in sorted(AGENT.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if ast.unparse(node.func.value) in OWNERS and node.func.attr in starters:
                found.append((path.name, node.func.attr))
    reviewed = {("runner.py", "Popen")}
    others = {name for name, _ in found if not name.startswith("pyslurm")} - {"runner.py"}
    assert reviewed <= set(found)
    assert not others, "only the runner starts programs of Slurm's"
    source = ast.parse((AGENT / "runner.py").read_text(encoding="utf-8"))
    calls = [
        ast.unparse(node.args[0])
        for node in ast.walk(source)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "_finish"
    ]
    assert calls == ["allowed(argv)"]


# ------------------------------------------------------------------------ their answers


def programs(folder: Path, **texts: str) -> Programs:
    """Programs that print these texts whatever they are asked."""
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
        (folder / name).write_text(f"#!/bin/sh\ncat {folder}/{name}.txt\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    run = Runner("/etc/slurm/slurm.conf", 10)
    return Programs(str(folder / "sacct"), str(folder / "sdiag"), str(folder / "sacctmgr"), run)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Agent queue size: 5\nDBD Agent queue size: 8\nJobs running:   3\n", Controller(8, 3)),
        ("DBD Agent queue size: 0\n\tJobs running: 3\n", Controller(0, UNKNOWN)),
        ("", None),
        ("slurm_load_ctl_conf error\n", None),
    ],
)
def test_what_sdiag_says(tmp_path: Path, text: str, said: Controller | None) -> None:
    asked = programs(tmp_path, sdiag=text)
    if said is None:
        with pytest.raises(SourceError, match="says nothing of slurmdbd's queue"):
            asked.controller("alpha", is_local=False)
    else:
        assert asked.controller("alpha", is_local=True) == said
    (tmp_path / "sdiag").unlink()
    assert not asked.has_sdiag


@pytest.mark.parametrize(
    ("delay", "purge", "means"),
    [
        ("No", "NONE", SlurmdbdSettings(0, 0)),
        ("1 sec", "12 months", SlurmdbdSettings(1, 12 * 28 * 86_400)),
        ("30", "90 days*", SlurmdbdSettings(30, 90 * 86_400)),
        ("5 secs", "36 hours", SlurmdbdSettings(5, 36 * 3_600)),
        ("No", "when it rains", SlurmdbdSettings(0, UNKNOWN)),
    ],
)
def test_slurmdbds_settings(delay: str, purge: str, means: SlurmdbdSettings) -> None:
    text = f"PluginDir = /x\n\nSlurmDBD configuration:\nCommitDelay = {delay}\n"
    text += f"PurgeEventAfter = 1 months\nPurgeJobAfter          = {purge}\n"
    assert slurmdbd_settings(commands.settings_of(text)) == means
    assert slurmdbd_settings({}) == SlurmdbdSettings(UNKNOWN, UNKNOWN)


@pytest.mark.parametrize("version", ["22.05", "25.11"])
def test_captured_settings(tmp_path: Path, version: str) -> None:
    text = (DATA / f"slurm-{version}" / "sacctmgr-config.txt").read_text(encoding="utf-8")
    found = programs(tmp_path, sacctmgr=text).configuration()
    assert found["slurm_version"].startswith(version)
    assert slurmdbd_settings(found) == SlurmdbdSettings(0, 0)


@pytest.mark.parametrize("text", ["Too wide of a date range in query", "result too large"])
def test_too_much_is_not_just_a_failure(text: str) -> None:
    with pytest.raises(TooMuch):
        commands.verdict("sacct", 1, f"sacct: error: {text}\n")
    assert "failed with exit 1 (sacct: error: x)" in commands.verdict("sacct", 1, "sacct: error: x")
    assert not commands.verdict("sacct", 0, "sacct: a warning\n")
