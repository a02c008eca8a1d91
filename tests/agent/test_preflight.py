"""What the doctor says of Slurm's settings: captured texts of two versions, then broken ones."""

import re
from pathlib import Path

import pytest

from jobledger_agent.operating import preflight, preflight_slurm
from jobledger_agent.operating.preflight import Check, Level
from jobledger_agent.operating.preflight_slurm import Reader, Wanted

DATA = Path(__file__).parents[1] / "data"
VERSIONS = ("slurm-22.05", "slurm-25.11")
WANTED = Wanted(("alpha",), sweep_days=35, dbd_queue_max=1_000, kick_file="/run/kick")
NOBODY = Reader("jobledger", "", is_root=False)


def controller_text(version: str = VERSIONS[0]) -> str:
    return (DATA / version / "scontrol-config.txt").read_text()


def slurmdbd_text(version: str = VERSIONS[0]) -> str:
    return (DATA / version / "sacctmgr-config.txt").read_text()


def with_setting(text: str, key: str, value: str) -> str:
    changed, count = re.subn(rf"(?m)^({key} *= ).*$", rf"\g<1>{value}", text)
    assert count, f"{key} is not in the captured text"
    return changed


def of_controller(text: str, wanted: Wanted = WANTED) -> dict[str, Check]:
    config = preflight_slurm.settings(text)
    return {each.name: each for each in preflight_slurm.controller_checks(config, wanted)}


def of_slurmdbd(text: str, reader: Reader = NOBODY, wanted: Wanted = WANTED) -> dict[str, Check]:
    _, config = preflight_slurm.slurmdbd_part(text)
    return {each.name: each for each in preflight_slurm.slurmdbd_checks(config, reader, wanted)}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_captured_slurm_is_well(version: str) -> None:
    found = of_controller(controller_text(version)) | of_slurmdbd(slurmdbd_text(version))
    assert {each.level for each in found.values()} == {Level.OK}
    assert found["Slurm's version"].told == found["slurmdbd's version"].told
    assert found["Slurm's version"].told.startswith(version.removeprefix("slurm-"))


@pytest.mark.parametrize(("key", "value", "check", "level", "told"), [
    ("SLURM_VERSION", "20.02.7", "Slurm's version", Level.FAILED, "20.11 or newer"),
    ("SLURM_VERSION", "20.11.9", "Slurm's version", Level.OK, "20.11.9"),
    ("SLURM_VERSION", "26.05.0-0pre1", "Slurm's version", Level.OK, "26.05"),
    ("SLURM_VERSION", "", "Slurm's version", Level.UNCHECKED, "not understood"),
    ("AccountingStorageType", "accounting_storage/none", "AccountingStorageType", Level.FAILED,
     "AccountingStorageType=accounting_storage/slurmdbd"),
    ("AccountingStorageType", "(null)", "AccountingStorageType", Level.FAILED, "no job is"),
    ("AccountingStorageEnforce", "associations,nojobs,nosteps", "AccountingStorageEnforce",
     Level.FAILED, "Remove nojobs"),
    ("AccountingStorageEnforce", "limits,nosteps", "AccountingStorageEnforce", Level.WARNING,
     "Remove nosteps"),
    ("AccountingStorageEnforce", "none", "AccountingStorageEnforce", Level.OK, "none"),
    ("JobAcctGatherType", "jobacct_gather/none", "JobAcctGatherType", Level.WARNING,
     "JobAcctGatherType=jobacct_gather/cgroup"),
    ("JobAcctGatherType", "(null)", "JobAcctGatherType", Level.WARNING, "nothing is gathered"),
    ("AccountingStorageTRES", "cpu,mem,energy,node,billing", "AccountingStorageTRES",
     Level.FAILED, "add gres/gpu to AccountingStorageTRES"),
    ("AccountingStorageTRES", "cpu,mem,gres/gpu", "AccountingStorageTRES", Level.OK,
     "needs gres/gpu:TYPE"),
    ("GresTypes", "gpu,shard", "AccountingStorageTRES", Level.WARNING, "add gres/shard"),
    ("GresTypes", "(null)", "AccountingStorageTRES", Level.OK, "cpu"),
    ("EpilogSlurmctld", "/usr/libexec/jobledger/kick", "EpilogSlurmctld", Level.OK, "/usr/libexec"),
])  # fmt: skip
def test_what_slurmctld_is_set_to(
    key: str, value: str, check: str, level: Level, told: str
) -> None:
    found = of_controller(with_setting(controller_text(), key, value))[check]
    assert found.level is level
    assert told in found.told


def reader(level: str, *, is_root: bool = False) -> Reader:
    return Reader("jobledger", level, is_root=is_root)


