"""A live agent's memory stays bounded with a hundred thousand jobs running.

The promise of 64 MiB (test_memory.py) is for any number of records that pass. What runs at
one time is kept in mind too: 6 MiB for 100,000.
"""

import sys
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from jobledger_proto.v1 import usage_pb2_grpc
from tests.agent.notebook import Notebook
from tests.system.memory import LIBRARIES_VARY_BYTES, PROMISED_BYTES, peak_rss_bytes
from tests.system.programs import Running

PEAK_BYTES_MAX = PROMISED_BYTES + LIBRARIES_VARY_BYTES
RUNNING = 100_000
ENDED_PER_DAY = 20_000
DAYS = 5
DELIVERED_WITHIN_S = 200
# Slurm's part: as many rows as wanted, from arithmetic alone.
SACCT = """#!{python}
import sys
from jobledger_agent.slurm.answers import JOB_COLUMNS
arguments = sys.argv[1:]
if arguments == ["-e"]:
    print(*JOB_COLUMNS)
    sys.exit()
def value(option):
    return arguments[arguments.index(option) + 1]
columns = value("-o").split(",")
delimiter = next(a.partition("=")[2] for a in arguments if a.startswith("--delimiter="))
base = {begin}
def row(number, start, end):
    tres = f"billing={{number % 64}},cpu={{number % 64 + 1}},mem={{number % 97}}000M,node=1"
    job = {{
        "Cluster": "alpha", "JobIDRaw": number, "JobID": number, "DBIndex": number,
        "Submit": start - 9, "Eligible": start - 9, "Start": start, "End": end or "Unknown",
        "ElapsedRaw": (end or start + 5) - start, "Suspended": "00:00:00", "ExitCode": "0:0",
        "State": "COMPLETED" if end else "RUNNING", "AllocTRES": tres, "ReqTRES": tres,
        "AllocCPUS": number % 64 + 1, "NNodes": 1, "NodeList": f"n{{number % 4999:04}}",
        "UID": 1000 + number % 300, "User": f"user{{number % 300}}", "Partition": "batch",
        "Account": f"account{{number % 70}}", "AssocID": number % 300, "QOS": "normal",
        "TimelimitRaw": 1440,
    }}
    return "".join(str(job.get(column, "")) + delimiter for column in columns) + chr(10)
if "-S" in arguments:
    begin, end = int(value("-S")[3:]), int(value("-E")[3:])
    step = 86_400 / {per_day}
    for number in range(max(0, int((begin - base) / step)), {per_day} * {days}):
        ended = base + int(number * step)
        if ended > end:
            break
        if ended >= begin:
            sys.stdout.write(row(1_000_000 + number, ended - 600, ended))
elif "-s" in arguments:
    for number in range({running}):
        sys.stdout.write(row(10_000_000 + number, base, 0))
else:
    for number in map(int, value("-j").split(",")):
        ended = base + int((number - 1_000_000) * 86_400 / {per_day})
        if "-X" in arguments:
            sys.stdout.write(row(number, ended - 600, ended))
"""


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


@pytest.fixture
def settings(tmp_path: Path, address: str) -> Path:
    begin = int(time.time()) - DAYS * 86_400
    sacct = tmp_path / "sacct"
    sacct.write_text(
        SACCT.format(
            python=sys.executable, begin=begin, per_day=ENDED_PER_DAY, days=DAYS, running=RUNNING
        )
    )
    sacct.chmod(0o755)
    path = tmp_path / "agent.toml"
    path.write_text(
        f"""
        [collector]
        address = "{address}"
        [spool]
        path = "{tmp_path}/spool.db"
        [metrics]
        listen = "127.0.0.1:0"
        [kick]
        file = "{tmp_path}/kick"
        [[source]]
        kind = "sacct"
        clusters = ["alpha"]
        sacct = "{sacct}"
        sdiag = "{tmp_path}/absent/sdiag"
        sacctmgr = "{tmp_path}/absent/sacctmgr"
        poll_interval_s = 5
        lookback_s = {(DAYS + 1) * 86_400}
        """
    )
    return path


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hundred_thousand_running_jobs_fit(
    settings: Path, notebook: Notebook, tmp_path: Path
) -> None:
    log = tmp_path / "agent.log"
    with Running("jobledger_agent.cli", "run", "--config", str(settings), log=log) as agent:
        deadline = time.monotonic() + DELIVERED_WITHIN_S
        while len(notebook.jobs) < RUNNING + ENDED_PER_DAY * DAYS:
            assert agent.is_running, agent.output()[-3000:]
            assert time.monotonic() < deadline, (len(notebook.jobs), agent.output()[-3000:])
            time.sleep(0.2)
        for _ in range(4):  # a few cycles more, each after a kick
            (tmp_path / "kick").touch()
            time.sleep(2)
        peak_bytes = peak_rss_bytes(agent.process.pid)
    assert len(set(notebook.jobs)) == RUNNING + ENDED_PER_DAY * DAYS
    assert 16 << 20 < peak_bytes <= PEAK_BYTES_MAX, peak_bytes / (1 << 20)
