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


class _Both(descriptor_pool.DescriptorPool):
    """The names of the Open Inference Protocol, and for all others the default pool."""

    def FindFileByName(self, file_name: str) -> FileDescriptor:  # noqa: N802  the pool's name
        """A file's definition. Raises KeyError when there is none."""
        try:
            return super().FindFileByName(file_name)
        except KeyError:
            return descriptor_pool.Default().FindFileByName(file_name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802  the pool's name
        """The definition of the file that defines a name. Raises KeyError when there is none."""
        try:
            return super().FindFileContainingSymbol(symbol)
        except KeyError:
            return descriptor_pool.Default().FindFileContainingSymbol(symbol)


def pool() -> descriptor_pool.DescriptorPool:
    """A pool for reflection that knows all services of a router."""
    ours = descriptor_pb2.FileDescriptorProto()
    inference_pb2.DESCRIPTOR.CopyToProto(ours)
    former = f".{ours.package}."
    ours.name, ours.package = FILE, PACKAGE
    for message in ours.message_type:
        _rename(message, former)
    for method in ours.service[0].method:
        method.input_type = method.input_type.replace(former, f".{PACKAGE}.")
        method.output_type = method.output_type.replace(former, f".{PACKAGE}.")
    both = _Both()
    both.AddSerializedFile(ours.SerializeToString())
    return both


def _rename(message: descriptor_pb2.DescriptorProto, former: str) -> None:
    for field in message.field:
        if field.type_name:
            field.type_name = field.type_name.replace(former, f".{PACKAGE}.")
    for nested in message.nested_type:
        _rename(nested, former)
