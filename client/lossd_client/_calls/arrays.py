"""Tensors: from what the caller gives to numpy arrays, in their smallest form, and as .npy files.

An array becomes two pieces: the .npy header, and a view of its own memory. Fortran-contiguous arrays
say so in their header instead of being turned round, and big-endian ones keep their byte order.
"""

import mmap
import sys
from collections.abc import Sequence
from decimal import Decimal
from io import BytesIO
from itertools import chain
from os import PathLike
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray


class OnDevice(Protocol):
    """An array that speaks DLPack: of torch, JAX, CuPy, TensorFlow and others."""

    def __dlpack__(self) -> object:
        """Return a capsule with the array's memory."""
        ...

    def __dlpack_device__(self) -> tuple[Any, int]:
        """Return the device."""
        ...


Numbers: TypeAlias = Decimal | Sequence["float | Decimal | None"] | Sequence["Numbers"]
"""Lists that numpy does not know as numbers: None is a missing target."""

Array: TypeAlias = ArrayLike | OnDevice | Numbers
"""What the client takes for a tensor: an array of numpy's or another library's, or nested lists."""

FLOATS: Final = ("float16", "bfloat16", "float32", "float64")
INTEGERS: Final = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
TARGETS: Final = (*FLOATS, "bool", *INTEGERS)
IDS: Final = (*INTEGERS, *FLOATS)  # floats of whole numbers, which the server looks at
WEIGHTS: Final = (*FLOATS, *INTEGERS)
MASK: Final = ("bool", *INTEGERS)  # integers of 0 and 1, likewise

BFLOAT16 = np.dtype("V2")
"""How numpy holds what it has no dtype for, and how a .npy file says it."""
_ABSENT: Final = {"NoneType", "NAType"}
"""The types of what stands for no value, in lists and in pandas."""
_BLOCK: Final = 1 << 18  # elements; a block and its flags stay in the processor's cache
_MIN_BYTES: Final = 256  # below that it is the request that costs, not its bytes


