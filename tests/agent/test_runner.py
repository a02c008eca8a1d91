"""One program at a time, for a limited time."""

import multiprocessing
import time
from pathlib import Path

from jobledger_agent.slurm.runner import Runner
from jobledger_agent.source import SourceError

SDIAG = """#!/bin/sh
echo begin >> {log}
sleep {sleep_s}
echo end >> {log}
"""


def a_program(folder: Path, sleep_s: float) -> str:
    path = folder / "sdiag"
    path.write_text(SDIAG.format(log=folder / "log", sleep_s=sleep_s), encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def ask(program: str, lock: Path, timeout_s: int) -> str:
    try:
        with Runner("", timeout_s, lock)([program, "-M", "alpha"], "sdiag"):
            return ""
    except SourceError as error:
        return str(error)


def test_programs_of_several_processes_run_one_after_the_other(tmp_path: Path) -> None:
    program = a_program(tmp_path, 0.1)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        said = pool.starmap(ask, [(program, tmp_path / "lock", 30)] * 6)
    assert said == [""] * 6
    assert (tmp_path / "log").read_text(encoding="utf-8").split() == ["begin", "end"] * 6


def test_who_waits_too_long_says_so(tmp_path: Path) -> None:
    program = a_program(tmp_path, 4)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        first = pool.apply_async(ask, (program, tmp_path / "lock", 30))
        while not (tmp_path / "log").exists():
            time.sleep(0.02)
        assert "another jobledger-agent has been asking Slurm for 1 s" in ask(
            program, tmp_path / "lock", 1
        )
        assert not first.get(30)
    assert (tmp_path / "log").read_text(encoding="utf-8").split() == ["begin", "end"]


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    program = a_program(tmp_path, 30)
    context = multiprocessing.get_context("fork")
    child = context.Process(target=ask, args=(program, tmp_path / "lock", 60))
    child.start()
    while not (tmp_path / "log").exists():
        time.sleep(0.02)
    child.kill()
    child.join()
    assert not ask(a_program(tmp_path, 0), tmp_path / "lock", 2)


def test_a_lock_that_cannot_be_opened(tmp_path: Path) -> None:
    said = ask(a_program(tmp_path, 0), tmp_path / "no" / "lock", 2)
    assert "cannot be opened (No such file or directory)" in said
    assert not (tmp_path / "log").exists(), "nothing is asked without it"
