"""The agent as it lies on a system, in one folder that each kind of package starts from.

Private libraries under /usr/lib/jobledger-agent: nothing that the system's other
programs import changes, and nothing of theirs changes the agent.
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Final

from scripts.package import completion, pages, sbom
from scripts.package.plan import NAME, PRIVATE, BuildError, Plan

LOCK: Final = "packaging/agent.lock"
EXAMPLE: Final = "packaging/agent.example.toml"
PLATFORMS: Final = ("manylinux2014_x86_64", "manylinux_2_17_x86_64")
"""glibc 2.17 or newer: every system whose Python is new enough has it."""
OURS: Final = ("agent/jobledger_agent", "proto/jobledger_proto")
UNITS: Final = (f"{NAME}.service", f"{NAME}-once.service", f"{NAME}-once.timer")
USERS_AND_FOLDERS: Final = (f"{NAME}.sysusers", f"{NAME}.tmpfiles", f"{NAME}-kick.tmpfiles")
DROP_INS: Final = ("agent-network.conf", "agent-credentials.conf")
USELESS: Final = ("*.pyi", "*.c", "*.cc", "*.h", "*.pyx", "*.pxd", "*.proto", "py.typed")
NEVER_RUN: Final = ("bin", "include", "google/protobuf/testdata", "prometheus_client/twisted")
"""What the libraries bring that the agent has no use for."""
OF_THE_INSTALLER: Final = ("INSTALLER", "RECORD", "REQUESTED", "WHEEL", "direct_url.json")
PROGRAMS_OF_PIP: Final = "/opt/jobledger/bin/"
"""Where the units look for an installation by pip; packages install to /usr/bin."""
_FOLDER_MODE: Final = 0o755
_FILE_MODE: Final = 0o644


def build(plan: Plan) -> Path:
    """Assemble the tree at OUT/tree, empty before, and return it. Raises BuildError."""
    root = plan.out / "tree"
    shutil.rmtree(root, ignore_errors=True)
    libraries = root / PRIVATE / "site-packages"
    libraries.mkdir(parents=True)
    _install_libraries(plan, libraries)
    document = root / "usr/share/doc" / NAME
    (document / "third-party").mkdir(parents=True)
    _write(document / "sbom.cdx.json", sbom.describe(plan, plan.source / LOCK, libraries))
    _move_licences(libraries, document / "third-party")
    _remove_the_useless(libraries)
    _install_ours(plan, libraries)
    _install_system_files(plan, root, document)
    _write(root / f"usr/share/bash-completion/completions/{NAME}", completion.script())
    for page in pages.write(plan, root / "usr/share/man"):
        page.chmod(_FILE_MODE)
    _strip(plan, libraries)
    _settle_modes(root)
    return root


def launcher(interpreter: str, libraries: str, python: str) -> str:
    """The program: our libraries and Python's own, no others, nothing written (-ISB)."""
    major, minor = python.split(".")
    shebang = f"#!{interpreter} -ISB\n" if interpreter else ""
    return f"""{shebang}\"\"\"The agent with its own libraries; see jobledger-agent(1).\"\"\"

import sys

if sys.version_info[:2] != ({major}, {minor}):
    sys.exit("{NAME}: this package is made for Python {python}; install the one for yours")
sys.path.insert(0, {libraries})

from jobledger_agent.cli import main  # noqa: E402

sys.exit(main())
"""


def compile_libraries(plan: Plan, libraries: Path, prefix: str) -> None:
    """Compile once, here: the agent's user cannot write what Python would leave at a start.

    The compiled files are never compared with the source's time, which packages change.
    """
    interpreter = shutil.which(f"python{plan.python}", path="/usr/bin:/usr/local/bin")
    if interpreter is None:
        raise BuildError(f"python{plan.python} is not installed: it must compile what it will run")
    plan.run(
        interpreter, "-ISB", "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash",
        "-s", libraries, "-p", prefix, libraries,
    )  # fmt: skip


