"""PyTriton: the Open Inference Protocol, with Triton's dynamic batching of requests of one shape."""

from __future__ import annotations

import logging
import signal
import sys
import threading

import numpy as np
import numpy.typing as npt
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from bench.peers.servers.loss import mean

Floats = npt.NDArray[np.float32]


@batch  # type: ignore[untyped-decorator] # no types where it is not installed
def infer(logits: Floats, targets: Floats) -> dict[str, Floats]:
    """Return the mean of each request; arrays are [requests, N, C]."""
    return {"loss": np.array([[mean(x, y)] for x, y in zip(logits, targets, strict=True)], np.float32)}


def main() -> None:
    """Serve until asked to end."""
    logging.basicConfig(level=logging.WARNING)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    config = TritonConfig(
        http_address="127.0.0.1", http_port=int(sys.argv[1]), allow_grpc=False, allow_metrics=False
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="bce",
            infer_func=infer,
            inputs=[Tensor(name=name, dtype=np.float32, shape=(-1, -1)) for name in ("logits", "targets")],
            outputs=[Tensor(name="loss", dtype=np.float32, shape=(1,))],
            config=ModelConfig(max_batch_size=16, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
        )
        triton.run()
        ended.wait()


if __name__ == "__main__":
    main()
