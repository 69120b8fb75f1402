"""Client of multishadow: predictions through the router, control, and the `shadowctl` command."""

from multishadow_client._aio import AsyncClient
from multishadow_client._aio_control import AsyncControlClient
from multishadow_client._client import Client
from multishadow_client._control_client import ControlClient
from multishadow_client._errors import (
    Conflict,
    DeadlineExpired,
    FailedPrecondition,
    InvalidInput,
    MultishadowError,
    NotAllowed,
    NotFound,
    NotSpoken,
    ResourceExhausted,
    ServerFailed,
    Unavailable,
    Unreachable,
)
from multishadow_client._flags import AsyncFlags, Flag, Flags
from multishadow_client._prediction import Classification, Embedding, Output, Prediction
from multishadow_client._stream import AsyncPredictionStream, PredictionStream
from multishadow_client._tls import Tls

__all__ = [
    "AsyncClient",
    "AsyncControlClient",
    "AsyncFlags",
    "AsyncPredictionStream",
    "Classification",
    "Client",
    "Conflict",
    "ControlClient",
    "DeadlineExpired",
    "Embedding",
    "FailedPrecondition",
    "Flag",
    "Flags",
    "InvalidInput",
    "MultishadowError",
    "NotAllowed",
    "NotFound",
    "NotSpoken",
    "Output",
    "Prediction",
    "PredictionStream",
    "ResourceExhausted",
    "ServerFailed",
    "Tls",
    "Unavailable",
    "Unreachable",
]
