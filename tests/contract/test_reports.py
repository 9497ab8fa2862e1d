"""Reports over HTTP: every section, under every parameter and in every form, against a reference of its own.

The losses of the elements are the service's (`reduction=none`), which other tests hold against mpmath. All
that a report makes of them is held against `report_reference`, to the bit.
"""

from __future__ import annotations

import gzip
import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from typing import Any

import httpx
import jsonschema_rs
import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import (  # type: ignore[import-untyped] # it has no types
    average_precision_score,
    brier_score_loss,
    log_loss,
    roc_auc_score,
)
from tritonclient.http import (  # type: ignore[import-untyped] # it has no types
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
)

from contract.report_merging import merged
from contract.report_requests import (
    ALL,
    CAMERA,
    CASES,
    EVERYTHING,
    FORMS,
    HARD,
    IDS,
    NAMES,
    OTHER,
    PLAIN,
    ROWS,
    STRINGS,
    WEATHER,
    X,
    arrow_stream,
    carries,
    in_query,
    inference,
    npy,
    params_of,
    report_of,
    rows_of,
    sections_of,
    send,
)
from live_server import live_server
from lossd.core.catalog import LOSSES, Loss
from lossd.core.report.spec import SECTIONS
from report_reference import (
    Array,
    Document,
    Ids,
    Request,
    assert_same,
    document,
    plain_request,
    run_top_index,
)

SCHEMA = json.loads((resources.files("lossd.wire") / "report.schema.json").read_text())
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)
NPY = {"content-type": "application/x-npy"}
ARROW = {"content-type": "application/vnd.apache.arrow.stream"}


@pytest.fixture(scope="session")
def client(base_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base_url, timeout=60) as made:
        yield made


@pytest.fixture(scope="session")
def in_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server that scores everything in its worker, on one thread."""
    with (
        live_server(tmp_path_factory.mktemp("threads"), threads=1, inline_ms=0) as server,
        httpx.Client(base_url=server.url, timeout=60) as made,
    ):
        yield made


@pytest.fixture(scope="session")
def in_torch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server that computes with torch."""
    with (
        live_server(tmp_path_factory.mktemp("torch"), kernel="torch") as server,
        httpx.Client(base_url=server.url, timeout=60) as made,
    ):
        yield made


@pytest.fixture(scope="session")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server that allows small reports alone."""
    folder = tmp_path_factory.mktemp("limits")
    with (
        live_server(folder, max_report_cells=40, max_report_top=5) as server,
        httpx.Client(base_url=server.url, timeout=60) as made,
    ):
        yield made


def element_losses(client: httpx.Client, request: Request) -> Array:
    """The loss of each element, from the service."""
    params = {
        name: value for name, value in request.params.items() if name not in ("reduction", "normalizer")
    }
    alone = replace(request, groups=None, ids=None, baseline=None)
    answer = send(client, alone, params={**params, "reduction": "none"}, accept="application/x-npy")
    assert answer.status_code == 200, answer.text
    found: Array = np.load(io.BytesIO(answer.content), allow_pickle=False)
    return found


def expected_document(client: httpx.Client, request: Request) -> Document:
    """The reference's document, of the service's losses."""
    of_baseline = None
    if request.baseline is not None:
        of_baseline = element_losses(client, replace(request, inputs=request.baseline))
    losses = element_losses(client, request)
    return document(request, losses, element_losses(client, plain_request(request)), of_baseline)


def ask(
    client: httpx.Client, request: Request, form: str = "npy", params: Document | None = None
) -> Document:
    """The report of a request."""
    return report_of(send(client, request, form, params=params))


def check(answer: httpx.Response, status: int, code: str, *said: str) -> None:
    """Check what an error is and says."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    for words in said:
        assert words in problem["detail"], problem["detail"]


# The figures


@pytest.mark.parametrize("name", CASES)
def test_a_report_is_the_references(client: httpx.Client, name: str) -> None:
    request = CASES[name]
    answer = send(client, request)
    found = report_of(answer)
    assert_same(request, found, expected_document(client, request))
    VALIDATOR.validate(found)
    whole, totals, run = answer.json(), found["totals"], found["run"]
    for figure in ("sum", "weight_sum", "positives", "count"):
        assert whole[figure] == totals[figure]
        assert whole.get(f"{figure}_terms") == totals.get(f"{figure}_terms")
    assert {
        name: whole[name] for name in ("version", "kernel", "device", "request_id")
    }.items() <= run.items()
    assert run["first_row"] == request.first_row
    if "top" in found and request.ids is not None:
        assert run["top_index"] == run_top_index(request, found)
    else:
        assert "top_index" not in run


