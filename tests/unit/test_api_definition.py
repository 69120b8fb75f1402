"""The .proto files: their lint, and that what is generated from them is current."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor

from multishadow.oip.v2 import envelope_pb2 as oip_envelope
from multishadow.oip.v2 import inference_pb2
from multishadow.v1 import envelope_pb2, prediction_pb2
from waiting import PATIENCE

PROJECT = Path(__file__).resolve().parents[2]
PROTO = PROJECT / "proto"
SCRIPTS = Path(sysconfig.get_path("scripts"))


def test_the_definitions_pass_bufs_standard_lint() -> None:
    lint = subprocess.run([SCRIPTS / "buf", "lint"], cwd=PROTO, capture_output=True, text=True, check=False)
    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_the_committed_modules_and_stubs_are_what_the_definitions_generate(tmp_path: Path) -> None:
    program = f"import sys; sys.path.insert(0, {str(PROTO)!r}); import pathlib, regenerate; "
    subprocess.run(
        [sys.executable, "-c", program + f"regenerate.generate(pathlib.Path({str(tmp_path)!r}))"],
        # protoc finds its plugins on the PATH.
        env={**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        check=True,
    )
    generated = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*_pb2*")}
    committed = {path.relative_to(PROTO): path.read_text() for path in PROTO.rglob("*_pb2*") if path.suffix != ".pyc"}
    assert generated.keys() == committed.keys()
    stale = [str(name) for name in generated if generated[name] != committed[name]]
    assert not stale, f"run `python proto/regenerate.py` and commit: {stale}"


@pytest.mark.parametrize("field", list(envelope_pb2.PredictEnvelope.DESCRIPTOR.fields), ids=lambda field: field.name)
def test_the_envelope_reads_a_requests_own_fields(field: FieldDescriptor) -> None:
    twin = prediction_pb2.PredictRequest.DESCRIPTOR.fields_by_number[field.number]
    # A message's bytes are read when somebody looks into them.
    assert (twin.name, FieldDescriptor.TYPE_BYTES if twin.message_type else twin.type) == (field.name, field.type)


def test_the_envelope_leaves_out_only_the_input() -> None:
    request = prediction_pb2.PredictRequest.DESCRIPTOR
    in_envelope = {field.number for field in envelope_pb2.PredictEnvelope.DESCRIPTOR.fields}
    left_out = {field.name for field in request.fields if field.number not in in_envelope}
    assert left_out == {field.name for field in request.oneofs_by_name["input"].fields}


@pytest.mark.parametrize("field", list(oip_envelope.InferEnvelope.DESCRIPTOR.fields), ids=lambda field: field.name)
def test_the_inference_envelope_reads_a_requests_own_fields(field: FieldDescriptor) -> None:
    twin = inference_pb2.ModelInferRequest.DESCRIPTOR.fields_by_number[field.number]
    assert (twin.name, twin.type) == (field.name, field.type)


def test_the_inference_envelope_leaves_out_only_tensors() -> None:
    in_envelope = {field.number for field in oip_envelope.InferEnvelope.DESCRIPTOR.fields}
    fields = inference_pb2.ModelInferRequest.DESCRIPTOR.fields
    left_out = {field.name for field in fields if field.number not in in_envelope}
    assert left_out == {"inputs", "outputs", "raw_input_contents"}


def test_the_protocols_own_names_stay_free_for_the_libraries_that_register_them() -> None:
    program = (
        "import multishadow_client.cli, multishadow_server.app.router, multishadow_server.app.worker\n"
        "from multishadow_server.entrypoints import inference_reflection\n"
        "from google.protobuf import descriptor_pb2, descriptor_pool\n"
        "own = inference_reflection.pool().FindFileContainingSymbol('inference.GRPCInferenceService')\n"
        # As the generated code of tritonclient, kserve and mlserver does, each with a definition of its own.
        "file = descriptor_pb2.FileDescriptorProto(name='grpc_service.proto', package='inference')\n"
        "file.message_type.add(name='ModelInferRequest').field.add(name='other', number=9, type=5, label=1)\n"
        "descriptor_pool.Default().AddSerializedFile(file.SerializeToString())\n"
        "print([method.name for method in own.services_by_name['GRPCInferenceService'].methods])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    offered = ["ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer"]
    assert (ended.stdout, ended.stderr) == (f"{offered}\n", "")
