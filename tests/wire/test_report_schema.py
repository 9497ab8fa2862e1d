"""The JSON Schema of reports takes every document of the reference, and none that is broken anywhere."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from typing import Any

import jsonschema_rs
import pytest

from contract.report_requests import CASES, EVERYTHING, NAMES, STRINGS, WEATHER
from report_reference import Document, run_top_index, true_document

SCHEMA: Document = json.loads((resources.files("lossd.wire") / "report.schema.json").read_text())
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)
RUN: Document = {
    "version": "0.1.0",
    "kernel": "native",
    "device": "cpu",
    "request_id": "5f0c2f5e3b7d4d0f9f3f9be1a6a4c1d2",
    "first_row": 0,
}
IN_STRINGS = replace(EVERYTHING, groups={"by": STRINGS, "weather": WEATHER}, ids=NAMES)

Path = tuple[str | int, ...]


def document_of(name: str) -> Document:
    """A document as it is sent."""
    document = true_document({**CASES, "strings": IN_STRINGS}[name])
    run = dict(RUN)
    if document.get("top", {}).get("ids"):
        run["top_index"] = run_top_index({**CASES, "strings": IN_STRINGS}[name], document)
    return {**document, "run": run}


def test_it_is_a_schema() -> None:
    jsonschema_rs.meta.validate(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_figure_is_described() -> None:
    def undescribed(schema: Any, path: str) -> Iterator[str]:  # noqa: ANN401 -- any JSON
        if isinstance(schema, list):
            for at, item in enumerate(schema):
                yield from undescribed(item, f"{path}/{at}")
        elif isinstance(schema, dict):
            for name, item in schema.get("properties", {}).items():
                target = SCHEMA["$defs"].get(item.get("$ref", "").rpartition("/")[2], {})
                if not {**target, **item}.get("description"):
                    yield f"{path}/{name}"
            for name, item in schema.items():
                yield from undescribed(item, f"{path}/{name}")

    assert list(undescribed(SCHEMA, "")) == []


@pytest.mark.parametrize("name", [*CASES, "strings"])
def test_it_takes_the_reference_s_documents(name: str) -> None:
    document = document_of(name)
    errors = [f"{error.instance_path}: {error.message:.200}" for error in VALIDATOR.iter_errors(document)]
    assert errors == []
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_it_takes_merged_reports_and_files() -> None:
    document = document_of("everything")
    digest = "0" * 64
    document["run"] = {**dict.fromkeys(RUN), "first_row": 5, "top_index": None}
    document["run"]["inputs"] = [{"path": "x.npy", "sha256": digest, "bytes": 7}]
    document["run"] |= {"request_ids": ["a", "b"], "client_version": "0.1.0"}
    document["run"] |= {"started": "2026-03-29T00:50:00.000Z", "ended": None}
    assert VALIDATOR.is_valid(document)
    assert not VALIDATOR.is_valid({**document, "run": {**document["run"], "request_ids": "a"}})
    document["run"]["inputs"][0]["sha256"] = digest[1:]
    assert not VALIDATOR.is_valid(document)


def places(value: object, path: Path = ()) -> Iterator[Path]:
    """Every place in a document but the parameters, which the schema leaves to the losses."""
    if path[:2] == ("totals", "params"):
        return
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def get(document: Any, path: Path) -> Any:  # noqa: ANN401 -- any JSON
    """What is at a place."""
    for key in path:
        document = document[key]
    return document


def put(document: Document, path: Path, value: object) -> Document:
    """A copy with another value at a place."""
    changed: Document = copy.deepcopy(document)
    if not path:
        return value  # type: ignore[return-value] # the whole document, made wrong
    get(changed, path[:-1])[path[-1]] = value
    return changed


@pytest.fixture(scope="module")
def small() -> Document:
    """A document with all sections, small enough to be broken at every place."""
    rows = slice(0, 3)
    request = replace(
        EVERYTHING,
        inputs=EVERYTHING.inputs[rows],
        targets=EVERYTHING.targets[rows],
        weight=None,
        mask=None,
        groups={"by": STRINGS[rows], "weather": WEATHER[rows]},
        ids=NAMES[rows],
        baseline=None if EVERYTHING.baseline is None else EVERYTHING.baseline[rows],
        gammas=(0.0, 1.0),
        bins=2,
        top=2,
    )
    document = true_document(request)
    return {**document, "run": {**RUN, "top_index": run_top_index(request, document)}}


def test_it_refuses_unknown_keys(small: Document) -> None:
    for path in places(small):
        if isinstance(value := get(small, path), dict):
            assert not VALIDATOR.is_valid(put(small, path, {**value, "other": 1})), path


OPTIONAL = {
    *("classes", "groups", "top", "histogram", "calibration", "sweep", "paired", "run"),
    "element_squares_terms",
    *("baseline_squares_terms", "baseline_products_terms"),  # files of before there were these
    "top_index",
    "worse",
    "better",
}
"""What may be absent somewhere, if not everywhere."""


def test_it_refuses_missing_keys(small: Document) -> None:
    assert not VALIDATOR.is_valid(put(small, (), {}))
    for path in places(small):
        if path and isinstance(path[-1], str) and path[-1] not in OPTIONAL:
            parent = {key: item for key, item in get(small, path[:-1]).items() if key != path[-1]}
            assert not VALIDATOR.is_valid(put(small, path[:-1], parent)), path


def test_it_refuses_other_types(small: Document) -> None:
    nullable = {("run", key) for key in (*RUN, "top_index")}
    for path in places(small):
        value = get(small, path)
        wrong = "x" if isinstance(value, int | float) and "ids" not in path else 0.5
        assert not VALIDATOR.is_valid(put(small, path, wrong)), path
        if path not in nullable:
            assert not VALIDATOR.is_valid(put(small, path, None)) or path == ("top", "ids"), path
        if isinstance(value, int) and not isinstance(value, bool) and "ids" not in path:
            assert not VALIDATOR.is_valid(put(small, path, -1)), path


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "lossd.report/2"),
        (("totals", "sum_terms"), []),
        (("totals", "sum_terms"), [1.0, 0.0]),
        (("totals", "sum_terms"), ["Infinity", 1.0]),
        (("totals", "sum_terms"), [[1.0]]),
        (("totals", "sum"), "inf"),
        (("totals", "params"), {}),
        (("classes", "sum_terms"), []),
        (("classes", "sum_terms"), [1.0]),
        (("histogram", "elements", "bins", 0), 1 << 16),
        (("calibration", "bins"), "exact"),
        (("calibration", "bins"), 1),
        (("sweep", "terms"), [[0.0, 0.0]]),
        (("top", "rows", 0, "index"), 1),
        (("top", "elements", 0, "probability"), 0.5),
        (("paired", "top", "worse", "elements", 0, "probability"), 0.5),
    ],
)
def test_it_refuses_broken_figures(small: Document, path: Path, value: object) -> None:
    assert VALIDATOR.is_valid(small)
    assert not VALIDATOR.is_valid(put(small, path, value))


def test_a_document_of_the_reference_has_no_nan_but_strings() -> None:
    """Else the tests above would hold JSON that is none against the schema."""
    document = document_of("NaN")
    numbers = [get(document, path) for path in places(document)]
    assert "NaN" in numbers
    assert not any(isinstance(number, float) and not math.isfinite(number) for number in numbers)
