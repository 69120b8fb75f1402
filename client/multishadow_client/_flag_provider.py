"""The OpenFeature provider over the flags that control serves."""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, ProviderFatalError, ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType
from openfeature.provider import AbstractProvider, FeatureProvider, Metadata, ProviderStatus
from openfeature.track import TrackingEventDetails

from multishadow_client import _address
from multishadow_client._flag_set import FlagFile, FlagSet
from multishadow_client._flag_sync import FlagSync, Follower
from multishadow_client._outcomes import OutcomeCounts, Outcomes
from multishadow_client._tls import Tls
from multishadow_client._tracking import Tracking, outcome_of

logger = logging.getLogger(__name__)
_ObjectValue = Sequence[FlagValueType] | Mapping[str, FlagValueType]

CLOSE_SECONDS = 5.0
FIRST_SET_SECONDS = 5.0
# The SDK notes a provider's first state when `initialize` has returned; that is a matter of microseconds.
SETTLE_SECONDS = 5.0
SETTLE_PAUSE = 0.005


class MultishadowProvider(AbstractProvider):
    """An OpenFeature provider over the flags that control serves: followed in the background, evaluated in process.

    An evaluation never waits for the network, in neither the sync nor the async methods: it reads the last set that
    came, through flagd's reference evaluation. Sets come over flagd.sync.v1 the moment they are committed, each as a
    whole, and one that is malformed is not taken.

    Its state tells how far that set can be trusted:

    - NOT_READY: `initialize` has not returned.
    - READY: the server's stream is open, and these are its flags.
    - STALE: the stream was lost more than `grace` seconds ago; the last flags go on.
    - ERROR: there were never any flags (evaluations give the default, with PROVIDER_NOT_READY), or the newest set, or
      the server's answer, cannot be used (the last flags go on). It heals by itself.
    - FATAL: before there were any flags, the server said what it will say again: it does not know the call, or does not
      let this client in. Nothing more is tried.

    Handlers hear PROVIDER_CONFIGURATION_CHANGED with the keys that changed, also for what changed while it was away.

    Threads do not survive a fork: set the provider in each worker process (gunicorn's `post_fork`), not before.

    Args:
        address: of control; a scheme may stand before it.
        selector: which set of flags; empty for the server's own choice.
        init_timeout: longest time that `initialize` waits for the first set, in seconds. After it, following goes on in
            the background.
        grace: seconds without a stream that are nobody's business: reconnecting takes a moment.
        cache_path: file that keeps the last set, so that a restart without the server begins with it, as STALE.
        keepalive: seconds of silence after which the server is asked whether it is still there.
        tracking: how tracked events become labels.
        tls: connect over TLS.
        token: shown to a control that asks for one; reading flags takes a viewer's, recording labels an operator's.

    Example:
        >>> api.set_provider_and_wait(MultishadowProvider("127.0.0.1:50052"))
        >>> client = api.get_client()
        >>> client.get_string_value("spam.A", "off", EvaluationContext("user-17"))
        'shadow'
    """

    evaluates_locally = True
    """For routers that read their flags through it: it may be asked in an event loop."""

    def __init__(
        self,
        address: str = _address.CONTROL,
        *,
        selector: str = "",
        init_timeout: float = 5.0,
        grace: float = 5.0,
        cache_path: str | Path | None = None,
        keepalive: float = 10.0,
        tracking: Tracking | None = None,
        tls: Tls | None = None,
        token: str = "",
    ) -> None:
        super().__init__()
        self._address = _address.Address.parse(address, default=_address.CONTROL, tls=tls, token=token)
        self._selector = selector
        self._init_timeout = init_timeout
        self._grace = grace
        self._file = None if cache_path is None else FlagFile(Path(cache_path), selector)
        self._keepalive = keepalive
        self._tracking = tracking or Tracking()
        self._own = _Own(self)
        self._flags: FlagSet | None = None
        self._current = False
        self._lost_at: float | None = None
        self._failure = ""
        self._hopeless = False
        # Set when `initialize` need not wait any longer, and when nothing goes on any more.
        self._decided = threading.Event()
        self._closed = threading.Event()
        # The SDK ends a provider in a thread of its own, while it may begin again: one life after the other.
        self._life = threading.Lock()
        self._channels: list[grpc.Channel] = []
        self._sync: FlagSync | None = None
        self._outcomes: Outcomes | None = None
        self._counting = threading.Lock()
        self._ignored = 0

    # --- its life --------------------------------------------------------------------------------------------------

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002  the server has its own
        """Begin to follow, and wait for the first set; the SDK calls this.

        Raises:
            ProviderNotReadyError: there are no flags yet, neither the server's nor kept ones.
            ProviderFatalError: the server will never give any.
        """
        with self._life:
            self._begin()
        self._decided.wait(self._init_timeout)
        target, failure = self._address.target, self._failure or "no answer"
        if self._flags is None and self._hopeless:
            raise ProviderFatalError(f"{target} serves no flags: {failure}; is it control's address?")
        if self._flags is None:
            raise ProviderNotReadyError(
                f"no flags from {target} within {self._init_timeout:g} s ({failure}); it goes on trying"
            )

    def _begin(self) -> None:
        self._decided.clear()
        self._closed.clear()
        self._hopeless = False
        if self._flags is None and self._file is not None:
            self._flags = self._file.read()
        # Flags from a file, or from a life before this one, are as good as those of a server that went away just now.
        self._current = False
        self._lost_at = None if self._flags is None else time.monotonic()
        channel = self._address.open(keepalive=self._keepalive)
        self._channels = [channel]
        self._outcomes = Outcomes(
            self._control() if self._tracking.control else channel,
            most_waiting=self._tracking.most_waiting,
            flush_interval=self._tracking.flush_interval,
            actor=self._tracking.actor,
        )
        self._sync = FlagSync(
            channel,
            Follower(
                take=self._take,
                note_malformed=self._note_malformed,
                note_failure=self._note_failure,
                note_hopeless=self._note_hopeless,
                note_stale=self._note_stale,
            ),
            selector=self._selector,
            grace=self._grace,
            first_grace=self._init_timeout,
            first_set_within=max(self._init_timeout, FIRST_SET_SECONDS),
        )
        self._sync.start()

    def shutdown(self) -> None:
        """Send outcomes that wait, stop following, and leave no thread behind; the last flags can still be read."""
        with self._life:
            # Whoever waits for flags in `initialize` is let go.
            self._closed.set()
            self._decided.set()
            if self._outcomes is not None:
                self._outcomes.close(within=self._tracking.flush_at_end)
            if self._sync is not None:
                self._sync.close(within=CLOSE_SECONDS)
            for channel in self._channels:
                channel.close()

    def _control(self) -> grpc.Channel:
        channel = _address.Address.parse(
            self._tracking.control, default=_address.CONTROL, tls=self._tracking.tls, token=self._tracking.token
        ).open()
        self._channels.append(channel)
        return channel

    def get_metadata(self) -> Metadata:
        """The provider's name."""
        return Metadata(name="multishadow")

    @property
    def status(self) -> ProviderStatus:
        """Its state, as OpenFeature knows it."""
        return self._own.get_provider_status()

    @property
    def revision(self) -> str:
        """Of the flags that are read now; empty while there are none."""
        return "" if self._flags is None else self._flags.revision

    @property
    def age(self) -> float:
        """Seconds since the flags that are read now were last known to be the server's; 0 while they are."""
        return 0.0 if self._lost_at is None else time.monotonic() - self._lost_at

    # --- evaluating ------------------------------------------------------------------------------------------------

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """As flagd evaluates, in this thread; so are the others, and the async ones, which have nothing to await."""
        flags = self._present()
        return flags.core.resolve_string_value(flag_key, default_value, _merged(evaluation_context, flags))

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,  # noqa: FBT001  the SDK's signature
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """As `resolve_string_details`."""
        flags = self._present()
        return flags.core.resolve_boolean_value(flag_key, default_value, _merged(evaluation_context, flags))

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """As `resolve_string_details`."""
        flags = self._present()
        return flags.core.resolve_integer_value(flag_key, default_value, _merged(evaluation_context, flags))

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """As `resolve_string_details`."""
        flags = self._present()
        return flags.core.resolve_float_value(flag_key, default_value, _merged(evaluation_context, flags))

    def resolve_object_details(
        self, flag_key: str, default_value: _ObjectValue, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[_ObjectValue]:
        """As `resolve_string_details`."""
        flags = self._present()
        details = flags.core.resolve_object_value(flag_key, default_value, _merged(evaluation_context, flags))
        # It is the set's own; whoever changes what they were given must not change the flag for everybody.
        details.value = copy.deepcopy(details.value)
        return details

    def _present(self) -> FlagSet:
        flags = self._flags
        if flags is None:
            raise ProviderNotReadyError(f"there were no flags yet from {self._address.target}: {self._failure}")
        return flags

    # --- tracking --------------------------------------------------------------------------------------------------

    def track(
        self,
        tracking_event_name: str,
        evaluation_context: EvaluationContext | None = None,
        tracking_event_details: TrackingEventDetails | None = None,
    ) -> None:
        """Record what the right answer to a request turned out to be; it neither waits nor fails.

        The request is named by the attribute `request_id` of the event, or of its context. The outcome is the event's
        attribute `label` (a class, a text, an object), or else its `value`, a number. An event that lacks either is
        somebody else's, and ignored.
        """
        if self._tracking.events is not None and tracking_event_name not in self._tracking.events:
            return
        try:
            outcome = outcome_of(evaluation_context, tracking_event_details, model=self._tracking.model)
        except Exception as error:  # noqa: BLE001  whatever an application tracks must not break it
            logger.debug("the event %s cannot be recorded: %s", tracking_event_name, error)
            outcome = None
        if outcome is None or self._outcomes is None:
            with self._counting:
                self._ignored += 1
        else:
            self._outcomes.offer(outcome)

    @property
    def outcomes(self) -> OutcomeCounts:
        """What became of tracked events."""
        if self._outcomes is None:
            return OutcomeCounts(ignored=self._ignored)
        return self._outcomes.counts(ignored=self._ignored)

    # --- what the following thread tells ---------------------------------------------------------------------------

    def _take(self, flags: FlagSet) -> None:
        """These are the flags from now on."""
        before = self._flags
        self._flags, self._lost_at, self._failure, self._current = flags, None, "", True
        self._decided.set()
        self._settle(ProviderStatus.READY, ProviderEventDetails())
        changed = flags.changed_since(before) if before is not None else []
        if changed:
            metadata: dict[str, bool | str | int | float] = {"version": flags.revision}
            self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=changed, metadata=metadata))
        if self._file is not None and (before is None or before.text != flags.text):
            self._file.write(flags)

    def _note_malformed(self, reason: str) -> None:
        """The newest set cannot be used."""
        self._failure = f"the server published flags that cannot be used: {reason}"
        self._lose()
        if self._flags is not None:
            self._decided.set()
            self._settle(
                ProviderStatus.ERROR, ProviderEventDetails(message=self._failure, error_code=ErrorCode.PARSE_ERROR)
            )

    def _note_failure(self, reason: str) -> None:
        """The stream was lost, or could not be opened."""
        self._failure = reason
        self._lose()
        if self._flags is not None and not self._current:
            # Kept flags are better than waiting for a server that is away.
            self._decided.set()
            self._settle(ProviderStatus.STALE, self._away())

    def _note_hopeless(self, reason: str) -> bool:
        """The server says what it will say again; True when there is no point in asking again."""
        self._failure = reason
        self._lose()
        self._hopeless = True
        self._decided.set()
        if self._flags is None:
            code = ErrorCode.PROVIDER_FATAL
            self._settle(ProviderStatus.FATAL, ProviderEventDetails(message=reason, error_code=code))
            return True
        # FATAL would make OpenFeature answer with defaults; what was known is better, and somebody may heal it.
        self._settle(ProviderStatus.ERROR, ProviderEventDetails(message=reason, error_code=ErrorCode.GENERAL))
        return False

    def _note_stale(self, reason: str) -> None:
        """The server was away for the grace period."""
        self._failure = reason
        if self._flags is not None:
            self._settle(ProviderStatus.STALE, self._away())

    def _lose(self) -> None:
        if self._lost_at is None and self._flags is not None:
            self._lost_at = time.monotonic()

    def _away(self) -> ProviderEventDetails:
        failure = self._failure or "no answer"
        return ProviderEventDetails(message=f"{self._address.target} is away ({failure}); the last flags go on")

    def _settle(self, state: ProviderStatus, details: ProviderEventDetails) -> None:
        """Let OpenFeature know this state; after the one that it notes itself when `initialize` has ended."""
        until = time.monotonic() + SETTLE_SECONDS
        while self.status is ProviderStatus.NOT_READY and hasattr(self, "_on_emit") and time.monotonic() < until:
            if self._closed.wait(SETTLE_PAUSE):
                return
        if self.status is state and state is not ProviderStatus.ERROR:
            return
        match state:
            case ProviderStatus.READY:
                self.emit_provider_ready(details)
            case ProviderStatus.STALE:
                self.emit_provider_stale(details)
            case _:
                self.emit_provider_error(details)


class _Own(OpenFeatureClient):
    """A client of this provider, whatever its domain: the SDK tells a provider's state only to clients."""

    def __init__(self, provider: FeatureProvider) -> None:
        super().__init__(domain=None, version=None)
        self._provider = provider

    @property
    def provider(self) -> FeatureProvider:
        return self._provider


def _merged(context: EvaluationContext | None, flags: FlagSet) -> EvaluationContext | None:
    """With what the server adds, which wins, as in flagd's own providers."""
    if not flags.context.attributes:
        return context
    return flags.context if context is None else context.merge(flags.context)