@pytest.mark.parametrize(("private", "who", "level", "told"), [
    ("none", reader("None"), Level.OK, "hides no jobs"),
    ("none", reader("Operator"), Level.OK, "need not be"),
    ("none", reader("", is_root=True), Level.OK, "hides no jobs"),
    ("users,usage", reader("None"), Level.OK, "hides no jobs"),
    ("jobs", reader("None"), Level.FAILED,
     "`sacctmgr modify user where name=jobledger set adminlevel=Operator`"),
    ("usage,jobs", reader(""), Level.FAILED,
     "`sacctmgr add user jobledger account=root adminlevel=Operator`"),
    ("jobs", reader("Operator"), Level.OK, "is Operator"),
    ("jobs", reader("Administrator"), Level.OK, "is Administrator"),
    ("jobs", reader("", is_root=True), Level.OK, "root or SlurmUser"),
])  # fmt: skip
def test_who_may_see_all_jobs(private: str, who: Reader, level: Level, told: str) -> None:
    text = slurmdbd_text()
    client, theirs = text.split("SlurmDBD configuration:")
    # slurmctld's PrivateData is another thing and must not be mistaken for this.
    changed = f"{client}SlurmDBD configuration:{with_setting(theirs, 'PrivateData', private)}"
    found = of_slurmdbd(changed, who)["permission to see all jobs"]
    assert found.level is level
    assert told in found.told


@pytest.mark.parametrize(("key", "value", "check", "level", "told"), [
    ("MaxQueryTimeRange", "UNLIMITED", "MaxQueryTimeRange", Level.OK, "UNLIMITED"),
    ("MaxQueryTimeRange", "1-00:00:00", "MaxQueryTimeRange", Level.OK, "1-00:00:00"),
    ("MaxQueryTimeRange", "01:00:00", "MaxQueryTimeRange", Level.WARNING, "24 questions"),
    ("MaxQueryTimeRange", "soon", "MaxQueryTimeRange", Level.UNCHECKED, "not understood"),
    ("PurgeJobAfter", "NONE", "PurgeJobAfter", Level.OK, "never"),
    ("PurgeJobAfter", "40 days", "PurgeJobAfter", Level.OK, "40 days"),
    ("PurgeJobAfter", "35 days", "PurgeJobAfter", Level.WARNING, "sweep_days is 35"),
    ("PurgeJobAfter", "1 month*", "PurgeJobAfter", Level.WARNING, "1 month"),
    ("PurgeJobAfter", "12 months", "PurgeJobAfter", Level.OK, "12 months"),
    ("PurgeJobAfter", "720 hours", "PurgeJobAfter", Level.WARNING, "720 hours"),
    ("CommitDelay", "Yes", "CommitDelay", Level.OK, "waits"),
    ("CommitDelay", "3", "CommitDelay", Level.OK, "3"),
    ("CommitDelay", "No", "CommitDelay", Level.OK, "none"),
    ("SLURMDBD_VERSION", "19.05.1", "slurmdbd's version", Level.FAILED, "too old"),
])  # fmt: skip
def test_what_slurmdbd_is_set_to(key: str, value: str, check: str, level: Level, told: str) -> None:
    found = of_slurmdbd(with_setting(slurmdbd_text(), key, value))[check]
    assert found.level is level
    assert told in found.told


def test_an_operator_may_ask_for_any_span() -> None:
    text = with_setting(slurmdbd_text(), "MaxQueryTimeRange", "01:00:00")
    assert of_slurmdbd(text, reader("Operator"))["MaxQueryTimeRange"].level is Level.OK


def test_no_kick_wanted_no_epilog_missed() -> None:
    found = of_controller(controller_text(), WANTED._replace(kick_file=""))["EpilogSlurmctld"]
    assert found == Check("EpilogSlurmctld", Level.OK, "no kick is wanted (kick.file is empty)")


def test_a_client_without_slurmdbds_part_is_told_apart() -> None:
    """Sacctmgr prints its own half and exits 0 when slurmdbd does not answer."""
    own, _, _ = slurmdbd_text().partition("SlurmDBD configuration:")
    client, theirs = preflight_slurm.slurmdbd_part(own)
    assert client["accountingstoragetype"] == "accounting_storage/slurmdbd"
    assert theirs == {}


@pytest.mark.parametrize(("registered", "level", "told"), [
    ({"alpha", "beta"}, Level.OK, "slurmdbd knows alpha"),
    ({"beta"}, Level.FAILED, "no cluster alpha, only beta"),
    (set(), Level.FAILED, "only none"),
])  # fmt: skip
def test_clusters_that_slurmdbd_does_not_know(
    registered: set[str], level: Level, told: str
) -> None:
    found = preflight.clusters_check(("alpha",), frozenset(registered))
    assert (found.level, told in found.told) == (level, True)


