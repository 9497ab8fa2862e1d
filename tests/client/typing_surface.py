"""The public surface under the type checker; never run."""

from collections.abc import Mapping, Sequence
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import lossd_client
from lossd_client import DEFAULT, AsyncLossClient, Axis, ErrorItem, LossClient, LossResult, Reduction


def sync(logits: NDArray[np.float32], targets: NDArray[np.bool_], how: Reduction, axes: Axis) -> None:
    with LossClient("http://localhost:8000", api_key="k", timeout=None) as client:
        assert_type(client, LossClient)
        assert_type(client.base_url, str)
        assert_type(client.bce(logits, targets), LossResult)
        assert_type(client.bce([[0.5]], [[True]], weight=2.0, pos_weight=[1.0], reduction="none"), LossResult)
        assert_type(client.focal(logits, targets, gamma=2, alpha=None, reduction=how, axis=axes), LossResult)
        assert_type(client.focal(logits, targets, gamma=DEFAULT, alpha=[0.1, 0.2], axis=(0, 1)), LossResult)
        assert_type(client.info(), dict[str, Any])
        assert_type(client.ready(), bool)
        client.bce(logits, targets, reduction="median")  # type: ignore[arg-type] # no such reduction
        client.bce(logits, targets, gamma=2.0)  # type: ignore[call-arg] # focal's alone
        client.focal(logits, targets, gamma=None)  # type: ignore[arg-type] # None means nothing here
    assert_type(client.close(), None)


async def asynchronous(logits: NDArray[np.float32], targets: NDArray[np.bool_]) -> None:
    async with AsyncLossClient(timeout=1.5) as client:
        assert_type(client, AsyncLossClient)
        assert_type(await client.bce(logits, targets, axis=0), LossResult)
        assert_type(await client.focal(logits, targets, alpha=0.25), LossResult)
        assert_type(await client.info(), dict[str, Any])
        assert_type(await client.ready(), bool)
    await client.aclose()


def result(got: LossResult) -> None:
    assert_type(float(got), float)
    assert_type(got.loss, float | NDArray[np.float64])
    assert_type(got.sum, float)
    assert_type(got.count, int)
    assert_type(got.weight_sum, float)
    assert_type(got.positives, float)
    assert_type(got.reduction, str)
    assert_type(got.params, Mapping[str, Any])
    assert_type(got.request_id, str | None)
    assert_type(got.timing, Mapping[str, float])
    assert_type(got.loss_name, str)
    assert_type(got.shape, tuple[int, ...])
    assert_type(got.kernel, str | None)
    assert_type(got.device, str | None)
    assert_type(got.version, str | None)
    assert_type(got.to_dict(), dict[str, Any])
    got.sum = 1.0  # type: ignore[misc] # frozen


def errors(error: lossd_client.StatusError) -> Sequence[type[lossd_client.LossdError]]:
    assert_type(error.status, int)
    assert_type(error.code, str | None)
    assert_type(error.detail, str)
    assert_type(error.request_id, str | None)
    assert_type(error.retryable, bool)
    assert_type(error.retry_after, float | None)
    assert_type(error.errors, tuple[ErrorItem, ...])
    return [
        lossd_client.BadAnswer,
        lossd_client.ConnectionFailed,
        lossd_client.DeadlineExceeded,
        lossd_client.InvalidRequest,
        lossd_client.NotFound,
        lossd_client.ServerError,
        lossd_client.Throttled,
        lossd_client.TimedOut,
        lossd_client.TooLarge,
        lossd_client.Unauthorized,
        lossd_client.Unavailable,
    ]
