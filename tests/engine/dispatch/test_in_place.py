"""Small requests scored by the front end: a worker gives the same bits."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from live_server import LiveServer, live_server

Arrays = dict[str, npt.NDArray[Any]]


class Drawn:
    """A request that is drawn.

    Args:
        draw: What draws it.
    """

    def __init__(self, draw: random.Random) -> None:
        rng = np.random.default_rng(draw.getrandbits(32))
        shape = draw.choice([(7,), (5, 3), (32, 80), (1, 1), (4, 3, 5), (2, 300), (300, 2)])
        floats: list[Any] = [np.float16, np.float32, np.float64, ">f4"]
        targets: list[Any] = [*floats, bool, np.uint8, np.int64]
        self.loss = draw.choice(["bce", "focal"])
        self.arrays: Arrays = {
            "logits": rng.normal(0, draw.choice([1, 8, 300]), shape).astype(draw.choice(floats)),
            "targets": (rng.random(shape) < 0.3).astype(draw.choice(targets)),
        }
        if draw.random() < 0.3:
            self.arrays["targets"] = rng.random(shape).astype(draw.choice(floats))
        if draw.random() < 0.3:
            self.arrays["weight"] = rng.random(shape[draw.randint(0, len(shape) - 1) :]).astype(np.float32)
        if draw.random() < 0.3:
            self.arrays["mask"] = rng.random(shape) < 0.7
        if draw.random() < 0.2:
            self.arrays["pos_weight"] = rng.random(shape[-1:]) * 3
        if draw.random() < 0.2:
            self.arrays = {name: np.asfortranarray(array) for name, array in self.arrays.items()}
        self.params: dict[str, Any] = {"reduction": draw.choice(["mean", "sum", "none"])}
        if self.params["reduction"] != "none":
            if draw.random() < 0.4:
                self.params["axis"] = draw.randint(0, len(shape) - 1)
            if draw.random() < 0.3:
                self.params["normalizer"] = draw.choice(["weight", "positives", 7.5])
        if draw.random() < 0.2:
            self.params["label_smoothing"] = 0.1
        if self.loss == "focal":
            self.params["gamma"] = draw.choice([0, 0.5, 1.5, 2, 3.25])
            self.params["alpha"] = draw.choice([None, 0.25, 0.7])
            self.params["variant"] = draw.choice(["sigmoid", "exp", "quality"])
        self.form = draw.choice(["npy", "npz", "json", "multipart", "v2", "v2 binary"])
        self.accept = draw.choice(["application/json", "application/x-npy"])

    def ask(self, client: httpx.Client) -> tuple[int, list[tuple[str, str]], bytes]:
        """Its answer: the status, the headers but for the times, the body."""
        answer = client.send(self._request(client))
        headers = [
            (name, value) for name, value in answer.headers.items() if name not in ("date", "server-timing")
        ]
        return answer.status_code, headers, answer.content

    def _request(self, client: httpx.Client) -> httpx.Request:
        path, headers = f"/{self.loss}", {"x-request-id": "the-same", "accept": self.accept}
        query = {name: json.dumps(value) for name, value in self.params.items()}
        if self.form.startswith("v2"):
            return self._inference(client, headers)
        if self.form == "json":
            document = {name: array.tolist() for name, array in self.arrays.items()} | self.params
            return client.build_request("POST", path, json=document, headers=headers)
        if self.form == "multipart":
            files = {name: npy(array) for name, array in self.arrays.items()}
            return client.build_request("POST", path, files=files, params=query, headers=headers)
        if self.form == "npz":
            file = io.BytesIO()
            np.savez(file, **self.arrays)  # type: ignore[arg-type] # by their names
            body = file.getvalue()
        else:
            body = b"".join(map(npy, self.arrays.values()))
            query["tensors"] = ",".join(self.arrays)
        headers["content-type"] = f"application/x-{self.form}"
        return client.build_request("POST", path, content=body, params=query, headers=headers)

    def _inference(self, client: httpx.Client, headers: dict[str, str]) -> httpx.Request:
        names = {"b": "BOOL", "f2": "FP16", "f4": "FP32", "f8": "FP64", "u1": "UINT8", "i8": "INT64"}
        inputs, behind = [], b""
        for name, array in self.arrays.items():
            plain = array.astype(array.dtype.newbyteorder("<"), order="C")
            datatype = names["b" if plain.dtype == bool else plain.dtype.str[1:]]
            entry: dict[str, Any] = {"name": name, "shape": list(plain.shape), "datatype": datatype}
            if self.form == "v2 binary":
                entry["parameters"] = {"binary_data_size": plain.nbytes}
                behind += plain.tobytes()
            else:
                entry["data"] = plain.reshape(-1).tolist()
            inputs.append(entry)
        parameters = {name: "null" if value is None else value for name, value in self.params.items()}
        text = json.dumps({"inputs": inputs, "parameters": parameters}).encode()
        if self.form == "v2 binary":
            headers["inference-header-content-length"] = str(len(text))
        path = f"/v2/models/{self.loss}/infer"
        return client.build_request("POST", path, content=text + behind, headers=headers)


def npy(array: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.fixture(scope="module")
def by_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that leaves small requests to its workers."""
    with live_server(tmp_path_factory.mktemp("by_workers"), inline_ms=0) as running:
        yield running


