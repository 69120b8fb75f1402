"""flagd-core as the last judge of a definition: what it does not load, no stock in-process client loads."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.exception import OpenFeatureError

from multishadow_server.errors import InvalidInput


def load(key: str, definition: Mapping[str, Any]) -> None:
    """Load one flag as a client would, and forget it.

    Raises:
        InvalidInput: flagd-core takes it for malformed.
    """
    # flagd-core writes into what it is given, and raises whatever its parts do.
    try:
        FlagdCore().set_flags({"flags": {key: copy.deepcopy(dict(definition))}})
    except (OpenFeatureError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{key}: flagd-core does not load this definition ({error})") from error