@pytest.mark.parametrize(("queue", "level"), [
    (-1, Level.WARNING), (0, Level.OK), (1_000, Level.OK), (1_001, Level.FAILED),
])  # fmt: skip
def test_messages_that_slurmctld_holds(queue: int, level: Level) -> None:
    assert preflight.queue_check("alpha", queue, 1_000).level is level


@pytest.mark.parametrize(("running", "opened", "level"), [
    (0, 0, Level.OK), (5, 5, Level.OK), (5, 1, Level.OK), (-1, 0, Level.OK), (0, 3, Level.OK),
    (1, 0, Level.WARNING), (5, 0, Level.WARNING), (6, 0, Level.FAILED),
])  # fmt: skip
def test_jobs_that_run_and_that_accounting_does_not_show(
    running: int, opened: int, level: Level
) -> None:
    assert preflight.open_set_check("alpha", running, opened).level is level


@pytest.mark.parametrize(("agent", "collector", "level"), [
    ("0.1.0", "0.1.7", Level.OK), ("0.2.0", "0.1.0", Level.OK), ("0.1.0", "0.2.0", Level.OK),
    ("0.3.0", "0.1.0", Level.WARNING), ("1.0.0", "0.9.0", Level.WARNING),
    ("0.1.0", "", Level.UNCHECKED),
])  # fmt: skip
def test_versions_that_fit(agent: str, collector: str, level: Level) -> None:
    assert preflight.versions_check(agent, collector).level is level


@pytest.mark.parametrize(("skew_ms", "level", "told"), [
    (0, Level.OK, "0.0 s ahead"), (2_000, Level.OK, "2.0 s ahead"),
    (-2_000, Level.OK, "2.0 s behind"), (2_001, Level.FAILED, "timedatectl"),
    (-90_000, Level.FAILED, "90.0 s behind"),
])  # fmt: skip
def test_clocks_that_differ(skew_ms: int, level: Level, told: str) -> None:
    found = preflight.skew_check(skew_ms)
    assert (found.level, told in found.told) == (level, True)


@pytest.mark.parametrize(("left_s", "level"), [
    (-1, Level.FAILED), (0, Level.FAILED), (86_400, Level.WARNING),
    (14 * 86_400 - 1, Level.WARNING), (14 * 86_400, Level.OK),
])  # fmt: skip
def test_certificates_that_end(left_s: int, level: Level) -> None:
    assert preflight.expiry_check("c", "agent.pem", 1_000 + left_s, 1_000).level is level


@pytest.mark.parametrize(("conf", "client", "expected"), [
    ("", {}, preflight.MUNGE_SOCKET_DEFAULT),
    ("AuthInfo=socket=/a", {}, "/a"),
    ("AuthInfo=socket=/a\nAccountingStoragePass=socket=/b", {}, "/b"),
    (" accountingstoragepass = /b \n", {}, "/b"),
    ("#AuthInfo=socket=/a", {}, preflight.MUNGE_SOCKET_DEFAULT),
    ("AuthInfo=cred_expire=30,socket=/a", {}, "/a"),
    ("AuthInfo=socket=/a", {"accountingstoragepass": "socket=/told"}, "/told"),
    ("AuthInfo=socket=/a", {"accountingstoragepass": "(null)"}, "/a"),
])  # fmt: skip
def test_which_munge_the_clients_of_slurmdbd_use(
    conf: str, client: dict[str, str], expected: str
) -> None:
    assert preflight.munge_socket(conf, client) == expected


def test_every_failure_and_warning_says_what_to_do() -> None:
    """Whatever is wrong: a sentence with something to do in it, in the imperative."""
    texts = {
        "AccountingStorageType": "x", "AccountingStorageEnforce": "nojobs",
        "JobAcctGatherType": "(null)", "AccountingStorageTRES": "cpu", "SLURM_VERSION": "19.05",
    }  # fmt: skip
    text = controller_text()
    for key, value in texts.items():
        text = with_setting(text, key, value)
    wrong = [each for each in of_controller(text).values() if each.level is not Level.OK]
    assert len(wrong) == len(texts)
    wrong.append(preflight.skew_check(9_999))
    wrong.append(preflight.queue_check("a", -1, 1))
    wrong.append(preflight.queue_check("a", 2, 1))
    to_do = re.compile(r"\b([Ss]et|[Rr]emove|add|mend|install|look after|is needed|put|make)\b")
    for each in wrong:
        assert to_do.search(each.told), each
