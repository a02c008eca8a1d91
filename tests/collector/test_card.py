"""Rate cards: what a document may say, and how it is told what is wrong."""
# ruff: noqa: E501 - one entry of a card a line, so that a refusal's line is that entry's

from pathlib import Path

import pytest

from jobledger_collector.core.card import (
    Circumstances,
    Factor,
    FixedPrice,
    MatchKey,
    MeterName,
    OtherTier,
    RateCard,
    Scope,
)
from jobledger_collector.core.node import InvalidDocument
from jobledger_collector.store.cards import read_card

RATES = Path(__file__).parents[2] / "packaging" / "rates"

DOCUMENT = """\
schema: jobledger.ratecard/1
card: hpc
version: 3
effective_from: 2026-10-01T00:00:00+07:00
currency: THB
timezone: Asia/Bangkok
tiers: [mu, private]
default_tier: mu
tax: {label: {en: VAT, th: ภาษี}, rate: {mu: "0", private: "7"}}
meters:
  cpu: {unit: Core-Hours}
  gpu: {unit: GPU-Hours, while_suspended: charged}
skus:
  - {id: cpu-std, meter: cpu, list: "5", price: {mu: "1", private: "5"}, name: {en: CPU, th: ซีพียู}}
  - {id: cpu-low, meter: cpu, match: {qos: [low, idle]}, list: "5", price: {mu: "0.25", private: "1"}, name: {en: CPU}}
  - {id: gpu-any, meter: gpu, list: "100", price: {mu: "5", private: "100"}, name: {en: GPU}}
  - {id: gpu-a100, meter: gpu, match: {gpu_type: a100}, list: "120", price: {mu: "12", private: "120"}, name: {en: A100}}
overrides:
  - {id: alice, scope: user, who: alice, sku: cpu-std, price: "0.50", reason: thesis, from: 2026-10-05T00:00:00+07:00, to: 2026-11-05T00:00:00+07:00}
  - {id: lab, scope: project, who: phys, sku: "*", factor: "0.8", reason: nodes given}
  - {id: firm, scope: account, who: acme, sku: "*", tier: mu, reason: joint work}
"""


def a_card(text: str = DOCUMENT) -> RateCard:
    return read_card(text, "card.yaml")


def circumstances(**known: str) -> Circumstances:
    return {key: known.get(str(key), "") for key in MatchKey}


def test_a_whole_card_is_read() -> None:
    card = a_card()
    assert (card.card, card.version, card.label) == ("hpc", 3, "hpc v3")
    assert card.effective_from == 1_790_787_600  # 2026-09-30T17:00:00Z
    assert (card.currency, card.timezone, card.tiers) == ("THB", "Asia/Bangkok", ("mu", "private"))
    assert card.tax.rate_percent_e8 == {"mu": 0, "private": 700_000_000}
    assert card.tax.label.th == "ภาษี"
    assert not card.meters[MeterName.CPU].charged_while_suspended
    assert card.meters[MeterName.GPU].charged_while_suspended
    sku = card.sku_named("cpu-low")
    assert sku is not None
    assert sku.price_e8 == {"mu": 25_000_000, "private": 100_000_000}
    assert sku.match == {MatchKey.QOS: frozenset({"low", "idle"})}
    assert [type(override.terms) for override in card.overrides] == [FixedPrice, Factor, OtherTier]
    assert [override.scope for override in card.overrides] == list(Scope)


@pytest.mark.parametrize("file", sorted(RATES.glob("*.yaml")), ids=lambda path: path.name)
def test_each_sample_card_is_valid(file: Path) -> None:
    card = read_card(file.read_text("utf-8"), str(file))
    assert all(sku.name.th for skus in card.skus.values() for sku in skus)


@pytest.mark.parametrize(
    ("meter", "run", "sku"),
    [
        (MeterName.CPU, {}, "cpu-std"),
        (MeterName.CPU, {"qos": "normal"}, "cpu-std"),
        (MeterName.CPU, {"qos": "idle", "partition": "any"}, "cpu-low"),
        (MeterName.GPU, {"gpu_type": "a100"}, "gpu-a100"),
        (MeterName.GPU, {"gpu_type": "h100"}, "gpu-any"),
        (MeterName.GPU, {}, "gpu-any"),
    ],
)
def test_the_more_specific_match_wins(meter: MeterName, run: dict[str, str], sku: str) -> None:
    found = a_card().sku_for(meter, circumstances(**run))
    assert found is not None
    assert found.id == sku


