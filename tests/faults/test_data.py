"""Faults 26 to 31: what Slurm says."""

import json
import time
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import grpc
import pytest

from jobledger_proto.v1 import usage_pb2, usage_pb2_grpc
from tests.faults.fakeslurm import FakeSlurm
from tests.faults.truth import DELIMITER, Run, add_up, some_runs, write_runs
from tests.faults.world import CLUSTER, World, said, until

HOUR_S = 3_600
OVERSIZE_BYTES = 5 << 20
MOODS = ("fails", "garbage", "half", "fails and exits 0", "hangs")
ERRORS = "jobledger_agent_source_errors_total"


def test_fault_26_poison(world: World) -> None:
    """One line in ten is no record: each is kept with its reason, and holds nobody up."""
    runs = some_runs(3_000)
    good = runs[0].fields(CLUSTER)
    poison = [
        DELIMITER.join({**good, "JobIDRaw": str(900_000 + n), "End": f"no time {n}"}.values())
        for n in range(300)
    ]
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER, poison)
    world.start_collector()
    world.delivers(dump)
    world.assert_exact(add_up(runs), quarantined=len(poison))
    assert world.count("quarantine", "reason LIKE '%no time%' OR raw_size > 0") == len(poison)


def test_fault_26_poison_that_only_the_collector_sees(world: World) -> None:
    """Records that read well and say something impossible: Start and End, but nothing held."""
    runs = some_runs(1_000)
    impossible = [
        DELIMITER.join({**run.fields(CLUSTER), "AllocTRES": ""}.values())
        for run in some_runs(100, seed=2, first_id=900_000)
    ]
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER, impossible)
    world.start_collector()
    world.delivers(dump)
    world.assert_exact(add_up(runs), quarantined=len(impossible))


def test_fault_27_oversize_message(world: World) -> None:
    """A stranger's message of 5 MiB is refused; a record of 5 MiB is kept aside by its agent."""
    runs = some_runs(1_000)
    whale = Run(900_000, runs[0].submit, runs[0].start, runs[0].end, node_list="n" * OVERSIZE_BYTES)
    lines = [DELIMITER.join(whale.fields(CLUSTER).values())]
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER, lines)
    world.start_collector()
    huge = usage_pb2.ReportRequest(hello=usage_pb2.Hello(agent="x" * OVERSIZE_BYTES))
    with grpc.insecure_channel(f"127.0.0.1:{world.port}") as channel:
        stub = usage_pb2_grpc.LedgerServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            list(stub.Report(iter([huge])))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    world.delivers(dump)
    world.assert_exact(add_up(runs), quarantined=1)


def test_fault_28_same_key_other_content(world: World) -> None:
    """The newer sighting stands and the older is kept beside it; a run that shrank is held."""
    runs = some_runs(1_000)
    changed = [run._replace(end=run.end + 60) if run.job_id % 10 == 0 else run for run in runs]
    shrunk = [run._replace(cpus=0, gpus=0, gpu_kind="") for run in changed[:5]]
    world.start_collector()
    world.delivers(write_runs(world.folder / "one.txt", runs, CLUSTER))
    world.assert_exact(add_up(runs))
    time.sleep(1.1)  # a sighting has a time in whole seconds
    revisions = sum(one != two for one, two in zip(runs, changed, strict=True))
    world.delivers(write_runs(world.folder / "two.txt", changed, CLUSTER))
    world.assert_exact(add_up(changed), revisions=revisions)
    world.delivers(write_runs(world.folder / "three.txt", shrunk, CLUSTER))
    assert world.stored() == add_up(changed)
    assert world.count("quarantine") == len(shrunk)


def test_fault_29_late_job_after_close(world: World) -> None:
    """What arrives after its month was billed is a prior-period line of the next invoice."""
    seller = world.settings(
        "jobledger.toml", '[seller]\nname = "Computing"\naddress = "1 Road"\ntax_id = "1"\n'
    )

    def invoices(*arguments: str) -> str:
        return world.admin("--config", str(seller), "invoices", *arguments)

    october = datetime(2026, 10, 10, tzinfo=UTC)
    begin = int(october.timestamp())
    early = Run(1, begin, begin, begin + HOUR_S)
    late = Run(2, begin, begin + HOUR_S, begin + 3 * HOUR_S, cpus=5)
    world.start_collector()
    world.delivers(write_runs(world.folder / "one.txt", [early], CLUSTER))
    invoices("issue", "--period", "2026-10", "--early")
    world.delivers(write_runs(world.folder / "two.txt", [late], CLUSTER))
    world.assert_exact(add_up([early, late]))
    again = invoices("issue", "--period", "2026-10", "--early", "--json")
    assert "INV-2026-000002" not in again
    invoices("issue", "--period", "2026-11", "--early")
    issued = [json.loads(line) for line in invoices("list", "--json").splitlines()]
    totals = {invoice["period"]: Decimal(str(invoice["total"])) for invoice in issued}
    # An hour of 2 cores and 4 GiB; then two hours of 5 cores and 4 GiB.
    assert totals == {"2026-10": Decimal("4.00"), "2026-11": Decimal("14.00")}
    number = next(one["number"] for one in issued if one["period"] == "2026-11")
    assert "prior" in invoices("show", str(number)).replace("PRIOR", "")


