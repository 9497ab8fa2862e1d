"""The OpenAPI document fits the server, and the client's types fit the document."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urljoin

import httpx
import jsonschema_rs
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks as openapi_checks

from arrow_stream import stream
from engine.worker.test_worker import Desk, ticking, working
from faults.raw import connect, receive
from live_server import live_server
from lossd.api.problems import KINDS
from lossd.api.routes.examples import QUOTED
from lossd.core.catalog import LOSSES
from lossd.core.report.parameters import REPORT
from lossd.engine.admission.concurrency import ConcurrencyLimiter
from lossd.engine.ipc.messages import Failed
from lossd.types import ErrorCode, RequestError
from lossd_client import AsyncLossClient, LossClient, LossResult, Reduction


@pytest.fixture(scope="session")
def document(base_url: str) -> dict[str, Any]:
    answer = httpx.get(f"{base_url}/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="session")
def api_schema(base_url: str) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{base_url}/openapi.json")


def _npy_pair(shape: tuple[int, ...], seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    np.save(file, rng.normal(size=shape).astype(np.float32))
    np.save(file, rng.integers(0, 2, shape).astype(np.uint8))
    return file.getvalue()


_SHAPES = st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple)
schemathesis.openapi.media_type(
    "application/x-npy", st.one_of(st.binary(max_size=200), st.builds(_npy_pair, _SHAPES, st.integers(0, 99)))
)

REPORT_TENSORS = {"groups", "ids", "baseline"}

CHECKS = [
    schemathesis.checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.unsupported_method,
]


@pytest.mark.parametrize(
    "path",
    [*(f"/{loss}" for loss in LOSSES), "/livez", "/readyz", "/info", "/metrics", "/usage", "/overview"],
)
def test_the_server_answers_as_documented(api_schema: schemathesis.BaseSchema, path: str) -> None:
    for method in api_schema[path]:

        @settings(
            max_examples=60, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
        )
        @given(case=api_schema[path][method].as_strategy())
        def holds(case: schemathesis.Case[Any]) -> None:
            case.headers.pop("X-Timeout-Ms", None)  # 1 ms is a true deadline, and 504 the true answer
            case.call_and_validate(checks=CHECKS, timeout=30)

        holds()


def test_the_document_is_valid_and_names_every_problem(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    for loss in LOSSES:
        operation = document["paths"][f"/{loss}"]["post"]
        named: set[str] = set()
        for status, response in operation["responses"].items():
            if status == "200":
                continue
            examples = response["content"]["application/problem+json"]["examples"]
            for name, example in examples.items():
                assert (example["value"]["code"], example["value"]["status"]) == (name, int(status))
                validate(document, "Problem", example["value"])
            named |= set(examples)
        assert named == set(KINDS) - {"not_found", "method_not_allowed"}
        assert all(media["examples"] for media in operation["requestBody"]["content"].values())
        assert set(operation["requestBody"]["content"]) == {
            "application/json",
            "application/vnd.apache.arrow.stream",
            "application/x-npy",
            "application/x-npz",
            "multipart/form-data",
        }


@pytest.mark.parametrize("loss", LOSSES)
def test_the_examples_are_answered(document: dict[str, Any], base_url: str, loss: str) -> None:
    operation = document["paths"][f"/{loss}"]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    for example in examples.values():
        answer = httpx.post(f"{base_url}/{loss}", json=example["value"])
        assert answer.status_code == 200, answer.text
        validate(document, "LossAnswer", answer.json())
        assert ("report" in answer.json()) == ("report" in example["value"])
    without, weighted = (
        httpx.post(f"{base_url}/{loss}", json=examples[name]["value"]).json()["loss"]
        for name in ("mean", "weighted")
    )
    assert weighted != without, "weights that change nothing show nothing"
    answers = operation["responses"]["200"]["content"]["application/json"]["examples"]
    assert set(answers) == {"mean", "report"}
    for name, answered in answers.items():
        shown = answered["value"]
        real = httpx.post(f"{base_url}/{loss}", json=examples[name]["value"]).json()
        if name == "report":
            real["report"]["run"]["request_id"] = shown["request_id"]
        assert shown == {**real, "request_id": shown["request_id"]}
        validate(document, "LossAnswer", shown)


def without_numbers(detail: str) -> str:
    return re.sub(r"[0-9]+(\.[0-9]+)?", "0", detail)


def test_quoted_problems_of_a_connection_are_what_it_answers(tmp_path: Path) -> None:
    """Other examples are raised by the code that raises them for callers."""
    with live_server(tmp_path, upload_grace_seconds=0.1, upload_pause_seconds=0.1) as hasty:
        headers = {f"x-{i}": "1" for i in range(101)}
        refused = httpx.post(f"{hasty.url}/bce", headers=headers).json()
        assert refused["detail"] == QUOTED[ErrorCode.HEADERS_TOO_LARGE]
        with connect(hasty) as connection:
            head = b"POST /bce HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-npy\r\n"
            connection.sendall(head + b"Content-Length: 100000\r\n\r\n\x93NUMPY")
            slow = json.loads(receive(connection).raw.rpartition(b"\r\n\r\n")[2])
    assert without_numbers(slow["detail"]) == without_numbers(QUOTED[ErrorCode.UPLOAD_TOO_SLOW])


def test_the_quoted_problem_of_a_queue_is_what_it_raises() -> None:
    async def overload() -> None:
        queue = ConcurrencyLimiter(1)
        await queue.ask(1, 1.0)
        await queue.ask(1, 0.01)

    with pytest.raises(RequestError) as caught:
        asyncio.run(overload())
    assert caught.value.detail == QUOTED[ErrorCode.OVERLOADED]


def test_the_quoted_problem_of_a_device_is_what_its_worker_answers() -> None:
    desk = Desk()

    def fail(_: object) -> None:
        raise MemoryError

    desk.kernel.hear = fail
    (piece,) = desk.plain(1, 1)
    desk.send(piece)
    with working(desk, ticking()):
        failed = desk.answers(1)[piece.id]
    assert isinstance(failed, Failed)
    assert failed.detail == QUOTED[ErrorCode.OUT_OF_MEMORY].replace("cuda:0", "cpu")


def test_problems_are_as_documented(document: dict[str, Any], base_url: str) -> None:
    for answer in (
        httpx.get(f"{base_url}/nothing"),
        httpx.post(f"{base_url}/bce", json={"logits": [1]}),
        httpx.post(f"{base_url}/bce", content=b""),
    ):
        validate(document, "Problem", answer.json())


def validate(document: dict[str, Any], name: str, value: object) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema_rs.validate(schema, value)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("client", [LossClient, AsyncLossClient])
def test_the_client_has_every_parameter(document: dict[str, Any], loss: str, client: type) -> None:
    """Written against the document that is served, not against the server's code."""
    operation = document["paths"][f"/{loss}"]["post"]
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    body = document["components"]["schemas"][reference.rpartition("/")[2]]["properties"]
    queried = {p["name"] for p in operation["parameters"] if p["in"] == "query"} - {"tensors"}
    assert set(body) == queried | set(LOSSES[loss].tensors)
    signature = inspect.signature(getattr(client, loss))
    reported = {one.name for one in REPORT}
    assert set(signature.parameters) - {"self"} == set(body) - REPORT_TENSORS - reported
    assert list(get_args(Reduction)) == body["reduction"]["enum"]
    said = body["reduction"]["description"].rpartition(" Default: ")[2].removesuffix(".")
    assert signature.parameters["reduction"].default == json.loads(said)