def as_array(name: str, value: Array, allowed: tuple[str, ...], *, gaps: bool = False) -> NDArray[Any]:
    """Convert `value` to a numpy array of one of the dtypes that the tensor `name` may have.

    Numpy arrays, and what other libraries keep in this machine's memory, are not copied. Python numbers have
    no dtype of their own: lists of integers become float64 where weights or inputs are meant, int64 where ids
    are, and bool in a mask of zeros and ones. Decimals become the nearest float64.

    Args:
        name: The tensor's name, for errors.
        value: The array.
        allowed: The dtypes that it may have.
        gaps: Whether None in a list is read as NaN.

    Raises:
        TypeError: The dtype is not allowed, or `value` cannot be read as an array.
        ValueError: Nested lists are ragged.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name}: a masked array's mask would be lost; to drop what it masks, give {name}=array.data and "
            "mask=~np.ma.getmaskarray(array)"
        )
    if isinstance(value, list | tuple) and _holds_masked(value):
        raise TypeError(
            f"{name}: masked arrays in a list would lose their masks; to drop what they mask, make one array "
            f"of them first, array = np.ma.stack(...), and give {name}=array.data and "
            "mask=~np.ma.getmaskarray(array)"
        )
    if isinstance(value, str | PathLike):
        raise TypeError(f"{name} is the path {str(value)!r}, not an array; {_loading(str(value))}")
    array = _as_numpy(name, value, allowed, gaps)
    if array.dtype.name == "bfloat16":  # ml_dtypes'
        array = array.view(BFLOAT16)
    if dtype_name(array.dtype) not in allowed:
        raise TypeError(
            f"{name} has dtype {dtype_name(array.dtype)}; allowed are {', '.join(allowed)}"
            f"{_remedy(name, array, allowed)}"
        )
    return array


def _holds_masked(items: Sequence[Any]) -> bool:
    """Return whether a list, or a list in it, holds masked arrays or masked elements."""
    kinds = set(map(type, items))
    if not kinds.isdisjoint((list, tuple)):
        kinds.update(map(type, chain.from_iterable(item for item in items if type(item) in (list, tuple))))
    return any(issubclass(kind, np.ma.MaskedArray) for kind in kinds)


def _loading(path: str) -> str:
    """Return how to load a path."""
    unpacked = path.removesuffix(".gz")
    load = "np.load(path)"
    if unpacked.endswith((".pt", ".pth")):
        load = "torch.load(path, weights_only=True)"
    elif unpacked != path:
        load = "np.load(gzip.open(path))"
    return f"load it first, as with {load}, or score files with the command `lossd score`"


def _remedy(name: str, array: NDArray[Any], allowed: tuple[str, ...]) -> str:
    """Return the remedy for a dtype that is not allowed, or ""."""
    if array.dtype.kind in "USTO":
        held = sorted({type(item).__name__ for item in array.reshape(-1)[:1000].tolist()})
        if {"list", "tuple", "ndarray"} & set(held):
            return "; it holds arrays: stack them first, with np.stack(...)"
        if allowed == MASK:
            return f"; it holds {', '.join(held)}: {_mask_remedy(held)}"
        numbers = "convert it first, with np.asarray(..., dtype=np.float64)"
        missing = ", which makes None NaN; targets may hold NaN under ignore_index='nan'"
        return f"; it holds {', '.join(held)}: {numbers}{missing if _ABSENT & set(held) else ''}"
    if allowed == MASK and array.dtype.kind == "f":
        return "; of zeros and ones make a mask by `array != 0`; other factors are a weight"
    if allowed == WEIGHTS and array.dtype.kind == "b" and name != "weight":
        return "; array.astype(np.float64) makes true 1, and false 0, if these numbers are meant"
    if allowed == WEIGHTS and array.dtype.kind == "b":
        return (
            "; as the mask it leaves elements out of sum and count, and as a weight, by "
            "array.astype(np.float64), out of the sum alone"
        )
    return ""


def _mask_remedy(held: list[str]) -> str:
    """Return how to make a mask of values that are not flags."""
    if "NAType" in held:  # pandas' own None, with which == fails
        return "a mask is bool, or integers of 0 and 1; .fillna(False) leaves out what has no value"
    if {"float", "Decimal", "NoneType"} & set(held):
        return "a mask is bool, or integers of 0 and 1; `array == 1` makes one that leaves all else out"
    return "a mask is bool, or integers of 0 and 1; np.asarray(..., dtype=np.int64) makes such of digits"


def _as_numpy(name: str, value: Array, allowed: tuple[str, ...], gaps: bool) -> NDArray[Any]:
    if isinstance(value, np.ndarray):
        value = np.asarray(value)  # a matrix has two dimensions whatever is taken of it
        return _stacked(name, value, allowed, gaps)
    try:
        foreign = from_foreign(value)
        array = np.asarray(value) if foreign is None else foreign
    except ValueError as error:
        raise ValueError(f"{name} cannot be read as an array: {error}") from error
    except (TypeError, RuntimeError) as error:
        raise TypeError(f"{name} cannot be read as an array: {error}") from error
    if foreign is not None:
        return _stacked(name, foreign, allowed, gaps)
    if isinstance(value, int | float | Decimal | list | tuple):
        return _of_python_numbers(array, allowed, gaps)
    return array


def _stacked(name: str, column: NDArray[Any], allowed: tuple[str, ...], gaps: bool) -> NDArray[Any]:
    """Return a table's column whose items are rows of numbers as one array, and other arrays unchanged.

    Raises:
        ValueError: A row is missing, or has another length than the first one.
    """
    if column.dtype.kind != "O" or column.ndim != 1:
        return column
    rows = column.tolist()
    if not any(isinstance(row, list | tuple | np.ndarray) for row in rows):
        return column
    for number, row in enumerate(rows):
        if not isinstance(row, list | tuple | np.ndarray):
            raise ValueError(f"{name}: row {number} is {row!r} and no list of numbers: leave that row out")
        if len(row) != len(rows[0]):
            raise ValueError(f"{name}: row {number} has {len(row)} values, and row 0 has {len(rows[0])}")
    if all(isinstance(row, np.ndarray) for row in rows):
        arrays = [_stacked(f"{name}: row {number}", row, allowed, gaps) for number, row in enumerate(rows)]
        return np.stack(arrays)
    try:
        return _of_python_numbers(np.asarray(rows), allowed, gaps)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read as an array: {error}") from error


def _of_python_numbers(array: NDArray[Any], allowed: tuple[str, ...], gaps: bool) -> NDArray[Any]:
    if array.dtype.kind == "O":
        array = _of_objects(array, gaps)
    kind, is_empty = array.dtype.kind, not array.size  # to numpy an empty list holds floats
    if allowed in (FLOATS, WEIGHTS) and kind in "iu":
        return array.astype(np.float64)
    if allowed == IDS and is_empty:
        return array.astype(np.int64)
    if allowed == MASK and (kind in "iu" or is_empty) and ((array == 0) | (array == 1)).all():
        return array.astype(np.bool_)
    return array


def _of_objects(array: NDArray[Any], gaps: bool) -> NDArray[Any]:
    """Convert mixed numbers and decimals to float64, or to int64 if all are whole."""
    items = array.reshape(-1).tolist()
    kinds: tuple[type, ...] = (int, float, Decimal, np.number, *([type(None)] if gaps else []))
    if not all(isinstance(item, kinds) and not isinstance(item, bool) for item in items):
        return array
    numbers: NDArray[Any] = np.array(
        [np.nan if item is None else float(item) for item in items], dtype=np.float64
    )
    if not any(isinstance(item, float | np.floating) for item in items) and (np.abs(numbers) < 2.0**53).all():
        whole = numbers.astype(np.int64)
        numbers = whole if (whole == numbers).all() else numbers
    return numbers.reshape(array.shape)


def widened(array: NDArray[Any]) -> NDArray[Any]:
    """Return bfloat16 as float32, and other arrays unchanged."""
    if array.dtype != BFLOAT16:
        return array
    bits = np.ascontiguousarray(array).view(np.uint16).astype(np.uint32) << 16
    return bits.view(np.float32)


_CPU, _PINNED = 1, 3  # device types of DLPack whose memory the processor can read


def from_foreign(value: Any) -> NDArray[Any] | None:  # noqa: ANN401 - what it is, is the question
    """Return another library's array as numpy's; None if `value` is no array.

    Raises:
        TypeError: It is an array that cannot be read.
    """
    if _is_torch(value):
        return _from_torch(value)
    if is_arrow(value):
        return _from_arrow(value)
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


def is_arrow(value: object) -> bool:
    """Return whether `value` is an array of pyarrow's, in one piece or several."""
    arrow: Any = sys.modules.get("pyarrow")  # an array's module has been imported
    return arrow is not None and isinstance(value, arrow.Array | arrow.ChunkedArray)


