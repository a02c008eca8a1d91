"""The conformance cases on records, by number: what each must come to in the books.

Notation of a run: id|state|submit|start|end|suspended|TRES, times in seconds;
T is cpu=2,gres/gpu=1,mem=100,node=1. What the agent reads and how is tested
beside its sources; here is what the collector makes of it.
"""

from typing import Any, NamedTuple

import pytest

from jobledger_collector.core.record import JobRecord, Verdict
from tests.collector.ingesting import Collector
from tests.factories import HELD, a_job, a_tres

NEW, KNOWN, REVISED, QUARANTINED = Verdict
T = "T"


def run(line: str, **over: Any) -> JobRecord:  # noqa: ANN401 - any field
    """Read a run in the notation above; "-" is a time that is not known."""
    job_id, state, submit, start, end, suspended, tres = line.split("|")
    times = {
        name: 0 if value == "-" else int(value) for name, value in (("start", start), ("end", end))
    }
    return a_job(
        **{
            "job_id": int(job_id), "state": state, "submit": int(submit), **times,
            "suspended_s": int(suspended), "alloc_tres": HELD if tres == T else a_tres(tres),
            "observed": max(*times.values(), int(submit)) + 10, **over,
        }
    )  # fmt: skip


@pytest.fixture
def books(sqlite_url: str) -> Collector:
    return Collector(sqlite_url)


class Case(NamedTuple):
    """Deliveries, one batch each, and the units that stand afterwards."""

    number: int
    what: str
    batches: list[list[JobRecord]]
    cpu_s: int
    gpu_s: int
    runs: int


PLAIN = run("2|COMPLETED|100|100|106|0|T")
FIRST_RUN = run("6|REQUEUED|100|100|108|0|T")
SECOND_RUN = run("6|COMPLETED|108|230|260|0|T")
TASKS = [run(f"{n}|COMPLETED|100|{100 + n}|{110 + n}|0|cpu=1,mem=1") for n in range(23, 27)]
REMAINDER = run("22|CANCELLED|100|-|130|0|", array_job_id=22, array_task=-2)
HET = [run(f"{23 + n}|COMPLETED|100|100|110|0|cpu={n + 1},mem=1", het_job_id=23, het_offset=n)
       for n in range(2)]  # fmt: skip

