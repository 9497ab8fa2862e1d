"""Arrays of other libraries, as numpy arrays: by the protocols they speak, importing none of them.

What lies in this machine's memory is shared, not copied; what lies on a device is copied here.
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

BFLOAT16 = np.dtype("V2")
"""How numpy holds what it has no dtype for, and how a .npy file says it."""


def widened(array: NDArray[Any]) -> NDArray[Any]:
    """Gives bfloat16 as float32; anything else as it is."""
    if array.dtype != BFLOAT16:
        return array
    bits = np.ascontiguousarray(array).view(np.uint16).astype(np.uint32) << 16
    return bits.view(np.float32)


_CPU, _PINNED = 1, 3  # device types of DLPack whose memory the processor can read


def from_foreign(value: Any) -> NDArray[Any] | None:  # noqa: ANN401 - what it is, is the question
    """Gives another library's array as numpy's, or None if `value` speaks no protocol of arrays.

    Raises:
        TypeError: It does, and yet cannot be read.
    """
    if _is_torch(value):
        return _from_torch(value)
    reasons = []
    for read in (_by_dlpack, _by_array, _by_get):
        try:
            array = read(value)
        except (AttributeError, BufferError, NotImplementedError, RuntimeError, TypeError) as error:
            reasons.append(f"{type(error).__name__}: {error}")
            continue
        if array is not None:
            return array
    if reasons:
        raise TypeError("; ".join(reasons))
    return None


def _is_torch(value: object) -> bool:
    torch = sys.modules.get("torch")  # a tensor's module has been imported
    return torch is not None and isinstance(value, torch.Tensor)


def _from_torch(tensor: Any) -> NDArray[Any]:  # noqa: ANN401 - torch is not imported here
    torch = sys.modules["torch"]
    try:
        tensor = tensor.detach().cpu().resolve_neg()
        if tensor.dtype is torch.bfloat16:
            return np.asarray(tensor.view(torch.int16).numpy()).view(BFLOAT16)
        return np.asarray(tensor.numpy())
    except (RuntimeError, TypeError) as error:  # sparse, quantised, meta
        raise TypeError(f"{type(error).__name__}: {error}") from error


def _by_dlpack(value: Any) -> NDArray[Any] | None:  # noqa: ANN401 - see above
    if not (hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__")):
        return None
    if value.__dlpack_device__()[0] in (_CPU, _PINNED):
        return np.from_dlpack(value)
    if hasattr(value, "__array__") or hasattr(value, "get"):  # older and more widely understood
        return None
    return np.from_dlpack(value, device="cpu")


def _by_array(value: Any) -> NDArray[Any] | None:  # noqa: ANN401 - see above
    return np.asarray(value) if hasattr(value, "__array__") else None


def _by_get(value: Any) -> NDArray[Any] | None:  # noqa: ANN401 - see above
    # CuPy refuses __array__ and offers this.
    return np.asarray(value.get()) if hasattr(value, "__cuda_array_interface__") else None