def large_request() -> Request:
    """A request of several slices."""
    rng = np.random.default_rng(8)
    shape = (1700, 80)
    x = rng.normal(0, 4, shape).astype(np.float16)
    return Request(
        loss="focal",
        inputs=x,
        targets=(rng.random(shape) < 0.05).astype(np.uint8),
        mask=rng.random(shape) < 0.9,
        groups={"camera": rng.integers(0, 7, shape[0])},
        baseline=x + rng.normal(size=shape).astype(np.float16),
        params={"gamma": 2.0},
        sections=("classes", "groups", "top", "histogram", "calibration", "paired"),
        bins="exact",
        top=100,
    )


def test_a_report_over_many_slices_is_the_references(
    client: httpx.Client, in_workers: httpx.Client, in_torch: httpx.Client
) -> None:
    request = large_request()
    found = ask(client, request)
    assert_same(request, found, expected_document(client, request))
    for other in (in_workers, in_torch):
        assert sections_of(ask(other, request)) == sections_of(found)
    for rows in (100, 1200):
        body = arrow_stream(request, rows)
        query = in_query({name: value for name, value in params_of(request).items() if name != "group_names"})
        answer = client.post("/focal", params=query, content=body, headers=ARROW)
        assert sections_of(report_of(answer)) == sections_of(found)


def test_scikit_learn_finds_the_same_scores(client: httpx.Client) -> None:
    rng = np.random.default_rng(2)
    y = rng.random((300, 3)) < 0.3
    x = (rng.normal(0, 2, y.shape) + y).round(2).astype(np.float16)
    for kind, inputs in (("logits", x), ("probabilities", (1 / (1 + np.exp(-x))).astype(np.float16))):
        request = Request(inputs=inputs, targets=y, kind=kind, sections=("calibration",), bins="exact")
        found = ask(client, request)["calibration"]
        values, count = np.array(found["values"]), np.array(found["count"])
        positives = np.array(found["positives_terms"][0])
        assert len(values) < y.size  # equal scores tie
        scores, labels = np.tile(values, 2), np.repeat([1, 0], len(values))
        weight = np.concatenate([positives, count - positives])
        score, truth = inputs.astype(np.float64).ravel(), y.ravel()
        for metric in (roc_auc_score, average_precision_score):
            expected = pytest.approx(metric(truth, score), rel=1e-12)
            assert metric(labels, scores, sample_weight=weight) == expected
        p = 1 / (1 + np.exp(-score)) if kind == "logits" else score
        p = np.clip(p, 1e-300, 1.0)
        for bins in ("exact", 10):
            figures = ask(client, replace(request, bins=bins))["calibration"]
            assert figures["brier_terms"][0] / y.size == pytest.approx(brier_score_loss(truth, p), rel=1e-12)
            if kind == "logits":
                cross_entropy = figures["cross_entropy_terms"][0] / y.size
                assert cross_entropy == pytest.approx(log_loss(truth, p), rel=1e-12)


@pytest.mark.parametrize("variant", ["sigmoid", "quality"])
def test_a_sweep_foretells_other_requests(client: httpx.Client, variant: str) -> None:
    gammas = (0.0, 0.5, 1.5, 3.0)
    params: Document = {"variant": variant, "label_smoothing": 0.1, "reduction": "sum"}
    request = replace(
        EVERYTHING, params=params, sections=("classes", "sweep"), gammas=gammas, groups=None, ids=None,
        baseline=None,
    )  # fmt: skip
    sweep = ask(client, request)["sweep"]
    alone = replace(request, sections=(), gammas=())
    alphas, ks = [0.1, 0.25, 0.5, 0.75, 1.0], [1.0, 2.0, 0.0, 0.5, 3.0]
    for at, gamma in enumerate(gammas):
        for alpha, k in ((0.25, 1.0), (None, 2.0), (0.9, 0.0)):
            yy, yz, zy, zz = (math.fsum(p[at] for p in sweep[f"{b}_terms"]) for b in ("yy", "yz", "zy", "zz"))
            positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
            loss = positive * (k * yy + yz) + negative * (k * zy + zz)
            asked = {**params, "gamma": gamma, "alpha": alpha, "pos_weight": k}
            assert loss == pytest.approx(send(client, alone, params=asked).json()["sum"], rel=1e-12)
        by_class = sweep["classes"]
        yy, yz, zy, zz = (np.sum(by_class[f"{b}_terms"], axis=0)[at] for b in ("yy", "yz", "zy", "zz"))
        each = np.array(ks) * [yy, zy] + [yz, zz]
        loss = float((np.array(alphas) * each[0] + (1 - np.array(alphas)) * each[1]).sum())
        asked = {**params, "gamma": gamma, "alpha": alphas, "pos_weight": ks}
        assert loss == pytest.approx(send(client, alone, params=asked).json()["sum"], rel=1e-12)


