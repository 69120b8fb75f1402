"""The demonstration's models by name."""

from __future__ import annotations

from multishadow_server.demo import digits, summary
from multishadow_server.demo.model import DemoModel
from multishadow_server.errors import NotFound

MODELS = {model.name: model for model in (digits.MODEL, summary.MODEL)}


def model_named(name: str) -> DemoModel:
    """The model of that name. Raises NotFound, naming those there are."""
    if name not in MODELS:
        raise NotFound(f"the demo has no model {name!r}; it has {', '.join(MODELS)}")
    return MODELS[name]


def refuse_unknown_version(model: DemoModel, version: str) -> None:
    """Raise NotFound, naming the versions there are, unless it is one."""
    if version not in model.versions:
        raise NotFound(f"the demo's model {model.name} has no version {version!r}; it has {', '.join(model.versions)}")
