"""The demonstration's models by name. Each is imported when it is asked for: a version server needs one, and soon."""

from __future__ import annotations

from collections.abc import Iterator

from multishadow_server.demo.model import DemoModel
from multishadow_server.errors import NotFound

NAMES = ("digits", "summary")


def model_named(name: str) -> DemoModel:
    """The model of that name. Raises NotFound, naming those there are."""
    if name == "digits":
        from multishadow_server.demo import digits  # noqa: PLC0415  see above

        return digits.MODEL
    if name == "summary":
        from multishadow_server.demo import summary  # noqa: PLC0415  see above

        return summary.MODEL
    raise NotFound(f"the demo has no model {name!r}; it has {', '.join(NAMES)}")


def models() -> Iterator[DemoModel]:
    """All of them."""
    return (model_named(name) for name in NAMES)


def refuse_unknown_version(model: DemoModel, version: str) -> None:
    """Raise NotFound, naming the versions there are, unless it is one."""
    if version not in model.versions:
        raise NotFound(f"the demo's model {model.name} has no version {version!r}; it has {', '.join(model.versions)}")
