"""Which requests take the fast lane: a front end in this process, whose ordinary way says it was taken."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from lossd.api.auth import Gate
from lossd.api.http.disconnects import DisconnectWatcher
from lossd.api.http.linger import Lingerers
from lossd.api.http.protocol import LossdProtocol
from lossd.api.metrics import Metrics
from lossd.api.services import Helpers, Service
from lossd.api.small_requests import heads, lane, layouts
from lossd.api.small_requests.heads import read_head
from lossd.api.small_requests.lane import LONGEST, PATIENCE, FastLane
from lossd.core.native.kernel import NativeKernel
from lossd.engine import scheduler
from lossd.engine.admission.quota_memory import quotas_bytes
from lossd.engine.admission.quotas import Quotas
from lossd.engine.dispatch.worker_pool import WorkerPool
from lossd.engine.ipc.channel import socket_pair
from lossd.engine.ipc.counters import COUNTERS_BYTES, Counters
from lossd.engine.ipc.memory import Memory, create_memory
from lossd.engine.scheduler import LoopTurns
from lossd.settings import Settings
from lossd.teams import Limits, Team
from lossd_client import LossClient

RNG = np.random.default_rng(5)
LOGITS = RNG.normal(0, 4, (5, 3)).astype(np.float32)
TARGETS = (RNG.random((5, 3)) < 0.5).astype(np.float32)
CRLF = b"\r\n"


def npy(*arrays: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    for array in arrays:
        np.save(file, array)
    return file.getvalue()


BODY = npy(LOGITS, TARGETS)
JSON = json.dumps({"logits": LOGITS.tolist(), "targets": TARGETS.tolist()}).encode()


def request(
    body: bytes = BODY,
    target: str = "/bce",
    *headers: str,
    media: str = "application/x-npy",
    line: str = "POST {} HTTP/1.1",
) -> bytes:
    lines = [line.format(target), "Host: x", f"Content-Type: {media}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


class FrontEnd:
    """A front end without a worker: what is scored is scored by itself.

    Attributes:
        service: Its parts.
        ordinary: The bodies of the requests that went the ordinary way.
    """

    def __init__(
        self, service: Service, port: int, ordinary: list[bytes], connections: set[LossdProtocol]
    ) -> None:
        self.service = service
        self.turns = service.turns
        self.ordinary = ordinary
        self.connections: set[LossdProtocol] = connections
        self.url = f"http://127.0.0.1:{port}"
        self.port = port

    def stop_turns(self) -> None:
        """Leave no time, and let no other turn come."""
        self.turns._begun, self.turns._until = True, 0.0

    async def ask_late(self, *requests: bytes) -> list[tuple[int, bytes]]:
        """The answers to requests that come when there is no time left in a turn of the loop."""
        self.stop_turns()
        asking = [asyncio.ensure_future(self.ask(one)) for one in requests]
        await until(lambda: len(self.turns._waiting) == len(requests))
        self.turns._turn()
        return await asyncio.gather(*asking)

    async def ask(self, *pieces: bytes, pause: float = 0.0) -> tuple[int, bytes]:
        """The status and the body of the answer to one request, sent in pieces."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        head = await reader.readuntil(2 * CRLF)
        length = re.search(rb"content-length: (\d+)", head)
        assert length
        body = await reader.readexactly(int(length[1]))
        writer.close()
        return int(head.split()[1]), body


