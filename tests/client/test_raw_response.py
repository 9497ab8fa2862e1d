"""Results with the HTTP answers that they were read from."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

import lossd_client
from client.playback import SCALAR, Answer, Playback
from lossd_client import AsyncLossClient, LossClient, LossResult, RawResponse, Report
from lossd_client.testing import AsyncFakeTransport, FakeTransport

X, Y = np.linspace(-2, 2, 24).reshape(8, 3), np.eye(8, 3)
BATCHES = [(X[start : start + 2], Y[start : start + 2]) for start in range(0, 8, 2)]
SPLIT = 2 * 3 * 8 * 2  # bytes of two rows of both


def raw(method: str, *args: object, is_async: bool, url: str | None = None, **kwargs: Any) -> Any:  # noqa: ANN401
    """Call a method of a client's `with_raw_response`."""
    options = kwargs.pop("options", {})
    if not is_async:
        transport = None if url else FakeTransport
        with LossClient(url, transport=transport, retry=None, **options) as client:
            return getattr(client.with_raw_response, method)(*args, **kwargs)

    async def ask() -> object:
        transport = None if url else AsyncFakeTransport
        async with AsyncLossClient(url, transport=transport, retry=None, **options) as client:
            return await getattr(client.with_raw_response, method)(*args, **kwargs)

    return asyncio.run(ask())


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
class TestBoth:
    def test_status_headers_and_body(self, playback: Playback, is_async: bool) -> None:
        playback.answer = Answer.of_json(
            SCALAR, X_Request_Id="r-9", X_Gateway="g", RateLimit='"requests";r=4'
        )
        found = raw("focal", X, Y, gamma=1.5, is_async=is_async, url=playback.url)
        assert isinstance(found, RawResponse)
        assert (found.status, found.request_id) == (200, "r-9")
        assert found.headers["X-GATEWAY"] == found.headers["x-gateway"] == "g"
        assert found.headers.get("nothing") is None
        assert "X-Gateway" in found.headers
        assert json.loads(found.body) == SCALAR
        assert found.rate_limit is not None
        assert found.rate_limit == found.result.rate_limit
        assert found.parse() is found.result
        assert float(found.result) == SCALAR["loss"]
        assert len(found.responses) == 1

    def test_a_split_call_has_all_answers_in_the_order_of_rows(self, is_async: bool) -> None:
        with LossClient(transport=FakeTransport) as client:
            whole = client.bce(X, Y, reduction="none")
        options = {"request_bytes": SPLIT, "concurrency": 3, "shrink_targets": False}
        found = raw("bce", X, Y, reduction="none", is_async=is_async, options=options)
        np.testing.assert_array_equal(found.result.loss, whole.loss)
        ids = [each.headers["x-request-id"] for each in found.responses]
        assert ids == [f"{found.result.request_id}-{number}" for number in (1, 2, 3, 4)]
        assert found.request_id == ids[-1]
        assert found.body == found.responses[-1].body

    def test_reports(self, is_async: bool) -> None:
        found = raw("report", "focal", X, Y, gamma=2.0, is_async=is_async)
        assert isinstance(found.result, Report)
        assert json.loads(found.body)["report"]["totals"]["rows"] == 8

    def test_batches(self, is_async: bool) -> None:
        found = raw("score_batches", "bce", BATCHES, is_async=is_async)
        with LossClient(transport=FakeTransport) as client:
            assert float(found.result) == float(client.score_batches("bce", BATCHES))
        assert len(found.responses) == 4
        rows = [json.loads(each.body)["shape"][0] for each in found.responses]
        assert rows == [2, 2, 2, 2]

    def test_information(self, playback: Playback, is_async: bool) -> None:
        playback.answer = Answer.of_json({"version": "7"})
        assert raw("info", is_async=is_async, url=playback.url).result == {"version": "7"}
        assert raw("usage", days=3, is_async=is_async, url=playback.url).status == 200
        assert playback.last.query == [("days", "3")]

    def test_a_refusal_is_raised(self, playback: Playback, is_async: bool) -> None:
        problem = Answer.of_problem(422, "bad_shape")
        playback.answer = Answer(problem.body, problem.media_type, 422, {"X-Gateway": "g"})
        with pytest.raises(lossd_client.InvalidRequest) as caught:
            raw("bce", X, Y, is_async=is_async, url=playback.url)
        assert caught.value.headers["x-gateway"] == "g"


def test_batches_one_by_one() -> None:
    with LossClient(transport=FakeTransport) as client:
        found = list(client.with_raw_response.iter_batches("bce", BATCHES))
        assert [each.result.loss for each in found] == [
            float(each) for each in client.iter_batches("bce", BATCHES)
        ]
    assert [json.loads(each.body)["shape"] for each in found] == [[2, 3]] * 4


def test_batches_one_by_one_asynchronously() -> None:
    async def ask() -> list[RawResponse[LossResult]]:
        async with AsyncLossClient(transport=AsyncFakeTransport) as client:
            batches: AsyncIterator[RawResponse[LossResult]] = client.with_raw_response.iter_batches(
                "bce", BATCHES
            )
            return [each async for each in batches]

    assert [each.result.count for each in asyncio.run(ask())] == [6] * 4


def test_answers_are_kept_only_if_asked_for(playback: Playback) -> None:
    with LossClient(playback.url) as client:
        assert not hasattr(client.bce(X, Y), "responses")
        assert client.with_raw_response.focal(X, Y).responses
