"""The shipped dashboard and rules against what the programs really serve, by a real Prometheus."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.prometheus.conftest import RULES, Watched

REPOSITORY: Final = Path(__file__).parents[2]
DASHBOARD: Final = REPOSITORY / "packaging" / "grafana" / "jobledger.json"
PAGE: Final = REPOSITORY / "docs" / "monitoring.md"
EMPTY_WHEN_WELL: Final = frozenset({"Alerts"})
"""Panels that show nothing while nothing is wrong; docs/monitoring.md says so."""
VARIABLES: Final = {"$agent": ".*", "$collector": ".*", "$__rate_interval": "1m"}

pytestmark = pytest.mark.timeout(180)


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def queries() -> list[tuple[str, str]]:
    return [(panel["title"], each["expr"]) for panel in panels() for each in panel["targets"]]


def filled(expression: str) -> str:
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


def metric_names(text: str) -> set[str]:
    return set(re.findall(r"\bjobledger_(?:agent|collector)_[a-z0-9_]+", text))


@pytest.mark.parametrize(("title", "expression"), queries())
def test_every_query_of_every_panel_has_data(title: str, expression: str, watched: Watched) -> None:
    found = watched.query(filled(expression))
    assert found or title in EMPTY_WHEN_WELL, "no data"


def test_no_panel_or_rule_names_a_metric_that_nobody_serves(watched: Watched) -> None:
    served = set(watched.ask("label/__name__/values"))
    for where in (DASHBOARD, RULES):
        assert metric_names(where.read_text()) - served == set()


def test_every_metric_of_ours_is_on_the_dashboard_or_has_an_alert(watched: Watched) -> None:
    """A figure that nobody looks at is not worth its scrape; the page names the others."""
    shown = metric_names(DASHBOARD.read_text()) | metric_names(RULES.read_text())
    explained = metric_names(PAGE.read_text())
    base = {
        re.sub(r"_(bucket|sum|count|created)$", "", name)
        for name in watched.ask("label/__name__/values")
        if name.startswith(("jobledger_agent_", "jobledger_collector_"))
    }
    shown = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in shown | explained}
    assert {name for name in base if name.removesuffix("_total") + "_total" not in shown} <= shown


@pytest.mark.parametrize("program", ["agent", "collector"])
def test_promtool_finds_nothing_wrong_with_the_metrics(program: str, watched: Watched) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=ours(watched.metrics(program)),
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def ours(text: str) -> str:
    """Our own families: those of the client library name themselves."""
    lines = text.splitlines()
    return "\n".join(line for line in lines if "jobledger_" in line) + "\n"


def test_the_shipped_rules_are_evaluated_without_an_error(watched: Watched) -> None:
    groups = watched.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    shipped = yaml.safe_load(RULES.read_text())["groups"]
    assert len(rules) == sum(len(group["rules"]) for group in shipped)
    assert {(rule["name"], rule.get("lastError", "")) for rule in rules} == {
        (rule["name"], "") for rule in rules
    }
    assert {rule["health"] for rule in rules} <= {"ok"}


def test_nothing_is_wrong_with_a_river_that_is_well(watched: Watched) -> None:
    alerts = watched.query('ALERTS{alertname=~"Jobledger.*"}')
    assert {alert["metric"]["alertname"] for alert in alerts} == set()


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    document = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in document["panels"]]
    assert len(ids) == len(set(ids))
    names = {variable["name"] for variable in document["templating"]["list"]}
    assert names == {"datasource", "agent", "collector"}
    for panel in panels():
        assert panel["description"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24


def test_panels_that_may_be_empty_are_told() -> None:
    page = PAGE.read_text()
    for title in EMPTY_WHEN_WELL:
        assert f"*{title}*" in page
