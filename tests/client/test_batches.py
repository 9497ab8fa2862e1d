"""Batches one after the other: as requests of their own, and as one Arrow stream."""

import asyncio
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from client.conftest import Ask
from client.playback import SCALAR, Answer, Playback
from lossd_client import (
    AsyncLossClient,
    InvalidRequest,
    LossClient,
    LossResult,
    Progress,
    Request,
    Response,
    Retry,
    Timeout,
    Unavailable,
)
from lossd_client._requests.arrow_stream import ArrowEncoder

Batches = list[dict[str, Any]]

RNG = np.random.default_rng(11)
X23 = np.zeros((2, 3))
SIZES = (4, 1, 0, 7, 3)
QUICK = Retry(first_wait=0.001, longest_wait=0.002)


def batches(columns: int | None = 3, dtype: Any = np.float64) -> Batches:  # noqa: ANN401 - a dtype
    shapes = [(rows,) if columns is None else (rows, columns) for rows in SIZES]
    return [
        {
            "logits": RNG.normal(size=shape).astype(dtype),
            "targets": RNG.random(shape),
            "weight": RNG.random(shape).astype(np.float32),
            "mask": RNG.random(shape) > 0.2,
        }
        for shape in shapes
    ]


def whole(parts: Batches) -> dict[str, Any]:
    return {name: np.concatenate([batch[name] for batch in parts]) for name in parts[0]}


def assert_same_bits(ours: LossResult, its: LossResult) -> None:
    for name in ("loss", "loss_terms", "divisor_terms"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(its, name))
    for name in ("sum", "weight_sum", "positives"):
        assert getattr(ours, name) == getattr(its, name)
        assert getattr(ours, f"{name}_terms") == getattr(its, f"{name}_terms")
    for name in ("count", "shape", "reduction", "loss_name"):
        assert getattr(ours, name) == getattr(its, name)


@pytest.mark.parametrize(
    "params",
    [
        {"reduction": "sum", "gamma": 2.0},
        {"reduction": "sum", "normalizer": "count", "pos_weight": [1.0, 2.0, 3.0]},
        {"reduction": "none", "alpha": None},
        {"axis": 1, "reduction": "sum"},
        {"axis": 0, "reduction": "sum", "variant": "quality"},
        {"reduction": "mean", "normalizer": "positives"},
        {"axis": 0},
        {"axis": 0, "normalizer": "weight"},
        {"axis": -2, "normalizer": "positives"},
        {"axis": 0, "normalizer": 7},
    ],
)
@pytest.mark.parametrize("method", ["score_batches", "score_stream"])
def test_batches_are_scored_as_one_input(
    ask: Ask, base_url: str, method: str, params: dict[str, Any]
) -> None:
    parts = batches()
    with LossClient(base_url) as client:
        its = client.focal(**whole(parts), **params)
    ours = ask(base_url, method, "focal", iter(parts), **params)
    assert_same_bits(ours, its)


@pytest.mark.parametrize("method", ["score_batches", "score_stream"])
def test_batches_of_ids_with_a_background_and_gaps(ask: Ask, base_url: str, method: str) -> None:
    rng = np.random.default_rng(3)
    ids = rng.integers(-1, 4, 60).astype(np.float64)
    logits = rng.normal(size=(60, 3))
    ids[::7] = np.nan
    options: dict[str, Any] = {"targets_format": "index", "background_index": 3, "ignore_index": "nan"}
    ids[ids == -1] = 0
    parts = [(logits[start : start + 16], ids[start : start + 16]) for start in range(0, 60, 16)]
    result = ask(base_url, method, "bce", parts, **options)
    kept = ~np.isnan(ids)
    y, x = np.eye(4)[ids[kept].astype(int)][:, :3], logits[kept]
    expected = (y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x)).mean()
    assert float(result) == pytest.approx(expected, rel=1e-13)
    assert result.count == 3 * kept.sum()
    assert result.options.items() >= options.items()
    assert result.options["normalizer"] == "count"
    assert (result.reduction, result.notes) == ("mean", ())
    assert result.kernel is not None
    assert result.version is not None


def test_a_stream_takes_no_pos_weight_an_element(ask: Ask, base_url: str) -> None:
    with pytest.raises(
        ValueError, match=r"one a class, and not shape \(4, 1\); score the arrays by one call"
    ):
        ask(
            base_url,
            "score_stream",
            "bce",
            [(np.zeros((4, 2)), np.zeros((4, 2)))],
            pos_weight=np.ones((4, 1)),
        )