def test_the_clients_result_has_every_figure(document: dict[str, Any]) -> None:
    figures = set(document["components"]["schemas"]["LossAnswer"]["properties"])
    assert figures - {"report"} <= set(LossResult.__dataclass_fields__)


SECTION_OF = {"calibration_bins": "calibration", "sweep": "sweep"}
"""The parameters that only losses with a section of a report have."""


def test_the_document_follows_from_the_catalog(document: dict[str, Any], base_url: str) -> None:
    losses = {loss["name"]: loss for loss in httpx.get(f"{base_url}/info").json()["losses"]}
    for loss in LOSSES.values():
        had = {p.name for p in (*loss.all_parameters, *REPORT)}
        had -= {name for name, section in SECTION_OF.items() if section in loss.without}
        for path in (f"/{loss.name}", f"/v2/models/{loss.name}/infer"):
            named = {p["name"] for p in document["paths"][path]["post"]["parameters"] if p["in"] == "query"}
            assert named - {"tensors"} == had
        info = {p["name"] for p in losses[loss.name]["parameters"]}
        config = httpx.get(f"{base_url}/v2/models/{loss.name}/config").json()["parameters"]
        assert info == set(config) == had


def test_docs_need_no_internet(base_url: str) -> None:
    page = httpx.get(f"{base_url}/docs")
    assert page.status_code == 200
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page.text)
    assets = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert len(assets) == 3
    for asset in assets:
        found = httpx.get(urljoin(f"{base_url}/docs", asset))
        assert found.status_code == 200
        assert len(found.content) > 1000


