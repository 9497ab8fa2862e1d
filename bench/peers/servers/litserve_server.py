"""LitServe: nested lists in JSON at /json, .npy files at /npy, to two APIs with a worker each."""

import io
import sys
from typing import Annotated, Any

import litserve
import numpy as np
import torch
from fastapi import Body

from bench.peers.servers.loss import mean


class Lists(litserve.LitAPI):  # type: ignore[misc] # no types where it is not installed
    """Nested lists."""

    def setup(self, device: str) -> None:
        """Load nothing."""

    def decode_request(self, request: dict[str, Any]) -> tuple[Any, Any]:
        """Return logits and targets."""
        return torch.tensor(request["logits"]), torch.tensor(request["targets"])

    def predict(self, x: tuple[Any, Any]) -> float:
        """Return the mean."""
        return mean(*x)

    def encode_response(self, output: float) -> dict[str, float]:
        """Return the answer."""
        return {"loss": output}


class Arrays(Lists):
    """The body's bytes. Not documented, but FastAPI, which LitServe uses, reads the annotation."""

    def decode_request(  # type: ignore[override] # what the annotation is for
        self, request: Annotated[bytes, Body(media_type="application/octet-stream")]
    ) -> tuple[Any, Any]:
        """Return logits and targets."""
        file = io.BytesIO(request)
        return np.load(file), np.load(file)


if __name__ == "__main__":
    apis = [Lists(api_path="/json"), Arrays(api_path="/npy")]
    server = litserve.LitServer(apis, accelerator="cpu", workers_per_device=1, timeout=600, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