def test_notes_and_options_of_batches_are_kept(ask: Ask, base_url: str) -> None:
    square = np.zeros((4, 4))
    batch = {"logits": square, "targets": square, "weight": np.arange(4)}
    for params in ({}, {"reduction": "none"}, {"axis": 1}):
        result = ask(base_url, "score_batches", "focal", [batch, batch], **params)
        [note] = result.notes
        assert "weight of shape [4] goes along axis 1" in note
        assert result.params == {"gamma": 1.5, "alpha": 0.25, "variant": "sigmoid"}
        assert (result.reduction, result.options["axis"]) == (
            params.get("reduction", "mean"),
            params.get("axis"),
        )


def test_means_are_merged_as_one_division(ask: Ask, base_url: str) -> None:
    parts = batches()  # one of them without rows
    parts[3]["mask"][:] = False
    for params in (
        {"normalizer": "weight"},
        {"axis": (1, 0)},
        {"normalizer": 7},
        {"normalizer": "positives"},
        {"axis": 0},
        {"axis": 0, "normalizer": "positives"},
    ):
        with LossClient(base_url) as client:
            its = client.bce(**whole(parts), **params)
        ours = ask(base_url, "score_batches", "bce", parts, **params)
        assert_same_bits(ours, its)
        assert ours.options == its.options