# The same bytes, however it is asked


SAME = (
    "plain",
    "everything",
    "class ids",
    "class axis in the middle",
    "one dimension",
    "probabilities",
    "infinite logits",
    "NaN",
    "weights by row",
    "exact, float16",
    "dtype bfloat16",
    "dtype float16",
)


@pytest.mark.parametrize("name", SAME)
def test_every_form_of_body_gives_the_same_bytes(client: httpx.Client, name: str) -> None:
    request = CASES[name]
    expected = sections_of(ask(client, request))
    forms = [form for form in FORMS if carries(form, request)]
    assert len(forms) > 4
    for form in forms:
        assert sections_of(ask(client, request, form)) == expected, form


def test_compressed_bodies_give_the_same_bytes(client: httpx.Client) -> None:
    query = in_query({name: value for name, value in params_of(EVERYTHING).items() if name != "group_names"})
    body, headers = gzip.compress(arrow_stream(EVERYTHING)), {**ARROW, "content-encoding": "gzip"}
    answer = client.post("/focal", params=query, content=body, headers=headers)
    assert sections_of(report_of(answer)) == sections_of(ask(client, EVERYTHING))


@pytest.mark.parametrize("other", ["in_workers", "in_torch"])
def test_threads_and_kernels_give_the_same_bytes(
    client: httpx.Client, request: pytest.FixtureRequest, other: str
) -> None:
    server = request.getfixturevalue(other)
    different = [
        name
        for name, case in CASES.items()
        if sections_of(ask(server, case)) != sections_of(ask(client, case))
    ]
    assert different == []


@pytest.mark.parametrize(
    "reduction", [{"reduction": "none"}, {"axis": 1, "reduction": "sum"}, {"axis": 0}], ids=str
)
def test_the_answers_reduction_does_not_matter(client: httpx.Client, reduction: Document) -> None:
    for request in (EVERYTHING, CASES["class axis in the middle"]):
        given = {**params_of(request), **reduction}
        answer = send(client, request, params=given)
        assert sections_of(report_of(answer)) == sections_of(ask(client, request))
        without = send(
            client, replace(request, groups=None, ids=None, baseline=None),
            params={**request.params, **reduction},
        ).json()  # fmt: skip
        assert answer.json().keys() - without.keys() == {"report"}
        assert answer.json()["loss"] == without["loss"]


def test_rows_in_another_order_give_the_same_bytes(client: httpx.Client) -> None:
    order = np.random.default_rng(4).permutation(ROWS).tolist()
    for request in (EVERYTHING, CASES["class ids"], CASES["NaN"], CASES["dtype int16"]):
        assert request.ids is not None
        assert sections_of(ask(client, rows_of(request, order))) == sections_of(ask(client, request))


@pytest.mark.parametrize("name", ["everything", "by index", "means of rows", "exact, float16", "NaN", "sums"])
@pytest.mark.parametrize("form", ["npy", "arrow"])
def test_reports_of_parts_add_up_to_the_whole(client: httpx.Client, name: str, form: str) -> None:
    request = CASES[name]
    whole = {key: value for key, value in ask(client, request).items() if key != "run"}
    parts = []
    for start, end in ((9, ROWS), (0, 1), (1, 9)):
        first_row = request.first_row + (start if request.ids is None else 0)
        part = replace(rows_of(request, list(range(start, end))), first_row=first_row)
        parts.append(ask(client, part, form))
    assert json.dumps(merged(parts)) == json.dumps(whole)


