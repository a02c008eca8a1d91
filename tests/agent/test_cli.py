"""``jobledger-agent`` as people and scripts meet it: the real program, real dumps, real exits."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest

from jobledger_agent import VERSION, cli
from jobledger_agent.settings.sections import FileSection
from jobledger_proto.v1 import usage_pb2_grpc
from tests.agent.notebook import Notebook
from tests.ports import free_port
from tests.system.programs import start_collector

DATA = Path(__file__).parents[1] / "data"
DUMP = DATA / "slurm-22.05" / "safe-billing.txt"
JSON_DUMP = DATA / "slurm-25.11" / "json-D-X.json.gz"


class Said(NamedTuple):
    """What a program answered."""

    code: int
    out: str
    err: str


def agent(*arguments: str | Path, **environment: str) -> Said:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JOBLEDGER_")}
    done = subprocess.run(
        [sys.executable, "-m", "jobledger_agent.cli", *map(str, arguments)],
        env=kept | environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The same program inside this process: quick, where a process of its own says no more."""

    def run(*arguments: str | Path) -> Said:
        code = cli.main([str(argument) for argument in arguments])
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def address(notebook: Notebook) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(8))
    usage_pb2_grpc.add_LedgerServiceServicer_to_server(notebook, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# ----------------------------------------------------------------- the program


def test_help_has_examples_and_exit_codes() -> None:
    for arguments in (["--help"], ["once", "--help"]):
        said = agent(*arguments)
        assert said.code == 0
        assert "examples:" in said.out
        assert "exit codes:" in said.out


def test_it_says_its_version() -> None:
    assert agent("--version").out == f"jobledger-agent {VERSION}\n"


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["walk"],
        ["once", "--inptu", "x"],
        ["backfill"],
        ["verify", "--until", "2026-10-01"],
        ["verify", "--since", "2026-10-02", "--until", "2026-10-01"],
        ["verify", "--day", "2026-10-01", "--since", "2026-10-01"],
        ["verify", "--day", "9000-01-01"],
        ["replay", "--held", "--since", "2026-10-01"],
    ],
)
def test_wrong_usage_is_2(wrong: list[str]) -> None:
    assert agent(*wrong).code == 2


def test_help_spells_names_as_they_are_spelt() -> None:
    told = agent("verify", "--help").out
    assert "Compare what Slurm says of the past with the collector." in told


def test_help_is_quick() -> None:
    """Nothing heavy is imported for it: no gRPC, no protobuf, no Prometheus."""
    program = "import sys, jobledger_agent.cli; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not {"grpc", "google.protobuf", "prometheus_client", "sqlite3"} & set(
        done.stdout.split()
    )


# ---------------------------------------------------------------------- inputs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.txt", FileSection(Path("a.txt"))),
        ("a.txt,rename=x:y", FileSection(Path("a.txt"), rename=(("x", "y"),))),
        ("a,rename=x:y,rename=v:w", FileSection(Path("a"), rename=(("x", "y"), ("v", "w")))),
        ("a,b.txt,cluster=c", FileSection(Path("a,b.txt"), cluster="c")),
        ("a.txt,cluster=c,timezone=Asia/Bangkok",
         FileSection(Path("a.txt"), cluster="c", timezone="Asia/Bangkok")),
        ("odd,name=1.txt", FileSection(Path("odd,name=1.txt"))),
    ],
)  # fmt: skip
def test_an_input_carries_its_options_behind_commas(text: str, expected: FileSection) -> None:
    args = cli.build_parser().parse_args(["once", "--input", text])
    assert args.input == [expected]


def test_a_rename_without_both_names_is_wrong_usage() -> None:
    said = agent("once", "--collector", "127.0.0.1:1", "--input", "x,rename=alpha")
    assert said.code == 2
    assert "write rename=OLD:NEW" in said.err


# ------------------------------------------------------------------------ once


