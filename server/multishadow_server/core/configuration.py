"""One consistent reading of everything that routers and workers act on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from multishadow_server.core.experiment import Epoch
from multishadow_server.core.model import Model


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """Models, flags and epochs at one revision, read in one transaction.

    Args:
        revision: counts every change of models, versions, flags and experiments; 0 is the empty beginning.
        models: by name.
        flags: flagd definition by flag key.
        epochs: those of running experiments, and closed ones whose late captures may still arrive (24 h).
    """

    revision: int = 0
    models: Mapping[str, Model] = field(default_factory=dict)
    flags: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    epochs: tuple[Epoch, ...] = ()