def test_infinite_strings_are_those_of_json(client: httpx.Client) -> None:
    found = ask(client, CASES["infinite logits"])
    assert found["totals"]["sum_terms"] == ["Infinity"]
    assert found["top"]["elements"][0]["loss"] == "Infinity"
    assert {"Infinity", "-Infinity"} <= {entry["logit"] for entry in found["top"]["elements"]}
    found = ask(client, CASES["NaN"])
    assert (found["totals"]["sum_terms"], found["top"]["rows"][0]["loss"]) == (["NaN"], "NaN")
    assert "NaN" in {entry["target"] for entry in found["top"]["elements"]}
    assert found["totals"]["nan"] > 0


# Strings in Arrow

STRING_COLUMNS: dict[str, Any] = {
    "string": pa.array,
    "large": lambda values: pa.array(values, pa.large_string()),
    "dictionary": lambda values: pa.array(values).dictionary_encode(),
}


@pytest.mark.parametrize("kind", STRING_COLUMNS)
@pytest.mark.parametrize("rows", [2, 1000])
def test_strings_are_groups_and_ids(client: httpx.Client, kind: str, rows: int) -> None:
    request = replace(
        EVERYTHING, groups={"by": STRINGS, "weather": WEATHER, "camera": list(map(str, CAMERA))}, ids=NAMES
    )
    body = arrow_stream(request, rows, STRING_COLUMNS[kind])
    query = in_query({name: value for name, value in params_of(request).items() if name != "group_names"})
    found = report_of(client.post("/focal", params=query, content=body, headers=ARROW))
    numbered = replace(request, groups={"group": CAMERA}, ids=IDS)  # strings are in Arrow alone
    of_baseline = element_losses(client, replace(numbered, inputs=OTHER))
    plain = element_losses(client, plain_request(numbered))
    assert_same(request, found, document(request, element_losses(client, numbered), plain, of_baseline))
    VALIDATOR.validate(found)
    assert found["groups"]["kinds"] == ["string", "integer", "string"]
    assert found["run"]["top_index"] == run_top_index(request, found)


def test_long_strings_are_refused(client: httpx.Client) -> None:
    for length, status in ((256, 200), (257, 422)):
        names = ["é" * 128 + "x" * (length - 256) if row == 3 else str(row) for row in range(ROWS)]
        request = Request(inputs=X, targets=HARD, ids=names, sections=("top",), top=ROWS)
        answer = client.post(
            "/bce", params=in_query(params_of(request)), content=arrow_stream(request), headers=ARROW
        )
        assert answer.status_code == status, answer.text


# Which sections there are


def test_all_is_what_is_possible(client: httpx.Client) -> None:
    bare = Request(inputs=X, targets=HARD)
    swept = replace(bare, loss="focal", gammas=(1.0,))
    cases: list[tuple[Request, tuple[str, ...]]] = [
        (bare, PLAIN),
        (replace(bare, loss="focal"), PLAIN),
        (swept, (*PLAIN, "sweep")),
        (replace(bare, groups={"group": CAMERA}), (*PLAIN, "groups")),
        (replace(bare, baseline=OTHER), (*PLAIN, "paired")),
        (replace(EVERYTHING, params={}), ALL),
        (replace(bare, inputs=X[:, 0], targets=HARD[:, 0]), ("top", "histogram", "calibration")),
        (replace(bare, params={"class_axis": 0}), ("top", "histogram", "calibration")),
    ]
    for request, sections in cases:
        found = ask(client, request, params={**params_of(request), "report": "all"})
        assert set(found) == {"schema", "totals", *sections, "run"}
        assert sections_of(found) == sections_of(ask(client, replace(request, sections=sections)))
    assert (
        "classes" not in ask(client, cases[-1][0], params={"class_axis": 0, "report": "all"})["calibration"]
    )


def test_a_sweep_asks_for_its_section(client: httpx.Client) -> None:
    request = Request(loss="focal", inputs=X, targets=HARD, sections=("sweep",), gammas=(1.0, 2.0))
    expected = sections_of(ask(client, request))
    for form in FORMS:
        given = {**params_of(request), "report": "totals"}
        assert sections_of(ask(client, request, form, params=given)) == expected
    text = {**params_of(request), "sweep": "gamma:1,2"}
    assert sections_of(ask(client, request, "json", params=text)) == expected
    assert sections_of(ask(client, request, "multipart with params", params=text)) == expected


