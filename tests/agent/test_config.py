"""Settings are right, or refused in a sentence that names the setting."""

import dataclasses
import re
import socket
import tomllib
from pathlib import Path
from typing import Any

import pytest

from jobledger_agent.delivery.tls import bearer_token
from jobledger_agent.settings import config, sections
from jobledger_agent.settings.config import ConfigError, load, parse, split_address, supervisor
from jobledger_agent.settings.sections import (
    AgentConfig,
    CollectorSection,
    FileSection,
    SacctSection,
)

EXAMPLE = Path(__file__).parents[2] / "packaging" / "agent.example.toml"
SECRET = "4f1c2d3e4b5a69788796a5b4c3d2e1f0"


def settings(text: str = "", **environment: str) -> AgentConfig:
    return parse(tomllib.loads(text), environment, "agent.toml")


def test_nothing_set_gives_the_defaults() -> None:
    found = settings()
    assert found.agent.name == socket.gethostname()
    assert found.collector.address == "127.0.0.1:7610"
    assert found.spool.max_bytes == 1 << 30
    assert found.metrics.listen == "127.0.0.1:7611"
    assert found.sources == ()


def test_the_example_is_accepted_and_says_the_defaults() -> None:
    example = load(EXAMPLE, {})
    assert example.agent.name == "slurm-head-1"
    assert dataclasses.replace(example, agent=AgentConfig().agent, sources=()) == AgentConfig()
    assert example.sources == (SacctSection(clusters=("alpha",)),)


KINDS: dict[str, Any] = {
    "agent": sections.AgentSection,
    "collector": CollectorSection,
    "spool": sections.SpoolSection,
    "metrics": sections.MetricsSection,
    "kick": sections.KickSection,
    "sacct": SacctSection,
    "slurmrestd": sections.SlurmrestdSection,
    "pyslurm": sections.PyslurmSection,
    "file": FileSection,
}


@pytest.mark.parametrize("section", KINDS)
def test_the_example_explains_every_key(section: str) -> None:
    """Each key stands in its part of the example, set or commented."""
    keys = [key for kind, key in explained() if kind == section]
    expected = {field.name for field in dataclasses.fields(KINDS[section])} - {"token"}
    if section == "slurmrestd":
        expected -= {field.name for field in dataclasses.fields(sections.LiveSection)}
        expected.add("clusters")  # the others are those of "sacct", as the example says
    assert sorted(set(keys) - {"kind"}) == sorted(expected)
    assert config.TOKEN_VARIABLE in EXAMPLE.read_text()


def explained() -> list[tuple[str, str]]:
    """Every key of the example with the section, or the kind of source, that it stands in."""
    found, section = [], ""
    for line in EXAMPLE.read_text().splitlines():
        bare = line.removeprefix("# ")
        if bare.startswith("["):
            section = bare.strip("[]")
        elif " = " in bare and re.fullmatch(r"[a-z_]+", key := bare.partition(" = ")[0]):
            section = bare.split('"')[1] if key == "kind" else section
            found.append((section, key))
    return found


