"""The doctor finds what is wrong before the agent does, and says how to mend it."""

import json
import os
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from jobledger_agent import doctor
from jobledger_proto.v1 import usage_pb2_grpc
from tests.agent.notebook import Notebook

DUMP = Path(__file__).parents[1] / "data" / "slurm-22.05" / "safe-billing.txt"


@pytest.fixture
def address() -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    usage_pb2_grpc.add_LedgerServiceServicer_to_server(Notebook(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def settings(tmp_path: Path, address: str, more: str = "", source: str = "") -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(
        f'[collector]\naddress = "{address}"\n{more}\n'
        f'[spool]\npath = "{tmp_path}/spool.db"\nmax_bytes = 16777216\n'
        + (source or f'[[source]]\nkind = "file"\npath = "{DUMP}"\n')
    )
    return path


def found(path: Path) -> dict[str, tuple[bool, str]]:
    return {check.name: (check.is_well, check.told) for check in doctor.findings(path)}


def test_a_well_agent(tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = settings(tmp_path, address)
    assert doctor.examine(path, as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok    ") for line in lines)
    names = [line[6:].partition(":")[0] for line in lines]
    assert names == ["versions", "settings", "spool directory", "disk reserve", "secrets",
                     "source file", "collector", "clock"]  # fmt: skip
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
    checks = found(
        settings(
            tmp_path,
            address,
            source=f'[[source]]\nkind="sacct"\nclusters=["alpha"]\n'
            f'sacct="{tmp_path}/no-sacct"\nsdiag="{there}"\n',
        )
    )
    assert not checks[f"{tmp_path}/no-sacct"][0]
    assert "install Slurm" in checks[f"{tmp_path}/no-sacct"][1]
    assert checks[str(there)][0]
    assert not checks["source sacct:alpha"][0]
    assert os.sep in checks["source sacct:alpha"][1]