def _from_arrow(column: Any) -> NDArray[Any]:  # noqa: ANN401 - pyarrow is optional
    """Return a column as an array, in which lists of one length are an axis.

    Raises:
        ValueError: A list is null, or has another length than the first one.
    """
    arrow: Any = sys.modules["pyarrow"]
    if isinstance(column, arrow.ChunkedArray):
        column = arrow.concat_arrays(column.chunks or [arrow.array([], column.type)])
    if isinstance(column, arrow.FixedShapeTensorArray):
        return np.asarray(column.to_numpy_ndarray())
    if not isinstance(column, arrow.ListArray | arrow.LargeListArray | arrow.FixedSizeListArray):
        return np.asarray(column)
    from pyarrow.compute import list_value_length

    lengths = list_value_length(column).fill_null(-1).to_numpy()
    length = int(lengths[0]) if lengths.size else getattr(column.type, "list_size", 0)
    for row in np.flatnonzero((lengths != length) | (lengths < 0))[:1]:
        given = "is null" if lengths[row] < 0 else f"has {lengths[row]} values, and row 0 has {length}"
        raise ValueError(f"row {row} {given}: leave that row out, or fill it")
    values = _from_arrow(column.flatten())
    return values.reshape(len(column), length, *values.shape[1:])


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


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return the API's name of a dtype."""
    # Two raw bytes are how numpy reads back a bfloat16 array that was saved as .npy.
    return "bfloat16" if dtype == BFLOAT16 else dtype.name


