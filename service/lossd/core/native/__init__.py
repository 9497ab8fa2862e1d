"""The kernel for CPUs: the C code beside this file, called without the interpreter's lock.

It is compiled when the package is built. Where it is missing, for want of a compiler then, torch computes the
same numbers, about 20 times as slowly.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from struct import Struct
from typing import Any, Final

import numpy as np

from lossd.core.catalog import VARIANTS
from lossd.core.checks import (
    LOGIT,
    MASK,
    POS_WEIGHT,
    PROBABILITY,
    TARGET,
    WEIGHT,
    WHOLE,
    Rule,
    class_id,
    fault_of,
)
from lossd.core.kernel import Sums
from lossd.core.operand import Operand, merged
from lossd.core.prepare import Work
from lossd.types import ITEMSIZE, MAX_DIMENSIONS, Float64Array

LIBRARY: Final = Path(__file__).with_name("_kernel.so")
WIDTHS: Final = ("avx512", "avx2", "sse2", "neon")
"""Vector instructions that there is a build for, the widest first."""
_MOST_TERMS: Final = 41
_KEPT: Final = 256
_DTYPES: Final = {name: number for number, name in enumerate(ITEMSIZE)}
_LOSSES: Final = {"bce": 0, "focal": 1}
_DIVISORS: Final = {None: 0, "count": 1, "weight": 2, "positives": 3}
_OUT_OF_MEMORY: Final = 8

# The structures of kernel.h, whose fields have the same names.


class _Formula(ctypes.Structure):
    _fields_ = (
        ("loss", ctypes.c_int32),
        ("probabilities", ctypes.c_int32),
        ("variant", ctypes.c_int32),
        ("balanced", ctypes.c_int32),
        ("gamma", ctypes.c_double),
        ("alpha", ctypes.c_double),
        ("smoothing", ctypes.c_double),
    )


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("offset", ctypes.c_int64),
        ("length", ctypes.c_int64 * MAX_DIMENSIONS),
        ("stride", ctypes.c_int64 * MAX_DIMENSIONS),
        ("axes", ctypes.c_int32),
        ("dtype", ctypes.c_int32),
        ("swapped", ctypes.c_int32),
        ("padding", ctypes.c_int32),
    )


class _Job(ctypes.Structure):
    _fields_ = (
        ("formula", _Formula),
        ("inputs", _Tensor),
        ("targets", _Tensor),
        ("weight", _Tensor),
        ("pos_weight", _Tensor),
        ("alpha", _Tensor),
        ("mask", _Tensor),
        ("class_inner", ctypes.c_int64),
        ("classes", ctypes.c_int64),
        ("ignored", ctypes.c_double),
        ("background", ctypes.c_double),
        ("ignores", ctypes.c_int32),
        ("has_background", ctypes.c_int32),
        ("allow_nan", ctypes.c_int32),
        ("divisor", ctypes.c_int32),
    )


class _Part(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_int64),
        ("stop", ctypes.c_int64),
        ("length", ctypes.c_int64 * MAX_DIMENSIONS),
        ("reduced", ctypes.c_int32 * MAX_DIMENSIONS),
        ("axes", ctypes.c_int32),
        ("elementwise", ctypes.c_int32),
        ("rounded", ctypes.c_int32),
        ("capacity", ctypes.c_int32),
        ("outputs", ctypes.c_int64),
        ("memory", ctypes.c_void_p * 2),
    )


_RESULT: Final = Struct("=qiiqd2i3i4x")
"""The head of kernel.h's result: count, the fault's rule, nan, position and value, planes, terms."""
_RESULT_BYTES: Final = _RESULT.size + 8 * 3 * _MOST_TERMS
_Result = ctypes.c_char * _RESULT_BYTES
_TERMS: Final = [Struct(f"={count}d") for count in range(_MOST_TERMS + 1)]


class NativeKernel:
    """Scores with the C code.

    Safe to be used by any number of threads at once.

    Args:
        threads: How many threads one call may use.
        width: Which vector instructions; by default the widest that this CPU has.

    Raises:
        OSError: The C code was not compiled, or not for this width.
    """

    name = "native"
    device = "cpu"

    def __init__(self, threads: int = 1, width: str | None = None) -> None:
        self.threads: Final = threads
        self.width: Final = best_width() if width is None else width
        self._score: Final = _function(self.width)

    def score(
        self,
        work: Work,
        memory: memoryview | bytes,
        offset: int,
        index: int,
        memories: Sequence[Float64Array] = (),
    ) -> Sums:
        """See `lossd.core.kernel.Kernel`."""
        job, part = _job_of(work), _part_of(work, index)
        if memories:
            part = _with_memories(part, memories)
        found = _Result()
        address = memory if isinstance(memory, bytes) else np.frombuffer(memory, dtype=np.uint8).ctypes.data
        self._score(job, part, address, offset, self.threads, found)
        count, rule, nan, position, value, *numbers = _RESULT.unpack_from(found)
        if rule:
            raise _fault(work, rule, position, float("nan") if nan else value)
        planes, terms = numbers[:2], numbers[2:]
        return Sums(
            loss=_terms(found, 0, terms[0]),
            weights=_terms(found, 1, terms[1]) if terms[1] else None,
            positives=_terms(found, 2, terms[2]),
            count=count,
            planes=planes[: len(memories)],
        )


def why_missing() -> str | None:
    """Why there is no native kernel here; None if there is one."""
    try:
        _function(best_width())
    except OSError as error:
        return str(error)
    return None


def slower_by() -> str:
    """What it costs that torch computes on a CPU, and why it does, for whoever runs the server."""
    why = why_missing() or "LOSSD_KERNEL=torch asks for it"
    return (
        f"torch computes on the CPU, about 20 times as slowly as the native kernel, the same numbers: {why}"
    )


def native_kernel(threads: int = 1) -> NativeKernel | None:
    """A native kernel; None where it was not compiled."""
    return None if why_missing() else NativeKernel(threads)


@cache
def best_width() -> str:
    """The widest vector instructions that this CPU has and there is a build for."""
    return WIDTHS[library().lossd_best_width()]


@cache
def library() -> ctypes.CDLL:
    """The C code.

    Raises:
        OSError: It was not compiled.
    """
    if not LIBRARY.exists():
        msg = "the C code was not compiled when lossd was installed; install a wheel, or a C compiler first"
        raise OSError(msg)
    found = ctypes.CDLL(os.fspath(LIBRARY))
    pointer, long, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    found.lossd_add_numbers.argtypes = (pointer, long, number, number, pointer)
    found.lossd_make_canonical.argtypes = (pointer, long, number, number)
    return found


@cache
def _function(width: str) -> Any:  # noqa: ANN401 -- ctypes has no type for it
    try:
        function = getattr(library(), f"lossd_score_{width}")
    except AttributeError:
        msg = f"there is no build for {width} instructions"
        raise OSError(msg) from None
    pointer = ctypes.c_void_p
    function.argtypes = (
        ctypes.POINTER(_Job),
        ctypes.POINTER(_Part),
        pointer,
        ctypes.c_int64,
        ctypes.c_int,
        pointer,
    )
    function.restype = None
    return function


@lru_cache(maxsize=_KEPT)
def _job_of(work: Work) -> _Job:
    cut, own, alpha = work.cut, work.own, work.own.get("alpha")
    formula = _Formula(
        loss=_LOSSES[work.loss],
        probabilities=work.inputs.name == "probabilities",
        variant=VARIANTS.index(str(own.get("variant", VARIANTS[0]))),
        balanced=alpha is not None or work.alpha is not None,
        gamma=own.get("gamma", 0.0),
        alpha=alpha if isinstance(alpha, float) else 0.0,
        smoothing=work.label_smoothing,
    )
    job = _Job(formula=formula, allow_nan=work.allow_nan, divisor=_DIVISORS[work.divisor])
    for name in ("inputs", "targets", "weight", "pos_weight", "alpha", "mask"):
        operand = getattr(work, name)
        if operand is not None:
            setattr(job, name, _tensor_of(operand))
    if work.class_axis is not None:
        job.classes = cut.shape[work.class_axis]
        job.class_inner = math.prod(cut.shape[work.class_axis + 1 :])
    if work.ignore_index is not None:
        job.ignores, job.ignored = 2 if math.isnan(work.ignore_index) else 1, work.ignore_index
    if work.background_index is not None:
        job.has_background, job.background = 1, work.background_index
    return job


def _tensor_of(operand: Operand) -> _Tensor:
    lengths, strides = merged(operand)
    tensor = operand.tensor
    swapped = tensor.big_endian != (sys.byteorder == "big")
    return _Tensor(
        offset=tensor.offset,
        length=tuple(lengths),
        stride=tuple(strides),
        axes=len(lengths),
        dtype=_DTYPES[tensor.dtype],
        swapped=swapped,
    )


@lru_cache(maxsize=_KEPT)
def _part_of(work: Work, index: int) -> _Part:
    cut = work.cut
    part = cut.part(index)
    return _Part(
        start=part.start,
        stop=part.stop,
        length=part.shape,
        reduced=cut.reduced,
        axes=len(part.shape),
        elementwise=not any(cut.reduced),
        rounded=cut.complete,
        capacity=part.planes,
        outputs=part.outputs,
    )


def _with_memories(part: _Part, memories: Sequence[Float64Array]) -> _Part:
    part = _Part.from_buffer_copy(part)
    for channel, memory in enumerate(memories):
        part.memory[channel] = memory.ctypes.data
    return part


def _fault(work: Work, rule: int, position: int, value: float) -> Exception:
    """What to raise for what the kernel found."""
    if rule == _OUT_OF_MEMORY:
        return MemoryError("the kernel has no memory for the sums")
    found: Rule
    name, found = {
        1: ("mask", MASK),
        2: ("targets", class_id(work.cut.shape[work.class_axis or 0])),
        3: ("targets", WHOLE),
        4: ("targets", TARGET),
        5: ("inputs", PROBABILITY if work.inputs.name == "probabilities" else LOGIT),
        6: ("weight", WEIGHT),
        7: ("pos_weight", POS_WEIGHT),
    }[rule]
    return fault_of(found, getattr(work, name), position, value)


def _terms(found: ctypes.Array[ctypes.c_char], which: int, count: int) -> list[float]:
    return list(_TERMS[count].unpack_from(found, _RESULT.size + 8 * _MOST_TERMS * which))