def test_the_examples_commented_sources_are_right_too() -> None:
    lines = EXAMPLE.read_text().splitlines()
    start = lines.index("# [[source]]")
    text = "\n".join(
        line.removeprefix("# ") for line in lines[start:] if " = " in line or "[[" in line
    )
    rest, fast, dump = settings(text).sources
    assert rest == sections.SlurmrestdSection(
        clusters=("alpha",),
        address="unix:/run/slurmrestd/slurmrestd.socket",
        token_file=Path("/etc/jobledger/agent/slurm.jwt"),
        ca_file=Path("/etc/jobledger/agent/slurmrestd-ca.pem"),
    )
    python = Path("/opt/pyslurm/bin/python")
    assert fast == sections.PyslurmSection(clusters=("alpha",), python=python)
    assert dump == FileSection(
        path=Path("/var/lib/jobledger-agent/import/2026-10.txt"),
        cluster="alpha",
        rename=(("alpha", "alpha-2211"),),
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[colector]", "agent.toml: unknown setting 'colector'; did you mean collector?"),
        ("[collector]\nadress = 'x:1'", "did you mean address?"),
        ("[spool]\nqqq = 1", "known: max_bytes, path, reserve_bytes"),
        ("agent = 3", "must be a table"),
        ("[spool]\nmax_bytes = '1 GB'", "expected a whole number, found '1 GB'"),
        ("[spool]\nmax_bytes = true", "expected a whole number"),
        ("[spool]\nmax_bytes = 5", "5 is not between 16777216 and"),
        ("[collector]\ntls = 1", "expected true or false"),
        ("[collector]\ntoken = 'in the open'", "unknown setting 'token'"),
        ("[collector]\nca_file = ''", "expected a path"),
        ("[collector]\naddress = 'nowhere'", "write HOST:PORT"),
        ("[collector]\naddress = 'here:99999'", "write HOST:PORT"),
        ("[collector]\ncert_file = 'a.pem'", "set both"),
        ("[agent]\nname = ' '", "cannot be an agent's name"),
        ('[agent]\nname = "a\\nb"', "cannot be an agent's name"),
        ("[agent]\nname = 'two words'", "cannot be an agent's name"),
        ("[[source]]\nkind = 'file'\npath = 'x'\ncluster = 'a b'", "a cluster's name"),
        ("[[source]]\nkind = 'file'\npath = 'x'\nrename = {a = 'é'}", "a cluster's name"),
        ("[[source]]\nkind = 'sacct'\nclusters = ['a', 'b;c']", "a cluster's name"),
        ("[metrics]\nlisten = '7611'", "write HOST:PORT"),
        ("source = 1", "write each source as [[source]]"),
        ("[[source]]\nkind = 'sacctt'", "kind must be one of sacct, slurmrestd, pyslurm, file"),
        ("[[source]]\npath = 'x'", "kind must be one of sacct, slurmrestd, pyslurm, file"),
        ("[[source]]\nkind = 'sacct'", "clusters is missing"),
        ("[[source]]\nkind = 'sacct'\nclusters = []", "expected a list of texts"),
        ("[[source]]\nkind = 'sacct'\nclusters = ['a', 3]", "expected a list of texts"),
        ("[[source]]\nkind = 'file'", "path is missing"),
        ("[[source]]\nkind = 'file'\npath = 'x'\nclusters = ['a']", "did you mean cluster?"),
        ("[[source]]\nkind = 'file'\npath = 'x'\nrename = {a = 1}", "expected a table"),
        ("[[source]]\nkind = 'file'\npath = 'x'\npoll_interval_s = 0", "between 1 and 86400"),
    ],
)
def test_what_is_wrong_is_named(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        settings(text)
    assert told in str(error.value)


def test_every_key_can_come_from_the_environment() -> None:
    found = settings(
        "[agent]\nname = 'file'\n[spool]\npath = '/file'",
        JOBLEDGER_AGENT_AGENT_NAME="environment",
        JOBLEDGER_AGENT_COLLECTOR_ADDRESS="[::1]:9",
        JOBLEDGER_AGENT_COLLECTOR_TLS="true",
        JOBLEDGER_AGENT_COLLECTOR_CA_FILE="/ca.pem",
        JOBLEDGER_AGENT_SPOOL_MAX_BYTES="33554432",
        JOBLEDGER_AGENT_METRICS_LISTEN="",
        JOBLEDGER_AGENT_CONFIG="/not/a/setting",
        UNRELATED="1",
    )
    assert found.agent.name == "environment"
    assert found.collector == CollectorSection("[::1]:9", tls=True, ca_file=Path("/ca.pem"))
    assert (found.spool.path, found.spool.max_bytes) == (Path("/file"), 33_554_432)
    assert found.metrics.listen == ""


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("JOBLEDGER_AGENT_SPOOL_MAXBYTES", "1", "did you mean JOBLEDGER_AGENT_SPOOL_MAX_BYTES?"),
        ("JOBLEDGER_AGENT_SPOOL_MAX_BYTES", "much", "expected a whole number, found 'much'"),
        ("JOBLEDGER_AGENT_COLLECTOR_TLS", "perhaps", "expected true or false"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        settings("", **{variable: value})
    assert told in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(ConfigError, match=r"there is no settings file .*missing\.toml: copy"):
        load(missing, {})
    with pytest.raises(ConfigError, match=r"missing\.toml"):
        load(None, {"JOBLEDGER_AGENT_CONFIG": str(missing)})
    broken = tmp_path / "broken.toml"
    broken.write_text("[agent\n")
    with pytest.raises(ConfigError, match=r"broken\.toml is not valid TOML: .*line 1"):
        load(broken, {})
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot read"):
        load(broken, {})
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path, {})


@pytest.mark.parametrize(
    "bad",
    ["", "changeme", "ChangeMe\n", "secret", "short", "x" * 15, "two\nlines" * 3, "\x00" * 20],
)
def test_a_placeholder_is_no_secret(bad: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(bad)
    with pytest.raises(ConfigError, match="openssl rand -hex 32") as error:
        bearer_token(CollectorSection(token_file=file))
    assert bad.strip() not in str(error.value) or len(bad.strip()) < 7


def test_a_secret_comes_from_its_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    assert bearer_token(CollectorSection(token_file=file)) == SECRET
    assert bearer_token(settings("", JOBLEDGER_AGENT_COLLECTOR_TOKEN=SECRET).collector) == SECRET
    assert bearer_token(CollectorSection()) == ""
    with pytest.raises(ConfigError, match="cannot read"):
        bearer_token(CollectorSection(token_file=tmp_path / "missing"))
    with pytest.raises(ConfigError, match="not both"):
        settings("[collector]\ntoken_file = 'x'", JOBLEDGER_AGENT_COLLECTOR_TOKEN=SECRET)


def test_a_secret_is_not_printed() -> None:
    found = settings("", JOBLEDGER_AGENT_COLLECTOR_TOKEN=SECRET)
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1:7610", ("127.0.0.1", 7610)), ("[::1]:0", ("::1", 0)), ("a.b:1", ("a.b", 1))],
)
def test_addresses_are_split(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected


def test_what_systemd_says() -> None:
    told = supervisor({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "5000", "JOURNAL_STREAM": "8:1"})
    assert told == ("@x", 5000, True)
    assert supervisor({"WATCHDOG_USEC": "soon"}) == ("", 0, False)
