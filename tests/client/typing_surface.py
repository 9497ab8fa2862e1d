"""The public surface under the type checker; never run."""

from collections.abc import Mapping, Sequence
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import lossd_client
from lossd_client import (
    DEFAULT,
    AsyncLossClient,
    Axis,
    ErrorItem,
    LossClient,
    LossResult,
    Normalizer,
    Reduction,
    TargetsFormat,
    Variant,
)


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


def options(
    client: LossClient,
    p: NDArray[np.float32],
    ids: NDArray[np.int64],
    mask: NDArray[np.bool_],
    divisor: Normalizer,
    form: TargetsFormat,
    variant: Variant,
) -> None:
    assert_type(client.bce(probabilities=p, targets=mask, mask=mask), LossResult)
    assert_type(client.bce(p, [2, 0], targets_format="index", class_axis=1, ignore_index=-1), LossResult)
    assert_type(client.bce(p, mask, mask=[[True]], normalizer="positives", allow_nan=True), LossResult)
    assert_type(client.bce(p, mask, normalizer=64, label_smoothing=0.1, ignore_index=None), LossResult)
    assert_type(client.focal(probabilities=p, targets=ids, targets_format=form, variant=variant), LossResult)
    assert_type(client.focal(p, mask, normalizer=divisor, variant=DEFAULT, ignore_index=0.5), LossResult)
    client.bce(p, mask, normalizer="sum")  # type: ignore[arg-type] # no such normalizer
    client.bce(p, mask, normalizer=None)  # type: ignore[arg-type] # None means nothing here
    client.bce(p, ids, targets_format="sparse")  # type: ignore[arg-type] # no such format
    client.bce(p, mask, class_axis=0.5)  # type: ignore[arg-type] # no axis
    client.bce(p, mask, allow_nan="false")  # type: ignore[arg-type] # a string is no bool
    client.bce(p, mask, variant="exp")  # type: ignore[call-arg] # focal's alone
    client.focal(p, mask, variant="tanh")  # type: ignore[arg-type] # no such variant
    client.bce(p, mask, p)  # type: ignore[call-arg] # the rest is named


async def asynchronous(logits: NDArray[np.float32], targets: NDArray[np.bool_]) -> None:
    async with AsyncLossClient(timeout=1.5) as client:
        assert_type(client, AsyncLossClient)
        assert_type(await client.bce(logits, targets, axis=0), LossResult)
        assert_type(await client.focal(logits, targets, alpha=0.25), LossResult)
        assert_type(await client.focal(probabilities=logits, targets=targets, mask=targets), LossResult)
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
