"""MLServer: the Open Inference Protocol in JSON, its only format over HTTP."""

from __future__ import annotations

from mlserver import MLModel, types
from mlserver.codecs import NumpyCodec

from bench.peers.servers.loss import mean


class Loss(MLModel):  # type: ignore[misc] # no types where it is not installed
    """One model."""

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        """Return the mean."""
        logits, targets = (NumpyCodec.decode_input(one) for one in payload.inputs)
        output = types.ResponseOutput(name="loss", shape=[1], datatype="FP32", data=[mean(logits, targets)])
        return types.InferenceResponse(model_name=self.name, outputs=[output])
