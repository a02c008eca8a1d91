"""The contract between agents and collectors.

Its Python is what protoc makes of it, every part of it is explained, and nothing
that was once released is taken back.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

REPOSITORY = Path(__file__).parents[2]
PROTO = REPOSITORY / "proto"
SOURCE = "jobledger_proto/v1/usage.proto"
RELEASED = Path(__file__).parent / "released" / "v1.binpb"
GENERATED = ("usage_pb2.py", "usage_pb2.pyi", "usage_pb2_grpc.py")


def protoc(*arguments: str) -> None:
    """Run the pinned protoc on the contract."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", *arguments, SOURCE]
    subprocess.run(command, check=True, cwd=PROTO)


def parsed(path: Path) -> FileDescriptorSet:
    return FileDescriptorSet.FromString(path.read_bytes())


@pytest.fixture(scope="module")
def current(tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorProto:
    """The contract as it is now, with its comments."""
    out = tmp_path_factory.mktemp("descriptor") / "now.binpb"
    protoc("--include_source_info", f"--descriptor_set_out={out}")
    return parsed(out).file[0]


@pytest.fixture(scope="module")
def released() -> FileDescriptorProto:
    """The contract as it was first released."""
    return parsed(RELEASED).file[0]


# ------------------------------------------------------------- generated code


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("generated")
    protoc(f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}")
    return out / "jobledger_proto" / "v1"


@pytest.mark.parametrize("name", GENERATED)
def test_committed_code_is_what_protoc_generates(generated: Path, name: str) -> None:
    committed = PROTO / "jobledger_proto" / "v1" / name
    assert committed.read_bytes() == (generated / name).read_bytes(), "run: make proto"


def test_dependencies_are_as_new_as_the_generated_code() -> None:
    folder = PROTO / "jobledger_proto" / "v1"
    generated_by = {
        "grpcio": re.search(
            r"GRPC_GENERATED_VERSION = '([\d.]+)'", (folder / "usage_pb2_grpc.py").read_text()
        ),
        "protobuf": re.search(
            r"Protobuf Python Version: ([\d.]+)", (folder / "usage_pb2.py").read_text()
        ),
    }
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for name, version in generated_by.items():
        assert version is not None
        assert f"{name}>={version.group(1)}" in project["dependencies"]


# ------------------------------------------------------------------- comments


def uncommented(file: FileDescriptorProto) -> list[str]:
    """Everything in the contract that has no comment above it."""
    explained = {
        tuple(place.path)
        for place in file.source_code_info.location
        if place.leading_comments.strip()
    }
    return [name for path, name in elements(file) if path not in explained]


def elements(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """(path in the descriptor, dotted name) of each element that a person reads.

    The path's numbers are those of FileDescriptorProto's own fields: 4 messages,
    5 enums, 6 services; then 2 for fields, values and methods, 8 for oneofs.
    """
    for i, message in enumerate(file.message_type):
        yield (4, i), message.name
        for j, field in enumerate(message.field):
            yield (4, i, 2, j), f"{message.name}.{field.name}"
        for j, oneof in enumerate(message.oneof_decl):
            yield (4, i, 8, j), f"{message.name}.{oneof.name}"
    for i, enum in enumerate(file.enum_type):
        yield (5, i), enum.name
        for j, value in enumerate(enum.value):
            yield (5, i, 2, j), value.name
    for i, service in enumerate(file.service):
        yield (6, i), service.name
        for j, method in enumerate(service.method):
            yield (6, i, 2, j), f"{service.name}.{method.name}"


def test_everything_in_the_contract_is_explained(current: FileDescriptorProto) -> None:
    assert uncommented(current) == []


def test_a_missing_comment_is_seen(current: FileDescriptorProto) -> None:
    bare = FileDescriptorProto.FromString(current.SerializeToString())
    for place in bare.source_code_info.location:
        if tuple(place.path) == (4, 0):
            place.ClearField("leading_comments")
    assert uncommented(bare) == [current.message_type[0].name]


# ----------------------------------------------------------- breaking changes


def facts(file: FileDescriptorProto) -> set[str]:
    """What an older program relies on, one sentence a fact."""
    stated = {f"package is {file.package}"}
    for message in file.message_type:
        stated.add(f"message {message.name}")
        stated |= {field_fact(message, field) for field in message.field}
    for enum in file.enum_type:
        stated |= {f"{enum.name} {value.name} = {value.number}" for value in enum.value}
    for service in file.service:
        for method in service.method:
            stated.add(
                f"{service.name}.{method.name}({method.input_type} {method.client_streaming})"
                f" -> {method.output_type} {method.server_streaming}"
            )
    return stated


def field_fact(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else "-"
    return (
        f"{message.name}.{field.name} = {field.number} label {field.label}"
        f" type {field.type} {field.type_name} in {oneof}"
    )


def test_nothing_released_is_taken_back(
    released: FileDescriptorProto, current: FileDescriptorProto
) -> None:
    assert facts(released) - facts(current) == set()


def renumber(file: FileDescriptorProto) -> None:
    file.message_type[0].field[0].number = 99


def retype(file: FileDescriptorProto) -> None:
    file.message_type[0].field[0].type = FieldDescriptorProto.TYPE_STRING


def rename(file: FileDescriptorProto) -> None:
    file.message_type[0].field[0].name = "renamed"


def remove_field(file: FileDescriptorProto) -> None:
    del file.message_type[0].field[0]


def remove_message(file: FileDescriptorProto) -> None:
    del file.message_type[-1]


def single(file: FileDescriptorProto) -> None:
    columns = next(message for message in file.message_type if message.name == "JobColumns")
    columns.field[-1].label = FieldDescriptorProto.LABEL_OPTIONAL


def reorder_enum(file: FileDescriptorProto) -> None:
    file.enum_type[0].value[1].number = 7


def stop_streaming(file: FileDescriptorProto) -> None:
    file.service[0].method[0].client_streaming = False


def leave_oneof(file: FileDescriptorProto) -> None:
    file.message_type[0].field[0].ClearField("oneof_index")


@pytest.mark.parametrize(
    "break_it",
    [
        renumber,
        retype,
        rename,
        remove_field,
        remove_message,
        single,
        reorder_enum,
        stop_streaming,
        leave_oneof,
    ],
)
def test_a_breaking_change_is_seen(
    released: FileDescriptorProto, break_it: Callable[[FileDescriptorProto], None]
) -> None:
    broken = FileDescriptorProto.FromString(released.SerializeToString())
    break_it(broken)
    assert facts(released) - facts(broken)


def test_an_addition_breaks_nothing(released: FileDescriptorProto) -> None:
    wider = FileDescriptorProto.FromString(released.SerializeToString())
    wider.message_type[0].field.add(
        name="more",
        number=100,
        type=FieldDescriptorProto.TYPE_STRING,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
    )
    assert facts(released) - facts(wider) == set()