def npy_pieces(array: NDArray[Any]) -> tuple[bytes, memoryview]:
    """Return the array as a .npy file in two pieces: its header, and its memory as bytes.

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


def copied(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy in the same memory order."""
    copy = array.copy(order="K")
    forget(array)
    return copy


def forget(array: NDArray[Any]) -> None:
    """Drop the pages of a mapped file from this process's memory, until they are read again.

    A file that is read from end to end would otherwise count as this process's memory, all of it.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and base.mode == "c":  # its changes are in these pages alone
            return
        base = base.base
    contiguous = array.flags.c_contiguous or array.flags.f_contiguous
    if not (isinstance(base, mmap.mmap) and contiguous and array.nbytes and hasattr(mmap, "MADV_DONTNEED")):
        return
    first = _address(array) - _address(np.frombuffer(base, dtype=np.uint8, count=1))
    start = first // mmap.PAGESIZE * mmap.PAGESIZE
    base.madvise(mmap.MADV_DONTNEED, start, first + array.nbytes - start)


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def read_npy(body: bytes) -> NDArray[np.float64]:
    """Read a .npy body as float64.

    Raises:
        ValueError: The body is not a .npy file of numbers.
    """
    array: NDArray[Any] = np.lib.format.read_array(BytesIO(body), allow_pickle=False)
    if array.dtype.kind != "f":
        raise ValueError(f"a loss of dtype {array.dtype}")
    return array.astype(np.float64, copy=False)


def as_bools(array: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return numbers that are all 0 or 1 as bools; None if they are not, or if bools are no smaller."""
    if array.dtype.itemsize < 2 or array.dtype.kind not in "fiu" or array.nbytes < _MIN_BYTES:
        return None
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    flat = (array.T if fortran else array).reshape(-1)
    ones = np.empty(flat.size, dtype=np.bool_)
    for start in range(0, flat.size, _BLOCK):
        block, found = flat[start : start + _BLOCK], ones[start : start + _BLOCK]
        np.equal(block, 1, out=found)
        zeros = np.equal(block, 0)
        zeros |= found
        if not zeros.all():
            return None
    return ones.reshape(array.shape, order="F" if fortran else "C")


def as_ids(array: NDArray[Any], axis: int) -> NDArray[np.integer[Any]] | None:
    """Return one-hot targets as class ids.

    Returns:
        The positions of the ones along `axis`, in the smallest dtype; None if the targets are not one-hot.
    """
    if array.dtype.kind not in "bfiu" or not -array.ndim <= axis < array.ndim or not array.size:
        return None
    classes = array.shape[axis]
    rows = np.moveaxis(array, axis, -1).reshape(-1, classes)
    small = next(
        kind for kind in (np.uint8, np.int16, np.int32, np.int64) if classes - 1 <= np.iinfo(kind).max
    )
    ids = np.empty(rows.shape[0], dtype=small)
    step = max(1, _BLOCK // classes)
    for start in range(0, rows.shape[0], step):
        block = rows[start : start + step]
        ones = block == 1
        if not ((ones | (block == 0)).all() and (ones.sum(axis=1) == 1).all()):
            return None
        ids[start : start + step] = ones.argmax(axis=1)
    shape = tuple(size for place, size in enumerate(array.shape) if place != axis % array.ndim)
    return ids.reshape(shape)


def narrowed(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return float64 as float32, rounded to nearest, and other arrays unchanged.

    Raises:
        ValueError: A value becomes 0 or infinite by that.
    """
    if array.dtype.kind != "f" or array.dtype.itemsize != 8:
        return array
    with np.errstate(over="ignore", under="ignore"):
        narrow = array.astype(np.float32, order="K")
    for what, of in (("0", np.logical_not), ("infinity", np.isinf)):
        if np.count_nonzero(of(narrow)) != np.count_nonzero(of(array)):
            value = array[of(narrow) & ~of(array)].flat[0]
            raise ValueError(
                f"narrow_floats: {name} holds {value}, which is {what} in float32; send it without "
                "narrow_floats"
            )
    return narrow
