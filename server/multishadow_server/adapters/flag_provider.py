"""The OpenFeature provider that an operator names: `MULTISHADOW_FLAG_PROVIDER=module:factory`."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from openfeature.provider import FeatureProvider
from openfeature.provider.in_memory_provider import InMemoryProvider

from multishadow_server.errors import InvalidInput

FACTORY_SECONDS = 30.0
_NEEDED = ("initialize", "shutdown", "get_metadata", "get_provider_hooks", "attach", "detach", "resolve_string_details")


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedProvider:
    """A provider as its factory made it; nothing of it has begun yet.

    Args:
        name: what it calls itself.
        provider: the provider.
        local: whether it evaluates in this process's memory, so that it may be asked in the event loop.
    """

    name: str
    provider: FeatureProvider
    local: bool


def make_provider(path: str, *, within: float = FACTORY_SECONDS) -> NamedProvider:
    """Make the provider that is named by `module:factory`.

    The factory takes no arguments: providers read their own configuration (`FLAGD_HOST`, a vendor's key) from the
    environment, or the factory does. A class is a factory, too. A factory or provider whose attribute
    `evaluates_locally` is True says that evaluating needs no network.

    Raises:
        InvalidInput: there is no such module or factory, it fails, or what it makes is no provider; the message says
            which.
    """
    factory = _factory(path)
    provider = _called(factory, path, within=within)
    missing = [name for name in _NEEDED if not callable(getattr(provider, name, None))]
    if missing:
        kind = type(provider).__name__
        raise _wrong(path, f"it made a {kind}, which is no OpenFeature provider: {missing[0]} is missing")
    return NamedProvider(
        name=str(provider.get_metadata().name), provider=provider, local=_evaluates_locally(provider, factory)
    )


def ofrep() -> FeatureProvider:
    """A factory for servers of the OpenFeature Remote Evaluation Protocol, configured as in other languages.

    `OFREP_ENDPOINT` is the server's address (`https://flags.example.com`), `OFREP_HEADERS` what to send along
    (`Authorization=Bearer …,X-Team=ml`).

    Raises:
        InvalidInput: no endpoint is set, or the provider is not installed.
    """
    try:
        from openfeature.contrib.provider.ofrep import OFREPProvider  # noqa: PLC0415  it is not among our dependencies
    except ImportError as error:
        raise InvalidInput("reading flags over OFREP needs `pip install openfeature-provider-ofrep`") from error
    endpoint = os.environ.get("OFREP_ENDPOINT", "")
    if not endpoint:
        raise InvalidInput("OFREP_ENDPOINT must say where the OFREP server is, e.g. https://flags.example.com")
    pairs = (pair.partition("=") for pair in os.environ.get("OFREP_HEADERS", "").split(",") if "=" in pair)
    headers = {name.strip(): value.strip() for name, _, value in pairs}
    return OFREPProvider(endpoint, headers_factory=lambda: headers)


def _factory(path: str) -> Callable[[], Any]:
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise InvalidInput(
            f"MULTISHADOW_FLAG_PROVIDER={path}: it must be module:factory, e.g. "
            "openfeature.contrib.provider.flagd:FlagdProvider"
        )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise _wrong(
            path, f"the module {module_name} cannot be imported ({_said(error)}); is it installed, or on PYTHONPATH?"
        ) from error
    factory: Callable[[], Any] | None = getattr(module, name, None)
    if factory is None or not callable(factory):
        raise _wrong(path, f"{module_name} has no callable {name}")
    return factory


def _called(factory: Callable[[], Any], path: str, *, within: float) -> Any:  # noqa: ANN401  it is looked at by who calls
    """What the factory makes. It may connect to something that hangs, so it is not waited for without end."""
    made: list[Any] = []
    failed: list[Exception] = []

    def call() -> None:
        try:
            made.append(factory())
        except Exception as error:  # noqa: BLE001  it is told below
            failed.append(error)

    thread = threading.Thread(target=call, name="multishadow-flag-provider-factory", daemon=True)
    thread.start()
    thread.join(within)
    if failed:
        if isinstance(failed[0], InvalidInput):
            raise _wrong(path, str(failed[0])) from failed[0]
        raise _wrong(path, f"the factory failed: {_said(failed[0])}") from failed[0]
    if not made:
        raise _wrong(path, f"the factory did not return within {within:g} s")
    return made[0]


def _evaluates_locally(provider: Any, factory: Any) -> bool:  # noqa: ANN401  of any class
    said = getattr(provider, "evaluates_locally", getattr(factory, "evaluates_locally", None))
    if said is not None:
        return bool(said)
    if type(provider).__module__.startswith("openfeature.contrib.provider.flagd"):
        resolver = getattr(getattr(provider, "config", None), "resolver", None)
        return getattr(resolver, "value", "") in {"in-process", "file"}
    return isinstance(provider, InMemoryProvider)


def _wrong(path: str, what: str) -> InvalidInput:
    return InvalidInput(f"MULTISHADOW_FLAG_PROVIDER={path}: {what}")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
