"""Every shipped alert fires on what it is for, not before its time, and not on what is well.

Each case holds a sick series and a well one of the same metrics; promtool evaluates
the shipped rules over them.
"""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
RULES = REPOSITORY / "packaging" / "prometheus" / "jobledger.rules.yml"
PAGE = REPOSITORY / "docs" / "monitoring.md"
DAY_S = 86_400
A, C = "jobledger_agent", "jobledger_collector"


class Case(NamedTuple):
    """Series by value notation; who is sick; when it must be silent yet, and when it must fire."""

    alert: str
    sick: Mapping[str, str]
    well: Mapping[str, str]
    silent_at: str
    fires_at: str

    @property
    def step(self) -> str:
        """Between two samples and evaluations: days in minutes would take a while."""
        return "30m" if "h" in self.fires_at else "1m"


def steady(value: float) -> str:
    return f"{value}x6000"


CASES = (
    Case("JobledgerAgentDown", {"up{job='jobledger-agent'}": steady(0)},
         {"up{job='jobledger-agent'}": steady(1), "up{job='other'}": steady(0)}, "4m", "6m"),
    Case("JobledgerAgentLagging", {f"{A}_lag_seconds": steady(901)},
         {f"{A}_lag_seconds": steady(900)}, "4m", "6m"),
    Case("JobledgerAgentLaggingLong", {f"{A}_lag_seconds": steady(21_601)},
         {f"{A}_lag_seconds": steady(21_600)}, "14m", "16m"),
    Case("JobledgerAgentDisconnected", {f"{A}_collector_connected": steady(0)},
         {f"{A}_collector_connected": steady(1)}, "9m", "11m"),
    Case("JobledgerSpoolFilling",
         {f"{A}_spool_bytes": steady(400), f"{A}_spool_max_bytes": steady(1000)},
         {f"{A}_spool_bytes": steady(370), f"{A}_spool_max_bytes": steady(1000)}, "14m", "17m"),
    Case("JobledgerSpoolFilling",  # a tenth full and growing by a tenth an hour
         {f"{A}_spool_bytes": "75+1.25x6000", f"{A}_spool_max_bytes": steady(1000)},
         {f"{A}_spool_bytes": "75+0.1x6000", f"{A}_spool_max_bytes": steady(1000)}, "10m", "20m"),
    Case("JobledgerSpoolFull", {f"{A}_spool_full": steady(1)},
         {f"{A}_spool_full": steady(0)}, "1m", "3m"),
    Case("JobledgerRecordsHeld", {f"{A}_spool_held_records": steady(7)},
         {f"{A}_spool_held_records": steady(0)}, "4m", "6m"),
    Case("JobledgerRecordsUnreadable", {f"{A}_unreadable_total": "0x10 1x6000"},
         {f"{A}_unreadable_total": steady(5)}, "9m", "12m"),
    Case("JobledgerSourceFailing",
         {f"{A}_source_errors_total{{source='sacct:a'}}": "0+1x6000",
          f"{A}_source_last_success_timestamp_seconds{{source='sacct:a'}}": steady(0)},
         {f"{A}_source_errors_total{{source='sacct:a'}}": "0+1x6000",
          f"{A}_source_last_success_timestamp_seconds{{source='sacct:a'}}": "0+60x6000"},
         "19m", "22m"),
    Case("JobledgerDbdQueueLong", {f"{A}_source_dbd_queue_messages{{cluster='a'}}": steady(1001)},
         {f"{A}_source_dbd_queue_messages{{cluster='a'}}": steady(1000)}, "9m", "11m"),
    Case("JobledgerSourcePaused", {f"{A}_source_paused{{source='sacct:a'}}": steady(1)},
         {f"{A}_source_paused{{source='sacct:a'}}": steady(0)}, "29m", "31m"),
    Case("JobledgerCanaryFailing",
         {f"{A}_source_canary_success_timestamp_seconds{{cluster='a'}}": steady(0)},
         {f"{A}_source_canary_success_timestamp_seconds{{cluster='a'}}": "0x60 3600x60 7200x6000"},
         "134m", "137m"),
    Case("JobledgerOpenSetEmpty",
         {f"{A}_source_running_jobs{{cluster='a'}}": steady(6),
          f"{A}_source_open_runs{{cluster='a'}}": steady(0)},
         {f"{A}_source_running_jobs{{cluster='a'}}": steady(6),
          f"{A}_source_open_runs{{cluster='a'}}": steady(1)}, "14m", "16m"),
    Case("JobledgerRunawayJobs", {f"{A}_source_runaway_suspects{{cluster='a'}}": steady(2)},
         {f"{A}_source_runaway_suspects{{cluster='a'}}": steady(0)}, "59m", "61m"),
    Case("JobledgerClockSkew", {f"{A}_clock_skew_seconds": steady(-3)},
         {f"{A}_clock_skew_seconds": steady(2)}, "9m", "11m"),
    Case("JobledgerSweepStale",
         {f"{A}_source_sweep_through_timestamp_seconds{{cluster='a'}}": steady(0)},
         {f"{A}_source_sweep_through_timestamp_seconds{{cluster='a'}}": "0+1800x6000"},
         "72h30m", "74h"),
    Case("JobledgerSweepFoundMissing", {f"{A}_sweep_missing_total{{cluster='a'}}": "0x10 3x6000"},
         {f"{A}_sweep_missing_total{{cluster='a'}}": steady(3)}, "9m", "12m"),
    Case("JobledgerSweepFoundExtra", {f"{A}_sweep_extra{{cluster='a'}}": steady(1)},
         {f"{A}_sweep_extra{{cluster='a'}}": steady(0)}, "59m", "61m"),
    Case("JobledgerCertificateExpiring",
         {f"{A}_certificate_expiry_timestamp_seconds{{file='agent.pem'}}": steady(13 * DAY_S)},
         {f"{A}_certificate_expiry_timestamp_seconds{{file='agent.pem'}}": steady(15 * DAY_S)},
         "59m", "61m"),
    Case("JobledgerCertificateExpiring",
         {f"{C}_certificate_expiry_timestamp_seconds": steady(13 * DAY_S)},
         {f"{C}_certificate_expiry_timestamp_seconds": steady(15 * DAY_S)}, "59m", "61m"),
    Case("JobledgerCertificateEnding",
         {f"{A}_certificate_expiry_timestamp_seconds{{file='agent.pem'}}": steady(DAY_S)},
         {f"{A}_certificate_expiry_timestamp_seconds{{file='agent.pem'}}": steady(3 * DAY_S)},
         "4m", "6m"),
    Case("JobledgerCertificateEnding",
         {f"{C}_certificate_expiry_timestamp_seconds": steady(DAY_S)},
         {f"{C}_certificate_expiry_timestamp_seconds": steady(3 * DAY_S)}, "4m", "6m"),
    Case("JobledgerCollectorDown", {"up{job='jobledger-collector'}": steady(0)},
         {"up{job='jobledger-collector'}": steady(1)}, "4m", "6m"),
    Case("JobledgerCollectorDatabaseDown", {f"{C}_database_up": steady(0)},
         {f"{C}_database_up": steady(1)}, "1m", "3m"),
    Case("JobledgerCollectorRefusing", {f"{C}_batches_refused_total": "0+1x6000"},
         {f"{C}_batches_refused_total": steady(4)}, "14m", "17m"),
    Case("JobledgerIngestSlow",
         {f"{C}_ingest_seconds_bucket{{le='5'}}": "0+0x6000",
          f"{C}_ingest_seconds_bucket{{le='10'}}": "0+9x6000",
          f"{C}_ingest_seconds_bucket{{le='+Inf'}}": "0+9x6000"},
         {f"{C}_ingest_seconds_bucket{{le='0.05'}}": "0+9x6000",
          f"{C}_ingest_seconds_bucket{{le='+Inf'}}": "0+9x6000"}, "14m", "19m"),
    Case("JobledgerQuarantineGrowing", {f"{C}_quarantine_records": "1x10 4x6000"},
         {f"{C}_quarantine_records": "4x10 1x6000"}, "9m", "12m"),
    Case("JobledgerQuarantineOpen", {f"{C}_quarantine_records": steady(1)},
         {f"{C}_quarantine_records": steady(0)}, "71h", "73h"),
    Case("JobledgerAgentNotSeen",
         {f"{C}_agent_last_seen_timestamp_seconds{{agent='a'}}": steady(0)},
         {f"{C}_agent_last_seen_timestamp_seconds{{agent='a'}}": "0+60x6000"}, "34m", "37m"),
    Case("JobledgerAgentClockSkew", {f"{C}_agent_clock_skew_seconds{{agent='a'}}": steady(2.5)},
         {f"{C}_agent_clock_skew_seconds{{agent='a'}}": steady(-2)}, "9m", "11m"),
    Case("JobledgerVerifiedMissing", {f"{C}_verified_missing{{cluster='a'}}": steady(1)},
         {f"{C}_verified_missing{{cluster='a'}}": steady(0)}, "119m", "121m"),
    Case("JobledgerVerifiedExtra", {f"{C}_verified_extra{{cluster='a'}}": steady(1)},
         {f"{C}_verified_extra{{cluster='a'}}": steady(0)}, "119m", "121m"),
)  # fmt: skip
ABSENT = {
    "JobledgerAgentAbsent": f"{A}_build_info",
    "JobledgerCollectorAbsent": f"{C}_database_up",
}


