"""The doctor finds what is wrong before the agent does, and says how to mend it."""

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import pytest

from jobledger_agent import VERSION
from jobledger_agent.operating import doctor
from jobledger_agent.operating.preflight import Check, Level
from jobledger_agent.spooling.spool import Spool
from jobledger_proto.v1 import usage_pb2 as pb
from jobledger_proto.v1 import usage_pb2_grpc
from tests.agent.notebook import Notebook

DUMP = Path(__file__).parents[1] / "data" / "slurm-22.05" / "safe-billing.txt"


@contextmanager
def serving(notebook: Notebook, credentials: grpc.ServerCredentials | None = None) -> Iterator[int]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    usage_pb2_grpc.add_LedgerServiceServicer_to_server(notebook, server)
    port = (
        server.add_secure_port("127.0.0.1:0", credentials)
        if credentials
        else server.add_insecure_port("127.0.0.1:0")
    )
    server.start()
    yield port
    server.stop(None).wait()


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def address(notebook: Notebook) -> Iterator[str]:
    with serving(notebook) as port:
        yield f"127.0.0.1:{port}"


def settings(tmp_path: Path, address: str, more: str = "", source: str = "") -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(
        f'[collector]\naddress = "{address}"\n{more}\n[kick]\nfile = ""\n'
        f'[spool]\npath = "{tmp_path}/spool.db"\nmax_bytes = 16777216\n'
        + (source or f'[[source]]\nkind = "file"\npath = "{DUMP}"\n')
    )
    return path


def checks_of(path: Path) -> dict[str, Check]:
    return {check.name: check for check in doctor.findings(path)}


def found(path: Path) -> dict[str, tuple[bool, str]]:
    return {name: (check.is_well, check.told) for name, check in checks_of(path).items()}