def test_what_no_sku_matches_has_none() -> None:
    card = a_card("\n".join(line for line in DOCUMENT.splitlines() if "cpu-std" not in line))
    assert card.sku_for(MeterName.CPU, circumstances(qos="normal")) is None


def test_layout_and_comments_do_not_change_what_a_card_is() -> None:
    spread = DOCUMENT.replace("card: hpc\n", "# the name\ncard:   'hpc'\n").replace("7", "7")
    assert a_card(spread).sha256 == a_card().sha256
    assert a_card(DOCUMENT.replace('mu: "1"', 'mu: "1.1"')).sha256 != a_card().sha256


REFUSED = [
    # what is written instead of what, the line, and what is said about it
    ('mu: "0.25"', "mu: 0.25", 15, 'write "0.25" with the quotes'),
    ('mu: "0.25"', "mu: 1", 15, '"1" with the quotes'),
    ('mu: "0.25"', 'mu: "0,25"', 15, "not a plain decimal"),
    ('mu: "0.25"', 'mu: "-1"', 15, "between 0 and"),
    ('mu: "0.25"', 'mu: "0.123456789"', 15, "more than 8 decimals"),
    ('mu: "0.25"', 'mu: "99999999999"', 15, "between 0 and"),
    ('mu: "0.25"', 'mu: "6"', 15, "above the list price"),
    ('mu: "0.25", ', "", 15, 'the key "mu" is missing'),
    ('mu: "0.25"', 'muu: "0.25"', 15, 'did you mean "mu"'),
    ("[low, idle]", "[]", 15, "an empty list matches nothing"),
    ("[low, idle]", "[no]", 15, 'write "no" with the quotes'),
    ("[low, idle]", "[1:30]", 15, 'write "1:30" with the quotes'),
    ("qos: [low", "gpu_type: [low", 15, "only a SKU of the meter gpu"),
    ("qos: [low", "qoss: [low", 15, 'did you mean "qos"'),
    ("match: {qos: [low, idle]}", "match: {}", 15, "with equal right"),
    ("gpu_type: a100", "cluster: [x]}, mach: {y: z", 17, 'did you mean "match"'),
    ("id: cpu-low", "id: cpu-std", 15, "there twice"),
    ("id: cpu-low", 'id: "cpu low"', 15, "is not a name"),
    ("meter: gpu, match", "meter: gpus, match", 17, 'did you mean "gpu"'),
    ("meter: gpu, match", "meter: mem, match", 17, "is not known here"),
    ("gpu: {unit: GPU-Hours", "gpus: {unit: GPU-Hours", 12, 'did you mean "gpu"'),
    ("unit: Core-Hours", "unit: core-hours", 11, "Core-Hours"),
    ("while_suspended: charged", "while_suspended: yes", 12, "with the quotes"),
    ("while_suspended: charged", "while_suspended: paid", 12, "known are free, charged"),
    ("default_tier: mu", "default_tier: gov", 8, "is not known here"),
    ("tiers: [mu, private]", "tiers: []", 7, "at least one tier"),
    ("tiers: [mu, private]", "tiers: [mu, mu]", 7, "there twice"),
    ("currency: THB", "currency: Baht", 5, "ISO 4217"),
    ("timezone: Asia/Bangkok", "timezone: Bangkok", 6, "Asia/Bangkok"),
    ("T00:00:00+07:00\ncurrency", "T00:00:00\ncurrency", 4, "add the offset"),
    ("2026-10-01T00:00:00+07:00\n", "1. October\n", 4, "is not a date and time"),
    ("2026-10-01T00:00:00+07:00\n", "2026-10-01T00:00:00.5+07:00\n", 4, "fractions"),
    ("version: 3", "version: 0", 3, "between 1 and"),
    ("version: 3", 'version: "3"', 3, "must be a whole number"),
    ("version: 3", "version: 3\nversion: 4", 4, "there twice"),
    ("version: 3", "verison: 3", 3, 'did you mean "version"'),
    ("card: hpc\n", "", 1, 'the key "card" is missing'),
    ("jobledger.ratecard/1", "jobledger.ratecard/2", 1, "did you mean"),
    ('private: "7"}}', 'private: "107"}}', 9, "between 0 and 100"),
    ("scope: user", "scope: group", 19, "known are user, project, account"),
    ("sku: cpu-std", "sku: cpu-st", 19, 'did you mean "cpu-std"'),
    ('price: "0.50"', 'price: "0.50", factor: "2"', 19, "exactly one of price, factor and tier"),
    ('price: "0.50", ', "", 19, "exactly one of price, factor and tier"),
    ('sku: cpu-std, price: "0.50"', 'sku: "*", price: "0.50"', 19, "one price cannot suit"),
    ("to: 2026-11-05", "to: 2026-10-05", 19, 'must be after "from"'),
    ("reason: thesis", 'reason: " "', 19, "an auditor will ask"),
    ("who: alice", 'who: ""', 19, "must name"),
    ("scope: account, who: acme", "scope: project, who: phys", 21, "at the same time"),
    ("id: lab", "id: alice", 20, "there twice"),
    ("schema:", "schema: &a x\nx: *a\n#", 2, "unknown key"),
    ("tiers: [mu, private]", "tiers: &t [mu, private]\nnotes: *t", 7, "aliases"),
    ("tiers: [mu, private]", "tiers: [mu, private", 8, "not valid YAML"),
    ("card: hpc", "card: !!python/object:os.system hpc", 2, "are not taken"),
    ("card: hpc", "card: !!binary aGk=", 2, "are not taken"),
    ("card: hpc", "? [a, b]\n: c", 2, "keys must be plain words"),
    ("tiers: [mu, private]", "tiers: " + "[" * 20 + "]" * 20, 7, "nested more than"),
]