CASES = [
    Case(1, "plain, however often it is read", [[PLAIN], [PLAIN, PLAIN], [PLAIN]], 12, 6, 1),
    Case(2, "steps are folded in by the agent and change no allocation",
         [[PLAIN], [PLAIN._replace(steps=3, total_cpu_ms=500, observed=500)]], 12, 6, 1),
    Case(3, "requeue: two runs", [[FIRST_RUN, SECOND_RUN]], 76, 38, 2),
    Case(3, "preemption: two runs",
         [[FIRST_RUN._replace(state="PREEMPTED"), SECOND_RUN]], 76, 38, 2),
    Case(3, "node failure: two runs",
         [[FIRST_RUN._replace(state="NODE_FAIL"), SECOND_RUN]], 76, 38, 2),
    Case(4, "requeue seen before its second run", [[FIRST_RUN], [FIRST_RUN, SECOND_RUN]],
         76, 38, 2),
    Case(5, "second run cancelled before it started, with the TRES of the first",
         [[run("29|CANCELLED|254|-|275|0|cpu=1")]], 0, 0, 1),
    Case(6, "never started, as Slurm before 22.05 says it",
         [[run("3|CANCELLED|100|120|120|0|", alloc_cpus=1)]], 0, 0, 1),
    Case(7, "held and cancelled, never eligible",
         [[run("4|CANCELLED|100|-|150|0|", eligible=0)]], 0, 0, 1),
    Case(8, "suspended, then cancelled days later: it ends when it was suspended",
         [[run("5|SUSPENDED|1|1|-|0|T", observed=259_200)],
          [run("5|CANCELLED|1|1|13|0|T", observed=259_300)]], 24, 12, 1),
    Case(9, "suspended for a while", [[run("5|COMPLETED|1|1|73|60|T")]], 24, 12, 1),
    Case(11, "resized, the second row with the original start",
         [[run("7|RESIZING|315|315|323|0|cpu=2,mem=1"),
           run("7|COMPLETED|323|315|340|0|cpu=1,mem=1")]], 33, 0, 2),
    Case(12, "resized, the second row with its own start",
         [[run("7|RESIZING|315|315|323|0|cpu=2,mem=1"),
           run("7|COMPLETED|323|323|340|0|cpu=1,mem=1")]], 33, 0, 2),
    Case(13, "an array whose remainder was cancelled", [[*TASKS, REMAINDER]], 40, 0, 5),
    Case(14, "the last task takes over the array's own row",
         [[run("22|PENDING|100|-|-|0|", array_task=-2, observed=105)],
          [run("22|RUNNING|100|110|-|0|cpu=1,mem=1", array_task=5, observed=111)],
          [run("22|COMPLETED|100|110|120|0|cpu=1,mem=1", array_task=5)]], 10, 0, 1),
    Case(15, "a heterogeneous job: each component by itself", [HET], 30, 0, 2),
    Case(16, "job ids start again: other submit, other run",
         [[run("500|COMPLETED|1000000000|1000000000|1000000010|0|T"),
           run("500|COMPLETED|1700000000|1700000000|1700000010|0|T")]], 40, 20, 2),
    Case(17, "a cluster set up anew: same id, same database index, other submit",
         [[run("1|COMPLETED|100|100|106|0|T", sluid=1)],
          [run("1|COMPLETED|900|900|906|0|T", sluid=1)]], 24, 12, 2),
    Case(18, "the database index of a known run changes",
         [[PLAIN], [PLAIN._replace(sluid=9, observed=500)]], 12, 6, 1),
    Case(19, "two runs merged into one row",
         [[run("8|NODE_FAIL|100|100|200|0|T")], [run("8|COMPLETED|100|300|400|0|T")]],
         400, 200, 1),
    Case(20, "federation: only the cluster that ran it",
         [[run("9|REVOKED|100|100|150|0|"),
           run("9|COMPLETED|100|100|106|0|T", cluster="beta")]], 12, 6, 2),
    Case(21, "a reservation makes Slurm name a run twice", [[PLAIN, PLAIN]], 12, 6, 1),
    Case(30, "an unknown end state is billed by its times",
         [[run("10|EXPLODED|100|100|106|0|T")]], 12, 6, 1),
    Case(31, "GPUs: a total and its types",
         [[run("11|COMPLETED|100|100|110|0|gres/gpu=4,gres/gpu:a100=3,gres/gpu:h100=1,mem=1")]],
         0, 40, 1),
    Case(31, "GPUs: types only",
         [[run("11|COMPLETED|100|100|110|0|gres/gpu:a100=3,gres/gpu:h100=1,mem=1")]], 0, 40, 1),
    Case(31, "GPUs: a total only",
         [[run("11|COMPLETED|100|100|110|0|gres/gpu=4,mem=1")]], 0, 40, 1),
    Case(31, "GPUs that are not consumed",
         [[run("11|COMPLETED|100|100|110|0|gres/gpu=0,cpu=1,mem=1")]], 10, 0, 1),
    Case(34, "a runaway: open for weeks, then ended as it began",
         [[run("12|RUNNING|100|100|-|0|T", observed=3_456_000)],
          [run("12|COMPLETED|100|100|100|0|T", observed=3_460_000)]], 0, 0, 1),
    Case(35, "flushed as cancelled, then the truth",
         [[run("13|CANCELLED|1|1|51|0|T")], [run("13|COMPLETED|1|1|501|0|T")]], 1000, 500, 1),
    Case(36, "the start moves while nodes boot",
         [[run("14|RUNNING|100|100|-|0|T", observed=150)],
          [run("14|RUNNING|100|220|-|0|T", observed=230)],
          [run("14|COMPLETED|100|220|300|0|T")]], 160, 80, 1),
    Case(37, "the owner changes the wckey afterwards",
         [[PLAIN], [PLAIN._replace(wckey="mine", observed=500)]], 12, 6, 1),
    Case(38, "CPUs taken away afterwards: held",
         [[PLAIN], [PLAIN._replace(alloc_tres=a_tres("cpu=1,gres/gpu=1,mem=100,node=1"),
                                   observed=500)]], 12, 6, 1),
    Case(39, "user and account renamed afterwards",
         [[PLAIN], [PLAIN._replace(user="alicia", account="chem", observed=500)]], 12, 6, 1),
    Case(40, "a row made at completion: no uid, no partition, never eligible",
         [[run("15|COMPLETED|100|100|106|0|T", uid=0, partition="", eligible=0)]], 12, 6, 1),
    Case(41, "purged, then loaded from an archive", [[PLAIN], [], [PLAIN._replace(observed=9_999)]],
         12, 6, 1),
    Case(43, "ends a moment later than it was seen", [[PLAIN._replace(observed=105)]], 12, 6, 1),
    Case(44, "sent again after a lost acknowledgement", [[PLAIN], [PLAIN]], 12, 6, 1),
    Case(46, "it runs over the end of a month: one run, billed when it has ended",
         [[run("16|RUNNING|2000000|2000000|-|0|T")],
          [run("16|COMPLETED|2000000|2000000|3000000|0|T")]], 2_000_000, 1_000_000, 1),
    Case(48, "more cores at one time than the cluster has",
         [[run(f"{n}|COMPLETED|100|100|106|0|T") for n in range(50, 60)]], 120, 60, 10),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number}: {case.what}")
