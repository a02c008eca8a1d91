"""``jobledger demo --no-serve``: what it leaves, and that doing it again adds nothing."""

import json
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from decimal import Decimal
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path

import pytest
from pypdf import PdfReader

from jobledger_agent.sources.files import FileSource
from tests.agent.dumps import DATA, as_truth, read, sums, truth

ADMIN = (sys.executable, "-m", "jobledger_collector.admin.cli")
JOB_KEYS = [
    "cluster", "job_id_raw", "submit", "start", "end", "user", "account", "partition", "qos",
    "state", "elapsed_s", "cpu_s", "gpu_s", "mem_mib_s", "node_s", "list_cost", "cost",
    "currency", "revision", "invoice",
]  # fmt: skip


def run(*arguments: str, status: int = 0) -> str:
    """Run ``jobledger arguments`` and return its stdout."""
    done = subprocess.run(
        [*ADMIN, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == status, done.stderr[-3000:]
    return done.stdout


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.timeout(240)
def test_the_demo_bills_two_clusters_and_again_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    run("demo", "--no-serve", "--dir", str(folder))
    db = f"sqlite:///{folder}/jobledger.db"

    jobs_before = run("--db", db, "jobs", "--json")
    jobs = lines(jobs_before)
    assert {job["cluster"] for job in jobs} == {"orchid", "orchid-test", "lotus"}
    assert list(jobs[0])[: len(JOB_KEYS)] == JOB_KEYS
    assert all(isinstance(job["cost"], str) for job in jobs)
    invoices_before = run("--db", db, "invoices", "--json")
    invoices = lines(invoices_before)
    for invoice in invoices:
        parts = [Decimal(str(invoice[key])) for key in ("subtotal", "tax", "total")]
        assert parts[0] + parts[1] == parts[2]
    assert sum(Decimal(str(invoice["total"])) for invoice in invoices) > 0
    assert run("--db", db, "quarantine", "--json") == ""
    assert [agent["spool_records"] for agent in lines(run("--db", db, "agents", "--json"))] == [0]

    for invoice in invoices:
        for language in ("en", "th"):
            pdf = PdfReader(folder / "invoices" / f"{invoice['number']}.{language}.pdf")
            assert str(invoice["number"]) in pdf.pages[0].extract_text()
    assert (folder / "jobs.csv").read_text("utf-8").count("\n") == len(jobs) + 1
    assert (folder / "invoice-lines.csv").stat().st_size > 0

    csv_before = (folder / "jobs.csv").read_bytes()
    run("demo", "--no-serve", "--dir", str(folder))
    assert run("--db", db, "jobs", "--json") == jobs_before
    assert run("--db", db, "invoices", "--json") == invoices_before
    assert (folder / "jobs.csv").read_bytes() == csv_before


@pytest.mark.timeout(120)
def test_the_demo_takes_a_dump_of_ones_own(tmp_path: Path) -> None:
    dump = DATA / "slurm-25.11" / "safe-billing-X.txt"
    run("demo", "--no-serve", "--dir", str(tmp_path), "--input", str(dump))
    jobs = lines(run("--db", f"sqlite:///{tmp_path}/jobledger.db", "jobs", "--json"))
    alpha = {
        (job.job_id, job.submit): as_truth(job)
        for job in read(FileSource(dump)).jobs
        if job.cluster == "alpha"
    }
    table = truth("25.11")
    # 57 and 58 ended after slurmdbd's table was copied.
    late = {key for key in alpha if key[0] in {57, 58}}
    expected = sums({key: run for key, run in table.items() if key not in late})
    mine = [
        job
        for job in jobs
        if job["cluster"] == "alpha" and (job["job_id_raw"], job["submit"]) not in late
    ]
    for key in ("elapsed_s", "cpu_s", "gpu_s", "mem_mib_s", "node_s"):
        assert sum(int(str(job[key])) for job in mine) == getattr(expected, key)


@pytest.mark.timeout(120)
def test_the_demo_serves_although_the_usual_port_is_taken(tmp_path: Path) -> None:
    dump = DATA / "slurm-25.11" / "cluster-beta.txt"
    with socket.socket() as holder:
        with suppress(OSError):  # taken already: as good
            holder.bind(("127.0.0.1", 8080))
            holder.listen()
        demo = subprocess.Popen(
            [*ADMIN, "demo", "--dir", str(tmp_path), "--input", str(dump)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert demo.stdout is not None
            opened = next(line for line in demo.stdout if line.split()[:1] == ["Open"])
            address = opened.split()[1].removeprefix("http://").rstrip("/")
            web = HTTPConnection(address, timeout=10)
            web.request("GET", "/healthz")
            assert web.getresponse().status == HTTPStatus.OK
            web.close()
            assert ":8080/" not in opened
        finally:
            demo.send_signal(signal.SIGINT)
            demo.communicate(timeout=60)
    assert demo.returncode == 0


@pytest.mark.timeout(120)
def test_months_that_the_clock_has_not_reached_are_billed_too(tmp_path: Path) -> None:
    now = (DATA / "slurm-25.11" / "safe-billing-X-terminal.txt").read_text("utf-8")
    dump = tmp_path / "future.txt"
    dump.write_text(re.sub(r"\b1795(?=\d{6}\b)", "2110", now), "utf-8")
    folder = tmp_path / "out"
    run("demo", "--no-serve", "--dir", str(folder), "--input", str(dump))
    db = f"sqlite:///{folder}/jobledger.db"
    assert len(lines(run("--db", db, "jobs", "--json"))) == len(read(FileSource(dump)).jobs)
    periods = {invoice["period"] for invoice in lines(run("--db", db, "invoices", "--json"))}
    assert periods == {"2036-11"}
