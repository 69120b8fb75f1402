"""What a server says of its services."""

from __future__ import annotations

import grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc


def services(channel: grpc.Channel) -> list[str]:
    """The names of its services, by reflection; raises grpc.RpcError where that is off.

    Not by grpc.aio: a call that is refused before its first message is sent has failed inside (INTERNAL), it says.
    """
    request = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    listing = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(request)
    return [each.name for answer in listing for each in answer.list_services_response.service]


def described(address: str) -> list[str]:
    """The same of a server in the clear."""
    with grpc.insecure_channel(address) as channel:
        return services(channel)
