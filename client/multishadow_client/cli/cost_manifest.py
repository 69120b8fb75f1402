"""The `rps_per_gpu` of a model file's `cost`: one number for all versions, or a number for each.

cost: {gpu_hour: 2.50, currency: USD, rps_per_gpu: 40}
cost: {gpu_hour: 2.50, rps_per_gpu: {A: 40, B: 25}}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import yaml

from multishadow_client.cli.exit_code import Mistake


def rates(
    node: yaml.Node, number: Callable[[yaml.Node], float], wrong: Callable[[yaml.Node, str], Mistake]
) -> Mapping[str, Any]:
    """The message's fields of what stands there.

    Args:
        node: what stands at `rps_per_gpu`.
        number: reads a number.
        wrong: makes the complaint about a node.

    Raises:
        Mistake: where, and what is allowed.
    """
    if not isinstance(node, yaml.MappingNode):
        return {"rps_per_gpu": number(node)}
    named: dict[str, float] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise wrong(key, "a version's name must stand here")
        if key.value in named:
            raise wrong(key, f"{key.value!r} stands here twice")
        named[key.value] = number(value)
    return {"rps_per_gpu_by_version": named}