def slices(client: httpx.Client) -> float:
    """How many slices workers have answered."""
    return counted(client, "lossd_slices_total")


def counted(client: httpx.Client, series: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next((float(line.split()[1]) for line in lines if line.startswith(f"{series} ")), 0.0)


def test_a_worker_gives_the_same_bits(server: LiveServer, by_workers: LiveServer) -> None:
    draw, found = random.Random(16), Counter[int]()
    with httpx.Client(base_url=server.url) as inline, httpx.Client(base_url=by_workers.url) as workers:
        before = slices(inline), slices(workers)
        for _ in range(400):
            drawn = Drawn(draw)
            answers = [drawn.ask(inline), drawn.ask(inline), drawn.ask(workers)]
            assert answers[1:] == 2 * answers[:1], vars(drawn)
            found[answers[0][0]] += 1
        assert found[200] > 300, found
        assert slices(inline) == before[0]
        assert slices(workers) >= before[1] + found[200]


@pytest.mark.slow
def test_without_the_kernel_workers_score(tmp_path: Path) -> None:
    with live_server(tmp_path, kernel="torch") as server, httpx.Client(base_url=server.url) as client:
        body = npy(np.zeros((2, 2), np.float32)) * 2
        answer = client.post("/bce", content=body, headers={"content-type": "application/x-npy"})
        assert (answer.status_code, answer.json()["kernel"]) == (200, "torch")
        assert slices(client) == 1


def test_what_costs_more_is_for_workers(server: LiveServer) -> None:
    with httpx.Client(base_url=server.url) as client:
        for rows, by_worker in ((400, False), (500, True)):  # of 80 elements of 8 ns each
            before = slices(client)
            body = npy(np.zeros((rows, 80), np.float16)) * 2
            answer = client.post("/bce", content=body, headers={"content-type": "application/x-npy"})
            assert answer.json()["count"] == rows * 80
            assert (slices(client) > before) is by_worker


@pytest.mark.parametrize("coding", [{}, {"content-encoding": "identity"}], ids=["lane", "ordinary"])
def test_it_is_counted_as_the_cpus(server: LiveServer, coding: dict[str, str]) -> None:
    series = (
        'lossd_requests_total{format="npy",loss="focal",outcome="ok",team="default"}',
        'lossd_elements_total{loss="focal",team="default"}',
        'lossd_bytes_total{team="default"}',
        'lossd_device_seconds_total{device="cpu",team="default"}',
        "lossd_requests_in_flight",
        "lossd_bytes_in_flight",
    )
    body = npy(np.zeros((32, 80), np.float32)) * 2
    headers = {"content-type": "application/x-npy", **coding}
    with httpx.Client(base_url=server.url) as client:
        before = [counted(client, one) for one in series]
        for _ in range(3):
            answer = client.post("/focal", content=body, headers=headers).json()
        after = [counted(client, one) for one in series]
    requests, elements, nbytes, seconds, under_way, held = (b - a for a, b in zip(before, after, strict=True))
    assert (requests, elements, nbytes) == (3, 3 * 2560, 3 * len(body))
    assert 0.0 < seconds < 1.0
    assert under_way == held == 0
    assert (answer["device"], answer["kernel"]) == ("cpu", "native")
