"""Reports asked for by the client: what is sent, and that parts and batches make the report of the whole."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from client.conftest import Ask
from client.playback import SCALAR, Answer, Playback
from lossd_client import AsyncLossClient, BadAnswer, InvalidRequest, LossClient, LossName, LossResult, Report
from lossd_client.testing import AsyncFakeTransport, FakeTransport

Options = dict[str, Any]

N, C = 13, 5
RNG = np.random.default_rng(23)
X, Y = RNG.normal(scale=3, size=(N, C)), (RNG.random((N, C)) < 0.3).astype(np.float32)
OTHER = RNG.normal(scale=3, size=(N, C))
WEIGHT, MASK = RNG.random((N, C)) + 0.5, RNG.random((N, C)) > 0.3
CAMERAS = [f"camera {name}" for name in RNG.choice(["b", "a", "ü", "c"], N)]
WEATHER = RNG.integers(-1, 2, N)
NAMES = [f"image {number}" for number in RNG.permutation(N)]
GROUPS = {"camera": CAMERAS, "weather": WEATHER}
FOUR_ROWS: Options = {"request_bytes": 4 * (2 * C * 8 + C * 4 + 3)}
EVERYTHING: Options = {"groups": GROUPS, "ids": NAMES, "baseline": OTHER, "top": 4}


def sections(report: Report) -> str:
    """What is equal in reports of the same rows, in order."""
    return json.dumps({name: value for name, value in report.to_dict().items() if name != "run"})


@pytest.fixture
def fake() -> Iterator[LossClient]:
    with LossClient(transport=FakeTransport) as client:
        yield client


CASES: list[tuple[str, Options]] = [
    ("focal", {**EVERYTHING, "gamma": 2.0, "sweep": {"gamma": [0, 1.5]}}),
    ("focal", {"variant": "exp", "alpha": np.linspace(0, 1, C), "sweep": {"gamma": [2]}}),
    ("bce", {"groups": CAMERAS, "row": "mean", "weight": WEIGHT, "normalizer": "weight"}),
    (
        "bce",
        {"groups": WEATHER, "mask": MASK, "normalizer": "positives", "pos_weight": np.arange(1.0, C + 1)},
    ),
    ("bce", {"ids": np.arange(N) + 2**60, "pos_weight": RNG.random((N, C)), "baseline": OTHER}),
    ("bce", {"first_row": 100, "sections": "top,histogram", "top": 8}),
    ("bce", {"sections": ["calibration", "sweep"], "calibration_bins": 8}),
    ("focal", {"class_axis": 0, "normalizer": 7.0}),
]


@pytest.mark.parametrize(("loss", "given"), CASES)
def test_the_parts_of_a_call_make_the_report_of_one_request(
    fake: LossClient, loss: LossName, given: Options
) -> None:
    whole = fake.report(loss, X, Y, **given)
    parts = fake.with_options(**FOUR_ROWS).report(loss, X, Y, **given)
    assert whole.to_dict()["run"]["request_id"] is not None
    assert parts.to_dict()["run"]["request_id"] is None
    assert sections(parts) == sections(whole)
    assert parts.to_dict()["run"].get("top_index") == whole.to_dict()["run"].get("top_index")


def test_both_clients_report(fake: LossClient) -> None:
    async def ask() -> Report:
        async with AsyncLossClient(transport=AsyncFakeTransport, **FOUR_ROWS) as client:
            return await client.report("focal", X, Y, **EVERYTHING)

    assert sections(asyncio.run(ask())) == sections(fake.report("focal", X, Y, **EVERYTHING))


def test_strings_are_those_of_the_caller(fake: LossClient) -> None:
    document = fake.report("bce", X, Y, **EVERYTHING).to_dict()
    groups = document["groups"]
    assert (groups["names"], groups["kinds"]) == (["camera", "weather"], ["string", "integer"])
    expected = sorted(set(zip(CAMERAS, WEATHER.tolist(), strict=True)))
    assert list(zip(*groups["ids"], strict=True)) == expected
    losses = Y * np.logaddexp(0, -X) + (1 - Y) * np.logaddexp(0, X)
    for place, (camera, weather) in enumerate(expected):
        rows = [CAMERAS[row] == camera and WEATHER[row] == weather for row in range(N)]
        assert groups["rows"][place] == sum(rows)
        assert groups["sum_terms"][0][place] == pytest.approx(losses[rows].sum(), rel=1e-13)
    order = np.argsort(-losses.sum(axis=1))[:4]
    assert [row["id"] for row in document["top"]["rows"]] == [NAMES[row] for row in order]
    assert document["run"]["top_index"]["rows"] == order.tolist()
    worse = (losses - Y * np.logaddexp(0, -OTHER) - (1 - Y) * np.logaddexp(0, OTHER)).sum(axis=1)
    assert document["paired"]["top"]["worse"]["rows"][0]["id"] == NAMES[worse.argmax()]
    assert document["top"]["ids"] == "string"


def as_batches(sizes: tuple[int, ...] = (4, 1, 0, 5, 3), **tensors: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - arrays, lists and mappings
    """Rows of tensors, batch by batch."""
    ends = np.cumsum(sizes)
    return [
        {name: _rows(value, end - size, end) for name, value in tensors.items()}
        for size, end in zip(sizes, ends, strict=True)
    ]


def _rows(value: Any, start: int, end: int) -> Any:  # noqa: ANN401 - likewise
    if isinstance(value, dict):
        return {name: _rows(column, start, end) for name, column in value.items()}
    return value[start:end]


BATCHES = as_batches(logits=X, targets=Y, groups=GROUPS, ids=NAMES, baseline=OTHER)


def test_batches_make_the_report_of_one_request(fake: LossClient) -> None:
    whole = fake.report("focal", X, Y, gamma=2.0, first_row=10, **EVERYTHING)
    result = fake.score_batches("focal", iter(BATCHES), sections="all", gamma=2.0, first_row=10, top=4)
    assert result.report is not None
    assert sections(result.report) == sections(whole)
    assert result.report.to_dict()["run"]["first_row"] == 10
    assert float(result) == float(fake.focal(X, Y, gamma=2.0))
    small = fake.with_options(request_bytes=200).score_batches(
        "focal", BATCHES, sections="all", gamma=2.0, top=4, first_row=10
    )
    assert small.report is not None
    assert sections(small.report) == sections(whole)


def test_rows_are_numbered_on_from_batch_to_batch(fake: LossClient) -> None:
    batches = as_batches(logits=X, targets=Y)
    whole = fake.report("bce", X, Y, first_row=5)
    joined = fake.score_batches("bce", batches, sections="all", first_row=5)
    assert joined.report is not None
    assert sections(joined.report) == sections(whole)
    results = list(
        fake.iter_batches("bce", [each for each in batches if len(each["logits"])], sections="top")
    )
    first = [each.report.to_dict()["run"]["first_row"] for each in results if each.report is not None]
    assert first == [0, 4, 5, 10]
    merged = LossResult.merge(results).report
    assert merged is not None
    assert merged.to_dict()["top"] == fake.report("bce", X, Y, sections="top").to_dict()["top"]


def test_batches_may_come_asynchronously(fake: LossClient) -> None:
    async def arriving() -> AsyncIterator[Any]:
        for batch in BATCHES:
            await asyncio.sleep(0)
            yield batch

    async def ask() -> tuple[LossResult, list[LossResult]]:
        async with AsyncLossClient(transport=AsyncFakeTransport) as client:
            given: Options = {"sections": ["groups", "top", "paired"], "top": 4, "reduction": "sum"}
            whole = await client.score_batches("bce", arriving(), **given)
            return whole, [each async for each in client.iter_batches("bce", arriving(), **given)]

    whole, each = asyncio.run(ask())
    merged = LossResult.merge(each)
    assert whole.report is not None
    assert merged.report is not None
    expected = fake.report("bce", X, Y, sections=["groups", "top", "paired"], **EVERYTHING)
    assert sections(merged.report) == sections(whole.report) == sections(expected)


def test_losses_of_rows_come_with_a_report(fake: LossClient) -> None:
    cases: list[Options] = [{"reduction": "none"}, {"axis": 1, "reduction": "sum"}, {"axis": 0}]
    for more in cases:
        result = fake.score_batches("bce", as_batches(logits=X, targets=Y), sections="classes", **more)
        np.testing.assert_array_equal(result.loss, fake.bce(X, Y, **more).loss)
        assert result.report is not None
        assert sections(result.report) == sections(fake.report("bce", X, Y, sections="classes"))


def test_without_sections_there_is_no_report(fake: LossClient) -> None:
    assert fake.bce(X, Y).report is None
    assert fake.score_batches("bce", [(X, Y)]).report is None
    assert "report" not in fake.bce(X, Y).to_dict()
    batch: Options = {"logits": X, "targets": Y, "ids": NAMES}
    with pytest.raises(ValueError, match="ids is for a report: ask for one, by sections='all'"):
        fake.score_batches("bce", [batch])
    with pytest.raises(ValueError, match="top is for a report"):
        fake.score_batches("bce", [(X, Y)], top=5)


def test_a_result_with_a_report_merges_with_its_like_alone(fake: LossClient) -> None:
    [one] = fake.iter_batches("bce", [(X, Y)], sections="top")
    with pytest.raises(ValueError, match="a result with a report and one without cannot be merged"):
        LossResult.merge([one, fake.bce(X, Y)])
    [other] = fake.iter_batches("bce", [(X, Y)], sections="histogram")
    with pytest.raises(ValueError, match="reports of different sections cannot be merged"):
        LossResult.merge([one, other])
    plain = one.to_dict()
    assert one.report is not None
    assert plain["report"] == one.report.to_dict()
    json.dumps(plain, allow_nan=False)


def test_nothing_but_dropped_elements_is_no_error(fake: LossClient) -> None:
    totals = fake.report("bce", X, Y, mask=np.zeros((N, C), dtype=bool)).to_dict()["totals"]
    assert (totals["rows"], totals["rows_dropped"], totals["count"], totals["sum"]) == (N, N, 0, 0.0)


def answer_with(document: object) -> Answer:
    return Answer.of_json({**SCALAR, "report": document})


def report(**more: object) -> dict[str, Any]:
    totals = {"loss": "focal", "params": {"gamma": 2.0}, "rows": 1}
    return {"schema": "lossd.report/1", "totals": totals, "run": {"kernel": "native"}, **more}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, [("report", "all")]),
        ({"sections": None, "top": 20, "row": "sum", "first_row": 0, "sweep": None}, [("report", "all")]),
        ({"sections": "classes,top"}, [("report", "classes,top")]),
        ({"sections": ("paired",), "baseline": np.zeros((2, 3))}, [("report", "paired")]),
        ({"top": np.int64(5), "row": "mean"}, [("report", "all"), ("top", "5"), ("row", "mean")]),
        (
            {"first_row": 3, "calibration_bins": "exact"},
            [("report", "all"), ("first_row", "3"), ("calibration_bins", "exact")],
        ),
        ({"calibration_bins": 32}, [("report", "all"), ("calibration_bins", "32")]),
        ({"sweep": {"gamma": [0, 1.5, np.float32(2)]}}, [("report", "all"), ("sweep", "gamma:0.0,1.5,2.0")]),
        ({"gamma": 2}, [("gamma", "2.0"), ("report", "all")]),
        ({"groups": {"a": [1, 2], "b": ["x", "y"]}}, [("report", "all"), ("group_names", '["a","b"]')]),
        ({"groups": [1, 2], "ids": ["b", "a"]}, [("report", "all")]),
    ],
)
def test_what_is_asked_for_is_in_the_query(
    ask: Ask, playback: Playback, given: Options, sent: list[tuple[str, str]]
) -> None:
    playback.answer = answer_with(report())
    ask(playback.url, "report", "focal", np.zeros((2, 3)), np.zeros((2, 3)), **given)
    assert sorted(playback.last.params) == sorted([*sent, ("reduction", "sum")])
    assert playback.last.headers["accept"] == "application/json"
    tensors = playback.last.tensors
    assert set(tensors) == {"logits", "targets"} | ({"groups", "ids", "baseline"} & set(given))
    if "ids" in given:
        np.testing.assert_array_equal(tensors["ids"], [1, 0])


def test_probabilities_weights_and_masks_go_along(ask: Ask, playback: Playback) -> None:
    playback.answer = answer_with(report())
    given = {name: np.ones((2, 3)) for name in ("probabilities", "targets", "weight", "baseline")}
    ask(playback.url, "report", "bce", **given, mask=[True, False, True], pos_weight=2.0, normalizer="weight")
    assert set(playback.last.tensors) == {*given, "mask"}
    assert playback.last.path == "/bce"
    assert dict(playback.last.params) == {
        "reduction": "sum", "normalizer": "weight", "pos_weight": "2.0", "report": "all"
    }  # fmt: skip


def test_targets_are_not_sent_in_another_form_by_batch(ask: Ask, playback: Playback) -> None:
    playback.answer = answer_with(report())
    ask(playback.url, "report", "bce", np.zeros((2, 3)), np.eye(3)[:2], options={"one_hot_as_ids": True})
    assert "targets_format" not in dict(playback.last.params)
    assert playback.last.tensors["targets"].shape == (2, 3)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"axis": 0}, TypeError, r"report\(\) has no parameter 'axis'"),
        ({"reduction": "none"}, TypeError, r"report\(\) has no parameter 'reduction'"),
        ({"gama": 2}, TypeError, "did you mean 'gamma'"),
        ({"sections": "clases"}, ValueError, "sections: there is no 'clases'; did you mean 'classes'"),
        ({"sections": ["all", "top"]}, ValueError, "there is no 'all'"),
        ({"sections": []}, ValueError, "sections: name some of totals, classes"),
        ({"top": 2.5}, TypeError, "top"),
        ({"top": True}, TypeError, "top must not be True"),
        ({"row": "max"}, ValueError, "row: must be 'sum' or 'mean', and is 'max'"),
        ({"calibration_bins": "many"}, ValueError, "calibration_bins: must be a number or 'exact'"),
        ({"sweep": {"alpha": [0.5]}}, ValueError, r"sweep: .* of alpha; alpha and pos_weight are for .* at"),
        ({"sweep": [0, 1]}, TypeError, "sweep: must be"),
        ({"sweep": {"gamma": ["a"]}}, ValueError, "sweep: could not convert"),
        ({"groups": [1.5, 2.5]}, TypeError, "groups must be all integers or all strings"),
        ({"ids": ["a", None]}, ValueError, "ids: the value of row 1 is missing"),
        ({"ids": ["a" * 257, "b"]}, ValueError, "has 257 bytes"),
        ({"baseline": np.zeros((2, 3), dtype=int)}, TypeError, "baseline has dtype int64"),
    ],
)
def test_mistakes_are_told_before_anything_is_sent(
    ask: Ask, playback: Playback, given: Options, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        ask(playback.url, "report", "focal", np.zeros((2, 3)), np.zeros((2, 3)), **given)
    assert playback.arrivals == []


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "has no report: the server is of a version that makes none"),
        ({"schema": "lossd.report/9"}, "cannot be read"),
        (report(groups={"kinds": ["integer"], "ids": [[7]]}), "cannot be read .IndexError"),
    ],
)
def test_an_answer_without_a_report_is_none(
    ask: Ask, playback: Playback, document: object, message: str
) -> None:
    playback.answer = Answer.of_json(SCALAR) if document is None else answer_with(document)
    with pytest.raises(BadAnswer, match=message):
        ask(playback.url, "report", "focal", np.zeros((2, 3)), np.zeros((2, 3)), groups=["a", "b"])


def test_what_does_not_fit_is_refused_by_the_server_as_one_request(fake: LossClient) -> None:
    wrong: list[Options] = [{"ids": NAMES[:-1]}, {"groups": CAMERAS[1:]}, {"baseline": OTHER[:, 1:]}]
    for given in wrong:
        for client in (fake, fake.with_options(**FOUR_ROWS)):
            with pytest.raises(InvalidRequest) as caught:
                client.report("bce", X, Y, **given)
            assert caught.value.code == "shape_mismatch"


def test_a_stream_has_a_column_for_groups_and_ids(ask: Ask, playback: Playback) -> None:
    info = Answer.of_json({"limits": {"batch_bytes": 1 << 20}})
    playback.answers = [
        info,
        answer_with(report(top={"ids": "string", "rows": [{"id": "image 3"}], "elements": []})),
    ]
    result = ask(playback.url, "score_stream", "focal", BATCHES, sections="all", top=3, gamma=2.0, axis=1)
    table = pa.ipc.open_stream(playback.last.body).read_all()
    assert table.column_names == ["logits", "targets", "baseline", "ids", "group.camera", "group.weather"]
    assert table["ids"].to_pylist() == NAMES
    assert table["group.camera"].to_pylist() == CAMERAS
    assert table["group.weather"].to_pylist() == WEATHER.tolist()
    assert dict(playback.last.query) == {"gamma": "2.0", "axis": "1", "report": "all", "top": "3"}
    assert playback.last.headers["accept"] == "application/json"
    assert result.report.to_dict()["top"]["rows"] == [{"id": "image 3"}]
    assert result.options["axis"] == 1
    assert "report" not in result.options


def test_the_batches_of_a_stream_have_groups_and_ids_of_one_kind(ask: Ask, playback: Playback) -> None:
    playback.answer = Answer.of_json({"limits": {"batch_bytes": 1 << 20}})
    x = np.zeros((2, 3))
    for ids, kind, message in (
        ([["a", "b"], [1, 2]], TypeError, "ids is int64 in one batch and string in the first"),
        ([["a", "b"], None], TypeError, "ids is missing in a later batch"),
        ([["a"]], ValueError, "ids has 1 rows, and the batch 2"),
    ):
        batches = [{"logits": x, "targets": x, "ids": each} for each in ids]
        with pytest.raises(kind, match=message):
            ask(playback.url, "score_stream", "bce", batches, sections="all")


def test_a_run_has_its_times_requests_and_versions(fake: LossClient) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)  # times are cut to milliseconds
    whole = fake.report("bce", X, Y)
    parts = fake.with_options(**FOUR_ROWS).report("bce", X, Y)
    after = datetime.now(UTC)
    assert whole.run["request_ids"] == [whole.request_id]
    call = parts.run["request_ids"][0].removesuffix("-1")
    assert parts.run["request_ids"] == [
        f"{call}-{number}" for number in range(1, len(parts.run["request_ids"]) + 1)
    ]
    assert len(parts.run["request_ids"]) > 1
    for run in (whole.run, parts.run):
        assert run["client_version"] == metadata.version("lossd")
        started, ended = (datetime.fromisoformat(run[name]) for name in ("started", "ended"))
        assert before <= started <= ended <= after
        assert run["started"].endswith("Z")
    assert whole == parts


def test_a_report_is_saved_to_the_same_bytes(fake: LossClient, tmp_path: Path) -> None:
    report = fake.report("bce", X, Y, **EVERYTHING)
    for name in ("a.json", "a.json.gz"):
        report.save(tmp_path / name)
        Report.load(tmp_path / name).save(tmp_path / f"again-{name}")
        assert (tmp_path / name).read_bytes() == (tmp_path / f"again-{name}").read_bytes()
        assert Report.load(tmp_path / name).run == report.run


def test_notes_are_warnings_once_a_call(ask: Ask, base_url: str) -> None:
    inputs, ids = X[:C], np.arange(C)
    with pytest.warns(UserWarning, match="weights of classes go as class_weight") as caught:
        ask(base_url, "report", "cross_entropy", inputs, ids, weight=np.ones(C))
    [warning] = caught
    assert Path(warning.filename).name == "conftest.py"  # which calls the client
