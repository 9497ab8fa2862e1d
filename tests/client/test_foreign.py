"""Arrays of other libraries: torch's own, and whatever speaks the protocols that they share."""

from io import BytesIO
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lossd_client._calls.arrays import FLOATS, MASK, TARGETS, as_array, npy_pieces

BASE = np.arange(12, dtype=np.float32).reshape(3, 4)
CPU, CUDA, PINNED = (1, 0), (2, 0), (3, 0)


class ByDlpack:
    """As JAX, TensorFlow and CuPy have it: DLPack, and what else is given."""

    def __init__(self, array: NDArray[Any], device: tuple[int, int] = CPU) -> None:
        self.array, self.device, self.asked = array, device, list[str]()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, **options: Any) -> object:  # noqa: ANN401 - the protocol's
        self.asked.append(f"dlpack to {options.get('dl_device')}")
        return self.array.__dlpack__()


class AndArray(ByDlpack):
    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[Any]:
        self.asked.append("array")
        return self.array


class Unwilling(ByDlpack):
    """CuPy: it will not copy to the host unasked, and has a method for it."""

    __cuda_array_interface__ = {"version": 3}  # noqa: RUF012 - the protocol's

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[Any]:
        raise TypeError("Implicit conversion to a NumPy array is not allowed; use .get()")

    def get(self) -> NDArray[Any]:
        self.asked.append("get")
        return self.array


class Bfloat16(AndArray):
    """JAX: numpy has no DLPack for it, and ml_dtypes' dtype comes through `__array__`."""

    def __dlpack__(self, **options: Any) -> object:  # noqa: ANN401 - the protocol's
        raise BufferError("bfloat16 is not supported")


def sent(value: object, allowed: tuple[str, ...] = FLOATS) -> NDArray[Any]:
    """What of it comes to the server."""
    read = np.load(BytesIO(b"".join(npy_pieces(as_array("x", value, allowed)))))  # type: ignore[arg-type]
    assert isinstance(read, np.ndarray)
    return read


@pytest.mark.parametrize("device", [CPU, PINNED])
@pytest.mark.parametrize("kind", [ByDlpack, AndArray, Unwilling])
def test_what_this_machine_can_read_is_shared(kind: type[ByDlpack], device: tuple[int, int]) -> None:
    value = kind(BASE, device)
    assert np.shares_memory(as_array("x", value, FLOATS), BASE)
    assert value.asked == ["dlpack to None"]


@pytest.mark.parametrize(
    ("kind", "asked"), [(ByDlpack, "dlpack to (1, 0)"), (AndArray, "array"), (Unwilling, "get")]
)
def test_what_lies_on_a_device_is_fetched(kind: type[ByDlpack], asked: str) -> None:
    value = kind(BASE, CUDA)
    np.testing.assert_array_equal(sent(value), BASE, strict=True)
    assert value.asked == [asked]


def test_bfloat16_of_other_libraries() -> None:
    numbers = BASE.astype(ml_dtypes.bfloat16)
    for value in (numbers, Bfloat16(numbers), Bfloat16(numbers, CUDA)):
        assert sent(value).tobytes() == numbers.tobytes()
        assert sent(value).dtype == np.dtype("V2")


def test_what_cannot_be_fetched_says_why() -> None:
    class Stuck(ByDlpack):
        def __dlpack__(self, **options: Any) -> object:  # noqa: ANN401 - the protocol's
            raise BufferError("it is elsewhere")

    with pytest.raises(TypeError, match="x cannot be read as an array: BufferError: it is elsewhere"):
        as_array("x", Stuck(BASE), FLOATS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_torchs_floats(dtype: torch.dtype) -> None:
    tensor = torch.from_numpy(BASE).to(dtype).requires_grad_()
    arrived = sent(tensor)
    if dtype is torch.bfloat16:
        assert arrived.dtype == np.dtype("V2")
        arrived = (arrived.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(arrived.astype(np.float32), BASE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_torchs_tensors_on_a_device(dtype: torch.dtype) -> None:
    tensor = torch.from_numpy(BASE).to(dtype)
    assert sent(tensor.cuda()).tobytes() == sent(tensor).tobytes()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int64])
def test_torchs_targets(dtype: torch.dtype) -> None:
    tensor = (torch.from_numpy(BASE) > 4).to(dtype)
    np.testing.assert_array_equal(sent(tensor, TARGETS), tensor.numpy(), strict=True)


def test_torchs_memory_is_shared_in_any_order() -> None:
    tensor = torch.from_numpy(BASE)
    for view in (tensor, tensor.T, tensor[1:], torch.nn.Parameter(tensor)):
        _, memory = npy_pieces(as_array("x", view, FLOATS))
        assert np.shares_memory(np.frombuffer(memory, dtype=np.uint8), BASE)
    np.testing.assert_array_equal(sent(tensor[:, ::2]), BASE[:, ::2], strict=True)
    np.testing.assert_array_equal(sent(torch.tensor(2.0).expand(3)), np.full(3, 2, np.float32), strict=True)
    np.testing.assert_array_equal(sent(tensor > 3, MASK), BASE > 3, strict=True)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.ones(2, device="meta"), "x cannot be read as an array"),
        (torch.ones(2).to_sparse(), "x cannot be read as an array"),
        (torch.ones(2, dtype=torch.complex64), "x has dtype complex64"),
        (torch.ones(2, dtype=torch.int64), "x has dtype int64"),
        (torch.ones(2, dtype=torch.float8_e5m2), "x cannot be read as an array"),
    ],
)
def test_tensors_that_cannot_be_sent(tensor: torch.Tensor, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        as_array("x", tensor, FLOATS)