def test_only_a_whole_that_is_empty_is_an_empty_mean(ask: Ask, base_url: str) -> None:
    empty = (np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(InvalidRequest) as caught:
        ask(base_url, "score_batches", "bce", [empty, empty])
    assert caught.value.code == "empty_mean"
    with pytest.raises(InvalidRequest, match=r"of output \[0\] is over nothing"):
        ask(base_url, "score_batches", "bce", [empty, empty], axis=0)
    with LossClient(base_url) as client, pytest.raises(InvalidRequest) as caught:
        list(client.iter_batches("bce", [(np.zeros((1, 3)), np.zeros((1, 3))), empty]))
    assert caught.value.code == "empty_mean"


def test_a_normalizer_that_there_is_not_is_refused(ask: Ask, base_url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(base_url, "score_batches", "bce", [(np.zeros(3), np.zeros(3))], normalizer=-1)
    assert caught.value.code == "invalid_parameter"


@pytest.mark.parametrize("method", ["score_batches", "iter_batches"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_source_may_use_its_buffers_again(playback: Playback, method: str, is_async: bool) -> None:
    logits, targets = np.empty((4, 3)), np.full((4, 3), 0.5)

    def filling() -> Iterator[Any]:
        for number in range(4):
            logits[:] = number
            yield {"logits": logits, "targets": targets, "mask": np.ones((4, 3), dtype=bool)}

    async def score() -> None:
        async with AsyncLossClient(playback.url) as client:
            if method == "score_batches":
                await client.score_batches("focal", filling())
            else:
                assert len([each async for each in client.iter_batches("focal", filling())]) == 4

    if is_async:
        asyncio.run(score())
    else:
        with LossClient(playback.url) as client:
            given = getattr(client, method)("focal", filling())
            assert method == "score_batches" or len(list(given)) == 4
    sent = [arrival.tensors["logits"] for arrival in playback.arrivals]
    assert sorted(float(each[0, 0]) for each in sent) == [0, 1, 2, 3]
    assert all((each == each[0, 0]).all() for each in sent)


@pytest.mark.parametrize("columns", [None, 1, 3])
@pytest.mark.parametrize("dtype", [np.float16, ">f4", np.float64, "bfloat16"])
def test_a_stream_carries_every_shape_and_dtype(base_url: str, columns: int | None, dtype: str) -> None:
    parts = batches(columns, np.float32 if dtype == "bfloat16" else dtype)
    if dtype == "bfloat16":
        for batch in parts:
            batch["logits"] = (batch["logits"].view(np.uint32) >> 16).astype(np.uint16).view("V2")
    with LossClient(base_url) as client:
        assert_same_bits(client.score_stream("bce", parts), client.bce(**whole(parts)))


def test_pairs_are_batches_of_logits_and_targets(ask: Ask, base_url: str) -> None:
    pairs = [(batch["logits"], batch["targets"]) for batch in batches()]
    sums = {ask(base_url, m, "bce", pairs, reduction="sum").sum for m in ("score_batches", "score_stream")}
    assert len(sums) == 1


def test_large_batches_are_cut_to_the_servers_limit(base_url: str) -> None:
    logits = np.zeros((70_000, 150), dtype=np.float32)  # 42 MB; the server takes 32 MiB at once
    sent: list[Progress] = []
    with LossClient(base_url, progress=sent.append) as client:
        result = client.score_stream("bce", [(logits, logits), (logits[:1], logits[:1])])
    assert result.count == 70_001 * 150
    assert result.loss == pytest.approx(np.log(2), rel=1e-15)
    assert [each.rows for each in sent] == [70_000, 70_001]


def test_no_piece_of_a_stream_is_larger_than_it_may_be() -> None:
    encoder = ArrowEncoder(64 << 10)
    arrays = {"logits": np.ones((5000, 7)), "targets": np.ones((5000, 7), dtype=bool)}
    axes = dict.fromkeys(arrays, 2)
    body = b"".join([*encoder.encode(arrays, axes), *encoder.encode(arrays, axes), encoder.end()])
    table = pa.ipc.open_stream(body).read_all()
    assert (table.num_rows, table.column_names) == (10_000, ["logits", "targets"])
    sizes = [batch.nbytes for batch in table.to_batches()]
    assert len(sizes) == encoder.batches > 8
    assert max(sizes) <= 64 << 10
    assert encoder.shape == (10_000, 7)


class Discard:
    """Takes a body as it comes, keeps its length, and answers like a server."""

    def __init__(self) -> None:
        self.taken = 0

    def send(self, request: Request, timeout: Timeout) -> Response:
        pieces = request.stream() if request.stream else request.body
        assert not isinstance(pieces, AsyncIterator)
        for piece in pieces:
            self.taken += len(piece)
        return Response(200, {"content-type": "application/json"}, Answer.of_json(SCALAR).body)

    def close(self) -> None:
        pass


def _endless(number: int) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    for each in range(number):
        yield np.full((1024, 64), float(each)), np.full((1024, 64), 0.5)  # 512 KiB each


@pytest.mark.parametrize(
    "score",
    [
        lambda client, stream: client.score_stream("focal", stream),
        lambda client, stream: client.score_batches("focal", stream),
        lambda client, stream: sum(1 for _ in client.iter_batches("focal", stream)),
    ],
    ids=["score_stream", "score_batches", "iter_batches"],
)
def test_memory_does_not_grow_with_the_stream(score: Callable[[LossClient, Any], object]) -> None:
    discard = Discard()
    with LossClient(transport=lambda: discard) as client:
        score(client, _endless(3))  # whatever is imported or kept on first use
        tracemalloc.start()
        try:
            score(client, _endless(100))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert discard.taken > 100 << 20
    assert peak < 16 << 20


def test_results_come_in_order_and_batches_are_drawn_as_they_are_taken(playback: Playback) -> None:
    drawn = 0

    def endless() -> Iterator[Any]:
        nonlocal drawn
        while True:
            drawn += 1
            yield np.full((1, 3), float(drawn)), np.zeros((1, 3))

    with LossClient(playback.url, concurrency=2) as client:
        results = client.iter_batches("focal", endless())
        assert drawn == 0
        for taken in range(1, 6):
            next(results)
            assert drawn <= taken + 2
        results.close()  # type: ignore[attr-defined] # a generator
        assert drawn <= 7
        assert float(client.focal([0.0], [0.0])) == SCALAR["loss"]


def test_results_come_in_the_batches_order(ask: Ask, base_url: str) -> None:
    parts = [batch for batch in batches() if len(batch["logits"])]

    async def collect() -> list[LossResult]:
        async with AsyncLossClient(base_url) as client:
            return [result async for result in client.iter_batches("bce", parts, reduction="sum")]

    with LossClient(base_url) as client:
        alone = [client.bce(**batch, reduction="sum").sum for batch in parts]
        assert [result.sum for result in client.iter_batches("bce", parts, reduction="sum")] == alone
    assert [result.sum for result in asyncio.run(collect())] == alone


@pytest.mark.parametrize("method", ["score_batches", "score_stream"])
def test_batches_may_come_asynchronously(base_url: str, method: str) -> None:
    parts = batches()

    async def arriving() -> AsyncIterator[Any]:
        for batch in parts:
            await asyncio.sleep(0)
            yield batch

    async def score() -> LossResult:
        async with AsyncLossClient(base_url) as client:
            result: LossResult = await getattr(client, method)("bce", arriving(), reduction="sum")
            return result

    with LossClient(base_url) as client:
        assert asyncio.run(score()).sum == client.bce(**whole(parts), reduction="sum").sum


@pytest.mark.parametrize("method", ["score_batches", "score_stream"])
@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ([np.zeros(3)], TypeError, "a batch is"),
        ([(np.zeros(3), np.zeros(3), np.zeros(3))], TypeError, "this is a tuple of 3"),
        ([{"logits": np.zeros(3), "target": np.zeros(3)}], TypeError, "did you mean 'targets'"),
        ([], ValueError, "no (batches|results)"),
    ],
)
def test_what_is_no_batch(
    ask: Ask, base_url: str, method: str, given: list[Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        ask(base_url, method, "bce", given)


@pytest.mark.parametrize("method", ["score_batches", "iter_batches", "score_stream"])
def test_parameters_that_there_are_not(base_url: str, method: str) -> None:
    with LossClient(base_url) as client:
        for loss, params, message in (
            ("focal", {"gama": 2.0}, "did you mean 'gamma'"),
            ("bce", {"gamma": 2.0}, "no parameter 'gamma'"),
            ("dicey", {}, "there is no loss 'dicey'"),
        ):
            with pytest.raises(TypeError, match=message):
                list(getattr(client, method)(loss, [([0.0], [0.0])], **params))


@pytest.mark.parametrize(
    ("second", "kind", "message"),
    [
        ((np.zeros((2, 3), dtype=np.float32), np.zeros((2, 3))), TypeError, "logits is .* in one batch"),
        ((np.zeros((2, 4)), np.zeros((2, 4))), TypeError, "same tensors, dtypes and columns"),
        ((np.zeros((2, 3)), np.zeros((1, 3))), ValueError, "with the same N"),
        ((np.zeros((2, 3, 1)), np.zeros((2, 3, 1))), ValueError, r"\[N\] or \[N, C\]"),
        (
            {"logits": X23, "targets": X23, "weight": X23},
            TypeError,
            "weight is in a later batch, and not in the first",
        ),
        ({"probabilities": X23, "targets": X23}, TypeError, "logits is missing in a later batch"),
    ],
)
def test_batches_that_do_not_make_one_stream(
    ask: Ask,
    base_url: str,
    second: tuple[NDArray[Any], NDArray[Any]] | dict[str, NDArray[Any]],
    kind: type[Exception],
    message: str,
) -> None:
    with pytest.raises(kind, match=message):
        ask(base_url, "score_stream", "bce", [(np.zeros((2, 3)), np.zeros((2, 3))), second])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"weight": np.ones(6)},
            r"weight has shape \(6,\), logits \(6, 3\): send weight\[:, None\] for one a row$",
        ),
        (
            {"mask": np.ones(6, dtype=bool), "logits": np.zeros((6, 6)), "targets": np.zeros((6, 6))},
            r"mask\[:, None\] for one a row, send np\.broadcast_to\(mask, \(6, 6\)\) for one a class",
        ),
        (
            {"weight": np.ones(3)},
            r"logits \(6, 3\): send np\.broadcast_to\(weight, \(6, 3\)\) for one a class",
        ),
        ({"weight": np.ones(1)}, r"send np\.broadcast_to\(weight, \(6, 3\)\) for all"),
        ({"weight": np.ones(5)}, "with the same N: .*weight"),
        ({"weight": np.array(2.0)}, r"\[N\] or \[N, C\].*weight \(\)"),
        ({"logits": np.zeros(6), "targets": np.zeros((6, 1))}, r"\[N, 1\] is no \[N\], .* targets\[:, 0\]"),
        (
            {"logits": np.zeros((6, 1)), "targets": np.zeros(6)},
            r"\[N\] is no \[N, 1\], .* targets\[:, None\]",
        ),
        ({"targets": np.zeros(6)}, "inputs' shape, or class ids with targets_format='index'"),
        ({"logits": np.zeros(6), "targets": np.zeros(6), "weight": np.ones((6, 1))}, r"send weight\[:, 0\]"),
    ],
)
def test_a_stream_reads_a_shape_as_the_other_calls_do_or_not_at_all(
    ask: Ask, base_url: str, given: dict[str, Any], message: str
) -> None:
    batch = {"logits": np.zeros((6, 3)), "targets": np.zeros((6, 3)), **given}
    with pytest.raises(ValueError, match=message):
        ask(base_url, "score_stream", "bce", [batch])