def test_a_well_agent(
    tmp_path: Path, address: str, notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    path = settings(tmp_path, address)
    notebook.welcome = pb.Welcome(version=VERSION, max_batch_records=2000, window_batches=8)
    assert doctor.examine(path, as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line[:6] for line in lines} == {"ok    ", "skip  "}
    names = [line[6:].partition(":")[0] for line in lines]
    assert names == ["versions", "settings", "spool directory", "disk reserve", "secrets",
                     "source file", "collector", "versions fit", "clock"]  # fmt: skip
    assert doctor.examine(path, as_json=True) == 0
    assert all(check["ok"] for check in json.loads(capsys.readouterr().out))
    assert not (tmp_path / "spool.db").exists()  # looking changes nothing


def test_settings_that_cannot_be_read_end_the_examination(tmp_path: Path) -> None:
    checks = found(tmp_path / "missing.toml")
    assert list(checks) == ["versions", "settings"]
    assert not checks["settings"][0]
    assert doctor.examine(tmp_path / "missing.toml", as_json=True) == 1


def test_a_missing_spool_directory(tmp_path: Path, address: str) -> None:
    path = settings(tmp_path, address)
    path.write_text(path.read_text().replace("/spool.db", "/nowhere/spool.db"))
    checks = found(path)
    for name in ("spool directory", "disk reserve"):
        is_well, told = checks[name]
        assert not is_well
        assert "create it" in told
        assert "Errno" not in told


def test_a_collector_that_does_not_answer(tmp_path: Path) -> None:
    is_well, told = found(settings(tmp_path, "127.0.0.1:1"))["collector"]
    assert not is_well
    assert "cannot be reached" in told


@pytest.mark.parametrize(("mode", "expected"), [(0o600, True), (0o640, False), (0o604, False)])
def test_a_token_that_others_can_read(
    mode: int, expected: bool, tmp_path: Path, address: str
) -> None:
    token = tmp_path / "token"
    token.write_text("4f1c2d3e4b5a69788796a5b4c3d2e1f0")
    token.chmod(mode)
    is_well, told = found(settings(tmp_path, address, f'token_file = "{token}"'))["secrets"]
    assert is_well == expected
    assert expected or f"chmod 600 {token}" in told


def test_no_source_and_an_unreadable_one(tmp_path: Path, address: str) -> None:
    none = found(settings(tmp_path, address, source="\n"))
    assert none["sources"] == (False, "none is configured: add a [[source]] to the settings")
    missing = found(settings(tmp_path, address, source='[[source]]\nkind="file"\npath="/no/dump"'))
    assert not missing["source file:/no/dump"][0]


def test_slurms_programs_are_looked_for(tmp_path: Path, address: str) -> None:
    there = tmp_path / "sdiag"
    there.write_text("#!/bin/sh\n")
    there.chmod(0o755)
    checks = checks_of(
        settings(
            tmp_path,
            address,
            source=f'[[source]]\nkind="sacct"\nclusters=["alpha"]\n'
            f'sacct="{tmp_path}/none/sacct"\nsdiag="{there}"\nscontrol="{tmp_path}/scontrol"\n'
            f'slurm_conf="{tmp_path}/slurm.conf"\n',
        )
    )
    assert checks[f"{tmp_path}/none/sacct"].level is Level.FAILED
    assert "install Slurm" in checks[f"{tmp_path}/none/sacct"].told
    assert checks[str(there)].level is Level.OK
    assert checks[f"{tmp_path}/scontrol"].level is Level.WARNING
    assert checks["slurm.conf"].level is Level.FAILED
    assert "/run/slurm/conf" in checks["slurm.conf"].told


def test_a_slurmrestd_that_does_not_answer(tmp_path: Path, address: str) -> None:
    token = tmp_path / "jwt"
    token.write_text("a.b.c")
    token.chmod(0o644)
    source = (
        '[[source]]\nkind="slurmrestd"\nclusters=["alpha"]\naddress="http://127.0.0.1:1"\n'
        f'user="jobledger"\ntoken_file="{token}"\n'
    )
    checks = checks_of(settings(tmp_path, address, source=source))
    assert checks["slurmrestd:alpha"].level is Level.FAILED
    assert f"chmod 600 {token}" in checks["slurmrestd's token"].told
    assert checks["Slurm's settings"].level is Level.UNCHECKED


def test_pyslurm_is_probed_where_it_would_run(tmp_path: Path, address: str) -> None:
    sources = (
        '[[source]]\nkind="sacct"\nclusters=["alpha"]\nslurm_conf="/none/slurm.conf"\n'
        f'[[source]]\nkind="pyslurm"\nclusters=["alpha"]\npython="{tmp_path}/none"\n'
    )
    check = checks_of(settings(tmp_path, address, source=sources))["pyslurm"]
    assert check.level is Level.FAILED
    assert "cannot be run" in check.told


def test_it_looks_beside_a_running_agent(tmp_path: Path, address: str) -> None:
    path = settings(tmp_path, address)
    with closing(Spool(tmp_path / "spool.db", 16 << 20)):
        checks = checks_of(path)
    assert checks["spool"] == Check("spool", Level.OK, "sound; 0 records wait")
    assert all(check.is_well for check in checks.values())


def test_a_damaged_spool_is_seen(tmp_path: Path, address: str) -> None:
    path = settings(tmp_path, address)
    file = tmp_path / "spool.db"
    Spool(file, 16 << 20).close()
    text = bytearray(file.read_bytes())
    text[4096:8192] = b"\xff" * 4096
    file.write_bytes(text)
    checks = checks_of(path)
    assert checks["spool"].level is Level.FAILED
    assert "spool" in checks["spool"].told


@pytest.mark.parametrize(("ahead_ms", "level"), [
    (0, Level.OK), (-1_500, Level.OK), (60_000, Level.FAILED), (-60_000, Level.FAILED),
])  # fmt: skip
def test_a_clock_that_is_wrong(
    ahead_ms: int, level: Level, tmp_path: Path, address: str, notebook: Notebook
) -> None:
    """The collector's clock is ahead of ours by so much."""
    now_ms = time.time_ns() // 1_000_000
    notebook.welcome = pb.Welcome(
        version=VERSION, window_batches=8, max_batch_records=2000, max_batch_bytes=1 << 20,
        clock_ms=now_ms + ahead_ms,
    )  # fmt: skip
    checks = checks_of(settings(tmp_path, address))
    assert checks["clock"].level is level
    assert checks["versions fit"].level is Level.OK


@pytest.mark.parametrize(("make", "level", "told"), [
    (lambda path: path.write_text(""), Level.OK, "is there"),
    (lambda _: None, Level.WARNING, "systemd-tmpfiles"),
    (lambda path: path.mkdir(), Level.FAILED, "no regular file"),
])  # fmt: skip
def test_the_file_that_an_epilog_touches(
    make: object, level: Level, told: str, tmp_path: Path, address: str
) -> None:
    kick = tmp_path / "kick"
    assert callable(make)
    make(kick)
    path = settings(tmp_path, address)
    path.write_text(path.read_text().replace('file = ""', f'file = "{kick}"'))
    check = checks_of(path)["kick file"]
    assert check.level is level
    assert told in check.told


def openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def authority(folder: Path) -> tuple[Path, Path]:
    key, pem = folder / "ca.key", folder / "ca.pem"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", pem, "-days", 400, "-subj", "/CN=test authority")  # fmt: skip
    return key, pem


def signed(folder: Path, name: str, san: str, days: int) -> tuple[Path, Path]:
    """A key and a certificate of the folder's authority."""
    key, request, pem = (folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", request, "-subj", f"/CN={name}")  # fmt: skip
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName={san}\n")
    openssl("x509", "-req", "-in", request, "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key",
            "-CAcreateserial", "-out", pem, "-days", days, "-extfile", extensions)  # fmt: skip
    key.chmod(0o600)
    return key, pem


@pytest.mark.parametrize(("san", "served_days", "own_days", "expected"), [
    ("IP:127.0.0.1", 90, 90, {"collector's certificate": Level.OK, "own": Level.OK,
                              "collector": Level.OK}),
    ("IP:127.0.0.1", 5, 90, {"collector's certificate": Level.WARNING, "own": Level.OK,
                             "collector": Level.OK}),
    ("IP:127.0.0.1", 90, 5, {"collector's certificate": Level.OK, "own": Level.WARNING,
                             "collector": Level.OK}),
    ("DNS:elsewhere.example", 90, 90, {"collector's certificate": Level.FAILED,
                                       "own": Level.OK, "collector": Level.FAILED}),
])  # fmt: skip
def test_certificates_of_both_sides(
    san: str, served_days: int, own_days: int, expected: dict[str, Level], tmp_path: Path
) -> None:
    authority(tmp_path)
    key, pem = signed(tmp_path, "collector", san, served_days)
    own_key, own_pem = signed(tmp_path, "agent", "DNS:agent", own_days)
    ca = (tmp_path / "ca.pem").read_bytes()
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), pem.read_bytes())], ca, require_client_auth=True
    )
    more = f'ca_file="{tmp_path}/ca.pem"\ncert_file="{own_pem}"\nkey_file="{own_key}"'
    with serving(Notebook(), credentials) as port:
        checks = checks_of(settings(tmp_path, f"127.0.0.1:{port}", more))
    assert checks["collector's certificate"].level is expected["collector's certificate"]
    assert checks[f"certificate {own_pem}"].level is expected["own"]
    assert checks["collector"].level is expected["collector"]
    if expected["collector"] is Level.FAILED:
        assert "a name in its certificate" in checks["collector's certificate"].told


def test_an_authority_that_did_not_sign(tmp_path: Path) -> None:
    authority(tmp_path)
    key, pem = signed(tmp_path, "collector", "IP:127.0.0.1", 90)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), pem.read_bytes())])
    other = tmp_path / "other"
    other.mkdir()
    _, stranger = authority(other)
    with serving(Notebook(), credentials) as port:
        checks = checks_of(settings(tmp_path, f"127.0.0.1:{port}", f'ca_file="{stranger}"'))
    assert checks["collector's certificate"].level is Level.FAILED
    assert str(stranger) in checks["collector's certificate"].told
    assert checks["collector"].level is Level.FAILED
