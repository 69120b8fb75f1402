"""Flags through OpenFeature, evaluated in process from the configuration.

`ConfigurationProvider` is a provider like any other: flagd-core's answers, from the flags of one revision.
`OpenFeatureClaims` reads claims from it through an OpenFeature client, and takes a shorter way, of the same results,
when nobody could see the difference.
"""

from __future__ import annotations

import copy
import itertools
import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext, get_evaluation_context
from openfeature.event import ProviderEventDetails
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType
from openfeature.hook import get_hooks
from openfeature.provider import AbstractProvider, Metadata
from openfeature.provider.no_op_provider import NoOpProvider
from openfeature.transaction_context import get_transaction_context

from multishadow_server.adapters import flagd_core
from multishadow_server.core.configuration import Configuration
from multishadow_server.core.routing import Claim, Claims
from multishadow_server.core.targeting import CompiledFlag, Context, compile_flag
from multishadow_server.errors import InvalidInput
from multishadow_server.service import ports

logger = logging.getLogger(__name__)

FLAG_SET = "multishadow"
LOOK_SECONDS = 0.005
_domains = itertools.count(1)
_ObjectValue = Sequence[FlagValueType] | Mapping[str, FlagValueType]


class ConfigurationProvider(AbstractProvider):
    """An OpenFeature provider over one revision's flags; `load` swaps in another.

    Attributes:
        compiled: each flag as the router reads it itself; None for one whose rule is only interpreted.
        in_use: whether it is what the SDK calls READY: begun and not ended. It is never in error, and never stale.
    """

    def __init__(self) -> None:
        super().__init__()
        self._core = FlagdCore()
        self._definitions: Mapping[str, Mapping[str, Any]] = {}
        self._malformed: frozenset[str] = frozenset()
        self.compiled: Mapping[str, CompiledFlag | None] = {}
        self.in_use = False

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002  the SDK's signature
        """OpenFeature reads from it from now on."""
        self.in_use = True

    def shutdown(self) -> None:
        """OpenFeature no longer reads from it."""
        self.in_use = False

    def load(self, configuration: Configuration) -> None:
        """Read from these flags now. Tells OpenFeature which ones changed."""
        before = self._definitions
        changed = {
            key for key in before.keys() | configuration.flags.keys() if before.get(key) != configuration.flags.get(key)
        }
        compiled = {
            key: compile_flag(key, definition) if key in changed or key not in self.compiled else self.compiled[key]
            for key, definition in configuration.flags.items()
        }
        self._malformed = frozenset(
            key
            for key, definition in configuration.flags.items()
            if (not _loads(key, definition) if key in changed else key in self._malformed)
        )
        self._core = _core(configuration, without=self._malformed)
        self._definitions, self.compiled = configuration.flags, compiled
        if changed:
            metadata: dict[str, bool | str | int | float] = {"version": str(configuration.revision)}
            self.emit_provider_configuration_changed(
                ProviderEventDetails(flags_changed=sorted(changed), metadata=metadata)
            )

    def get_metadata(self) -> Metadata:
        """The provider's name."""
        return Metadata(name="multishadow")

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """As flagd-core; so are the others."""
        return self._core.resolve_string_value(flag_key, default_value, evaluation_context)

    def resolve_boolean_details(  # noqa: D102  see resolve_string_details
        self,
        flag_key: str,
        default_value: bool,  # noqa: FBT001  the SDK's signature
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        return self._core.resolve_boolean_value(flag_key, default_value, evaluation_context)

    def resolve_integer_details(  # noqa: D102  see resolve_string_details
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        return self._core.resolve_integer_value(flag_key, default_value, evaluation_context)

    def resolve_float_details(  # noqa: D102  see resolve_string_details
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        return self._core.resolve_float_value(flag_key, default_value, evaluation_context)

    def resolve_object_details(  # noqa: D102  see resolve_string_details
        self, flag_key: str, default_value: _ObjectValue, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[_ObjectValue]:
        return self._core.resolve_object_value(flag_key, default_value, evaluation_context)


def _loads(key: str, definition: Mapping[str, Any]) -> bool:
    """Whether flagd-core takes a flag; one that it does not take must not cost the others."""
    try:
        flagd_core.load(key, definition)
    except InvalidInput as error:
        logger.warning("flag %s counts as off: its definition is malformed (%s)", key, error)
        return False
    return True


def _core(configuration: Configuration, *, without: Collection[str]) -> FlagdCore:
    # flagd-core writes into what it is given.
    flags = {
        key: copy.deepcopy(dict(definition)) for key, definition in configuration.flags.items() if key not in without
    }
    core = FlagdCore()
    core.set_flags({"flags": flags, "metadata": {"flagSetId": FLAG_SET, "version": str(configuration.revision)}})
    return core


class OpenFeatureClaims(ports.ClaimReader):
    """Reads what versions claim, through an OpenFeature client of its own domain.

    The SDK's wrapper around every evaluation costs several times the evaluation. It is skipped, and the compiled flags
    are read, when it would do nothing that anybody could see: no hook anywhere, no context set globally, on the client
    or for the transaction, and this provider in place and ready.

    Args:
        provider: where the flags are.
        look_seconds: how long it goes by what it saw of hooks, contexts and providers. To look for them takes longer
            than to read the flags, and each request would pay for it. A context of one transaction alone may be missed;
            nothing in a router sets one.
    """

    def __init__(
        self,
        provider: ConfigurationProvider,
        *,
        look_seconds: float = LOOK_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._look_seconds = look_seconds
        self._monotonic = monotonic
        # What flags without a rule say, by their keys; of this revision.
        self._constant: dict[tuple[str, ...], Claims] = {}
        self._looks_again_at = -math.inf
        self._wrapper_does_nothing = False
        self._domain = f"multishadow-router-{next(_domains)}"
        api.set_provider_and_wait(provider, domain=self._domain)
        self.client: OpenFeatureClient = api.get_client(self._domain)

    @property
    def source(self) -> str:
        """Empty: these are our own flags."""
        return ""

    @property
    def age(self) -> float:
        """0: the flags are as old as the configuration that they come with."""
        return 0.0

    def counters(self) -> Mapping[str, int]:
        """None: every reading gets its answer."""
        return {}

    async def first_reading(self) -> None:
        """Nothing to wait for: the flags come with the configuration."""

    def load(self, configuration: Configuration) -> None:
        """Read from these flags now."""
        self._constant.clear()
        self._provider.load(configuration)

    def read(self, keys: tuple[str, ...], context: Callable[[], Context]) -> Claims:
        """What the flags say; see ports.ClaimReader."""
        now = self._monotonic()
        if now >= self._looks_again_at:
            self._wrapper_does_nothing, self._looks_again_at = self._unseen(), now + self._look_seconds
        if not self._wrapper_does_nothing:
            return self._through_the_sdk(keys, context())
        constant = self._constant.get(keys)
        return self._evaluated(keys, context) if constant is None else constant

    def _evaluated(self, keys: tuple[str, ...], context: Callable[[], Context]) -> Claims:
        claims: list[Claim] = []
        subject: Context | None = None
        for key in keys:
            flag = self._provider.compiled.get(key, _ABSENT)
            if flag is not None and flag.constant is not None:
                claims.append(flag.constant)
                continue
            subject = subject or context()
            claims.append(flag.evaluate(subject) if flag is not None else self._through_the_sdk([key], subject)[0])
        read = tuple(claims)
        if subject is None:
            self._constant[keys] = read
        return read

    def close(self) -> None:
        """Take the provider out of OpenFeature."""
        api.set_provider_and_wait(NoOpProvider(), domain=self._domain)

    def _unseen(self) -> bool:
        client, provider = self.client, self._provider
        if get_hooks() or client.hooks or client.provider is not provider or not provider.in_use:
            return False
        for context in (client.context, get_evaluation_context(), get_transaction_context()):
            if context.targeting_key or context.attributes:
                return False
        return True

    def _through_the_sdk(self, keys: Sequence[str], context: Context) -> Claims:
        subject = evaluation_context(context)
        return tuple([Claim.of(self.client.get_string_value(key, Claim.OFF.value, subject)) for key in keys])


def evaluation_context(context: Context) -> EvaluationContext:
    """What rules read, as OpenFeature takes it."""
    attributes = {name: value for name, value in context.items() if name != "targetingKey"}
    return EvaluationContext(targeting_key=context["targetingKey"], attributes=attributes)


_ABSENT = CompiledFlag(constant=Claim.OFF, evaluate=lambda _: Claim.OFF)