def test_sections_may_be_named_in_any_order(client: httpx.Client) -> None:
    request = replace(EVERYTHING, sections=tuple(reversed(ALL)))
    assert sections_of(ask(client, request)) == sections_of(ask(client, EVERYTHING))


def test_no_report_is_the_answer_of_before(client: httpx.Client) -> None:
    answer = send(client, Request(inputs=X, targets=HARD), params={})
    assert "report" not in answer.json()


# The Open Inference Protocol


def test_triton_gets_the_report_as_an_output(base_url: str, client: httpx.Client) -> None:
    request = Request(
        loss="focal", inputs=X, targets=HARD, groups={"group": CAMERA}, sections=("groups", "top")
    )
    expected = sections_of(ask(client, request))
    tensors: dict[str, Array] = {"logits": X, "targets": HARD, "groups": CAMERA}
    inputs = []
    for name, array in tensors.items():
        datatype = {"float32": "FP32", "uint8": "UINT8", "int64": "INT64"}[array.dtype.name]
        inputs.append(InferInput(name, list(array.shape), datatype).set_data_from_numpy(array))
    with InferenceServerClient(base_url.removeprefix("http://")) as triton:
        for binary in (True, False):
            for names in (None, ["report"], ["sum", "report"]):
                outputs = names and [InferRequestedOutput(name, binary_data=binary) for name in names]
                result = triton.infer("focal", inputs, outputs=outputs, parameters={"report": "groups,top"})
                array = result.as_numpy("report")
                assert array.shape == (1,)
                text = array[0] if isinstance(array[0], str) else array[0].decode()
                assert sections_of(json.loads(text)) == expected
        given = triton.infer("focal", inputs[:2], parameters={}).get_response()["outputs"]
        assert "report" not in {output["name"] for output in given}


def test_naming_the_output_asks_for_totals(client: httpx.Client) -> None:
    request = Request(inputs=X, targets=HARD)
    answer = client.post("/v2/models/bce/infer", **inference(request, {}, binary=True, outputs=("report",)))
    assert sections_of(report_of(answer)) == sections_of(ask(client, request, params={"report": "totals"}))
    given = inference(request, {"report": "totals"}, binary=True, outputs=("sum",))
    outputs = client.post("/v2/models/bce/infer", **given).json()["outputs"]
    assert [output["name"] for output in outputs] == ["sum"]


# Errors

BARE = Request(loss="focal", inputs=X, targets=HARD)
GROUPS: dict[str, Ids] = {"group": CAMERA}

WRONG_PARAMETERS: list[tuple[Document, tuple[str, ...]]] = [
    ({"report": "clases"}, ("classes",)),
    ({"report": "totals,everything"}, ("all",)),
    ({"report": 3}, ("report",)),
    ({"reprot": "all"}, ("report",)),
    ({"report": "top", "tpo": 3}, ("top",)),
    ({"report": "calibration", "calibraton_bins": 3}, ("calibration_bins",)),
    ({"report": "top", "top": 0}, ("top",)),
    ({"report": "top", "top": 2.5}, ("top",)),
    ({"report": "top", "row": "max"}, ("row",)),
    ({"report": "top", "first_row": -1}, ("first_row",)),
    ({"report": "calibration", "calibration_bins": 1}, ("calibration_bins",)),
    ({"report": "calibration", "calibration_bins": 4097}, ("calibration_bins",)),
    ({"report": "calibration", "calibration_bins": "precise"}, ("exact",)),
    ({"report": "calibration", "calibration_bins": "exact"}, ("float16", "bfloat16")),
    ({"report": "all", "calibration_bins": "exact"}, ("float16", "bfloat16")),
    ({"report": "sweep"}, ("gamma",)),
    ({"report": "sweep", "sweep": "gamma:-1"}, ("sweep",)),
    ({"report": "sweep", "sweep": "gamma:1001"}, ("1000",)),
    ({"report": "sweep", "sweep": "gamma:"}, ("sweep",)),
    ({"report": "sweep", "sweep": "alpha:0.5"}, ("gamma",)),
    ({"report": "sweep", "sweep": "gamma:" + ",".join(map(str, range(33)))}, ("32",)),
    ({"report": "sweep", "sweep": "gamma:1,x"}, ("sweep",)),
    ({"report": "classes", "class_axis": 0}, ("classes",)),
    ({"top": 3}, ("report",)),
    ({"row": "mean"}, ("report",)),
    ({"first_row": 3}, ("report",)),
    ({"calibration_bins": 3}, ("report",)),
    ({"sweep": "gamma:1"}, ("report",)),
    ({"group_names": "camera"}, ("report",)),
]


