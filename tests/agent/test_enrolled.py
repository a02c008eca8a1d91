"""After an enrolment a person is told what no program can know, and nothing else."""

from pathlib import Path

import pytest

from jobledger_agent.operating.enrolled import left_to_do
from jobledger_agent.operating.enrolment_code import Code


def code(address: str) -> Code:
    return Code("a", ("alpha", "beta"), address, tls=False, token="", ca="", certificate="", key="")


SOURCE = '[[source]]\nkind = "sacct"\nclusters = [{}]\n'


@pytest.mark.parametrize(
    ("address", "clusters", "has_drop_in", "expected"),
    [
        ("127.0.0.1:7610", '"alpha"', False, []),
        ("127.0.0.1:7610", '"gamma", "alpha"', False, ["name gamma, for which"]),
        ("db.example.org:7610", '"beta"', False, ["addresses of db.example.org"]),
        ("db.example.org:7610", '"beta"', True, []),
        ("192.0.2.1:7610", '"x"', False, ["name x, for which", "addresses of 192.0.2.1"]),
    ],
)
def test_what_is_left_is_told(
    tmp_path: Path, address: str, clusters: str, has_drop_in: bool, expected: list[str]
) -> None:
    settings, drop_in = tmp_path / "agent.toml", tmp_path / "network.conf"
    settings.write_text(SOURCE.format(clusters))
    if has_drop_in:
        drop_in.touch()
    told = list(left_to_do(code(address), settings, drop_in))
    assert len(told) == len(expected)
    assert all(part in sentence for part, sentence in zip(expected, told, strict=True))


@pytest.mark.parametrize("text", ["not = [toml", "[[source]]\nkind = 'file'\n", "source = [1]\n"])
def test_settings_of_any_shape_stop_nothing(tmp_path: Path, text: str) -> None:
    settings = tmp_path / "agent.toml"
    settings.write_text(text)
    assert list(left_to_do(code("[::1]:7610"), settings, tmp_path / "none")) == []
