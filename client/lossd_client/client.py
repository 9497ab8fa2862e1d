"""The two clients. What they offer is written once, in `_Losses`; they differ in how they send."""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from urllib.parse import urlsplit

from numpy.typing import ArrayLike

from lossd_client._version import version
from lossd_client.call import (
    DEFAULT,
    INFO,
    READY,
    Axis,
    Default,
    LossCall,
    Normalizer,
    Reduction,
    Shared,
    TargetsFormat,
    Tensors,
    Variant,
    prepare,
    read_info,
    read_ready,
)
from lossd_client.result import LossResult, read_result
from lossd_client.transport import AsyncTransport, Transport

DEFAULT_BASE_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT = 60.0

AnswerT = TypeVar("AnswerT")  # LossResult, or a coroutine that gives one


class _Losses(ABC, Generic[AnswerT]):
    """Where the server is, and a method a loss."""

    def __init__(self, base_url: str | None, api_key: str | None) -> None:
        self.base_url = _base_url(base_url)
        self._headers = {"User-Agent": f"lossd-client/{version()}", **_authorization(api_key)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    @abstractmethod
    def _score(self, call: LossCall) -> AnswerT: ...

    def bce(
        self,
        logits: ArrayLike | None = None,
        targets: ArrayLike | None = None,
        *,
        probabilities: ArrayLike | None = None,
        weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        pos_weight: ArrayLike | None = None,
        reduction: Reduction = "mean",
        axis: Axis = None,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        label_smoothing: float = 0.0,
        ignore_index: float | None = None,
        allow_nan: bool = False,
    ) -> AnswerT:
        """Binary cross entropy: `bce(x, y)` of logits, `bce(probabilities=p, targets=y)` of probabilities.

        Tensors are numpy arrays, whatever numpy reads through `__array__` (torch tensors on the CPU), or
        nested lists. Contiguous ones, in C or Fortran order, are sent from where they lie.

        Args:
            logits: The raw outputs, before any sigmoid. Floats of 16 to 64 bits, 1 to 8 dimensions;
                infinities are allowed.
            targets: What they should be; always needed. Each in [0, 1], in the inputs' shape: the same
                floats, bool, uint8 or int8 to int64. Or class ids, see `targets_format`.
            probabilities: Instead of logits: each in [0, 1]. Floats, 1 to 8 dimensions.
            weight: A factor for each element, >= 0; floats that broadcast to the inputs.
            mask: Which elements count: bool, or uint8 where nonzero is true; broadcasts to the inputs. The
                others' losses are 0, and nothing under them is looked at.
            pos_weight: A factor for the positive term, >= 0: a number, or floats of shape [C] along
                `class_axis`.
            reduction: "mean" divides the weighted sum by what `normalizer` says, "sum" does not, and "none"
                gives the losses themselves, in the inputs' shape.
            axis: With "mean" or "sum", reduce over these axes only; they vanish from the result.
            normalizer: What "mean" divides by: the "count" of elements, the sum of the "weight", the sum of
                the targets ("positives", at least 1), or a positive number.
            class_axis: The axis along which the classes lie: those of a `pos_weight` of shape [C], and of
                "index" targets.
            targets_format: "dense", or "index": the targets are integer class ids, in the inputs' shape less
                `class_axis`, scored as one-hot. uint8 or int8 to int64; lists of ints go as int64.
            label_smoothing: e in [0, 1): each target y becomes y (1 - e) + e / 2.
            ignore_index: A target equal to this, an int or a float, drops its element, and an id all its
                classes.
            allow_nan: Let a NaN propagate, instead of having it refused with its place.

        Returns:
            The loss, a float or a float64 array, with the figures to merge batches by.

        Raises:
            TypeError: Not exactly one of logits and probabilities is given, or no targets, or a dtype or a
                parameter's type is not allowed; before anything is sent.
            ValueError: Nested lists are ragged, or a parameter is not finite; likewise.
            InvalidRequest: The server found shapes, values or parameters at fault.
            LossdError: Any other failure; see `lossd_client.errors`.
        """
        tensors = Tensors(logits, probabilities, targets, weight, mask, pos_weight)
        shared = Shared(
            reduction, axis, normalizer, class_axis, targets_format, label_smoothing, ignore_index, allow_nan
        )
        return self._score(LossCall("bce", tensors, shared))

    def focal(
        self,
        logits: ArrayLike | None = None,
        targets: ArrayLike | None = None,
        *,
        probabilities: ArrayLike | None = None,
        gamma: float | Default = DEFAULT,
        alpha: float | Sequence[float] | Default | None = DEFAULT,
        variant: Variant | Default = DEFAULT,
        weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        pos_weight: ArrayLike | None = None,
        reduction: Reduction = "mean",
        axis: Axis = None,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        label_smoothing: float = 0.0,
        ignore_index: float | None = None,
        allow_nan: bool = False,
    ) -> AnswerT:
        """Focal loss of logits or probabilities: binary cross entropy that plays down what is already easy.

        Args:
            logits: As in `bce`.
            targets: As in `bce`.
            probabilities: As in `bce`.
            gamma: How much easy elements are played down, 0 to 1000. The server's default is 1.5.
            alpha: The positives' share of the balance, in [0, 1]: a number, or one a class along
                `class_axis`. None turns it off. The server's default is 0.25.
            variant: What plays easy elements down: "sigmoid", one minus the probability of the target;
                "exp", one minus exp(-bce); or "quality", the distance between probability and target.
                The server's default is "sigmoid".
            weight: As in `bce`.
            mask: As in `bce`.
            pos_weight: As in `bce`.
            reduction: As in `bce`.
            axis: As in `bce`.
            normalizer: As in `bce`.
            class_axis: As in `bce`; the classes of a list as `alpha` lie along it too.
            targets_format: As in `bce`.
            label_smoothing: As in `bce`.
            ignore_index: As in `bce`.
            allow_nan: As in `bce`.

        Returns:
            As `bce`.

        Raises:
            TypeError: As `bce`.
            ValueError: As `bce`.
            LossdError: As `bce`.
        """
        tensors = Tensors(logits, probabilities, targets, weight, mask, pos_weight)
        shared = Shared(
            reduction, axis, normalizer, class_axis, targets_format, label_smoothing, ignore_index, allow_nan
        )
        own = {"gamma": gamma, "alpha": alpha, "variant": variant}
        return self._score(LossCall("focal", tensors, shared, own))


class LossClient(_Losses[LossResult]):
    """A client that waits for each answer. Threads may share one.

    Args:
        base_url: Where the server is. Else the environment's LOSSD_BASE_URL, else
            http://127.0.0.1:8000.
        api_key: Sent as a bearer token. Else the environment's LOSSD_API_KEY, else none is sent.
        timeout: The longest wait in seconds for a connection, or for the network to move while sending or
            receiving; None waits for ever.

    Raises:
        ValueError: base_url is not an http or https address, the key has characters that no header may
            have, or the timeout is not positive.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> None:
        super().__init__(base_url, api_key)
        self._transport = Transport(self.base_url, self._headers, _seconds(timeout))

    def _score(self, call: LossCall) -> LossResult:
        request, asked = prepare(call)
        return read_result(self._transport.send(request), asked)

    def info(self) -> dict[str, Any]:
        """Gives the server's account of itself: version, losses with their defaults, limits, workers.

        Raises:
            LossdError: The server gave none.
        """
        return read_info(self._transport.send(INFO))

    def ready(self) -> bool:
        """Tells whether the server is up and ready to score.

        Raises:
            LossdError: There was no answer, or one that says neither.
        """
        return read_ready(self._transport.send(READY))

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncLossClient(_Losses[Coroutine[Any, Any, LossResult]]):
    """The same client for asyncio: `bce`, `focal`, `info` and `ready` are awaited.

    Args:
        base_url: As in `LossClient`.
        api_key: As in `LossClient`.
        timeout: As in `LossClient`.

    Raises:
        ValueError: As in `LossClient`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> None:
        super().__init__(base_url, api_key)
        self._transport = AsyncTransport(self.base_url, self._headers, _seconds(timeout))

    async def _score(self, call: LossCall) -> LossResult:
        request, asked = prepare(call)
        return read_result(await self._transport.send(request), asked)

    async def info(self) -> dict[str, Any]:
        """Gives the server's account of itself: version, losses with their defaults, limits, workers.

        Raises:
            LossdError: The server gave none.
        """
        return read_info(await self._transport.send(INFO))

    async def ready(self) -> bool:
        """Tells whether the server is up and ready to score.

        Raises:
            LossdError: There was no answer, or one that says neither.
        """
        return read_ready(await self._transport.send(READY))

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def _base_url(given: str | None) -> str:
    url = given or os.environ.get("LOSSD_BASE_URL") or DEFAULT_BASE_URL
    try:
        parts = urlsplit(url)
        _ = parts.port  # checked when it is read
    except ValueError as error:
        raise ValueError(f"base_url is {url!r}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"base_url must be like http://host:8000, and is {url!r}")
    return url.rstrip("/")


def _authorization(given: str | None) -> dict[str, str]:
    key = given or os.environ.get("LOSSD_API_KEY")
    if not key:
        return {}
    if not (key.isascii() and key.isprintable()):
        raise ValueError("api_key has characters that an HTTP header cannot carry")
    return {"Authorization": f"Bearer {key}"}


def _seconds(timeout: float | None) -> float | None:
    if timeout is not None and not (math.isfinite(timeout) and timeout > 0):
        raise ValueError(f"timeout must be a positive number of seconds, or None, and is {timeout}")
    return timeout