def alerts() -> dict[str, Mapping[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def run_rules(
    tmp_path: Path, *tests: Mapping[str, object], step: str = "1m"
) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "rules.test.yml"
    document = {"rule_files": [str(RULES)], "evaluation_interval": step, "tests": list(tests)}
    file.write_text(yaml.safe_dump(document))
    return promtool("test", "rules", str(file))


def series(named: Mapping[str, str], who: str) -> list[dict[str, str]]:
    return [{"series": labelled(name, who), "values": values} for name, values in named.items()]


def labelled(name: str, who: str) -> str:
    """The series with an instance, and a job unless it names one."""
    metric, _, labels = name.rstrip("}").partition("{")
    job = "" if "job=" in labels else ",job='j'"
    return f"{metric}{{instance='{who}'{job}{',' if labels else ''}{labels}}}"


def firing(alert: str, at: str, *who: str) -> dict[str, object]:
    """What is asked of the evaluated rules: which instances the alert fires for at a time."""
    labels = [f'{{alertname="{alert}", instance="{each}"}}' for each in who]
    return {
        "expr": "count by (alertname, instance)"
        f' (ALERTS{{alertname="{alert}", alertstate="firing"}})',
        "eval_time": at,
        "exp_samples": [{"labels": each, "value": 1} for each in labels],
    }


def as_test(case: Case) -> dict[str, object]:
    """One case as promtool takes it: silent in time, then firing for the sick alone."""
    return {
        "interval": case.step,
        "input_series": series(case.sick, "sick") + series(case.well, "well"),
        "promql_expr_test": [
            firing(case.alert, case.silent_at),
            firing(case.alert, case.fires_at, "sick"),
        ],
    }


@pytest.fixture(scope="module")
def all_are_right(tmp_path_factory: pytest.TempPathFactory) -> bool:
    """Whether one run of all cases finds nothing; if not, each is run by itself."""
    folder = tmp_path_factory.mktemp("all")
    done = [
        run_rules(folder, *(as_test(case) for case in CASES if case.step == step), step=step)
        for step in ("1m", "30m")
    ]
    return not any(each.returncode for each in done)


@pytest.mark.parametrize("case", CASES, ids=[f"{n}-{c.alert}" for n, c in enumerate(CASES)])
def test_an_alert_fires_in_time_and_only_for_who_is_sick(
    case: Case, all_are_right: bool, tmp_path: Path
) -> None:
    if not all_are_right:
        done = run_rules(tmp_path, as_test(case), step=case.step)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ABSENT)
def test_nothing_scraped_at_all_is_an_alert(alert: str, tmp_path: Path) -> None:
    there = [{"series": f"{ABSENT[alert]}{{instance='well'}}", "values": "1x100"}]
    fires = {"labels": f'{{alertname="{alert}"}}', "value": 1}
    done = run_rules(
        tmp_path,
        {
            "interval": "1m",
            "promql_expr_test": [
                firing(alert, "14m"),
                firing(alert, "16m") | {"exp_samples": [fires]},
            ],
        },
        {"interval": "1m", "input_series": there, "promql_expr_test": [firing(alert, "40m")]},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case() -> None:
    assert set(alerts()) == {case.alert for case in CASES} | set(ABSENT)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What each alert says. promtool shows what it rendered when nothing is expected."""
    folder = tmp_path_factory.mktemp("texts")
    told = ""
    for step in ("1m", "30m"):
        asked = [
            {
                "interval": step,
                "input_series": series(case.sick, "sick"),
                "alert_rule_test": [
                    {"eval_time": case.fires_at, "alertname": case.alert, "exp_alerts": []}
                ],
            }
            for case in CASES
            if case.step == step
        ]
        done = run_rules(folder, *asked, step=step)
        told += done.stdout + done.stderr
    failures = re.split(r"alertname: *", told)[1:]
    return {failure.partition(",")[0].strip(): failure for failure in failures}


@pytest.mark.parametrize("name", sorted(alerts().keys() - ABSENT.keys()))
def test_what_an_alert_says_is_a_sentence_with_its_figures(
    name: str, texts: Mapping[str, str]
) -> None:
    _, _, got = texts[name].partition("got:")
    assert "summary" in got
    assert "expanding" not in got
    assert "no value" not in got
    assert not re.search(r"\{\{|\}\}|summary=\"\"|description=\"\"", got)


@pytest.mark.parametrize("name", sorted(alerts()))
def test_every_alert_says_how_bad_it_is_and_what_to_do(name: str) -> None:
    rule = alerts()[name]
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"]["summary"]
    assert len(rule["annotations"]["description"]) > 60
    assert "for" in rule or re.search(r"\[\d+[hd]\]", rule["expr"]), (
        "a moment's noise would fire it"
    )
    assert f"`{name}`" in PAGE.read_text(), f"docs/monitoring.md does not explain {name}"


def test_promtool_finds_nothing_wrong_with_the_rules_and_the_scrape_example(
    tmp_path: Path,
) -> None:
    done = promtool("check", "rules", str(RULES))
    assert done.returncode == 0, done.stderr
    example = RULES.with_name("scrape.example.yml").read_text()
    assert "/etc/prometheus/jobledger.rules.yml" in example
    settings = tmp_path / "prometheus.yml"
    settings.write_text(example.replace("/etc/prometheus/jobledger.rules.yml", str(RULES)))
    done = promtool("check", "config", str(settings))
    assert done.returncode == 0, done.stdout + done.stderr
