"""Ray Serve: one replica that reads JSON or .npy."""

from __future__ import annotations

import io
import signal
import sys
import tempfile
from typing import Any

import numpy as np
import ray
import torch
from ray import serve

from bench.peers.servers.loss import mean


@serve.deployment(num_replicas=1, max_ongoing_requests=100, ray_actor_options={"num_cpus": 1})
class Loss:
    """One model."""

    async def __call__(self, request: Any) -> dict[str, float]:  # noqa: ANN401 -- starlette's, of its environment
        """Return the mean."""
        if request.headers["content-type"] == "application/json":
            body = await request.json()
            return {"loss": mean(torch.tensor(body["logits"]), torch.tensor(body["targets"]))}
        file = io.BytesIO(await request.body())
        return {"loss": mean(np.load(file), np.load(file))}


def main(folder: str) -> None:
    """Serve until asked to end."""
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=1 << 30,
        _temp_dir=folder,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    quiet = {"enable_access_log": False}
    serve.run(Loss.bind(), name="loss", route_prefix="/", logging_config=quiet)  # type: ignore[attr-defined] # the decorator's
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as place:
        main(place)