def test_case(case: Case, books: Collector) -> None:
    for batch in case.batches:
        books.take(*batch)
    gpu = sum(row.base_units for row in books.standing() if row.item.startswith("gpu"))
    assert (books.owed("cpu"), gpu) == (case.cpu_s, case.gpu_s)
    states = books.states()
    assert len(states) == case.runs
    assert sum(run.usage.cpu_s for run in states.values()) == case.cpu_s
    assert sum(run.usage.gpu_s for run in states.values()) == case.gpu_s


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number}: {case.what}")
def test_case_with_its_batches_in_the_opposite_order(case: Case, books: Collector) -> None:
    for batch in reversed(case.batches):
        books.take(*reversed(batch))
    assert books.owed("cpu") == case.cpu_s


def test_case_4_the_first_run_is_not_touched_by_the_second(books: Collector) -> None:
    books.take(FIRST_RUN)
    before = books.charges()
    assert books.take(FIRST_RUN, SECOND_RUN) == [KNOWN, NEW]
    assert set(before) <= set(books.charges())


def test_case_18_a_new_index_is_a_revision_without_a_charge(books: Collector) -> None:
    books.take(PLAIN)
    before = books.charges()
    assert books.take(PLAIN._replace(sluid=9, observed=500)) == [REVISED]
    assert books.charges() == before


def test_case_19_is_told(books: Collector) -> None:
    books.take(run("8|NODE_FAIL|100|100|200|0|T"))
    assert books.take(run("8|COMPLETED|100|300|400|0|T")) == [REVISED]
    assert books.run(8).flags == ("merged_run",)


def test_case_27_ran_on_nothing_is_quarantined_and_priced_once_slurm_knows(
    books: Collector,
) -> None:
    unknown = PLAIN._replace(alloc_tres=())
    assert books.take(unknown) == [QUARANTINED]
    assert books.charges() == []
    assert "AllocTRES is empty" in books.kept_aside()[0].reason
    assert books.take(PLAIN._replace(observed=500)) == [NEW]
    assert books.owed() == 12


def test_case_29_names_in_any_script_are_kept(books: Collector) -> None:
    named = PLAIN._replace(user="สมชาย", wckey="🚀 \N{REPLACEMENT CHARACTER}")
    books.take(named)
    assert books.run(2).record == named


def test_case_30_who_cancelled_it_and_an_unknown_state_are_told(books: Collector) -> None:
    cancelled = PLAIN._replace(state="CANCELLED", cancelled_by_uid=1001)
    books.take(run("10|EXPLODED|100|100|106|0|T"), cancelled)
    assert books.run(10).flags == ("unknown_state",)
    assert books.run(2).record.cancelled_by_uid == 1001


