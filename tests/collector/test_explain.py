"""Explanations: the arithmetic in words is the arithmetic that was charged."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_collector.core.accounts import Payer
from jobledger_collector.core.explain import (
    FLAG_SENTENCES,
    Explanation,
    OwedCharge,
    RunFacts,
    as_json,
    as_text,
    explain,
)
from jobledger_collector.core.pricing import price_run
from jobledger_collector.core.rates import RateBook
from jobledger_collector.core.record import Flag, JobRecord
from tests.collector.cards import EXTENDED, MAHIDOL, a_card, a_run, an_override, used_by

BANGKOK = "Asia/Bangkok"
START = 1_791_770_400  # 2026-10-12 09:00 in Bangkok


def an_october_run(**over: Any) -> JobRecord:  # noqa: ANN401 - any field
    usual = {"submit": START, "start": START, "end": START + 3_600, "qos": "normal"}
    return a_run(**{**usual, **over})


def facts(run: JobRecord, **over: Any) -> RunFacts:  # noqa: ANN401 - any field
    known = {name: getattr(run, name) for name in RunFacts._fields if hasattr(run, name)}
    derived = {
        "revision": 1, "elapsed_s": used_by(run).elapsed_s, "billing_account": "physics",
        "period": 2026_10, "flags": (),
    }  # fmt: skip
    return RunFacts(**{**known, **derived, **over})


def explained(
    run: JobRecord,
    book: RateBook | None = None,
    invoice: str = "",
    **over: Any,  # noqa: ANN401
) -> Explanation:
    """Price a run as ingest does and explain what came of it."""
    book = book or RateBook([MAHIDOL])
    pricing = price_run(run, used_by(run), Payer("physics", "mu"), book)
    owed = []
    for charge in pricing.charges:
        price = charge.price
        named = (
            (price.card, price.card_version, price.card_sha256, price.sku, price.unit, price.tier,
             price.rule, price.currency, price.list_e8, price.unit_e8)
            if price
            else ("", 0, "", "", "", "", "", "", 0, 0)
        )  # fmt: skip
        owed.append(
            OwedCharge(
                charge.item, charge.segment, charge.segment_start, 1, 0, charge.base_units,
                charge.quantity_micro, invoice, *named,
            )
        )  # fmt: skip
    return explain(facts(run, flags=pricing.flags, **over), owed, BANGKOK)


def test_a_whole_explanation() -> None:
    run = an_october_run(suspended_s=600)
    sha = MAHIDOL.sha256[:12]
    cpu = (
        "  1. cpu: 2 × 3000 s = 6000 core-seconds ÷ 3600 = 1.666667 Core-Hours × 1 THB ="
        f" 1.666667 THB (list price 5: 8.333335); SKU cpu-std of mahidol-hpc v1 [{sha}], tier mu;"
        " on invoice INV-2026-000001."
    )
    mem = (
        "  2. mem: 4096 × 3000 s = 12288000 MiB-seconds ÷ 3686400 = 3.333333 GiB-Hours × 0.5 THB ="
        f" 1.6666665 THB (list price 2: 6.666666); SKU mem-std of mahidol-hpc v1 [{sha}], tier mu;"
        " on invoice INV-2026-000001."
    )
    who = (
        "  Run of user alice under the Slurm account phys, paid by the billing account physics;"
        " partition cpu, QOS normal, state COMPLETED."
    )
    when = (
        "  It started 2026-10-12 09:00:00 and ended 2026-10-12 10:00:00: 3600 s,"
        " less 600 s suspended, leaves 3000 s. It belongs to 2026-10."
    )
    assert as_text(explained(run, invoice="INV-2026-000001")).splitlines() == [
        "alpha/1, submitted 2026-10-12 09:00:00 (Asia/Bangkok), revision 1",
        who,
        when,
        "  It held cpu=2, mem=4096, node=1 (memory in MiB).",
        "  It costs 3.3333335 THB (at list prices 15.000001 THB), exactly:",
        cpu,
        mem,
    ]


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"end": 0, "state": "RUNNING"}, "Nothing is owed until it has ended."),
        ({"end": 0, "state": "RUNNING"}, "had not ended when last seen"),
        ({"end": 0, "start": 0, "state": "PENDING"}, "It has not started."),
        ({"start": 0, "state": "CANCELLED"}, "It never started."),
        ({"start": 0, "state": "CANCELLED"}, "It used nothing, so nothing is owed."),
        ({"submit": START + 60}, "its submit time: the seconds before belong to the record before"),
        ({"submit": START + 60}, ": 3540 s."),
        ({"user": "", "account": ""}, "user (unknown) under the Slurm account (none)"),
        ({"reservation": "course"}, "reservation course"),
        ({"energy_j": 500}, "energy 500 J"),
    ],
)
def test_what_happened_is_said_in_words(over: dict[str, object], said: str) -> None:
    assert said in as_text(explained(an_october_run(**over)))


def test_a_cut_run_says_from_when_each_price_holds() -> None:
    later = a_card(version=2, effective_from=START + 900, overrides=(an_override(),))
    text = as_text(explained(an_october_run(), RateBook([MAHIDOL, later])))
    assert "1. cpu (from 2026-10-12 09:00:00): 1800 core-seconds" in text
    assert "3. cpu (from 2026-10-12 09:15:00): 5400 core-seconds" in text
    assert "override half for user alice: 0.5 of tier mu" in text


def test_what_has_no_price_is_said_and_not_summed() -> None:
    early = RateBook([a_card(effective_from=START + 10_000)])
    told = explained(an_october_run(), early)
    text = as_text(told)
    assert (
        "cpu: 2 × 3600 s = 7200 core-seconds ÷ 3600 = 2.000000 Core-Hours, which has no price"
        in text
    )
    assert "Nothing that it used has a price" in text
    assert "Note: Part of it has no price" in text
    assert (told.cost_e14, told.currency) == (0, "")


def test_replaced_charges_are_told_apart_and_not_summed() -> None:
    told = explained(an_october_run())
    stands = told.charges[0].charge
    replaced = stands._replace(superseded_by=1, invoice="INV-2026-000001", base_units=3600)
    undone = replaced._replace(kind=-1, base_units=-3600, quantity_micro=-1_000_000, invoice="")
    told = explain(told.run, [stands, replaced, undone], BANGKOK)
    text = as_text(told)
    assert "Charges that were replaced since" in text
    assert "replaced by change 1; on invoice INV-2026-000001." in text
    assert "-3600 core-seconds ÷ 3600 = -1.000000 Core-Hours × 1 THB = -1 THB" in text
    assert "reversal of an invoiced charge; not yet invoiced." in text
    assert told.cost_e14 == stands.quantity_micro * stands.unit_e8


def test_every_flag_has_its_words() -> None:
    assert set(FLAG_SENTENCES) >= set(Flag)
    told = explain(facts(an_october_run(), flags=tuple(Flag)), [], BANGKOK)
    assert len(told.notes) == len(Flag)


def test_every_meter_can_be_explained() -> None:
    tres = (
        ("billing", 3),
        ("cpu", 2),
        ("gres/gpu", 2),
        ("gres/gpu:a100", 1),
        ("mem", 1),
        ("node", 1),
    )
    text = as_text(explained(an_october_run(alloc_tres=tres, energy_j=9), RateBook([EXTENDED])))
    for item in ("cpu:", "gpu:", "gpu:a100:", "mem:", "node:", "billing:", "energy: 9 joules"):
        assert f". {item}" in text
    assert "gpu:a100: 1 × 3600 s = 3600 GPU-seconds" in text


def test_the_form_for_scripts_has_decimals_as_text() -> None:
    told = as_json(explained(an_october_run()))
    assert (told["cost"], told["list_cost"], told["currency"]) == ("4", "18", "THB")
    charges = told["charges"]
    assert isinstance(charges, list)
    assert charges[0]["quantity"] == "2.000000"
    assert charges[0]["price"] == "1"
    assert told["period"] == "2026-10"
    assert told["alloc_tres"] == {"cpu": 2, "mem": 4096, "node": 1}


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(1, 512), st.booleans())
def test_the_sum_in_words_is_the_sum_of_the_charges(
    wall_s: int, suspended_s: int, cores: int, cut: bool
) -> None:
    cards = [MAHIDOL, a_card(version=2, effective_from=START + 100)] if cut else [MAHIDOL]
    run = an_october_run(
        end=START + wall_s, suspended_s=suspended_s, alloc_tres=(("cpu", cores), ("mem", 100))
    )
    told = explained(run, RateBook(cards))
    assert told.cost_e14 == sum(c.charge.quantity_micro * c.charge.unit_e8 for c in told.charges)
    assert len(as_text(told).splitlines()) >= len(told.charges)
