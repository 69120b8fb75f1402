"""Which role each call and path of control needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from docsite.markdown import page, prose, table
from multishadow_server.core.access import Role
from multishadow_server.entrypoints import permissions

SOURCE = "server/multishadow_server/entrypoints/permissions.py"
ROLES: Mapping[permissions.Need, str] = {
    permissions.OPEN: "needs no token, whatever is set",
    permissions.FLAGS: "reads flags, as applications do; `viewer`, unless `MULTISHADOW_FLAGS_AUTH` is `open`",
    Role.VIEWER: "reads, payloads of kept requests among it",
    Role.OPERATOR: "changes what control is for: flags, experiments, promotions, labels, reviews",
    Role.ADMIN: "decides where requests go, what is kept of them, and who may do what",
}
INTRODUCTION = """\
What holds with `MULTISHADOW_AUTH=tokens`; [security](../security.md) says how to get there. Each role may do what those
before it may. What is not listed needs `admin`."""
PAGE = "On the web page, what changes something takes an operator, wherever reading takes a viewer."


def omissions() -> Iterator[str]:
    """Needs that are not explained."""
    for listed in permissions.CALLS.values():
        for need in listed.values() if isinstance(listed, Mapping) else (listed,):
            if need not in ROLES:
                yield f"docsite.permissions.ROLES does not explain {need}"


def pages() -> Iterator[tuple[str, str]]:
    """The one page of permissions."""
    calls = [
        (f"`{service.removeprefix('multishadow.v1.')}`", f"`{name}`", need.value)
        for service, listed in permissions.CALLS.items()
        for name, need in (listed.items() if isinstance(listed, Mapping) else [("every call", listed)])
    ]
    paths = [(f"`{path or '/'}`", need.value) for path, need in sorted(permissions.PATHS.items())]
    body = [
        INTRODUCTION,
        table(("role", ""), [(f"`{need.value}`", prose(said)) for need, said in ROLES.items()]),
        "## Calls",
        table(("service", "call", "needs"), calls),
        "## Paths",
        "Over HTTP, by the longest beginning that fits.",
        table(("path", "needs"), paths),
        PAGE,
    ]
    yield "permissions.md", page(title="Permissions", source=SOURCE, parts=body)
