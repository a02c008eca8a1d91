"""The packages, built once for all tests of this folder."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.package import debian, redhat, tarball
from scripts.package.plan import REPOSITORY, Plan, plan
from tests.packaging import machine
from tests.packaging.machine import Machine


@pytest.fixture(scope="session")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """One state of the source: two builds of it are minutes apart."""
    source = tmp_path_factory.mktemp("source")
    for folder in ("agent", "proto", "packaging", "systemd", "docs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / folder, source / folder, ignore=ignored)
    for name in ("CHANGELOG.md", "LICENSE"):
        shutil.copyfile(REPOSITORY / name, source / name)
    return plan(tmp_path_factory.mktemp("dist"), "3.11")._replace(source=source)


@pytest.fixture(scope="session")
def deb(chosen: Plan) -> Path:
    return debian.build(chosen)


@pytest.fixture(scope="session")
def rpm(chosen: Plan) -> Path:
    return redhat.build(chosen)


@pytest.fixture(scope="session")
def archive(chosen: Plan) -> Path:
    return tarball.build(chosen)


@pytest.fixture(scope="module")
def a_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Machine]]:
    """Makes machines, and ends them."""
    reason = machine.why_not()
    if reason:
        pytest.skip(reason)
    made: list[Machine] = []

    def make(*binds: Path) -> Machine:
        made.append(Machine(tmp_path_factory.mktemp("machine"), binds))
        return made[-1]

    yield make
    for each in made:
        each.halt()
