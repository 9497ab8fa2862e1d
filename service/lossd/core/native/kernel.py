"""The native kernel: scores on CPUs with the C code beside this file, without the interpreter's lock.

The C code is compiled when the package is built. Without a compiler it is missing, and torch computes the
same numbers, 15 to 50 times as slowly.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from struct import Struct
from typing import Final

import numpy as np

from lossd.core.catalog import LOSSES, Parameter
from lossd.core.checks import (
    CLASS_WEIGHT,
    MASK,
    POS_WEIGHT,
    WEIGHT,
    WHOLE,
    Rule,
    box_size,
    class_id,
    input_rule,
    target_rule,
    value_error,
)
from lossd.core.kernel import Sums
from lossd.core.native import library
from lossd.core.native.library import best_width, scoring_function, why_missing
from lossd.core.native.reports import SHARES, report_of
from lossd.core.operand import Operand, merged
from lossd.core.prepare import Work
from lossd.types import Float64Array

_MOST_TERMS: Final = 41
_CACHED: Final = 256
_DTYPES: Final = {
    "float16": 0,
    "bfloat16": 1,
    "float32": 2,
    "float64": 3,
    "bool": 4,
    "uint8": 5,
    "uint16": 6,
    "uint32": 7,
    "uint64": 8,
    "int8": 9,
    "int16": 10,
    "int32": 11,
    "int64": 12,
}
"""The numbers of load.h's dtypes."""
_VARIANTS: Final = {"sigmoid": 0, "exp": 1, "quality": 2}
"""The numbers of elements.h's variants of focal loss."""
_OPERANDS: Final = (
    *("inputs", "targets", "weight", "pos_weight", "alpha", "mask", "baseline"),
    "class_weight",
)
"""The tensors of a job, as attributes of `Work`."""
_TARGETS: Final = {"probability": 0, "number": 1, "box": 2}
"""The numbers of kernel.h's rules for targets."""
_RESULT: Final = Struct("=qqiiqd2i3i4x")
"""The head of kernel.h's result: count, report's bytes, an error's rule, nan, position and value, planes,
terms."""
_RESULT_BYTES: Final = _RESULT.size + 8 * 3 * _MOST_TERMS
_Result = ctypes.c_char * _RESULT_BYTES
_TERMS: Final = [Struct(f"={count}d") for count in range(_MOST_TERMS + 1)]


class _Fault(IntEnum):
    """What the C code found wrong: the numbers of kernel.h's rules."""

    MASK = 1
    CLASS = 2
    WHOLE = 3
    TARGET = 4
    INPUTS = 5
    WEIGHT = 6
    POS_WEIGHT = 7
    MEMORY = 8
    BASELINE = 9
    CLASS_WEIGHT = 10
    BOX = 11
    TARGET_BOX = 12
    BASELINE_BOX = 13


_BY_LOSS: Final = (_Fault.MASK, _Fault.WEIGHT)
"""Of tensors that have a value for each loss, not for each element."""


class NativeKernel:
    """Scores with the C code. Any number of threads may call it at once.

    Args:
        threads: Most threads that one call uses.
        width: One of `library.WIDTHS`; by default the widest that this CPU has.

    Raises:
        OSError: The C code was not compiled, or not for this width.
    """

    name = "native"
    device = "cpu"

    def __init__(self, threads: int = 1, width: str | None = None) -> None:
        self.threads: Final = threads
        self.width: Final = best_width() if width is None else width
        self._score: Final = scoring_function(self.width)

    def score(
        self,
        work: Work,
        memory: memoryview | bytes,
        offset: int,
        index: int,
        memories: Sequence[Float64Array] = (),
        report: memoryview | None = None,
        given: Sequence[Float64Array] = (),
    ) -> Sums:
        """See `lossd.core.kernel.Kernel`.

        Args:
            work: As there.
            memory: As there.
            offset: As there.
            index: As there.
            memories: As there.
            report: As there.
            given: The losses of the part's elements, and those of the baseline's if there is one, to be
                reduced; by default they are computed.
        """
        (job, figures), part = _job_of(work), _part_of(work, index)
        if memories or report is not None:
            part = _with_memories(part, memories, report, given)
        found = _Result()
        address = memory if isinstance(memory, bytes) else np.frombuffer(memory, dtype=np.uint8).ctypes.data
        self._score(job, None if report is None else figures, part, address, offset, self.threads, found)
        count, written, rule, nan, position, value, *numbers = _RESULT.unpack_from(found)
        if rule:
            raise _error(work, rule, position, float("nan") if nan else value)
        planes, terms = numbers[:2], numbers[2:]
        return Sums(
            loss=_terms(found, 0, terms[0]),
            weights=_terms(found, 1, terms[1]) if terms[1] else None,
            positives=_terms(found, 2, terms[2]),
            count=count,
            planes=planes[: len(memories)],
            report=written,
        )


def slower_by() -> str:
    """Return the warning that torch computes on the CPU, with its cost and the reason."""
    why = why_missing() or "LOSSD_KERNEL=torch asks for it"
    return (
        f"torch computes on the CPU, 15 to 50 times as slowly as the native kernel, the same numbers: {why}"
    )