@pytest.mark.parametrize(("params", "said"), WRONG_PARAMETERS, ids=str)
def test_a_wrong_parameter_is_refused(client: httpx.Client, params: Document, said: tuple[str, ...]) -> None:
    for form in ("npy", "json", "multipart with params", "arrow"):
        check(send(client, BARE, form, params=params), 422, "invalid_parameter", *said)
    answer = send(client, BARE, "v2", params=params)
    assert (answer.status_code, answer.headers["lossd-code"]) == (422, "invalid_parameter"), answer.text


def test_a_sweep_of_bce_has_no_gamma(client: httpx.Client) -> None:
    request = Request(inputs=X, targets=HARD)
    wrong = {"report": "sweep", "sweep": "gamma:1"}
    check(send(client, request, params=wrong), 422, "invalid_parameter", "sweep", "gamma")
    assert "y_terms" in ask(client, request, params={"report": "sweep"})["sweep"]


@pytest.mark.parametrize("form", ["npy", "arrow", "json"])
def test_a_section_without_its_tensor_is_refused(client: httpx.Client, form: str) -> None:
    for section, name in (("groups", "groups"), ("paired", "baseline")):
        check(send(client, BARE, form, params={"report": section}), 422, "missing_tensor", name)


@pytest.mark.parametrize("form", ["npy", "arrow", "json"])
def test_a_tensor_that_no_section_uses_is_refused(client: httpx.Client, form: str) -> None:
    for request, name, section in (
        (replace(BARE, groups=GROUPS), "group", "groups"),
        (replace(BARE, ids=IDS), "ids", "top"),
        (replace(BARE, baseline=OTHER), "baseline", "paired"),
    ):
        for params in ({"report": "classes,histogram"}, {}):
            check(send(client, request, form, params=params), 422, "invalid_parameter", name, section)


@pytest.mark.parametrize(
    ("name", "array", "status", "code"),
    [
        ("groups", CAMERA.astype(np.float32), 415, "dtype_not_allowed"),
        ("groups", CAMERA > 3, 415, "dtype_not_allowed"),
        ("groups", CAMERA[1:], 422, "shape_mismatch"),
        ("groups", np.zeros((ROWS, 9), np.int8), 422, "bad_shape"),
        ("groups", np.zeros((ROWS, 0), np.int8), 422, "bad_shape"),
        ("groups", np.zeros((ROWS, 2, 2), np.int8), 422, "shape_mismatch"),
        ("ids", IDS.astype(np.float64), 415, "dtype_not_allowed"),
        ("ids", IDS[:-1], 422, "shape_mismatch"),
        ("ids", IDS[:, None], 422, "shape_mismatch"),
        ("baseline", HARD, 415, "dtype_not_allowed"),
        ("baseline", X[:, :2], 422, "shape_mismatch"),
        ("baseline", np.where(IDS[:, None] == IDS[3], np.nan, X), 422, "non_finite_input"),
        ("group", CAMERA, 422, "unknown_tensor"),
    ],
)
def test_a_wrong_tensor_is_refused(
    client: httpx.Client, name: str, array: Array, status: int, code: str
) -> None:
    tensors: dict[str, Array] = {"logits": X, "targets": HARD, name: array}
    query = {"tensors": ",".join(tensors), "report": "all"}
    answer = client.post("/bce", params=query, content=b"".join(map(npy, tensors.values())), headers=NPY)
    check(answer, status, code, name)
    if code == "non_finite_input":
        assert answer.json()["errors"][0]["pointer"] == "/baseline/3/0"


def test_a_baseline_of_probabilities_lies_in_0_to_1(client: httpx.Client) -> None:
    request = Request(inputs=HARD * 0.5, targets=HARD, kind="probabilities", baseline=X, sections=("paired",))
    check(send(client, request), 422, "probability_out_of_range", "baseline")