def test_once_delivers_real_dumps_and_says_what_came_of_them(
    address: str, notebook: Notebook
) -> None:
    said = agent("once", "--name", "demo", "--collector", address, "--json",
                 "--input", f"{DUMP},rename=alpha:alpha-2205", "--input", JSON_DUMP)  # fmt: skip
    answer = json.loads(said.out)
    assert said.code == 0, said.err
    assert answer["read"] == answer["acknowledged"] == len(notebook.jobs) + notebook.unreadable
    assert answer["verdicts"]["new"] == len(notebook.jobs) > 500
    assert (answer["undelivered"], answer["complaints"], answer["why"]) == (0, {}, "")
    assert notebook.hellos[0].agent == "demo"
    assert list(notebook.hellos[0].clusters) == ["alpha", "alpha-2205"]
    assert re.search(r"read [\d,]+  sent [\d,]+ \(new [\d,]+ known 0 ", said.err)


def test_once_keeps_its_place_in_a_spool_of_its_own(
    address: str, notebook: Notebook, tmp_path: Path
) -> None:
    command = ("once", "--collector", address, "--spool", tmp_path / "s.db", "--input", DUMP)
    assert agent(*command).code == 0
    sent = len(notebook.jobs)
    assert agent(*command).code == 0
    assert len(notebook.jobs) == sent > 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (bytes(range(256)) * 40, "not a dump of Slurm's accounting"),
        (b"<!DOCTYPE html><html></html>", "not a dump of Slurm's accounting"),
        (DUMP.read_bytes()[:-40], "not whole"),
    ],
)
def test_once_with_an_unreadable_input_is_5_and_delivers_the_others(
    content: bytes, told: str, address: str, notebook: Notebook, tmp_path: Path,
    here: Callable[..., Said],
) -> None:  # fmt: skip
    bad = tmp_path / "bad"
    bad.write_bytes(content)
    said = here("once", "--collector", address, "--quiet", "--input", bad, "--input", DUMP)
    assert said.code == 5
    (line,) = [line for line in said.err.splitlines() if line.startswith("jobledger-agent: ")]
    assert told in line
    assert str(bad) in line
    assert len(notebook.jobs) > 400


def test_once_without_a_collector_is_1(tmp_path: Path) -> None:
    said = agent("once", "--collector", "127.0.0.1:1", "--timeout", "1", "--input", DUMP,
                 "--spool", tmp_path / "s.db", "--quiet")  # fmt: skip
    assert said.code == 1
    last = said.err.splitlines()[-1]
    assert re.search(r"448 records were not delivered to 127\.0\.0\.1:1: .*cannot be reached", last)
    assert "Nothing is lost" in last


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--collector", "example.org:7610", "--input", "x"], 3, "plain text"),
        (["--collector", "nonsense", "--input", "x"], 3, "write HOST:PORT"),
        (["--collector", "127.0.0.1:1", "--input", "x", "--input", "x"], 3, "configured twice"),
        (
            ["--collector", "127.0.0.1:1", "--input", "x", "--spool", "/etc/passwd"],
            1,
            "not a spool",
        ),
        (
            ["--collector", "127.0.0.1:1", "--input", "x", "--spool", "/no/such/s.db"],
            1,
            "directory",
        ),
        (["--input", "x", "--config", "/no/such/agent.toml"], 3, "there is no settings file"),
    ],
)
def test_what_cannot_be_started_is_one_sentence(arguments: list[str], code: int, told: str) -> None:
    said = agent("once", *arguments)
    assert said.code == code
    assert said.err.startswith("jobledger-agent: ")
    assert said.err.count("\n") == 1
    assert told in said.err


def test_another_file_is_not_taken_for_a_spool(tmp_path: Path, here: Callable[..., Said]) -> None:
    theirs = write(tmp_path / "theirs", "root:x:0:0\n")
    said = here("once", "--collector", "127.0.0.1:1", "--input", DUMP, "--spool", theirs)
    assert said.code == 1
    assert "is not a spool: give spool.path a file of its own" in said.err
    assert theirs.read_text() == "root:x:0:0\n"


def test_a_busy_metrics_port_is_one_sentence(address: str) -> None:
    said = agent("once", "--collector", address, "--metrics-listen", address, "--input", DUMP)
    assert said.code == 1
    assert f"cannot serve metrics at {address}" in said.err
    assert "Traceback" not in said.err