def test_what_a_stream_advises_is_the_loss_of_one_call(ask: Ask, base_url: str) -> None:
    rng = np.random.default_rng(8)
    x, y, weight = rng.normal(size=(3, 3)), rng.random((3, 3)), rng.random(3)
    each = y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x)
    for given, factors in ((weight[:, None], weight[:, None]), (np.broadcast_to(weight, (3, 3)), weight)):
        batch = {"logits": x, "targets": y, "weight": given}
        assert float(ask(base_url, "score_stream", "bce", [batch])) == pytest.approx((each * factors).mean())


def test_ids_of_a_stream_have_a_dimension_less(ask: Ask, base_url: str) -> None:
    for batch in ((np.zeros((3, 2)), np.zeros((3, 1), int)), (np.zeros(3), np.zeros(3, int))):
        with pytest.raises(ValueError, match="class ids have one dimension less than the inputs"):
            ask(base_url, "score_stream", "bce", [batch], targets_format="index")


def test_a_fault_in_a_stream_is_named_by_its_place(ask: Ask, base_url: str) -> None:
    good, bad = (np.zeros((2, 3)), np.zeros((2, 3))), (np.zeros((2, 3)), np.full((2, 3), 2.0))
    with pytest.raises(InvalidRequest) as caught:
        ask(base_url, "score_stream", "bce", [good, bad])
    assert caught.value.code == "target_out_of_range"
    assert caught.value.errors[0].pointer == "/targets/2/0"


