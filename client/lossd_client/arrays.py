"""Arrays to .npy, without copying what lies contiguous in memory.

An array becomes two pieces: the .npy header, and a view of its own memory. Fortran-contiguous arrays
say so in their header instead of being turned round, and big-endian ones keep their byte order.
"""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
TARGETS = (*FLOATS, "bool", *INTEGERS)
MASK = ("bool", "uint8")


def as_array(name: str, value: ArrayLike, allowed: tuple[str, ...]) -> NDArray[Any]:
    """Gives `value` as a numpy array of one of the dtypes that the tensor `name` may have.

    Numpy arrays, and whatever shares its memory through `__array__` (a torch CPU tensor), are not
    copied. Python numbers have no dtype of their own: lists of integers become float64 where only floats
    are allowed, int64 where only integers are, and bool, nonzero being true, in a mask.

    Raises:
        TypeError: The dtype is not allowed, or `value` cannot be read as an array.
        ValueError: Nested lists are ragged.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: a masked array's mask would be lost; use .filled(...) or .compressed()")
    try:
        array: NDArray[Any] = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read as an array: {error}") from error
    except (TypeError, RuntimeError) as error:  # torch: on a GPU, needs gradients, bfloat16
        raise TypeError(f"{name} cannot be read as an array: {error}") from error
    if isinstance(value, int | float | list | tuple):
        array = _of_python_numbers(array, allowed)
    if _dtype_name(array.dtype) not in allowed:
        raise TypeError(f"{name} has dtype {array.dtype}; allowed are {', '.join(allowed)}")
    return array


def _of_python_numbers(array: NDArray[Any], allowed: tuple[str, ...]) -> NDArray[Any]:
    kind = array.dtype.kind
    if allowed == FLOATS and kind in "iu":
        return array.astype(np.float64)
    # To numpy an empty list holds floats. And integers beyond int64 are uint64, which would wrap round.
    if allowed == INTEGERS and (kind == "i" or not array.size):
        return array.astype(np.int64, copy=False)
    if allowed == MASK and (kind in "iu" or not array.size):
        return array.astype(np.bool_)
    return array


def _dtype_name(dtype: np.dtype[Any]) -> str:
    # Two raw bytes are how numpy reads back a bfloat16 array that was saved as .npy.
    return "bfloat16" if dtype == np.dtype("V2") else dtype.name


def npy_pieces(array: NDArray[Any]) -> tuple[bytes, memoryview]:
    """Gives the array as a .npy file in two pieces: its header, and its memory as bytes.

    Only an array that is contiguous in neither order is copied.
    """
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        array = np.ascontiguousarray(array)
    fortran = not array.flags.c_contiguous
    flat = (array.T if fortran else array).reshape(-1)
    header = BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": array.dtype.str, "fortran_order": fortran, "shape": array.shape}
    )
    return header.getvalue(), flat.view(np.uint8).data


def read_npy(body: bytes) -> NDArray[np.float64]:
    """Reads a .npy body as float64.

    Raises:
        ValueError: The body is not a .npy file of numbers.
    """
    array: NDArray[Any] = np.lib.format.read_array(BytesIO(body), allow_pickle=False)
    if array.dtype.kind != "f":
        raise ValueError(f"a loss of dtype {array.dtype}")
    return array.astype(np.float64, copy=False)
