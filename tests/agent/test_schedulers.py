"""Another scheduler is one file and one line: the example of docs/sources.md, run as it stands."""

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobledger_agent.daemon.feed import Intake, read_through
from jobledger_agent.health import Health
from jobledger_agent.records.job import SlurmJob, Unreadable
from jobledger_agent.settings.config import ConfigError, load
from jobledger_agent.settings.schedulers import SCHEDULERS
from jobledger_agent.source import SourceError
from jobledger_agent.sources.feeds import Feed, clusters, feeds
from jobledger_agent.spooling.spool import Spool

PAGE = Path(__file__).parents[2] / "docs" / "sources.md"
LINES = (
    "11,ann,phys,1790000000,1790000010,1790000110,4,2048,0\n"
    '12,bob,"a, b",1790000001,1790000020,1790000080,8,4096,137\n'
)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example as a module, registered by its line."""
    page = PAGE.read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (line,) = re.findall(
        r'^    SCHEDULERS = \{"(\w+)": "jobledger_agent\.(\w+)"\}$', page, re.MULTILINE
    )
    kind, module = line
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / f"{module}.py").write_text(example)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.setitem(SCHEDULERS, kind, module)
    yield
    sys.modules.pop(module, None)


def feed_of(tmp_path: Path, extra: str = "") -> Feed:
    settings = tmp_path / "agent.toml"
    settings.write_text(
        f'[[source]]\nkind = "tiny"\nclusters = ["t1"]\nlog = "{tmp_path}/log.csv"\n{extra}'
    )
    config = load(settings, {})
    assert clusters(config) == ("t1",)
    (feed,) = feeds(config)
    return feed


@pytest.mark.usefixtures("tiny")
def test_the_example_is_a_source(tmp_path: Path) -> None:
    feed = feed_of(tmp_path, "poll_interval_s = 60\n")
    assert (feed.name, feed.poll_interval_s) == ("tiny:t1", 60)
    log = tmp_path / "log.csv"
    log.write_text(LINES + "13,eve,phys,17900")
    with closing(Spool(tmp_path / "spool.db")) as spool:
        intake = Intake(spool, Health(), None, lambda: None, threading.Event())
        read_through(feed, intake)
        assert spool.stats().records == 2
        read_through(feed, intake)
        assert spool.stats().records == 2
        log.write_text(LINES + "13,eve,phys,1790000003,1790000004,1790000005,1,1,1\nnonsense\n")
        read_through(feed, intake)
        assert spool.stats().records == 4
        assert spool.position(feed.name) == str(log.stat().st_size)


@pytest.mark.usefixtures("tiny")
def test_the_example_says_what_a_job_held_and_what_is_none(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LINES + "nonsense\n")
    (block,) = feed_of(tmp_path).source.read("")
    first, second, third = block.readings
    assert isinstance(first, SlurmJob)
    assert first[:8] == ("t1", 11, 1790000000, 0, 1790000010, 1790000110, 0, 100)
    assert first.alloc_tres == (("cpu", 4), ("mem", 2048), ("node", 1))
    assert isinstance(second, SlurmJob)
    assert (second.account, second.state) == ("a, b", "CANCELLED")
    assert isinstance(third, Unreadable)
    assert (third.cluster, third.raw) == ("t1", b"nonsense")


@pytest.mark.usefixtures("tiny")
def test_its_settings_are_checked_as_all_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'lgo'; did you mean log\?"):
        feed_of(tmp_path, 'lgo = "x"\n')
    with pytest.raises(ConfigError, match="expected a path"):
        _load_with_a_wrong_type(tmp_path)
    with pytest.raises(SourceError, match=r"cannot be read .* correct log"):
        list(feed_of(tmp_path).source.read(""))


def _load_with_a_wrong_type(tmp_path: Path) -> None:
    settings = tmp_path / "wrong.toml"
    settings.write_text('[[source]]\nkind = "tiny"\nclusters = ["t1"]\nlog = 7\n')
    load(settings, {})


def test_a_kind_that_nobody_registered_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kind must be one of sacct, slurmrestd, pyslurm, file"):
        feed_of(tmp_path)