def native_kernel(threads: int = 1) -> NativeKernel | None:
    """Return a native kernel, or None if it was not compiled."""
    return None if why_missing() else NativeKernel(threads)


@lru_cache(maxsize=_CACHED)
def _job_of(work: Work) -> tuple[library.Job, library.Report | None]:
    job = library.Job(
        formula=_formula_of(work),
        row_size=work.row_size,
        target_rule=_TARGETS[LOSSES[work.loss].targets],
        ids_by_row=work.ids_by_row,
        allow_nan=work.allow_nan,
        divisor=SHARES[work.divisor],
    )
    for name in _OPERANDS:
        operand = getattr(work, name)
        if operand is not None:
            setattr(job, name, _tensor_of(operand))
    if work.ids_by_row:
        job.classes = work.classes
    if work.class_axis is not None:
        job.classes = work.classes
        job.class_inner = math.prod(work.inputs.shape[work.class_axis + 1 :])
    if work.ignore_index is not None:
        job.ignores, job.ignored = 2 if math.isnan(work.ignore_index) else 1, work.ignore_index
    if work.background_index is not None:
        job.has_background, job.background = 1, work.background_index
    return job, report_of(work)


def _formula_of(work: Work) -> library.Formula:
    loss, own = LOSSES[work.loss], work.own
    formula = library.Formula(
        loss=library.loss_numbers()[loss.name] if loss.is_native else library.other_loss(),
        probabilities=work.inputs.name == "probabilities",
        smoothing=work.label_smoothing,
        own=tuple(_number_of(parameter, own[parameter.name]) for parameter in loss.parameters),
    )
    if loss.name == "focal":
        alpha = own["alpha"]
        formula.variant = _VARIANTS[str(own["variant"])]
        formula.balanced = alpha is not None or work.alpha is not None
        formula.gamma = own["gamma"]
        formula.alpha = alpha if isinstance(alpha, float) else 0.0
    return formula


def _number_of(parameter: Parameter, value: object) -> float:
    """Return a parameter's value as the C code takes it; 0 for what it gets in another way, or not at all."""
    if isinstance(value, str):
        choices = parameter.schema.get("enum")
        return float(choices.index(value)) if isinstance(choices, list) else 0.0
    return float(value) if isinstance(value, int | float) else 0.0


def _tensor_of(operand: Operand) -> library.Tensor:
    lengths, strides = merged(operand)
    tensor = operand.tensor
    swapped = tensor.big_endian != (sys.byteorder == "big")
    return library.Tensor(
        offset=tensor.offset,
        length=tuple(lengths),
        stride=tuple(strides),
        axes=len(lengths),
        dtype=_DTYPES[tensor.dtype],
        swapped=swapped,
    )


@lru_cache(maxsize=_CACHED)
def _part_of(work: Work, index: int) -> library.Part:
    cut = work.cut
    part = cut.part(index)
    return library.Part(
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


def _with_memories(
    part: library.Part,
    memories: Sequence[Float64Array],
    report: memoryview | None = None,
    given: Sequence[Float64Array] = (),
) -> library.Part:
    part = library.Part.from_buffer_copy(part)
    for channel, memory in enumerate(memories):
        part.memory[channel] = memory.ctypes.data
    for which, losses in enumerate(given):
        part.given[which] = losses.ctypes.data
    if report is not None:
        part.report = np.frombuffer(report, dtype=np.uint8).ctypes.data
        part.report_bytes = report.nbytes
    return part


def _error(work: Work, rule: int, position: int, value: float) -> Exception:
    """Return the exception for an error that the kernel found."""
    if rule == _Fault.MEMORY:
        return MemoryError("the kernel has no memory for the sums")
    loss, inputs = LOSSES[work.loss], work.inputs
    box = box_size(str(work.own.get("format")), position)
    found: Rule
    name, found = {
        _Fault.MASK: ("mask", MASK),
        _Fault.CLASS: ("targets", class_id(loss, work.classes)),
        _Fault.WHOLE: ("targets", WHOLE),
        _Fault.TARGET: ("targets", target_rule(loss)),
        _Fault.INPUTS: ("inputs", input_rule(loss, inputs.name)),
        _Fault.WEIGHT: ("weight", WEIGHT),
        _Fault.POS_WEIGHT: ("pos_weight", POS_WEIGHT),
        _Fault.BASELINE: ("baseline", input_rule(loss, inputs.name)),
        _Fault.CLASS_WEIGHT: ("class_weight", CLASS_WEIGHT),
        _Fault.BOX: ("inputs", box),
        _Fault.TARGET_BOX: ("targets", box),
        _Fault.BASELINE_BOX: ("baseline", box),
    }[_Fault(rule)]
    by_row = rule in _BY_LOSS or (work.ids_by_row and name == "targets")
    return value_error(found, getattr(work, name), position // work.row_size if by_row else position, value)


def _terms(found: ctypes.Array[ctypes.c_char], which: int, count: int) -> list[float]:
    return list(_TERMS[count].unpack_from(found, _RESULT.size + 8 * _MOST_TERMS * which))
