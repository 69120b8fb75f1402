"""A program that asks a model by Triton's stock client, unmodified; `triton_client` says with what Python."""

from __future__ import annotations

import json
import sys

import numpy as np
import tritonclient.grpc as triton  # type: ignore[import-not-found]  # it is in the other Python
from tritonclient.utils import InferenceServerException  # type: ignore[import-not-found]  # likewise


def main(address: str, requests: int) -> None:
    client = triton.InferenceServerClient(address)
    answers = []
    for number in range(requests):
        given = triton.InferInput("x", [1, 2], "FP32")
        given.set_data_from_numpy(np.array([[number, 1]], dtype=np.float32))
        result = client.infer("spam", [given], request_id=f"r-{number}", parameters={"plan": "pro"})
        answers.append((result.get_response().id, result.as_numpy("logits").tolist()))
    try:
        client.infer("ham", [given])
    except InferenceServerException as error:
        refused = (error.status(), error.message())
    told = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model ready": client.is_model_ready("spam"),
        "server": client.get_server_metadata(as_json=True)["name"],
        "model": client.get_model_metadata("spam", as_json=True)["name"],
        "refused": refused,
    }
    print(json.dumps({"answers": answers, "told": told}))


main(sys.argv[1], int(sys.argv[2]))
