"""Smaller forms of the same tensors: what the server computes from them is the same to the last bit."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_BLOCK: Final = 1 << 18  # elements; a block and its flags stay in the processor's cache
_MIN_BYTES: Final = 256  # below that it is the request that costs, not its bytes


def as_bools(array: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Gives numbers that are all 0 or 1 as bools; None if they are not, or would be no smaller."""
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
    """Gives targets of which exactly one along `axis` is 1 and the others are 0 as the places of the ones.

    Returns:
        The places, in the smallest dtype that holds them; None if the targets are not like that.
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
    """Gives float64 as float32, each value rounded to the nearest; anything else as it is.

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