def _install_libraries(plan: Plan, libraries: Path) -> None:
    platforms = [option for name in PLATFORMS for option in ("--platform", name)]
    abis = [option for name in (plan.abi, "abi3", "none") for option in ("--abi", name)]
    plan.run(
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--require-hashes", "--only-binary=:all:", "--no-compile",
        "--python-version", plan.python, "--implementation", "cp", *platforms, *abis,
        "--target", libraries, "--requirement", plan.source / LOCK,
    )  # fmt: skip


def _install_ours(plan: Plan, libraries: Path) -> None:
    for folder in OURS:
        source = plan.source / folder
        for path in sorted(source.rglob("*.py")):
            target = libraries / source.name / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    _write(
        libraries / f"jobledger-{plan.version}.dist-info/METADATA",
        f"Metadata-Version: 2.4\nName: jobledger\nVersion: {plan.version}\n"
        "License-Expression: Apache-2.0\n",
    )


def _install_system_files(plan: Plan, root: Path, document: Path) -> None:
    units = root / "usr/lib/systemd/system"
    for name in UNITS:
        text = (plan.source / "systemd" / name).read_text()
        _write(units / name, text.replace(PROGRAMS_OF_PIP, "/usr/bin/"))
    _write(
        root / f"usr/lib/systemd/system-preset/50-{NAME}.preset",
        f"# Enrolled first, enabled then, by a person.\ndisable {NAME}.service\n"
        f"disable {NAME}-once.timer\n",
    )
    for name in USERS_AND_FOLDERS:
        base, _, kind = name.rpartition(".")
        text = (plan.source / "systemd" / name).read_text()
        _write(root / f"usr/lib/{kind}.d/{base}.conf", text)
    _write(root / "etc/jobledger/agent.toml", (plan.source / EXAMPLE).read_text())
    examples = document / "examples"
    _write(examples / "agent.toml", (plan.source / EXAMPLE).read_text())
    for name in DROP_INS:
        _write(examples / name, (plan.source / "systemd/drop-ins" / name).read_text())
    for script in sorted((plan.source / "packaging/epilog").glob("*")):
        _write(root / PRIVATE / script.name, script.read_text())


def _move_licences(libraries: Path, target: Path) -> None:
    """What the licences ask for, where people look for it."""
    for info in sorted(libraries.glob("*.dist-info")):
        name = info.name.removesuffix(".dist-info").rpartition("-")[0]
        for path in sorted(info.rglob("*")):
            if path.is_file() and re.match(r"LICEN[CS]E|NOTICE|COPYING", path.name):
                destination = target / f"{name}-{path.name.removesuffix('.txt')}.txt"
                shutil.move(path, destination)
        shutil.rmtree(info / "licenses", ignore_errors=True)


def _remove_the_useless(libraries: Path) -> None:
    for name in NEVER_RUN:
        shutil.rmtree(libraries / name, ignore_errors=True)
    for pattern in USELESS:
        for path in libraries.rglob(pattern):
            path.unlink()
    for info in libraries.glob("*.dist-info"):
        for name in (*OF_THE_INSTALLER, "top_level.txt"):
            (info / name).unlink(missing_ok=True)
    for path in libraries.rglob("*.py"):
        text = path.read_bytes()
        if text.startswith(b"#!"):  # modules that nobody can start
            path.write_bytes(b"\n" + text.partition(b"\n")[2])


def _strip(plan: Plan, libraries: Path) -> None:
    for path in sorted(libraries.rglob("*.so*")):
        plan.run("strip", "--strip-unneeded", path)


def _settle_modes(root: Path) -> None:
    programs = root / PRIVATE
    for path in root.rglob("*"):
        executable = path.is_dir() or (path.parent == programs and path.is_file())
        path.chmod(_FOLDER_MODE if executable else _FILE_MODE)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
