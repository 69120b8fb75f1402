"""What models and versions speak, in words."""

from __future__ import annotations

from collections.abc import Callable

from multishadow.v1.control_pb2 import Comparator, Model, OutputTerms, Version

OIP = "oip"


def agreement(model: Model, words: Callable[[Comparator], str]) -> str:
    """When a model's answers agree; of one that speaks the Open Inference Protocol, by which output."""
    said = words(model.comparator)
    return said if model.protocol != OIP else f"{said}; {_output(model.comparator.output)}"


def address(version: Version) -> str:
    """Where a version is, and by which name its server knows it."""
    name, number = version.served_name, version.served_version
    if not name and not number:
        return version.address
    return f"{version.address} as {name or version.model}{f', version {number}' if number else ''}"


def _output(terms: OutputTerms) -> str:
    return f"OIP output {terms.tensor or '(the only one)'}{f' as {terms.read_as}' if terms.read_as else ''}"
