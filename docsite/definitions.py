"""The .proto files with their comments."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grpc_tools
from google.protobuf import descriptor_pb2 as descriptors
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parent.parent / "proto"

# Where comments are kept, by field numbers of descriptor.proto: FileDescriptorProto's, then those of what is below.
PACKAGE, MESSAGE, ENUM, SERVICE = 2, 4, 5, 6
FIELD, NESTED, NESTED_ENUM, VALUE, METHOD = 2, 3, 4, 2, 2

_Path = tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Definition:
    """One .proto file.

    Args:
        file: its descriptor.
        comments: by the path of what they stand at, see descriptor.proto's SourceCodeInfo.
    """

    file: descriptors.FileDescriptorProto
    comments: Mapping[_Path, str]

    @property
    def name(self) -> str:
        """Of its page: `control`, and `oip-inference` for what is of another package."""
        package, _, name = self.file.name.removeprefix("multishadow/").removesuffix(".proto").rpartition("/")
        return name if package == "v1" else f"{package.split('/')[0]}-{name}"

    def comment(self, *path: int) -> str:
        """What stands above it, without a linter's directives; empty when nothing does."""
        lines = self.comments.get(path, "").splitlines()
        return "\n".join(line for line in lines if not line.strip().startswith("buf:lint:")).strip()

    def messages(self) -> Iterator[tuple[_Path, str, descriptors.DescriptorProto]]:
        """Every message with its path and its name, each before those inside of it."""
        for place, message in enumerate(self.file.message_type):
            yield from _messages((MESSAGE, place), message.name, message)

    def enums(self) -> Iterator[tuple[_Path, str, descriptors.EnumDescriptorProto]]:
        """Every enum with its path and its name."""
        yield from (((ENUM, place), enum.name, enum) for place, enum in enumerate(self.file.enum_type))
        for path, name, message in self.messages():
            for place, enum in enumerate(message.enum_type):
                yield (*path, NESTED_ENUM, place), f"{name}.{enum.name}", enum

    def calls(self) -> Mapping[str, descriptors.MethodDescriptorProto]:
        """By message: the one call that it is the request or the response of, which then says what it is."""
        return {
            name.rpartition(".")[2]: method
            for service in self.file.service
            for method in service.method
            for name, ending in ((method.input_type, "Request"), (method.output_type, "Response"))
            if name.endswith(f".{method.name}{ending}")
        }


@cache
def definitions(root: Path = PROTO) -> Sequence[Definition]:
    """Every .proto file below a folder, by name, our own API's first.

    Raises:
        RuntimeError: protoc refused; its message is on standard error.
    """
    sources = sorted(str(path) for path in root.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "descriptors"
        status = protoc.main(
            [
                "protoc",
                f"-I{root}",
                f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
                "--include_source_info",
                f"--descriptor_set_out={written}",
                *sources,
            ]
        )
        if status != 0:
            raise RuntimeError(f"protoc failed with status {status}; its message is above")
        files = descriptors.FileDescriptorSet.FromString(written.read_bytes()).file
    return [
        Definition(
            file=file,
            comments={
                tuple(each.path): each.leading_comments + each.trailing_comments
                for each in file.source_code_info.location
            },
        )
        for file in sorted(files, key=lambda file: (not file.name.startswith("multishadow/v1/"), file.name))
    ]


def omissions(root: Path = PROTO) -> Iterator[str]:
    """Services, calls, messages, fields, enums and values without a comment.

    The request and the response of one call need none: the call says what they are. Their fields do.
    """
    for definition in definitions(root):
        calls = definition.calls()
        for path, name in _commentable(definition):
            if name not in calls and not definition.comment(*path):
                yield f"proto/{definition.file.name}: {name} has no comment"


def _commentable(definition: Definition) -> Iterator[tuple[_Path, str]]:
    for place, service in enumerate(definition.file.service):
        yield (SERVICE, place), service.name
        yield from (
            ((SERVICE, place, METHOD, number), f"{service.name}.{method.name}")
            for number, method in enumerate(service.method)
        )
    for path, name, message in definition.messages():
        yield path, name
        yield from (((*path, FIELD, number), f"{name}.{field.name}") for number, field in enumerate(message.field))
    for path, name, enum in definition.enums():
        yield path, name
        yield from (((*path, VALUE, number), f"{name}.{value.name}") for number, value in enumerate(enum.value))


def _messages(
    path: _Path, name: str, message: descriptors.DescriptorProto
) -> Iterator[tuple[_Path, str, descriptors.DescriptorProto]]:
    yield path, name, message
    for place, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from _messages((*path, NESTED, place), f"{name}.{nested.name}", nested)