def test_status_routes(base_url: str, document: dict[str, Any]) -> None:
    assert httpx.get(f"{base_url}/livez").json() == {"status": "alive"}
    assert httpx.get(f"{base_url}/readyz").json() == {"status": "ready"}
    info = httpx.get(f"{base_url}/info").json()
    validate(document, "Info", info)
    assert [worker["state"] for worker in info["workers"]] == ["ready"]
    metrics = httpx.get(f"{base_url}/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    for name in (
        'lossd_requests_total{format="json",loss="bce",outcome="ok",team="default"}',
        'lossd_request_seconds_bucket{le="+Inf",stage="compute"}',
        'lossd_elements_total{loss="bce",team="default"}',
        "lossd_bytes_in_flight",
        'lossd_worker_restarts_total{device="cpu"}',
    ):
        assert name in metrics.text


def arrays_of(operation: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs and targets of the kind that an operation takes: those of its first example in JSON."""
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    example = next(iter(examples.values()))["value"]
    if "inputs" in example:
        return {given["name"]: np.array(given["data"], np.float32) for given in example["inputs"]}
    return {name: np.array(value) for name, value in example.items() if isinstance(value, list)}


def picked_file(media: str, arrays: dict[str, np.ndarray[Any, Any]]) -> bytes:
    """A file for a body that is one, as its description asks for."""
    file = io.BytesIO()
    if media == "application/x-npz":
        save: Any = np.savez
        save(file, **arrays)
    elif media == "application/vnd.apache.arrow.stream":
        file.write(stream(arrays, rows=1))
    elif media == "application/octet-stream":  # an inference without binary tensors
        inputs = [
            {"name": name, "shape": array.shape, "datatype": "FP32", "data": array.ravel().tolist()}
            for name, array in arrays.items()
        ]
        file.write(json.dumps({"inputs": inputs}).encode())
    else:
        for array in arrays.values():
            np.save(file, array)
    return file.getvalue()


def picked_array(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def prefilled(parameter: dict[str, Any]) -> object:
    """What Swagger UI 5 puts into a field of the query or the header; None leaves it out."""
    schema = parameter["schema"]
    for key in ("oneOf", "anyOf"):
        schema = {**schema, **(schema.get(key) or [{}])[0]}
    assert not {"examples", "content"} & parameter.keys()  # they would be prefilled in other ways
    return parameter.get("example", schema.get("example", schema.get("default", ...)))


def as_text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(as_text, value))
    return value if isinstance(value, str) else json.dumps(value)


def field_text(schema: dict[str, Any]) -> str:
    """What Swagger UI puts into a form field: a sample, if the document has no default."""
    return as_text(schema.get("example", schema.get("default", "string")))


def tries(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What "Try it out" sends for an operation, as it is prefilled: a name, and httpx's arguments."""
    fields: dict[str, dict[str, str]] = {"query": {}, "header": {}, "path": {}}
    for parameter in operation.get("parameters", ()):
        if (value := prefilled(parameter)) is not ...:
            fields[parameter["in"]][parameter["name"]] = as_text(value)
    assert not fields["path"]
    content = operation.get("requestBody", {}).get("content", {None: {}})
    for media, body in content.items():
        given = {"params": fields["query"], "headers": {**fields["header"]}}
        schema = body.get("schema", {})
        if media is None:
            yield "", given
        elif media == "multipart/form-data":
            given_arrays = arrays_of(operation)
            files = {name: (f"{name}.npy", picked_array(array)) for name, array in given_arrays.items()}
            texts = {
                name: field_text(one)
                for name, one in schema["properties"].items()
                if one.get("format") != "binary"
            }
            yield media, {**given, "files": files, "data": texts}
        elif schema.get("format") == "binary":
            given["headers"]["content-type"] = media
            yield media, {**given, "content": picked_file(media, arrays_of(operation))}
        else:
            given["headers"]["content-type"] = media
            for name, example in body["examples"].items():
                yield f"{media} {name}", {**given, "content": json.dumps(example["value"])}


def test_each_prefilled_try_it_out_succeeds(document: dict[str, Any], base_url: str) -> None:
    found = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for name, filled in tries(operation):
                answer = httpx.request(method, base_url + path, timeout=30, **filled)
                found[f"{method} {path} {name}".strip()] = (answer.status_code, answer.text[:300])
    assert {name: said for name, said in found.items() if said[0] != 200} == {}
    assert len(found) > 30
    for loss in LOSSES:
        assert f"post /{loss} multipart/form-data" in found
        assert f"post /{loss} application/json weighted" in found
        assert f"post /{loss} application/json report" in found
