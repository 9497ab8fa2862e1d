"""Plain FastAPI: pydantic's JSON at /json, np.load of the body at /npy."""

from __future__ import annotations

import io

import numpy as np
import torch
from fastapi import FastAPI, Request
from pydantic import BaseModel

from bench.peers.servers.loss import mean

app = FastAPI()


class Body(BaseModel):
    """Nested lists, as tolist() makes them."""

    logits: list[list[float]]
    targets: list[list[float]]


@app.post("/json")
async def score_json(body: Body) -> dict[str, float]:
    """Score lists that pydantic has checked."""
    return {"loss": mean(torch.tensor(body.logits), torch.tensor(body.targets))}


@app.post("/npy")
async def score_npy(request: Request) -> dict[str, float]:
    """Score two .npy files, one after the other."""
    file = io.BytesIO(await request.body())
    return {"loss": mean(np.load(file), np.load(file))}
