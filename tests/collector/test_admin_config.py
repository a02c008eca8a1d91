"""jobledger.toml: what is read, what wins, and what is refused with a hint."""

from pathlib import Path

import pytest

from jobledger_collector.admin.config import AdminConfig, load_config
from jobledger_collector.core.errors import ConfigInvalid

SELLER = '[seller]\nname = "University"\naddress = "1 Road"\ntax_id = "0994000158378"\n'


def config(tmp_path: Path, text: str, db: str | None = None, **environ: str) -> AdminConfig:
    file = tmp_path / "jobledger.toml"
    file.write_text(text, "utf-8")
    return load_config(file, db, environ)


def test_all_keys(tmp_path: Path) -> None:
    text = '[database]\nurl = "sqlite:///x.db"\n' + SELLER
    text += 'name_th = "มหาวิทยาลัย"\n'
    text += '[documents]\ninvoice_series = "MU"\nstatement_series = "ST"\ndue_days = 15\n'
    read = config(tmp_path, text)
    assert read.database_url == "sqlite:///x.db"
    assert read.seller is not None
    assert (read.seller.name, read.seller.name_th) == ("University", "มหาวิทยาลัย")
    assert (read.documents.invoice_series, read.documents.statement_series) == ("MU", "ST")
    assert read.documents.due_days == 15


def test_without_a_file_there_are_usual_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read = load_config(None, None, {})
    assert (read.database_url, read.seller, read.documents.due_days) == ("", None, 30)


def test_a_file_in_the_working_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobledger.toml").write_text('[database]\nurl = "sqlite:///here.db"\n')
    monkeypatch.chdir(tmp_path)
    assert load_config(None, None, {}).database_url == "sqlite:///here.db"


@pytest.mark.parametrize(
    ("db", "environ", "url"),
    [
        (None, {}, "sqlite:///file.db"),
        (None, {"JOBLEDGER_DATABASE_URL": "sqlite:///long.db"}, "sqlite:///long.db"),
        (None, {"JOBLEDGER_DB": "sqlite:///short.db"}, "sqlite:///short.db"),
        ("sqlite:///flag.db", {"JOBLEDGER_DB": "sqlite:///short.db"}, "sqlite:///flag.db"),
    ],
)
def test_the_nearer_setting_wins(
    tmp_path: Path, db: str | None, environ: dict[str, str], url: str
) -> None:
    read = config(tmp_path, '[database]\nurl = "sqlite:///file.db"\n', db, **environ)
    assert read.database_url == url


def test_every_key_can_come_from_the_environment(tmp_path: Path) -> None:
    environ = {"JOBLEDGER_SELLER_PHONE": "02", "JOBLEDGER_DOCUMENTS_DUE_DAYS": "7"}
    read = config(tmp_path, SELLER, **environ)
    assert read.seller is not None
    assert (read.seller.phone, read.documents.due_days) == ("02", 7)


def test_a_url_with_a_password_lives_in_a_file_of_its_own(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://me:secret@db/books\n")
    read = config(tmp_path, f'[database]\nurl_file = "{secret}"\n')
    assert read.database_url == "postgresql://me:secret@db/books"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[databse]\n", 'unknown section "databse"; did you mean "database"'),
        ('[database]\nuri = "x"\n', 'unknown key in [database] "uri"; did you mean "url"'),
        ("[database]\nurl = 7\n", "must be text in quotes"),
        ("database = 7\n", "write [database]"),
        ("[database\n", "is not valid TOML"),
        ('[database]\nurl = "postgresql://me:pw@db/x"\n', "holds a password"),
        ('[database]\nurl = "postgresql://[::1/x"\n', "is not a URL"),
        ('[database]\nurl_file = "/nowhere/url"\n', "Cannot read the database URL"),
        ('[seller]\nname = "U"\n', "[seller] address is missing"),
        ('[documents]\ninvoice_series = "inv 1"\n', "1 to 8 capital letters"),
        ('[documents]\ninvoice_series = "STM"\n', "must differ"),
        ('[documents]\ndue_days = "30"\n', "must be a whole number"),
        ("[documents]\ndue_days = true\n", "must be a whole number"),
        ("[documents]\ndue_days = 9999\n", "between 0 and 365"),
    ],
)
def test_a_wrong_file_is_refused_with_a_hint(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        config(tmp_path, text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value).strip()


def test_a_number_in_the_environment_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="JOBLEDGER_DOCUMENTS_DUE_DAYS must be a whole number"):
        config(tmp_path, "", JOBLEDGER_DOCUMENTS_DUE_DAYS="soon")


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"x" * 1_048_577])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "jobledger.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigInvalid, match=str(file)):
        load_config(file, None, {})
