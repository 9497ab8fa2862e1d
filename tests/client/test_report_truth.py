"""Reports that the client asks for, of the fake and of a server, against a reference of their own."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from contract.report_requests import CASES, EVERYTHING, NAMES, ROWS, STRINGS
from lossd_client import LossClient, Report, StatusError
from lossd_client.testing import FakeTransport
from report_reference import Array, Document, Request, assert_same, document, plain_request, true_document

SMALL: dict[str, Any] = {"request_bytes": 700}
STRINGY = replace(EVERYTHING, groups={"plate": STRINGS, "camera": EVERYTHING.groups["camera"]}, ids=NAMES)  # type: ignore[index]
NUMBERED = replace(EVERYTHING, groups={"2024": STRINGS, "null": EVERYTHING.groups["camera"]}, ids=NAMES)  # type: ignore[index]
ALL_CASES = {**CASES, "strings": STRINGY, "names like numbers": NUMBERED}


@pytest.fixture
def fake() -> Iterator[LossClient]:
    with LossClient(transport=FakeTransport) as client:
        yield client


@pytest.fixture(scope="module")
def real(base_url: str) -> Iterator[LossClient]:
    with LossClient(base_url) as client:
        yield client


def tensors(request: Request) -> dict[str, Any]:
    """The tensors as the client takes them."""
    found = {
        request.kind: request.inputs,
        "targets": request.targets,
        "weight": request.weight,
        "mask": request.mask,
        "groups": request.groups,
        "ids": request.ids,
        "baseline": request.baseline,
    }
    return {name: value for name, value in found.items() if value is not None}


def params(request: Request) -> dict[str, Any]:
    """The loss's parameters but the reduction, as the client takes them."""
    found = {name: value for name, value in request.params.items() if name != "reduction"}
    return found if request.pos_weight is None else {**found, "pos_weight": request.pos_weight}


def asked(request: Request) -> dict[str, Any]:
    """The report's parameters as the client takes them."""
    found: dict[str, Any] = {"top": request.top} if "top" in request.sections else {}
    if "calibration" in request.sections:
        found["calibration_bins"] = request.bins
    return found | {
        "sections": ["totals", *request.sections],
        "row": request.row,
        "first_row": request.first_row,
        "sweep": {"gamma": list(request.gammas)} if request.gammas else None,
    }


def report_by(client: LossClient, request: Request) -> Report:
    call: Any = client.report
    report: Report = call(request.loss, **tensors(request), **params(request), **asked(request))
    return report


def losses_by(client: LossClient, request: Request, inputs: Array | None = None) -> Array:
    """The losses of the elements, in the inputs' shape."""
    given: dict[str, Any] = {
        name: tensors(request)[name] for name in ("targets", "weight", "mask") if name in tensors(request)
    }
    given[request.kind] = request.inputs if inputs is None else inputs
    own = {name: value for name, value in params(request).items() if name != "normalizer"}
    loss: Array = getattr(client, request.loss)(**given, **own, reduction="none").loss
    return loss


def expected_of(client: LossClient, request: Request) -> Document:
    """The reference's report of the losses that the server gives."""
    baseline = None if request.baseline is None else losses_by(client, request, request.baseline)
    found = document(request, losses_by(client, request), losses_by(client, plain_request(request)), baseline)
    return shown(request, found)


def shown(request: Request, found: Document) -> Document:
    """A document with the parameters as the client sends and describes them."""
    about = found["totals"]["params"]
    if isinstance(about["ignore_index"], int):
        about["ignore_index"] = float(about["ignore_index"])
    return found


def rounded(found: Any, name: str = "") -> Any:  # noqa: ANN401 - any JSON value
    """A document with each sum as one number."""
    if name.endswith("terms"):
        return found[0]
    if isinstance(found, dict):
        return {key: rounded(value, key) for key, value in found.items()}
    return [rounded(each) for each in found] if isinstance(found, list) else found


