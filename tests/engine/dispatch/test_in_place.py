"""Small requests scored by the front end: how it shares its time, and that a worker gives the same bits."""

from __future__ import annotations

import asyncio
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
from lossd.engine.dispatch.in_place import TURN_SECONDS, LoopTurns
from lossd.teams import EVERYONE, Team

Arrays = dict[str, npt.NDArray[Any]]


class Work:
    """Work for a loop's turns, by a clock of its own.

    Attributes:
        turns: The turns.
        done: Whose work has been done, in order, by turn of the loop.
    """

    def __init__(self) -> None:
        self.now = 100.0
        self.turns = LoopTurns(lambda: self.now)
        self.done: list[list[str]] = []

    def add(self, team: Team, seconds: float) -> None:
        def work() -> None:
            self.now += seconds
            self.done[-1].append(team.name)

        assert self.turns.add(team, 0, work)

    async def run(self) -> None:
        while len(self.turns._waiting):
            self.done.append([])
            await asyncio.sleep(0)


def test_what_a_turn_has_no_time_for_is_for_later_ones() -> None:
    async def test() -> None:
        work = Work()
        assert not work.turns.has_time(work.now)  # whatever the loop did before counts
        for _ in range(100):
            work.add(EVERYONE, 0.3e-3)
        await work.run()
        assert [len(turn) for turn in work.done if turn] == [7] * 14 + [2]
        assert work.turns.has_time(work.now)
        work.now += TURN_SECONDS
        assert not work.turns.has_time(work.now)

    asyncio.run(test())


def test_teams_have_their_shares_of_the_turns() -> None:
    """Whoever sends most: a hundred of one team's are no reason for the other's few to wait for long."""

    async def test() -> None:
        work, one, other = Work(), Team("one", weight=1.0), Team("other", weight=3.0)
        for _ in range(100):
            work.add(one, 0.1e-3)
        for _ in range(60):
            work.add(other, 0.1e-3)
        await work.run()
        order = [name for turn in work.done for name in turn]
        for end in range(8, 80):
            assert abs(Counter(order[:end])["other"] - 0.75 * end) <= 3.0
        assert Counter(order) == {"one": 100, "other": 60}

    asyncio.run(test())


def test_one_who_comes_back_does_not_wait_for_all_others() -> None:
    async def test() -> None:
        work, many, single = Work(), Team("many"), Team("single")
        for _ in range(1000):
            work.add(many, 0.1e-3)
        waits = []
        for _ in range(20):
            work.add(single, 0.1e-3)
            began = work.now
            while not any("single" in turn for turn in work.done):
                work.done.append([])
                await asyncio.sleep(0)
            waits.append(work.now - began)
            work.done.clear()
            work.done.append([])
        assert max(waits) <= 2 * TURN_SECONDS + 0.2e-3

    asyncio.run(test())


def test_there_is_a_limit_to_what_waits() -> None:
    async def test() -> None:
        turns = LoopTurns()
        assert turns.add(EVERYONE, 100 << 20, lambda: None)  # one at least may
        assert not turns.add(EVERYONE, 1, lambda: None)
        assert turns.add(EVERYONE, 0, lambda: None)  # what has memory already
        turns._turn()
        assert turns.add(EVERYONE, 1, lambda: None)

    asyncio.run(test())


def test_others_have_their_turn_though_one_fails() -> None:
    async def test() -> None:
        turns, done = LoopTurns(), []

        def fail() -> None:
            raise ValueError("odd")

        said: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["message"]))
        for work in (fail, lambda: done.append(1), fail, lambda: done.append(2)):
            turns.add(EVERYONE, 0, work)
        for _ in range(5):
            await asyncio.sleep(0)
        assert done == [1, 2]
        assert len(said) == 2

    asyncio.run(test())


def test_what_is_waited_for_is_given_or_raised_and_not_done_in_vain() -> None:
    async def test() -> None:
        turns, done = LoopTurns(), []

        def fail() -> None:
            raise ValueError("odd")

        def work() -> int:
            done.append(1)
            return 3

        assert await turns.run(EVERYONE, work) == 3
        turns._until = 0.0
        with pytest.raises(ValueError, match="odd"):
            await turns.run(EVERYONE, fail)
        turns._until = 0.0
        waiting = asyncio.ensure_future(turns.run(EVERYONE, work))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert done == [1]

    asyncio.run(test())


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
