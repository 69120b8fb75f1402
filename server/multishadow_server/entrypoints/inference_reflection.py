"""What reflection says of `inference.GRPCInferenceService`, which protobuf's own pool must not know under that name.

See proto/multishadow/oip/v2/inference.proto: registered there, the names of the Open Inference Protocol would clash
with those of other libraries in the same process. Here they are in a pool of their own, made from our own definition.
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor

from multishadow.oip.v2 import inference_pb2

PACKAGE = "inference"
FILE = "open_inference_grpc.proto"


class _Definitions:
    """Where a pool finds files: the protocol's own, and for all other names those of the default pool."""

    def __init__(self, own: descriptor_pb2.FileDescriptorProto) -> None:
        self._own = own

    def FindFileByName(self, name: str) -> descriptor_pb2.FileDescriptorProto:  # noqa: N802  the pool's name for it
        """A file's definition. Raises KeyError when there is none."""
        return self._own if name == self._own.name else _copy(descriptor_pool.Default().FindFileByName(name))

    def FindFileContainingSymbol(self, symbol: str) -> descriptor_pb2.FileDescriptorProto:  # noqa: N802  likewise
        """The definition of the file that defines a name. Raises KeyError when there is none."""
        # The pool asks only for names that it does not know yet, and takes a file for what it defines.
        if symbol.startswith(f"{PACKAGE}."):
            return self._own
        return _copy(descriptor_pool.Default().FindFileContainingSymbol(symbol))


def pool() -> descriptor_pool.DescriptorPool:
    """A pool for reflection that knows all services of a router."""
    own = _copy(inference_pb2.DESCRIPTOR)
    former = f".{own.package}."
    own.name, own.package = FILE, PACKAGE
    for message in own.message_type:
        _rename(message, former)
    for method in own.service[0].method:
        method.input_type = method.input_type.replace(former, f".{PACKAGE}.")
        method.output_type = method.output_type.replace(former, f".{PACKAGE}.")
    return descriptor_pool.DescriptorPool(_Definitions(own))


def _copy(file: FileDescriptor) -> descriptor_pb2.FileDescriptorProto:
    proto = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(proto)
    return proto


def _rename(message: descriptor_pb2.DescriptorProto, former: str) -> None:
    for field in message.field:
        if field.type_name:
            field.type_name = field.type_name.replace(former, f".{PACKAGE}.")
    for nested in message.nested_type:
        _rename(nested, former)