def assert_close(found: Any, expected: Any, path: str = "") -> None:  # noqa: ANN401 - any JSON value
    """Hold a document of sums to 1e-9, and all else exactly."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), path
        for name in expected:
            assert_close(found[name], expected[name], f"{path}/{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), path
        for place, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_close(one, other, f"{path}/{place}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-15), path
    else:
        assert (type(found), found) == (type(expected), expected), path


@pytest.mark.parametrize("case", ALL_CASES)
def test_the_fake_reports_as_defined(fake: LossClient, case: str) -> None:
    request = ALL_CASES[case]
    found = report_by(fake, request).to_dict()
    del found["run"]
    assert_close(rounded(found), rounded(shown(request, true_document(request))))


@pytest.mark.parametrize("case", ALL_CASES)
def test_a_server_reports_as_defined(real: LossClient, case: str) -> None:
    request = ALL_CASES[case]
    assert_same(request, report_by(real, request).to_dict(), expected_of(real, request))


@pytest.mark.parametrize("case", ALL_CASES)
def test_parts_make_the_report_of_the_whole(real: LossClient, case: str) -> None:
    request = ALL_CASES[case]
    whole, parts = (report_by(client, request).to_dict() for client in (real, real.with_options(**SMALL)))
    assert without_requests(parts) == without_requests(whole)


def without_requests(document: Document) -> Document:
    """A document without the ids and times of the requests that it is from."""
    of_requests = ("request_id", "request_ids", "started", "ended")
    return {
        **document,
        "run": {name: value for name, value in document["run"].items() if name not in of_requests},
    }


def batches(request: Request) -> list[dict[str, Any]]:
    """The tensors in batches of five rows, those of one value a class or a row in the inputs' shape."""
    found = tensors(request)
    for name in ("weight", "mask"):
        if name in found:
            found[name] = np.broadcast_to(found[name], request.inputs.shape)
    return [
        {
            name: {key: column[start : start + 5] for key, column in value.items()}
            if name == "groups"
            else value[start : start + 5]
            for name, value in found.items()
        }
        for start in range(0, ROWS, 5)
    ]


ALONG_BATCHES = [
    name
    for name, request in ALL_CASES.items()
    if request.inputs.shape in ((ROWS, 5), (ROWS,))
    # Other batches would need other numbers, and a pos_weight is a parameter of all of them.
    and (request.pos_weight is None or request.pos_weight.ndim < 2)
]


@pytest.mark.parametrize("method", ["score_batches", "score_stream"])
@pytest.mark.parametrize("case", ALONG_BATCHES)
def test_batches_and_streams_make_the_report_of_the_whole(real: LossClient, method: str, case: str) -> None:
    request = ALL_CASES[case]
    whole = report_by(real, request).to_dict()
    result = getattr(real, method)(
        request.loss, batches(request), **params(request), **asked(request), reduction="sum"
    )
    found = result.report.to_dict()
    assert without_requests(found) == without_requests(whole)
    assert found["run"]["started"] <= found["run"]["ended"]
    assert len(set(found["run"]["request_ids"])) == (1 if method == "score_stream" else len(batches(request)))
    assert result.to_dict()["sum"] == whole["totals"]["sum"]


PLAIN: dict[str, Any] = {"logits": EVERYTHING.inputs, "targets": EVERYTHING.targets}
IDS, CAMERA = EVERYTHING.ids, np.arange(ROWS) % 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"top": 0},
        {"top": -1},
        {"first_row": -1},
        {"calibration_bins": 1},
        {"calibration_bins": 4097},
        {"calibration_bins": "exact"},
        {"sweep": {"gamma": []}},
        {"sweep": {"gamma": [-1]}},
        {"sweep": {"gamma": [1001]}},
        {"sweep": {"gamma": list(range(33))}},
        {"sections": ["groups"]},
        {"sections": ["paired"]},
        {"sections": ["sweep"]},
        {"sections": ["classes"], "class_axis": 0},
        {"sections": ["classes"], "logits": [0.0, 1.0], "targets": [0, 1]},
        {"sections": ["classes"], "top": 7},
        {"sections": ["top"], "calibration_bins": 10},
        {"sections": ["top"], "groups": CAMERA},
        {"sections": ["groups"], "groups": CAMERA, "ids": IDS},
        {"sections": ["top"], "baseline": EVERYTHING.baseline},
        {"groups": np.zeros((ROWS, 9), dtype=np.int64)},
        {"groups": CAMERA[1:]},
        {"ids": np.arange(ROWS - 1)},
        {"baseline": np.zeros((ROWS, 4))},
        {"baseline": np.full((ROWS, 5), np.nan)},
        {"first_row": 2**53 + 1},
        {"logits": EVERYTHING.inputs * np.nan},
    ],
)
def test_the_fake_refuses_what_a_server_does(
    real: LossClient, fake: LossClient, wrong: dict[str, Any]
) -> None:
    said = []
    for client in (real, fake):
        call: Any = client.report
        with pytest.raises(StatusError) as caught:
            call("focal", **{**PLAIN, **wrong})
        error = caught.value
        said.append((error.status, error.code, [item.pointer for item in error.errors]))
    assert said[0] == said[1]
