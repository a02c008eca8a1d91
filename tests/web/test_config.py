"""web.toml: what is accepted, what is refused, and in which words."""

import tomllib
from ipaddress import ip_network
from pathlib import Path

import pytest

from jobledger_collector.core.errors import ConfigInvalid
from jobledger_web.config import Listen, WebConfig, contains, load

EXAMPLE = Path(__file__).resolve().parents[2] / "packaging" / "web.example.toml"
DB = '[database]\nurl = "sqlite:///x.db"\n'


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobledger_web.config.os.environ", {})


def written(folder: Path, text: str) -> Path:
    path = folder / "web.toml"
    path.write_text(text, "utf-8")
    return path


def test_the_example_holds_the_defaults() -> None:
    config = load(EXAMPLE, {})
    assert config == WebConfig("sqlite:////var/lib/jobledger/jobledger.db")


def test_everything_can_be_set(tmp_path: Path) -> None:
    text = """
[web]
listen = "[::1]:9000"
threads = 3
trusted_proxies = ["192.0.2.1", "2001:db8::/32"]
[database]
url = "sqlite:///a.db"
[sessions]
idle_s = 60
absolute_s = 120
[metrics]
allow = []
"""
    assert load(written(tmp_path, text), {}) == WebConfig(
        "sqlite:///a.db",
        Listen("::1", 9000),
        3,
        (ip_network("192.0.2.1"), ip_network("2001:db8::/32")),
        60,
        120,
        (),
    )
    known = {(section, key) for section, keys in tomllib.loads(text).items() for key in keys}
    example = tomllib.loads(EXAMPLE.read_text("utf-8").replace("# url_file", "url_file"))
    assert {(s, k) for s, keys in example.items() for k in keys} == known | {
        ("database", "url_file")
    }


def test_the_environment_goes_over_the_file_and_the_command_line_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://web:pw@db/jobledger\n")
    monkeypatch.setattr(
        "jobledger_web.config.os.environ",
        {
            "JOBLEDGER_WEB_WEB_LISTEN": "127.0.0.1:1",
            "JOBLEDGER_WEB_WEB_THREADS": "5",
            "JOBLEDGER_WEB_WEB_TRUSTED_PROXIES": "192.0.2.1, 192.0.2.2",
            "JOBLEDGER_WEB_DATABASE_URL_FILE": str(secret),
            "PATH": "/bin",
        },
    )
    config = load(written(tmp_path, DB), {"web.listen": "127.0.0.1:2"})
    assert config.listen == Listen("127.0.0.1", 2)
    assert config.threads == 5
    assert len(config.trusted_proxies) == 2
    assert config.database_url == "postgresql://web:pw@db/jobledger"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[web]\nlissen = 'x'", "unknown key lissen in [web]; did you mean listen?"),
        ("[wep]\nx = 1", "unknown section [wep]; did you mean web?"),
        ("[zzz]\nx = 1", "unknown section [zzz]; known are web, database"),
        ("web = 3", "unknown section [web]"),
        ("[web\n", "is not TOML"),
        ("\xff", "No database is named|is not TOML"),
        ("", "No database is named"),
        ('[database]\nurl = ""', "No database is named"),
        ("[database]\nurl = 3", "must be text"),
        ('[database]\nurl = "a"\nurl_file = "b"', "not both"),
        ('[database]\nurl_file = "/no/such/file"', "cannot be read"),
        ('[database]\nurl = "postgresql://u:secret@h/d"', "holds a password"),
        (DB + '[web]\nlisten = "8080"', "is not ADDRESS:PORT"),
        (DB + '[web]\nlisten = "127.0.0.1:99999"', "is not ADDRESS:PORT"),
        (DB + '[web]\nlisten = "example.org:80"', "is not ADDRESS:PORT"),
        (DB + '[web]\nlisten = "0.0.0.0:8080"', "which others can reach"),
        (DB + '[web]\nlisten = "[::]:8080"', "which others can reach"),
        (DB + "[web]\nthreads = 0", "whole number from 1 to 64"),
        (DB + "[web]\nthreads = true", "whole number"),
        (DB + '[web]\nthreads = "many"', "whole number"),
        (DB + "[web]\nthreads = 1.5", "whole number"),
        (DB + "[web]\ntrusted_proxies = 3", "must be a list"),
        (DB + '[web]\ntrusted_proxies = ["proxy"]', "address or a network"),
        (DB + "[sessions]\nidle_s = 100\nabsolute_s = 99", "longer than"),
        (DB + "x" * 300_000, "is it the config"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load(written(tmp_path, text), {})
    assert any(part in str(caught.value) for part in sentence.split("|"))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"none\.toml cannot be read"):
        load(tmp_path / "none.toml", {})


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobledger_web.config.os.environ", {"JOBLEDGER_WEB_WEB_LISTEM": "x"})
    with pytest.raises(ConfigInvalid, match="did you mean JOBLEDGER_WEB_WEB_LISTEN"):
        load(None, {})


def test_anywhere_is_fine_behind_a_proxy(tmp_path: Path) -> None:
    text = DB + '[web]\nlisten = "0.0.0.0:8080"\ntrusted_proxies = ["192.0.2.1"]'
    config = load(written(tmp_path, text), {})
    assert config.listen.host == "0.0.0.0"  # noqa: S104 - behind a proxy only
    assert not contains(config.trusted_proxies, ip_network("192.0.2.2").network_address)
