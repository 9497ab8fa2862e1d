"""Schemas in the form for generators allow what the schemas that they are made of allow."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from lossd.api.app import openapi_document
from lossd.api.routes.examples import answer_example, tensors_example
from lossd.api.routes.plain_schemas import plain_schema, query_schema
from lossd.core.catalog import LOSSES, Parameter
from lossd.core.report.parameters import REPORT
from lossd.settings import Settings
from lossd.wire import report_schema

Document = dict[str, Any]

PARAMETERS = {
    f"{loss.name}-{parameter.name}": parameter
    for loss in LOSSES.values()
    for parameter in (*loss.all_parameters, *REPORT)
}
SCALARS: list[Any] = [None, True, 0, 1, -1, 3, 0.25, -0.5, 2.0, 5000, 1e300]
WORDS = ["", "nan", "NaN", "count", "positives", "all", "exact", "sum", "mean", "index", "exp", "top,all"]
WORDS += ["gamma:0,1", "gamma:", "Infinity", "lossd.report/1", "iou", "cxcywh", "sample"]
VALUES = [*SCALARS, *WORDS, [], [0], [0, 1], [0.5, 1], [2.0], ["top"], ["top", "all"], ["a"], [[0]], [None]]
VALUES += [{}, {"gamma": [0, 1]}, {"gamma": []}, {"gamma": [0], "alpha": [1]}, {"gamma": [2000]}]


@pytest.fixture(scope="module")
def components() -> Document:
    found: Document = openapi_document(Settings())["components"]
    return found


@pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=PARAMETERS)
@pytest.mark.parametrize("sent", [False, True])
def test_parameters_allow_the_same(parameter: Parameter, sent: bool) -> None:
    plain = plain_schema(parameter.schema, sent=sent)
    allowed = [jsonschema_rs.is_valid(dict(parameter.schema), value) for value in VALUES]
    assert [jsonschema_rs.is_valid(plain, value) for value in VALUES] == allowed
    assert True in allowed
    assert False in allowed


def reports() -> Iterator[tuple[Document, Document]]:
    """Requests with every section, and their reports."""
    tensors = tensors_example(LOSSES["bce"])
    pair: Document = {**tensors, "report": "all", "groups": [3, 7], "top": 2}
    for name, request in (
        ("bce", {**pair, "weight": [[1.0], [0.5]]}),
        ("bce", {**pair, "baseline": tensors["targets"], "ids": [5, 6]}),
        ("focal", {**pair, "sweep": "gamma:0,2", "calibration_bins": 8}),
        ("focal", {**pair, "sweep": "gamma:0,2", "variant": "exp"}),
        ("bce", {**pair, "logits": [["Infinity", 0, 1], [1, 2, "-Infinity"]]}),
    ):
        answer = answer_example(LOSSES[name], request)
        assert answer is not None
        yield request, answer["report"]


def mutants(report: Document, rng: random.Random) -> Iterator[Document]:
    """Copies of a report with one place changed: a value by another, or a key or an item by none."""
    for _ in range(150):
        changed = copy.deepcopy(report)
        place: Any = changed
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = rng.choice(keys)
            if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.15:
                break
            place = place[key]
        match rng.randrange(3):
            case 0:
                del place[key]
            case 1 if isinstance(place, dict):
                place["another"] = 1
            case _:
                place[key] = rng.choice(VALUES)
        yield changed


def test_reports_allow_the_same(components: Document) -> None:
    original = jsonschema_rs.validator_for(report_schema())
    placed = {"$ref": "#/components/schemas/Report", "components": components}
    documented = jsonschema_rs.validator_for(placed)
    verdicts = []
    rng = random.Random(20)
    for _, report in reports():
        for each in (report, *mutants(report, rng)):
            verdicts.append(original.is_valid(each))
            assert documented.is_valid(each) == verdicts[-1], json.dumps(each)
        assert original.is_valid(report)
    assert min(verdicts.count(True), verdicts.count(False)) > 50


@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("focal-axis", ["0", "-1", "0,1"], ["", "0,", "a", "0 ,1", "1.5"]),
        ("focal-normalizer", ["count", "weight", "2.5"], ["counts", "-1", "count,weight"]),
        ("focal-ignore_index", ["nan", "-1", "255"], ["null", "x"]),
        ("focal-pos_weight", ["2", "1,2.5,1e-3"], ["-1", "1;2"]),
        ("focal-alpha", ["0.25", "null", "0.5,0.25"], ["none", "-0.5"]),
        ("focal-report", ["all", "top,groups"], ["tops", "top groups"]),
        ("focal-calibration_bins", ["64", "exact"], ["-1", "many"]),
        ("focal-sweep", ["gamma:0,1.5"], ["0,1", '{"gamma":[0]}']),
        ("focal-group_names", ["camera", "camera,time of day"], ["", "a,,b"]),
    ],
)
def test_a_query_has_text(name: str, allowed: list[str], refused: list[str]) -> None:
    schema = query_schema(PARAMETERS[name].schema, PARAMETERS[name].default)
    assert schema["type"] == "string"
    assert [text for text in allowed + refused if re.search(schema["pattern"], text)] == allowed


def test_a_query_keeps_what_is_of_one_type() -> None:
    found = {name: query_schema(one.schema, one.default) for name, one in PARAMETERS.items()}
    assert found["focal-gamma"] == {"type": "number", "minimum": 0, "maximum": 1000, "format": "double"}
    assert found["focal-background_index"] == {"type": "integer", "format": "int64"}
    assert found["focal-reduction"] == {"type": "string", "enum": ["none", "sum", "mean"]}


def schemas_of(value: Any) -> Iterator[Document]:  # noqa: ANN401 # any part of the document
    """Every schema that a generator looks at."""
    if isinstance(value, dict):
        yield value
        for key, part in value.items():
            if key not in ("if", "then", "else", "not", "examples", "example", "default"):
                yield from schemas_of(part)
    elif isinstance(value, list):
        for part in value:
            yield from schemas_of(part)


def test_the_document_has_nothing_that_generators_drop() -> None:
    document = openapi_document(Settings())
    found = list(schemas_of([document["components"]["schemas"], document["paths"]]))
    assert not [schema for schema in found if "oneOf" in schema or "allOf" in schema]
    assert not [schema for schema in found if schema.get("type") == "number" and "format" not in schema]
    assert not [schema for schema in found if schema.get("type") == "integer" and "format" not in schema]
    for schema in found:
        kinds = [part.get("type") for part in schema.get("anyOf", ())]
        assert "array" not in kinds or kinds == ["array", "null"], schema
        assert len(set(kinds)) == len(kinds), schema


def test_operations_have_names_of_their_own() -> None:
    operations = [
        operation for item in openapi_document(Settings())["paths"].values() for operation in item.values()
    ]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert {"bce", "focal", "info", "usage", "infer_bce", "ready_focal_version_1"} <= set(names)
    assert all(re.fullmatch("[a-z][a-z0-9_]*", name) for name in names)
    assert all(len(operation["tags"]) == 1 for operation in operations)