@pytest.mark.parametrize(("given", "sent"), [(list, 3), (iter, 1)])
def test_a_stream_is_sent_again_if_its_batches_can_be_read_again(
    ask: Ask, playback: Playback, given: Callable[[Any], Any], sent: int
) -> None:
    info = Answer.of_json({"limits": {"batch_bytes": 1 << 20}})
    overloaded = Answer.of_problem(503, "overloaded", retryable=True)
    playback.answers = [info, overloaded, overloaded]
    pairs = [(np.zeros((2, 3)), np.zeros((2, 3)))]
    try:
        ask(playback.url, "score_stream", "bce", given(pairs), options={"retry": QUICK})
    except Unavailable:
        assert sent == 1
    posts = [arrival for arrival in playback.arrivals if arrival.method == "POST"]
    assert len(posts) == sent
    assert len({arrival.body for arrival in posts}) == 1
    assert pa.ipc.open_stream(posts[0].body).read_all().num_rows == 2


def test_a_stream_without_pyarrow_says_what_to_install(
    ask: Ask, base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lossd\[arrow\]'"):
        ask(base_url, "score_stream", "bce", [(np.zeros(3), np.zeros(3))])


@pytest.mark.parametrize("method", ["score_batches", "score_stream"])
def test_a_call_that_is_cancelled_leaves_the_client_as_it_was(base_url: str, method: str) -> None:
    drawn = 0

    async def endless() -> AsyncIterator[Any]:
        nonlocal drawn
        while True:
            drawn += 1
            await asyncio.sleep(0.001)
            yield np.zeros((3, 2)), np.zeros((3, 2))

    async def cancel() -> float:
        async with AsyncLossClient(base_url) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await getattr(client, method)("bce", endless())
            assert len(asyncio.all_tasks()) == 1
            before = drawn
            loss = float(await client.bce([0.0], [1]))
            assert drawn == before > 0
            return loss

    assert asyncio.run(cancel()) == pytest.approx(np.log(2), rel=1e-15)


@pytest.mark.parametrize("method", ["score_batches", "score_stream"])
def test_what_the_batches_raise_comes_through(ask: Ask, base_url: str, method: str) -> None:
    def breaking() -> Iterator[Any]:
        yield np.zeros((3, 2)), np.zeros((3, 2))
        raise KeyError("the disk is full")

    with pytest.raises(KeyError, match="the disk is full"):
        ask(base_url, method, "bce", breaking())


def test_what_is_done_is_given_before_a_slow_source_gives_more(playback: Playback) -> None:
    def slow() -> Iterator[Any]:
        for number in range(3):
            yield np.full((1, 3), float(number)), np.zeros((1, 3))
            while len(playback.arrivals) <= number:
                time.sleep(0.001)
            time.sleep(0.3)  # the answer comes in this time
            drawn.append(number)

    drawn: list[int] = []
    with LossClient(playback.url, concurrency=3) as client:
        results = client.iter_batches("focal", slow())
        next(results)
        assert len(drawn) < 2
        assert len(list(results)) == 2
