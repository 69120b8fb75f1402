"""Every call and message of the API, a page for each .proto file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, MethodDescriptorProto

from docsite.definitions import FIELD, METHOD, SERVICE, VALUE, Definition, definitions, omissions
from docsite.markdown import anchor, page, paragraphs, prose, table
from multishadow_server.core.access import Role
from multishadow_server.entrypoints import permissions

__all__ = ["omissions", "pages"]

INTRODUCTION = """\
From the comments of the `.proto` files, one page for each. Where a call needs a [role](../permissions.md), its
section says which. A field of the kind `optional` tells absent from zero; any other that is absent is zero, false or
empty. [Errors](../errors.md) come as gRPC statuses."""
KINDS = {
    value.number: value.name.removeprefix("TYPE_").lower() for value in FieldDescriptorProto.Type.DESCRIPTOR.values
}
OIP_SERVICE = "inference.GRPCInferenceService"


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """Where types are described, as seen from one page.

    Args:
        page: the page.
        places: of every message and enum, by full name: its page and heading.
    """

    page: str
    places: Mapping[str, tuple[str, str]]

    def to(self, full_name: str) -> str:
        """A type's name, as a link where it is ours."""
        name = full_name.removeprefix(".")
        if name not in self.places:
            return name.rpartition(".")[2] if name.startswith("google.protobuf.") else name
        where, heading = self.places[name]
        target = "" if where == self.page else f"{where}.md"
        return f"[{heading}]({target}#{anchor(heading)})"


def pages() -> Iterator[tuple[str, str]]:
    """A page for each file, and one that lists them."""
    places = {
        f"{each.file.package}.{name}": (each.name, name)
        for each in definitions()
        for _, name, _ in (*each.messages(), *each.enums())
    }
    rows = []
    for definition in definitions():
        links = Links(page=definition.name, places=places)
        source = f"proto/{definition.file.name}"
        body = _page(definition, links)
        yield f"api/{definition.name}.md", page(title=definition.name, source=source, parts=body)
        services = [f"[{each.name}]({definition.name}.md#{anchor(each.name)})" for each in definition.file.service]
        rows.append((f"[{definition.name}]({definition.name}.md)", ", ".join(services), _about(definition)))
    contents = table(("file", "services", ""), rows)
    yield "api/README.md", page(title="API", source="proto", parts=[INTRODUCTION, contents])


def _about(definition: Definition) -> str:
    """What the file is, which stands above its package: the first sentence."""
    return prose(definition.comment(2).split(". ")[0].split(".\n")[0]).removesuffix(".") + "."


def _page(definition: Definition, links: Links) -> Iterator[str]:
    yield paragraphs(definition.comment(2))
    yield f"`{definition.file.name}`, package `{definition.file.package}`"
    messages = {name: _message(definition, path, message, links) for path, name, message in definition.messages()}
    for place, service in enumerate(definition.file.service):
        yield f"## {service.name}"
        yield paragraphs(definition.comment(SERVICE, place))
        for number, method in enumerate(service.method):
            yield f"### {method.name}"
            yield _signature(method, _full_name(definition, service.name), links)
            yield paragraphs(definition.comment(SERVICE, place, METHOD, number))
            for name in _own(method):
                yield f"#### {name}"
                yield messages.pop(name)
    if messages:
        yield "## Messages"
    for name, body in messages.items():
        yield f"### {name}"
        yield body
    yield from _enums(definition)


def _own(method: MethodDescriptorProto) -> list[str]:
    """Its request and its response, where they are its own."""
    named = ((method.input_type, "Request"), (method.output_type, "Response"))
    return [method.name + ending for name, ending in named if name.endswith(f".{method.name}{ending}")]


def _full_name(definition: Definition, service: str) -> str:
    # What it is offered as; see the comment in its file.
    return OIP_SERVICE if OIP_SERVICE.endswith(f".{service}") else f"{definition.file.package}.{service}"


def _signature(method: MethodDescriptorProto, service: str, links: Links) -> str:
    sent = f"{'stream of ' if method.client_streaming else ''}{links.to(method.input_type)}"
    answered = f"{'stream of ' if method.server_streaming else ''}{links.to(method.output_type)}"
    role = permissions.of_call(f"/{service}/{method.name}") if service in permissions.CALLS else None
    needed = f" · {role.value}" if isinstance(role, Role) else ""
    return f"{sent} → {answered}{needed}"


def _message(definition: Definition, path: tuple[int, ...], message: DescriptorProto, links: Links) -> str:
    entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    rows = [
        (
            f"`{field.name}`",
            _kind(field, message, entries, links),
            str(field.number),
            prose(definition.comment(*path, FIELD, place)),
        )
        for place, field in enumerate(message.field)
    ]
    fields = table(("field", "kind", "no.", ""), rows) or "No fields."
    return "\n\n".join(part for part in (paragraphs(definition.comment(*path)), fields) if part)


def _kind(
    field: FieldDescriptorProto, message: DescriptorProto, entries: Mapping[str, DescriptorProto], links: Links
) -> str:
    entry = entries.get(field.type_name.rpartition(".")[2])
    if entry is not None:
        key, value = entry.field
        return f"map of {_type(key, links)} to {_type(value, links)}"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {_type(field, links)}"
    if field.proto3_optional:
        return f"optional {_type(field, links)}"
    if field.HasField("oneof_index"):
        return f"{_type(field, links)}, one of *{message.oneof_decl[field.oneof_index].name}*"
    return _type(field, links)


def _type(field: FieldDescriptorProto, links: Links) -> str:
    return links.to(field.type_name) if field.type_name else KINDS[field.type]


def _enums(definition: Definition) -> Iterator[str]:
    found = list(definition.enums())
    if found:
        yield "## Enums"
    for path, name, enum in found:
        yield f"### {name}"
        yield paragraphs(definition.comment(*path))
        yield table(
            ("value", "no.", ""),
            [
                (f"`{value.name}`", str(value.number), prose(definition.comment(*path, VALUE, place)))
                for place, value in enumerate(enum.value)
            ],
        )