@asynccontextmanager
async def front_end(**settings_given: float) -> AsyncIterator[FrontEnd]:
    settings, ordinary = Settings.model_validate(settings_given), list[bytes]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        ordinary.append(body)
        await send({"type": "http.response.start", "status": 299, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    fds = [create_memory(n) for n in (settings.arena_bytes, COUNTERS_BYTES, quotas_bytes(1))]
    memory, counters = Memory(fds[0], settings.arena_bytes), Counters(fds[1])
    control, supervisor = socket_pair()
    pool = WorkerPool(memory, control, 1, settings.slice_elements)
    gate = Gate(Quotas(fds[2], 1, 0, clock=lambda: 0.0), teams=False)  # no limit is filled up again
    helpers = cast(Helpers, None)  # nobody asks it
    service = Service.create(settings, memory, pool, gate, helpers, Metrics([counters], 0), 0)
    config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None)
    state = ServerState()
    assert service.inplace is not None
    protocol = partial(
        LossdProtocol,
        settings=settings,
        disconnects=DisconnectWatcher(),
        lingerers=Lingerers(settings),
        turns=service.turns,
        config=config,
        server_state=state,
        app_state={},
    )
    server = await asyncio.get_running_loop().create_server(
        partial(protocol, lane=partial(FastLane, service, service.inplace)), "127.0.0.1", 0
    )
    try:
        yield FrontEnd(
            service, server.sockets[0].getsockname()[1], ordinary, cast(set[LossdProtocol], state.connections)
        )
        assert service.bodies.reserved == service.small_bodies.reserved == 0
    finally:
        server.close()
        pool.close()
        supervisor.close()
        for fd in fds:
            os.close(fd)


def run(test: Callable[[FrontEnd], Awaitable[None]], **settings: float) -> None:
    async def main() -> None:
        async with front_end(**settings) as front:
            await test(front)

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 -- there is no event
            await asyncio.sleep(0.001)


def inference(
    tensors: dict[str, npt.NDArray[Any]] | None = None,
    path: str = "/v2/models/bce/infer",
    *headers: str,
    binary: bool = True,
    **members: object,
) -> bytes:
    """A request of the Open Inference Protocol, its tensors behind the JSON object or in it."""
    inputs, behind = list[dict[str, object]](), b""
    for name, array in (tensors or {"logits": LOGITS, "targets": TARGETS}).items():
        datatype = {"bool": "BOOL", "float32": "FP32"}[array.dtype.name]
        described: dict[str, object] = {"name": name, "shape": list(array.shape), "datatype": datatype}
        if binary:
            inputs.append(described | {"parameters": {"binary_data_size": array.nbytes}})
            behind += array.tobytes()
        else:
            inputs.append(described | {"data": array.reshape(-1).tolist()})
    text = json.dumps({"inputs": inputs, **members}).encode()
    if binary:
        headers = (f"Inference-Header-Content-Length: {len(text)}", *headers)
    return request(text + behind, path, *headers, media="application/octet-stream")


def as_json(**members: object) -> bytes:
    document = {"logits": LOGITS.tolist(), "targets": TARGETS.tolist(), **members}
    return request(json.dumps(document).encode(), media="application/json")


TAKEN = {
    "a usual one": request(),
    "parameters": request(BODY, "/focal?gamma=2&alpha=null&reduction=sum"),
    "other tensors": request(npy(TARGETS, LOGITS, TARGETS), "/bce?tensors=targets,logits,weight"),
    "bool and float16": request(npy(LOGITS.astype(np.float16), TARGETS.astype(bool))),
    "Fortran order": request(npy(np.asfortranarray(LOGITS), TARGETS)),
    "big-endian": request(npy(LOGITS.astype(">f8"), TARGETS)),
    "an id": request(BODY, "/bce", "X-Request-Id: one"),
    "a deadline": request(BODY, "/bce", "X-Timeout-Ms: 5000"),
    "JSON wanted": request(BODY, "/bce", "Accept: application/json, */*;q=0.5"),
    "names in other cases": request().replace(b"Content-", b"cOnTeNt-"),
    "kept alive": request(BODY, "/bce", "Connection: keep-alive"),
    "a NaN": request(npy(LOGITS * np.nan, TARGETS)),
    "JSON": as_json(),
    "JSON with parameters": as_json(pos_weight=[1, 2, 3], label_smoothing=0.1),
    "JSON with ids": as_json(targets=[0, 1, 2, 1, 0], targets_format="index"),
    "an inference": inference(),
    "an inference with bool": inference({"logits": LOGITS, "targets": TARGETS.astype(bool)}),
    "an inference in JSON": inference(binary=False),
    "an inference of a version": inference(None, "/v2/models/focal/versions/1/infer"),
    "an inference with parameters": inference(
        id="one", parameters={"reduction": "sum"}, outputs=[{"name": "sum"}]
    ),
    "an inference with a list": inference(parameters={"pos_weight": "1,2,3"}),
}
NOT_TAKEN = {
    "JSON cut short": request(JSON[:-1], media="application/json"),
    "JSON that asks for an array": as_json(reduction="none"),
    "JSON of another charset": request(JSON, media="application/json; charset=latin-1"),
    "an array of JSON": request(b"[1]", media="application/json"),
    "an inference that asks for an array": inference(parameters={"reduction": "none"}),
    "an inference with a deadline": inference(parameters={"timeout": 5_000_000}),
    "an inference that announces too much": inference(None, "/v2/models/bce/infer").replace(
        b"Header-Content-Length: ", b"Header-Content-Length: 9"
    ),
    "an inference cut short": request(
        inference().partition(2 * CRLF)[2][:-1],
        "/v2/models/bce/infer",
        re.findall(rb"Inference-[^\r]+", inference())[0].decode(),
    ),
    "an unknown model": inference(None, "/v2/models/mse/infer"),
    "an array wanted": request(BODY, "/bce", "Accept: application/x-npy"),
    "nothing acceptable": request(BODY, "/bce", "Accept: text/html"),
    "an answer for each": request(BODY, "/bce?reduction=none"),
    "an answer for some": request(BODY, "/bce?axis=1"),
    "a list": request(BODY, "/bce?pos_weight=1,2,3"),
    "a report": request(BODY, "/bce?report=totals"),
    "JSON that asks for a report": as_json(report="all", top=3),
    "an inference that asks for a report": inference(parameters={"report": "top"}),
    "an inference that asks for the output of a report": inference(outputs=[{"name": "report"}]),
    "a tensor of a report": request(npy(LOGITS, TARGETS, LOGITS), "/bce?tensors=logits,targets,baseline"),
    "an unknown parameter": request(BODY, "/bce?gama=2"),
    "a deadline that is none": request(BODY, "/bce", "X-Timeout-Ms: soon"),
    "an unknown route": request(BODY, "/livez"),
    "a path that is quoted": request(BODY, "/%62ce"),
    "another method": request(line="PUT {} HTTP/1.1"),
    "HTTP/1.0": request(line="POST {} HTTP/1.0"),
    "the last": request(BODY, "/bce", "Connection: close"),
    "an offer": request(BODY, "/bce", "Connection: Upgrade", "Upgrade: h2c"),
    "a coding": request(BODY, "/bce", "Content-Encoding: identity"),
    "no body": request(b""),
    "no type": request().replace(b"Content-Type", b"X-Type"),
    "another type": request(media="application/x-npz"),
    "a long head": request(BODY, "/bce", f"X-Filler: {'x' * 5000}"),
    "a long body": request(npy(np.zeros(LONGEST, np.uint8), np.zeros(1))),
    "an array cut short": request(BODY[:-1]),
    "bytes behind": request(BODY + b"x"),
    "shapes that differ": request(npy(LOGITS, TARGETS[:4])),
    "objects": request(npy(np.array([{}], dtype=object), TARGETS)),
    "no elements": request(npy(LOGITS[:0], TARGETS[:0])),
}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, bodies are there in time."""
    monkeypatch.setattr(lane, "PATIENCE", 10.0)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("whole", TAKEN.values(), ids=TAKEN)
def test_who_takes_it(whole: bytes) -> None:
    async def test(front: FrontEnd) -> None:
        for _ in range(2):
            assert (await front.ask(whole))[0] in (200, 422)
            head, _, rest = whole.partition(2 * CRLF)
            if b"X-Timeout-Ms" not in head:  # which bounds the upload, too
                assert (await front.ask(head + 2 * CRLF, rest, pause=0.002))[0] in (200, 422)
        assert not front.ordinary

    run(test)


@pytest.mark.parametrize("whole", NOT_TAKEN.values(), ids=NOT_TAKEN)
def test_who_does_not(whole: bytes) -> None:
    async def test(front: FrontEnd) -> None:
        body = whole.partition(2 * CRLF)[2]
        for n in range(1, 3):
            assert await front.ask(whole) == (299, b"")
            assert front.ordinary == n * [body]

    run(test)


def test_a_body_that_is_slow_in_coming_goes_the_ordinary_way() -> None:
    async def test(front: FrontEnd) -> None:
        whole = request()
        assert await front.ask(whole[:-20], whole[-20:], pause=3 * PATIENCE) == (299, b"")
        assert front.ordinary == [BODY]

    run(test)


def test_a_deadline_bounds_the_upload_there() -> None:
    async def test(front: FrontEnd) -> None:
        whole = request(BODY, "/bce", "X-Timeout-Ms: 5000")
        assert await front.ask(whole[:-20], whole[-20:], pause=0.002) == (299, b"")

    run(test)


def test_where_the_server_stops() -> None:
    async def test(front: FrontEnd) -> None:
        front.service.pool.leaving.set()
        assert await front.ask(request()) == (299, b"")

    run(test)


@pytest.mark.usefixtures("patient")
def test_bodies_of_the_same_length_are_told_apart() -> None:
    """Their heads are the same; how they are divided is not, nor what they come to."""
    bodies = [
        npy(LOGITS.reshape(shape), TARGETS.reshape(shape).astype(dtype))
        for shape in [(5, 3), (3, 5), (15, 1), (1, 15)]
        for dtype in (np.float32, np.uint32, np.dtype("S4"))
    ]
    assert len({len(body) for body in bodies}) == 1

    async def test(front: FrontEnd) -> None:
        for body in random.Random(0).choices(bodies, k=100):
            status, answer = await front.ask(request(body))
            if b"S4" in body:  # which is not taken
                assert (status, front.ordinary.pop()) == (299, body)
            else:
                assert status == 200
                shape = np.load(io.BytesIO(body)).shape
                assert json.loads(answer)["shape"] == list(shape)

    run(test)


def test_documents_of_the_same_shapes_are_told_apart() -> None:
    """What is kept of one holds for others that say the same, of whatever length, and for no others."""
    params: list[dict[str, Any]] = [
        {},
        {"gamma": 1.5},
        {"gamma": 2},
        {"gamma": 2.0, "reduction": "sum"},
        {"alpha": 0.5},
        {"alpha": [0.5, 0.25, 1.0]},
        {"alpha": [0.25, 0.5, 1.0]},
        {"weight": [1.0, 2.0, 3.0]},
    ]
    rng = np.random.default_rng(6)
    expected = {}
    asked = [(x, i) for x in rng.normal(0, 4, (4, 5, 3)) for i in range(len(params))]

    def document(x: npt.NDArray[Any], i: int) -> bytes:
        return json.dumps({"logits": x.tolist(), **params[i], "targets": TARGETS.tolist()}).encode()

    async def test(front: FrontEnd) -> None:
        for x, i in asked:  # the ordinary way keeps nothing
            query = "&".join(
                f"{name}={','.join(map(str, value)) if isinstance(value, list) else value}"
                for name, value in params[i].items()
                if name != "weight"
            )
            arrays = [x, TARGETS, *([np.array(params[i]["weight"])] if "weight" in params[i] else [])]
            names = "tensors=logits,targets" + (",weight" if "weight" in params[i] else "")
            status, answer = await front.ask(request(npy(*arrays), f"/focal?{names}&{query}"))
            assert status in (200, 299)
            if status == 200:
                expected[x.tobytes(), i] = json.loads(answer)
        front.ordinary.clear()
        for _ in range(3):
            random.Random(1).shuffle(asked)
            for x, i in asked:
                status, answer = await front.ask(request(document(x, i), "/focal", media="application/json"))
                assert status == 200
                found, due = json.loads(answer), expected.get((x.tobytes(), i))
                if due is not None:
                    for name in ("loss", "sum", "count", "weight_sum", "params", "reduction"):
                        assert found[name] == due[name], (params[i], name)
        assert not front.ordinary

    run(test)
    assert len(expected) >= 4 * 6


def test_what_is_kept_of_documents_are_no_documents() -> None:
    async def test(front: FrontEnd) -> None:
        for n in range(300):
            text = json.dumps({"logits": [n / 7] * (n % 50 + 1), "targets": [1] * (n % 50 + 1), "gamma": n})
            status, _ = await front.ask(request(text.encode(), "/focal", media="application/json"))
            assert status == 200
        assert not any(layout.gaps for layout in layouts._json_layouts.values())
        assert 0 < len(layouts._json_layouts) <= 256
        assert not front.ordinary

    run(test)


def test_what_is_kept_of_bodies_is_bounded_whatever_callers_send() -> None:
    """Long heads are read anew each time, and of each form few lengths are known."""
    heads: dict[str, list[dict[str, Any]]] = {
        "inputs": [{"name": name, "shape": [3], "datatype": "FP32"} for name in ("logits", "targets")]
    }
    for one in heads["inputs"]:
        one["parameters"] = {"binary_data_size": 12}
    data = np.zeros(6, dtype=np.float32).tobytes()

    async def test(front: FrontEnd) -> None:
        for blanks in (*range(200), *range(3000, 3020)):
            text = json.dumps(heads).encode() + b" " * blanks
            extra = f"Inference-Header-Content-Length: {len(text)}"
            sent = request(text + data, "/v2/models/bce/infer", extra, media="application/octet-stream")
            assert (await front.ask(sent))[0] == 200
        assert not front.ordinary
        forms_kept = [one for one in gc.get_objects() if type(one) is layouts.InferenceLayouts]
        kept = [layout for form in forms_kept for known in form._known.values() for layout in known]
        assert 0 < len(kept) < 4 * 64 * 64
        assert max(sum(len(gap) for _, gap in layout.gaps) for layout in kept) <= 1 << 11

    run(test)


def test_a_name_with_a_null_byte_is_refused_the_ordinary_way() -> None:
    async def test(front: FrontEnd) -> None:
        body = b'{"logits": [1, 2], "targets": [0, 1], "x\\u0000y": 1}'
        assert await front.ask(request(body, media="application/json")) == (299, b"")
        assert front.ordinary == [body]

    run(test)


def test_a_failure_of_the_lane_itself_is_logged_and_the_request_goes_the_ordinary_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("broken")

    async def test(front: FrontEnd) -> None:
        monkeypatch.setattr(layouts, "assemble", fail)
        body = npy(LOGITS[:3], TARGETS[:3])
        assert await front.ask(request(body, "/focal?gamma=2.25")) == (299, b"")
        assert front.ordinary == [body]
        [record] = caplog.records
        assert record.exc_info is not None
        assert record.exc_info[0] is KeyError

    run(test)


def test_the_same_head_with_other_values_is_known() -> None:
    def head(n: int, *more: str) -> bytes:
        varying = (
            f"X-Request-Id: {n:032x}",
            f"x-timeout-ms: {30000 - n}",
            f"TraceParent: 00-{n:032x}-{n:016x}-01",
            f"tracestate: a={n},b=1",
        )
        return request(b"x" * (n + 1), "/bce", *varying, *more).removesuffix(b"x" * (n + 1))

    heads._known.clear()
    found = [read_head(head(n)) for n in range(9)]
    assert len(heads._known) == 1
    assert [(one.length, one.request_id, one.timeout) for one in found if one] == [
        (n + 1, f"{n:032x}".encode(), (30000 - n) / 1000) for n in range(9)
    ]
    assert len({id(one.common) for one in found if one}) == 1
    assert [one.headers for one in found if one] == 9 * [7]
    read_head(head(9, "Accept: */*"))
    assert len(heads._known) == 2


@pytest.mark.parametrize(
    "line",
    [
        "X-Request-Id: one\r\nX-Request-Id: two",
        "Content-Length: {length}",
        "content-length: {length}\r\n folded",
        "X-Request-Id: one\r\n two",
        "X-Request-Id : one",
        "X-Timeout-Ms: 0",
        "X-Timeout-Ms: 1\r\nX-Timeout-Ms: 2",
        "X-Timeout-Ms: soon",
        "X-Request-Id: not well-formed",
        "traceparent: \0",
        "traceparent: a\n b",
    ],
)
def test_lines_that_vary_and_are_written_oddly_are_for_the_parser(line: str) -> None:
    for _ in range(2):
        assert read_head(request(BODY, "/bce", line.format(length=len(BODY))).removesuffix(BODY)) is None
        assert read_head(request().removesuffix(BODY)) is not None


def test_a_head_that_ends_before_its_bytes_do_is_none() -> None:
    head = request().removesuffix(BODY)
    assert read_head(head) is not None
    assert read_head(head + b"x") is None
    assert read_head(head.replace(CRLF, b"\n") + 2 * CRLF) is None
    assert read_head(head[:-2]) is None


def test_a_head_of_no_length_does_not_hide_one_that_has() -> None:
    head = request().removesuffix(BODY)
    length = re.findall(rb"Content-Length: \d+\r\n", head)[0]
    heads._known.clear()
    assert read_head(head.replace(length, b"")) is None
    assert read_head(head) is not None


@pytest.mark.parametrize("length", [b"0", b"000"])
def test_a_request_without_a_body_does_not_hide_one_that_has(length: bytes) -> None:
    head = request().removesuffix(BODY)
    heads._known.clear()
    assert read_head(re.sub(rb"(?<=Content-Length: )\d+", length, head)) is None
    assert read_head(head) is not None


def test_headers_that_vary_are_counted_with_the_others() -> None:
    async def test(front: FrontEnd) -> None:
        assert (await front.ask(request(BODY, "/bce", "X-Request-Id: a")))[0] == 200
        assert (await front.ask(request(BODY, "/bce", "X-Request-Id: a", "Traceparent: b")))[0] == 431

    run(test, max_headers=4)


def test_what_the_projects_client_sends_is_known_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its heads, taken from its own transport: none is parsed but the first."""
    parsed: list[bytes] = []
    parse_common = heads._parse_common

    def count(raw: bytes, key: bytes) -> heads.CommonHead | None:
        parsed.append(raw)
        return parse_common(raw, key)

    monkeypatch.setattr(heads, "_parse_common", count)
    heads._known.clear()

    async def test(front: FrontEnd) -> None:
        def ask() -> None:
            with LossClient(front.url) as client:
                for n in range(5):
                    assert client.bce(LOGITS + n, TARGETS).count == LOGITS.size

        await asyncio.to_thread(ask)
        assert not front.ordinary
        assert len(parsed) == 1

    run(test)


def test_where_a_turn_of_the_loop_is_over_requests_wait_and_are_answered() -> None:
    async def test(front: FrontEnd) -> None:
        for _ in range(3):
            answers = await front.ask_late(*[request()] * 9)
            assert [status for status, _ in answers] == 9 * [200]
        assert not front.ordinary

    run(test)


def test_a_request_that_waited_for_its_turn_and_is_for_elsewhere_goes_there() -> None:
    body = request(JSON[:-1], media="application/json")

    async def test(front: FrontEnd) -> None:
        assert await front.ask_late(body) == [(299, b"")]
        assert front.ordinary == [JSON[:-1]]
        assert (await front.ask(request()))[0] == 200

    run(test)


@pytest.mark.parametrize("header", ["X-Timeout-Ms: 30", "X-Other: x"])
def test_a_deadline_that_has_passed_is_seen_before_anything_is_computed(
    header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    turn = LoopTurns._turn

    def turn_late(turns: LoopTurns) -> None:
        time.sleep(0.1)
        turn(turns)

    monkeypatch.setattr(LoopTurns, "_turn", turn_late)

    async def test(front: FrontEnd) -> None:
        monkeypatch.setattr(NativeKernel, "score", fail)
        [(status, answer)] = await front.ask_late(request(BODY, "/bce", header))
        assert (status, json.loads(answer)["code"]) == (504, "deadline_exceeded")
        assert json.loads(answer)["retryable"] is (header == "X-Other: x")

    run(test, timeout_seconds=0.05)


@pytest.mark.parametrize(
    ("limits", "answered"),
    [
        (Limits(requests_per_second=5.0), 5),
        (Limits(elements_per_second=20.0), 2),  # 15 elements each
        (Limits(bytes_in_flight=len(BODY)), 9),
        (Limits(bytes_in_flight=len(BODY) - 1), 0),
        (Limits(requests_in_flight=1), 9),
    ],
    ids=str,
)
def test_the_limits_of_a_team_hold(limits: Limits, answered: int) -> None:
    async def test(front: FrontEnd) -> None:
        front.service.gate.quotas.change({"default": Team("default", limits=limits)}, {"default": 0})
        found = [(await front.ask(request()))[0] for _ in range(9)]
        assert found == answered * [200] + (9 - answered) * [299]  # these are refused the ordinary way

    run(test)


def test_those_that_wait_are_not_under_way_yet() -> None:
    limits = Limits(requests_in_flight=1)

    async def test(front: FrontEnd) -> None:
        front.service.gate.quotas.change({"default": Team("default", limits=limits)}, {"default": 0})
        front.stop_turns()
        asking = [asyncio.ensure_future(front.ask(request())) for _ in range(5)]
        await until(lambda: len(front.turns._waiting) == 5)
        assert front.service.metrics.totals().get(("requests_in_flight",), 0.0) == 0.0
        front.turns._turn()
        assert [status for status, _ in await asyncio.gather(*asking)] == 5 * [200]

    run(test)


def test_those_that_waited_are_not_let_in_when_others_have_used_up_the_rate() -> None:
    limits = Limits(elements_per_second=20.0)  # 15 elements each

    async def test(front: FrontEnd) -> None:
        front.service.gate.quotas.change({"default": Team("default", limits=limits)}, {"default": 0})
        front.stop_turns()
        asking = [asyncio.ensure_future(front.ask(request())) for _ in range(6)]
        await asyncio.sleep(0.05)
        front.turns._turn()
        statuses = [status for status, _ in await asyncio.gather(*asking)]
        assert sorted(statuses) == [200, 200, 299, 299, 299, 299]

    run(test)


def test_a_request_that_waited_and_is_for_elsewhere_counts_once() -> None:
    limits = Limits(requests_per_second=5.0)

    async def test(front: FrontEnd) -> None:
        quotas = front.service.gate.quotas
        quotas.change({"default": Team("default", limits=limits)}, {"default": 0})
        for _ in range(20):
            assert await front.ask_late(request(JSON[:-1], media="application/json")) == [(299, b"")]
        assert [one.state for one in quotas.left("default")] == ['"requests";r=5;t=0']

    run(test)


@pytest.mark.usefixtures("patient")
def test_who_hangs_up_in_a_body_is_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    async def test(front: FrontEnd) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(request()[:-9])
        await asyncio.sleep(0.02)
        writer.close()
        totals = front.service.metrics.totals
        refused = ("requests", "bce", "npy", "disconnected", "default")
        await until(lambda: bool(totals().get(refused)))
        assert totals()[refused] == 1.0
        await front.service.accounting.drain(1.0)

    run(test)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("sent", [request(), request() * 2])
def test_who_hangs_up_before_its_turn_is_not_scored(
    sent: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    async def test(front: FrontEnd) -> None:
        monkeypatch.setattr(NativeKernel, "score", fail)
        front.stop_turns()
        _, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(sent)
        await until(lambda: bool(front.turns._waiting))
        writer.close()
        await until(lambda: not front.connections)
        front.turns._turn()
        assert not front.turns._waiting
        assert not [name for name in front.service.metrics.totals() if name[0] == "requests"]

    run(test)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_who_waits_when_the_time_for_draining_is_up() -> None:
    async def test(front: FrontEnd) -> None:
        front.stop_turns()
        asking = asyncio.ensure_future(front.ask(request()))
        await until(lambda: bool(front.turns._waiting))
        front.service.pool.leaving.set()
        await front.service.accounting.drain(0.0)
        for connection in front.connections:
            connection.shutdown()
        front.turns._turn()
        assert (await asking)[0] == 299  # the ordinary way refuses it

    run(test)


def test_one_who_sends_more_while_waiting_is_not_read_on() -> None:
    async def test(front: FrontEnd) -> None:
        front.stop_turns()
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        whole = request()
        for n in range(6):
            writer.write(whole[n * len(whole) // 6 : (n + 1) * len(whole) // 6])
            await writer.drain()
            await asyncio.sleep(0.01)
        [connection] = front.connections
        assert len(connection._waiting) == 2
        assert not connection.transport.is_reading()
        assert not connection.idle
        front.turns._turn()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()

    run(test)


def test_one_who_has_sent_more_while_waiting_has_all_answered_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scheduler, "TURN_SECONDS", 1e-4)

    async def test(front: FrontEnd) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        for n in range(60):
            writer.write(request(BODY, "/bce", f"X-Request-Id: {n}"))
        for n in range(60):
            head = await reader.readuntil(2 * CRLF)
            assert f"x-request-id: {n}\r\n".encode() in head
            found = re.search(rb"content-length: (\d+)", head)
            assert found
            await reader.readexactly(int(found[1]))
        writer.close()

    run(test)
