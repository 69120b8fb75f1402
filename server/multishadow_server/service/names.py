"""Finding what a caller names; errors name what there is instead."""

from __future__ import annotations

from collections.abc import Iterable

from multishadow_server.core.configuration import Configuration
from multishadow_server.core.model import LabelTerms, Model, Version
from multishadow_server.errors import FailedPrecondition, InvalidInput, NotFound

MOST_LISTED = 30


def model_of(configuration: Configuration, name: str) -> Model:
    """The model of that name.

    Raises:
        InvalidInput: no name was given.
        NotFound: there is no such model.
    """
    if not name:
        raise InvalidInput(f"model: name one of {listed(sorted(configuration.models))}")
    model = configuration.models.get(name)
    if model is None:
        raise NotFound(f"there is no model {name!r}; there is {listed(sorted(configuration.models))}")
    return model


def only_model(configuration: Configuration, name: str) -> Model:
    """The model of that name; without a name, the only one there is.

    Raises:
        InvalidInput: no name was given and there are several models.
        FailedPrecondition: there is no model at all.
        NotFound: there is no such model.
    """
    if name:
        return model_of(configuration, name)
    if not configuration.models:
        raise FailedPrecondition("there is no model yet; register one with `shadowctl apply -f model.yaml`")
    if len(configuration.models) > 1:
        raise InvalidInput(f"model: there are several, name one of {listed(sorted(configuration.models))}")
    return next(iter(configuration.models.values()))


def version_of(model: Model, name: str) -> Version:
    """The model's version of that name.

    Raises:
        InvalidInput: no name was given.
        NotFound: the model has no such version.
    """
    names = [version.name for version in model.versions]
    if not name:
        raise InvalidInput(f"version: name one of {model.name}'s: {listed(names)}")
    version = model.version(name)
    if version is None:
        raise NotFound(f"{model.name} has no version {name!r}; it has {listed(names)}")
    return version


def label_terms(model: Model) -> LabelTerms:
    """How the model's answers are kept to be labelled. Raises FailedPrecondition when they are not."""
    if model.labels is None:
        raise FailedPrecondition(
            f"{model.name} keeps no answers that a label could be held against; put `labels: {{delay: 24h, keep: 7d}}` "
            "into its file and `shadowctl apply` it; requests from then on can be labelled"
        )
    return model.labels


def listed(names: Iterable[str]) -> str:
    """Names in words: "A, B, C", or "none"; of a great many, the first, because gRPC bounds a status to 8 KiB."""
    every = list(names)
    rest = f" and {len(every) - MOST_LISTED} more" if len(every) > MOST_LISTED else ""
    return f"{', '.join(every[:MOST_LISTED])}{rest}" or "none"