@pytest.mark.parametrize(("old", "new", "line", "said"), REFUSED)
def test_a_wrong_card_is_refused_where_it_is_wrong(
    old: str, new: str, line: int, said: str
) -> None:
    assert old in DOCUMENT
    with pytest.raises(InvalidDocument) as refused:
        a_card(DOCUMENT.replace(old, new, 1))
    message = str(refused.value)
    assert message.startswith(f"card.yaml, line {line}:")
    assert said in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("just text", "must be a mapping"),
        ("- a\n- b\n", "must be a mapping"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("\x00\x01", "not valid YAML"),
        ("x" * 1_048_577, "longer than"),
        ("<html><body>Sign in</body></html>", "must be a mapping"),
    ],
)
def test_a_file_of_something_else_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidDocument, match=said):
        a_card(text)


def sku(sku_id: str, match: str) -> str:
    return (
        f"  - {{id: {sku_id}, meter: cpu, match: {match}, list: '1',"
        " price: {mu: '1', private: '1'}, name: {en: x}}\n"
    )


BY_PARTITION = sku("a", "{partition: [p, q]}")
BY_QOS = sku("b", "{qos: [fast]}")
BY_BOTH = sku("c", "{partition: [p, q], qos: [fast, slow]}")


@pytest.mark.parametrize(
    ("skus", "clash"),
    [
        (BY_PARTITION, None),
        (BY_PARTITION + BY_QOS, '"a" and "b"'),
        (BY_PARTITION + BY_QOS + BY_BOTH, None),  # the third takes what both match
        (BY_PARTITION + BY_QOS + sku("c", "{partition: p, qos: fast}"), '"a" and "b"'),  # not q
        (BY_PARTITION + BY_QOS + sku("c", "{partition: p, cluster: x}"), '"a" and "b"'),
        (BY_PARTITION + sku("b", "{partition: [r]}"), None),
        (BY_PARTITION + sku("b", "{partition: [q, r]}"), '"a" and "b"'),
        (sku("a", "{cluster: x, partition: p}") + sku("b", "{cluster: y, qos: f}"), None),
        (sku("a", "{cluster: x, partition: p}") + sku("b", "{cluster: x, qos: f}"), '"a" and "b"'),
    ],
)
def test_a_tie_is_an_error_unless_a_narrower_sku_settles_it(skus: str, clash: str | None) -> None:
    bare = "".join(line for line in DOCUMENT.splitlines(keepends=True) if "cpu-low" not in line)
    text = bare.replace("overrides:", skus + "overrides:")
    if clash is None:
        assert a_card(text).sku_named("a") is not None
        return
    with pytest.raises(InvalidDocument, match=clash):
        a_card(text)


def test_agreements_of_one_person_may_follow_each_other() -> None:
    later = (
        "  - {id: alice-2, scope: user, who: alice, sku: cpu-std, price: '0.6', reason: more,"
        " from: 2026-11-05T00:00:00+07:00}\n"
    )
    assert len(a_card(DOCUMENT + later).overrides) == 4
    with pytest.raises(InvalidDocument, match='at the same time as "alice"'):
        a_card(DOCUMENT + later.replace("11-05", "11-04"))


def test_a_price_above_the_list_price_must_be_meant() -> None:
    text = DOCUMENT.replace('mu: "0.25"', 'mu: "6"').replace(
        "id: cpu-low", "id: x, surcharge: true"
    )
    found = a_card(text).sku_named("x")
    assert found is not None
    assert found.price_e8["mu"] > found.list_e8