def test_fault_30_requeued_resized_wrapped(world: World) -> None:
    """One job id, several runs: each is its own line, and none is another's revision."""
    day = 1_790_812_800
    requeued = [
        Run(6, day + 100, day + 100, day + 108, state="REQUEUED"),
        Run(6, day + 108, day + 230, day + 260),
    ]
    # After a resize the second row repeats the start of the first: it counts from its submit.
    resized = [
        Run(7, day + 315, day + 315, day + 323, state="RESIZING"),
        Run(7, day + 323, day + 315, day + 340, cpus=1),
    ]
    wrapped = [
        Run(500, day, day, day + 1_000),
        Run(500, day + 20 * 86_400, day + 20 * 86_400, day + 20 * 86_400 + 77),
    ]
    told = [*requeued, *resized, *wrapped]
    counted = [run._replace(start=max(run.start, run.submit)) for run in told]
    world.start_collector()
    for name in ("one.txt", "again.txt"):
        world.delivers(write_runs(world.folder / name, told, CLUSTER))
        world.assert_exact(add_up(counted))


def recent_runs(count: int, ended_ago_s: int, first_id: int) -> list[Run]:
    """Runs of an hour that ended some seconds ago, one each second before."""
    now = int(time.time()) - ended_ago_s
    return [
        Run(first_id + n, now - n - HOUR_S, now - n - HOUR_S, now - n, user=f"u{n % 4}")
        for n in range(count)
    ]


def complains(world: World, errors: float) -> bool:
    return (world.metric(ERRORS) or 0) > errors


def has_all(world: World, slurm: FakeSlurm) -> bool:
    return world.count("job_runs") == len(slurm.runs)


def test_fault_31_sacct_in_every_mood(world: World, tmp_path: Path) -> None:
    """It hangs, lies, breaks off, says nothing: no answer counts, nothing is lost after it."""
    slurm = FakeSlurm(tmp_path)
    slurm.has(*recent_runs(20, 300, 1))
    config = slurm.settings(tmp_path)
    where = ("--config", str(config), "--metrics-listen", f"127.0.0.1:{world.metrics_port}")
    world.start_collector()
    agent = world.start_agent("run", *where)
    until("the first runs arrive", lambda: world.count("job_runs") == 20)
    for number, mood in enumerate(MOODS, 1):
        errors = world.metric(ERRORS) or 0
        slurm.has(*recent_runs(5, 5, 100 * number))
        slurm.is_in(mood)
        until(f"{mood}: told", partial(complains, world, errors))
        slurm.is_in("")
        until("they arrive", partial(has_all, world, slurm))
    assert agent.is_running
    world.assert_exact(add_up(slurm.runs.values()))
    # An answer without rows may be true; a new agent asks for runs that must be there.
    slurm.has(*recent_runs(5, 5, 1_000))
    slurm.is_in("empty")
    world.kill_agent(agent)
    world.start_agent("run", *where)
    until("empty: told", partial(complains, world, 0))
    slurm.is_in("")
    until("they arrive", partial(has_all, world, slurm))
    world.assert_exact(add_up(slurm.runs.values()))


def test_fault_31_hour_that_comes_twice(world: World, tmp_path: Path) -> None:
    """The agent lives where clocks went back yesterday; each run is told in its true hour."""
    yesterday = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    fold = int(yesterday.timestamp()) - 86_400 + 6 * HOUR_S  # 02:00 there, once more 01:00
    day = datetime.fromtimestamp(fold, UTC).timetuple().tm_yday
    zone = f"AAA5BBB,J{max(1, day - 60)}/2,J{day}/2"
    slurm = FakeSlurm(tmp_path)
    slurm.has(
        *(
            Run(n, fold - 9 * HOUR_S, fold - 9 * HOUR_S, fold + shift)
            for n, shift in enumerate((-5_400, -1_800, -1, 0, 1_800, 5_400), 1)
        )
    )
    world.start_collector()
    agent = world.start_agent(
        "run", "--config", str(slurm.settings(tmp_path)), "--metrics-listen", "",
        environment={"TZ": zone},
    )  # fmt: skip
    until("they arrive", lambda: world.count("job_runs") == len(slurm.runs))
    assert not said(agent, "ERROR")
    world.assert_exact(add_up(slurm.runs.values()))