def test_names_go_with_columns(client: httpx.Client) -> None:
    request = replace(BARE, groups=GROUPS)
    wrong = {"report": "groups", "group_names": "camera,weather"}
    for form in ("npy", "json"):
        check(send(client, request, form, params=wrong), 422, "invalid_parameter", "group_names")
    found = ask(
        client,
        replace(BARE, groups={"a": CAMERA, "b": WEATHER.astype(np.int64)}),
        params={"report": "groups"},
    )
    assert found["groups"]["names"] == ["group0", "group1"]


@pytest.mark.parametrize("accept", ["application/x-npy", "application/x-npy;dtype=float32"])
def test_a_report_is_only_in_json(client: httpx.Client, accept: str) -> None:
    for form in ("npy", "multipart", "json", "arrow", "multipart with params"):
        answer = send(client, BARE, form, params={"report": "totals"}, accept=accept)
        check(answer, 406, "not_acceptable", "report")
    assert (
        "report"
        in send(client, BARE, params={"report": "totals"}, accept="application/x-npy;q=0.5, */*").json()
    )


@pytest.mark.parametrize("form", ["npy", "json", "arrow"])
def test_a_report_beyond_its_limits_is_refused(limited: httpx.Client, form: str) -> None:
    """40 cells are allowed, and 5 rows: there are 23 rows of 5 classes."""
    singly: dict[str, Ids] = {"group": IDS}
    for request, section, remedy in (
        (replace(BARE, sections=("calibration",), bins=9), "calibration", "calibration_bins=8"),
        (replace(BARE, sections=("groups", "classes"), groups=singly), "groups", "classes"),
        (replace(BARE, sections=("top",), top=6), "top", "5"),
    ):
        check(send(limited, request, form), 413, "output_too_large", section, remedy)
    for request in (
        replace(BARE, sections=("calibration",), bins=8),
        replace(BARE, sections=("groups",), groups=singly),
        replace(BARE, sections=("groups", "classes"), groups=GROUPS),
        replace(BARE, sections=("top",), top=5),
    ):
        ask(limited, request, form)


def test_no_list_is_longer_than_ten_thousand(client: httpx.Client) -> None:
    request = replace(BARE, sections=("top",), top=10_000)
    assert ask(client, request)["top"]["k"] == 10_000
    check(send(client, replace(request, top=10_001)), 413, "output_too_large", "top")


# ---- Sections of losses


def tensors_of(loss: Loss) -> Document:
    """A request's tensors, two rows."""
    if loss.row == "box":
        return {"boxes": [[0, 0, 2, 2], [1, 1, 3, 4]], "targets": [[0, 0, 2, 3], [1, 1, 3, 3]]}
    targets = [1, 0] if loss.row == "classes" else [[0, 1], [1, 0]]
    return {"logits": [[0.5, -1.0], [2.0, 0.25]], "targets": targets}


@pytest.mark.parametrize("name", LOSSES)
def test_info_says_which_sections_a_loss_has(client: httpx.Client, name: str) -> None:
    (info,) = (loss for loss in client.get("/info").json()["losses"] if loss["name"] == name)
    assert info["sections"]
    for section in SECTIONS:
        answer = client.post(f"/{name}", json={**tensors_of(LOSSES[name]), "report": [section]})
        is_refused = f"{name} has no section {section}" in answer.text
        assert is_refused is (section not in info["sections"]), answer.text


@pytest.mark.parametrize("classes", [4095, 4096, 140_000])
def test_very_many_classes_are_calibrated_together(client: httpx.Client, classes: int) -> None:
    rng = np.random.default_rng(2)
    logits, targets = rng.normal(size=(2, classes)).astype("f4"), rng.integers(0, classes, 2)
    answer = client.post(
        "/cross_entropy",
        params={"report": "calibration", "tensors": "logits,targets"},
        content=npy(logits) + npy(targets),
        headers={"content-type": "application/x-npy"},
    ).json()
    calibration = answer["report"]["calibration"]
    assert sum(calibration["count"]) == 2
    assert ("classes" in calibration) is (classes == 4095)
    said = [note for note in answer.get("notes", []) if "calibration is the top class's alone" in note]
    assert len(said) == (classes > 4095)
    assert all(("calibration_bins=63" in note) is (classes == 4096) for note in said)