def test_a_secret_is_never_said(address: str) -> None:
    said = agent("once", "--collector", address, "--input", DUMP,
                 JOBLEDGER_AGENT_COLLECTOR_TOKEN="s3cr3t" * 5)  # fmt: skip
    assert said.code == 0
    assert "s3cr3t" not in said.err + said.out
    said = agent("once", "--collector", address, "--input", DUMP,
                 JOBLEDGER_AGENT_COLLECTOR_TOKEN="changeme")  # fmt: skip
    assert said.code == 3
    assert "changeme" not in said.err


# -------------------------------------------------- run, status, doctor, check


@pytest.fixture
def settings(tmp_path: Path, address: str) -> Path:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return write(
        tmp_path / "agent.toml",
        f"""
        [agent]
        name = "tested"
        [collector]
        address = "{address}"
        [spool]
        path = "{tmp_path / "spool.db"}"
        max_bytes = 16777216
        [metrics]
        listen = "127.0.0.1:{port}"
        [[source]]
        kind = "file"
        path = "{DUMP}"
        """,
    )


def test_run_delivers_is_looked_at_from_outside_and_ends_well(
    settings: Path, notebook: Notebook
) -> None:
    command = [sys.executable, "-m", "jobledger_agent.cli", "run", "--config", str(settings)]
    environment = {**os.environ, "JOURNAL_STREAM": "8:12345"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as running:
        deadline = time.monotonic() + 20
        while len(notebook.jobs) < 448:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.2)
        status = json.loads(agent("status", "--config", settings, "--json").out)
        people = agent("status", "--config", settings).out
        second = agent("run", "--config", settings)
        running.terminate()
        assert running.stderr
        log = running.stderr.read()
    assert running.returncode == 0, log
    assert status["records"] == 0
    assert status["sources"][0]["source"] == f"file:{DUMP}"
    assert status["metrics"]["jobledger_agent_collector_connected"] == "1.0"
    assert status["metrics"]['jobledger_agent_records_total{verdict="new"}'] == "448.0"
    assert "connected to the collector" in people
    assert second.code == 1
    assert f"in use by another jobledger-agent (process {running.pid})" in second.err
    assert all(re.match(r"<[2-7]>\S", line) for line in log.splitlines()), log
    assert "<6>stopping on SIGTERM" in log


def test_status_of_an_agent_that_rests(settings: Path, tmp_path: Path) -> None:
    assert agent("status", "--config", settings).code == 1
    agent("once", "--config", settings)
    rests = agent("status", "--config", settings)
    assert rests.code == 0
    assert "waiting    0 records" in rests.out
    assert "not seen: no metrics" in rests.out
    by_path = agent("status", "--spool", tmp_path / "spool.db", "--json")
    assert json.loads(by_path.out)["records"] == 0


def test_check_config(settings: Path, here: Callable[..., Said]) -> None:
    assert here("check-config", "--config", settings).out.startswith("the settings are right")
    answer = json.loads(here("check-config", "--config", settings, "--json").out)
    assert answer == {"ok": True, "agent": "tested", "sources": [f"file:{DUMP}"]}
    wrong = write(settings.with_name("wrong.toml"), "[spol]\n")
    said = here("check-config", "--config", wrong)
    assert (said.code, said.err.count("\n")) == (3, 1)
    assert "did you mean spool?" in said.err


# ------------------------------------------------- with the collector that is used


def test_real_records_reach_the_real_collector_once(tmp_path: Path) -> None:
    port = free_port()
    url = f"sqlite:///{tmp_path / 'jobledger.db'}"
    with start_collector(url, port, tmp_path / "collector.log") as collector:
        verdicts = []
        for _ in range(2):
            said = agent("once", "--collector", f"127.0.0.1:{port}", "--json", "--input", DUMP)
            assert said.code == 0, said.err + collector.output()
            verdicts.append(json.loads(said.out)["verdicts"])
        assert collector.stop() == 0
    assert sum(verdicts[0].values()) == 448
    assert verdicts[0].get("new", 0) > 400
    assert "new" not in verdicts[1]
    assert sum(verdicts[1].values()) == 448