def test_case_31_types_have_their_own_prices_and_the_rest_the_common_one(
    books: Collector,
) -> None:
    books.take(run("11|COMPLETED|100|100|110|0|gres/gpu=5,gres/gpu:a100=3,gres/gpu:h100=1,mem=1"))
    priced = {row.item: (row.base_units, row.price and row.price.sku) for row in books.standing()}
    assert priced == {"gpu": (10, "gpu"), "gpu:a100": (30, "gpu-a100"), "gpu:h100": (10, "gpu")}


def test_case_32_no_memory_named_is_flagged(books: Collector) -> None:
    books.take(run("12|COMPLETED|100|100|106|0|cpu=2"))
    assert books.run(12).flags == ("no_memory",)


def test_case_33_energy_is_charged_once_it_is_known(books: Collector) -> None:
    for unknown in (-1, 0):
        books.take(PLAIN._replace(energy_j=unknown, observed=200 + unknown))
        assert books.owed("energy") == 0
    books.take(PLAIN._replace(energy_j=5_000, observed=900))
    assert (books.owed("energy"), books.owed("cpu")) == (5_000, 12)


def test_case_33_energy_that_was_charged_is_not_given_back_for_want_of_an_answer(
    books: Collector,
) -> None:
    known = PLAIN._replace(energy_j=5_000, total_cpu_ms=40, max_rss_bytes=70, steps=2, observed=200)
    books.take(known)
    books.invoice(1)
    for observed in (300, 400):
        forgotten = known._replace(
            energy_j=-1, total_cpu_ms=-1, max_rss_bytes=-1, steps=0, observed=observed
        )
        assert books.take(forgotten) == [KNOWN]
        assert books.take(known._replace(observed=observed + 50)) == [KNOWN]
    assert (books.owed("energy"), books.billed("energy")) == (5_000, 5_000)
    kept = books.run(2)
    assert (kept.record.total_cpu_ms, kept.record.max_rss_bytes, kept.record.steps) == (40, 70, 2)
    assert (kept.revision, books.revisions()) == (1, [])


def test_case_34_a_runaway_is_told_with_when_it_was_last_seen_open(books: Collector) -> None:
    books.take(run("12|RUNNING|100|100|-|0|T", observed=3_456_000))
    books.take(run("12|COMPLETED|100|100|100|0|T", observed=3_460_000))
    assert books.run(12).flags == ("open_after_end",)
    assert books.run(12).history().last_open == 3_456_000


def test_case_35_after_the_invoice_the_difference_is_an_adjustment(books: Collector) -> None:
    books.take(run("13|CANCELLED|1|1|51|0|T"))
    books.invoice(1)
    books.take(run("13|COMPLETED|1|1|501|0|T"))
    assert (books.owed(), books.billed()) == (1000, 1000)
    pending = [row.base_units for row, invoice in books.charges()
               if invoice is None and row.item == "cpu"]  # fmt: skip
    assert sorted(pending) == [-100, 1000]


@pytest.mark.parametrize("later", [{"wckey": "mine"}, {"user": "alicia", "account": "chem"}])
def test_cases_37_and_39_attribution_stands_and_the_change_is_logged(
    later: dict[str, Any], books: Collector
) -> None:
    books.take(PLAIN)
    assert books.take(PLAIN._replace(**later, observed=500)) == [REVISED]
    kept = books.run(2)
    assert (kept.record.user, kept.record.account, kept.record.wckey) == ("alice", "physics", "")
    assert kept.flags == ("attribution_kept",)
    assert kept.billing_account == "physics"
    assert books.revisions() == [(2, 1)]


def test_case_38_a_decrease_is_held_for_a_person_and_energy_may_grow(books: Collector) -> None:
    less = PLAIN._replace(alloc_tres=a_tres("cpu=1,gres/gpu=1,mem=100,node=1"), observed=500)
    books.take(PLAIN)
    assert books.take(less) == [QUARANTINED]
    assert books.take(less) == [QUARANTINED]
    (held,) = books.kept_aside()
    assert "holds less cpu than" in held.reason
    assert held.times == 2
    assert books.take(PLAIN._replace(energy_j=50, observed=900)) == [REVISED]
    assert books.owed("cpu") == 12


def test_case_45_two_agents_tell_the_same(books: Collector) -> None:
    assert books.take(PLAIN) == [NEW]
    assert books.second().take(PLAIN) == [KNOWN]
    assert books.owed() == 12
