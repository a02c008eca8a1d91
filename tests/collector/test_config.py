"""Settings and the program itself: each mistake is one sentence with its exit code."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobledger_collector.cli import main
from jobledger_collector.config import (
    Address,
    CollectorConfig,
    agents_token,
    database_url,
    load_config,
    parse_address,
)
from jobledger_collector.core.errors import ConfigInvalid

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "packaging" / "collector.example.toml"
WAIT_S = 30


def config_of(text: str, tmp_path: Path, **environ: str) -> CollectorConfig:
    path = tmp_path / "collector.toml"
    path.write_text(text, "utf-8")
    return load_config(path, {}, environ)


def test_the_example_says_the_defaults(tmp_path: Path) -> None:
    assert load_config(EXAMPLE, {}, {}) == config_of("", tmp_path)


def test_command_line_over_environment_over_file(tmp_path: Path) -> None:
    text = '[server]\nlisten = "127.0.0.1:1"\nmax_streams = 2\n[metrics]\nlisten = ""\n'
    config = config_of(text, tmp_path, JOBLEDGER_COLLECTOR_SERVER_LISTEN="127.0.0.1:3")
    assert (config.server.listen, config.server.max_streams) == ("127.0.0.1:3", 2)
    path = tmp_path / "collector.toml"
    over = load_config(path, {("server", "listen"): "127.0.0.1:4"}, {})
    assert over.server.listen == "127.0.0.1:4"
    by_number = config_of(text, tmp_path, JOBLEDGER_COLLECTOR_SERVER_MAX_STREAMS="7")
    assert by_number.server.max_streams == 7


def test_a_misspelt_variable_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match='did you mean "JOBLEDGER_COLLECTOR_SERVER_LISTEN"'):
        config_of("", tmp_path, JOBLEDGER_COLLECTOR_SERVER_LISTN="127.0.0.1:3")
    assert config_of("", tmp_path, JOBLEDGER_COLLECTOR_CONFIG="x") == config_of("", tmp_path)


def test_the_database_on_the_command_line_goes_before_a_file_that_names_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "url").write_text("sqlite:///from-file.db\n")
    text = f'[database]\nurl_file = "{tmp_path}/url"\n'
    assert database_url(config_of(text, tmp_path)) == "sqlite:///from-file.db"
    given = {("database", "url"): "sqlite:///given.db"}
    assert database_url(load_config(tmp_path / "collector.toml", given, {})) == "sqlite:///given.db"


OPEN = '[server]\nlisten = "0.0.0.0:7610"\n'
CERTIFIED = OPEN + '[tls]\ncertificate_file = "c"\nkey_file = "k"\n'
WRONG = [
    ("[sever]\n", 'did you mean "server"'),
    ("[server]\nlissten = ''\n", 'did you mean "listen"'),
    ("[server]\nqqqq = ''\n", "known are listen"),
    ("server = 3\n", r"write \[server\]"),
    ("[server]\nlisten = 7610\n", "must be text in quotes"),
    ("[server]\nmax_streams = 'x'\n", "must be a whole number"),
    ("[server]\nmax_streams = true\n", "must be a whole number"),
    ("[server]\nmax_streams = 0\n", "from 1 to 256"),
    ("[server]\nlisten = 'nowhere'\n", "is not an address: write HOST:PORT"),
    ("[server]\nlisten = 'a:99999'\n", "is not an address"),
    ("[metrics]\nlisten = '7612'\n", "is not an address"),
    ("[log]\nlevel = 'loud'\n", "debug, info, warning, error"),
    ("[tls]\nkey_file = 'k'\n", "certificate_file and key_file together"),
    (OPEN, "names no certificate"),
    ("not toml", "is not valid TOML"),
]


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_a_wrong_setting_is_named(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=says) as caught:
        config_of(text, tmp_path)
    assert "\n" not in str(caught.value)


ADMITTED = [
    CERTIFIED,  # there every agent must be enrolled
    CERTIFIED + 'client_ca_file = "ca"\n',
    CERTIFIED.replace('7610"\n', '7610"\ntoken_file = "t"\n'),
]


@pytest.mark.parametrize("text", ADMITTED)
def test_reaching_further_than_loopback_takes_tls_and_a_way_to_know_agents(
    text: str, tmp_path: Path
) -> None:
    assert config_of(text, tmp_path).server.listen == "0.0.0.0:7610"


ADDRESSES = [
    ("127.0.0.1:0", Address("127.0.0.1", 0), True),
    ("localhost:80", Address("localhost", 80), True),
    ("[::1]:80", Address("::1", 80), True),
    ("0.0.0.0:80", Address("0.0.0.0", 80), False),  # noqa: S104 - only parsed
    ("db.example.org:80", Address("db.example.org", 80), False),
]


@pytest.mark.parametrize(("text", "address", "is_loopback"), ADDRESSES)
def test_addresses_read_back(text: str, address: Address, is_loopback: bool) -> None:
    assert parse_address(text, "x") == address
    assert str(address) == text
    assert address.is_loopback is is_loopback


TOKENS = ["changeme", "short", "changeme-changeme", "secretsecretsecret", "aaaaaaaaaaaaaaaaaaaa",
          "two words of a secret", "", "x" * 5000]  # fmt: skip


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_that_is_no_secret_is_refused(token: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token)
    config = config_of(f'[server]\ntoken_file = "{tmp_path}/token"\n', tmp_path)
    with pytest.raises(ConfigInvalid):
        agents_token(config)


def test_a_proper_token_is_read_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("8f3a1c5d7e9b20468f3a1c5d7e9b2046\n")
    config = config_of(f'[server]\ntoken_file = "{tmp_path}/token"\n', tmp_path)
    assert agents_token(config) == "8f3a1c5d7e9b20468f3a1c5d7e9b2046"
    assert agents_token(config_of("", tmp_path)) == ""


FAILURES = [
    (["serve", "--config", "/nonexistent.toml"], 3, "Cannot read the settings"),
    (["serve", "--db", "nonsense"], 4, "cannot be read"),
    (["serve", "--db", "sqlite:////nonexistent/x.db"], 4, "is not available"),
    (["serve", "--db", "sqlite:///x.db", "--listen", "nowhere"], 3, "is not an address"),
    (["serve", "--db", "sqlite:///x.db", "--listen", "0.0.0.0:0"], 3, "names no certificate"),
    (["status", "--db", "sqlite:///empty.db"], 4, "make it with `jobledger-collector migrate`"),
    (["migrate", "--db", "postgresql://127.0.0.1:1/x"], 4, "is not available"),
]


@pytest.mark.parametrize(("arguments", "code", "says"), FAILURES)
def test_each_failure_is_one_sentence_and_its_exit_code(
    arguments: list[str],
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint.startswith("jobledger-collector: ")
    assert says in complaint


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for option, says in (("--help", "examples:"), ("--version", "jobledger-collector 0.")):
        with pytest.raises(SystemExit) as ended:
            main([option])
        assert ended.value.code == 0
        assert says in capsys.readouterr().out


def test_check_config_holds_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", "--config", str(EXAMPLE)]) == 0
    assert capsys.readouterr().out == "The settings hold.\n"


def test_the_program_serves_says_ready_and_stops_in_order(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    program = subprocess.Popen(
        [sys.executable, "-m", "jobledger_collector.cli", "serve", "--db", url,
         "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    try:
        assert program.stdout is not None
        ready = program.stdout.readline().split()
        assert ready[:2] == ["READY", "agents"]
        busy = subprocess.run(
            [sys.executable, "-m", "jobledger_collector.cli", "serve", "--db", url,
             "--listen", ready[2], "--metrics-listen", ""],
            capture_output=True, text=True, check=False, timeout=WAIT_S,
        )  # fmt: skip
        assert busy.returncode == 1
        assert busy.stderr.startswith(f"jobledger-collector: Cannot listen on {ready[2]}")
        program.send_signal(signal.SIGTERM)
        assert program.wait(WAIT_S) == 0
        program.stdout.close()
    finally:
        program.kill()
        program.wait()


def test_status_speaks_json(sqlite_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json", "--db", sqlite_url]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["runs"], said["agents"]) == (0, [])
