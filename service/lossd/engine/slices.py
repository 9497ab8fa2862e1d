"""Slices as a worker sees them: from a frame and an arena to work for the kernel, from sums to a frame."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lossd.core.grid import Grid
from lossd.core.kernel import EagerKernel, Score
from lossd.core.together import Pair, Sums
from lossd.core.work import Work, prepare
from lossd.engine.arena import Memory
from lossd.engine.frames import Failed, Recipe, Scored, Slice, decode_recipe
from lossd.request import Fault, Float64Array, Tensor

_KEPT: Final = 512
"""So many recipes are known by heart."""
_NUMPY: Final = {
    "float16": "f2",
    "bfloat16": "u2",  # bit patterns
    "float32": "f4",
    "float64": "f8",
    "bool": "u1",  # a byte other than 0 and 1 is then seen for what it is
    "uint8": "u1",
    "uint16": "u2",
    "uint32": "u4",
    "uint64": "u8",
    "int8": "i1",
    "int16": "i2",
    "int32": "i4",
    "int64": "i8",
}


def answer_of(
    piece: Slice, outcome: Score | Sums | Fault, seconds: float, together: int = 1
) -> Scored | Failed:
    """The answer to a slice.

    Args:
        piece: The slice.
        outcome: What it came to.
        seconds: How long that took.
        together: As `Scored` has it.
    """
    if isinstance(outcome, Sums):
        loss, positives, count = outcome
        return Scored(piece.id, [loss], None, [positives], count, [], seconds, together)
    if isinstance(outcome, Fault):
        return Failed(piece.id, outcome.code, outcome.detail, list(outcome.errors), together)
    return Scored(
        id=piece.id,
        sum=outcome.sum.terms,
        weight_sum=None if outcome.weight_sum is None else outcome.weight_sum.terms,
        positives=outcome.positives.terms,
        count=outcome.count,
        pieces=[[(one.output, one.planes, one.length) for one in part] for part in outcome.pieces],
        seconds=seconds,
        together=together,
    )


def template_of(recipe: bytes) -> Work | None:
    """A request of a recipe, of other numbers; None where there is more to it than inputs and targets."""
    return _parse(recipe).work


@lru_cache(_KEPT)
def likeness_of(recipe: bytes, kernel: EagerKernel) -> Hashable | None:
    """What whole requests of a recipe must have in common with others; None where they are always alone."""
    work = template_of(recipe)
    return None if work is None else kernel.likeness(work)


def pair_of(piece: Slice, memory: Memory) -> Pair:
    """The inputs and targets of a slice whose recipe has a template, where they lie."""
    inputs, targets = _parse(piece.recipe).places
    return inputs.elements(memory, piece.base), targets.elements(memory, piece.base)


def work_of(piece: Slice, memory: Memory) -> Work:
    """The request that a slice is of, as far as the slice knows it, ready to score."""
    parse = _parse if piece.rows is None else _parse.__wrapped__  # a stream's recipes are never the same
    form = parse(piece.recipe)
    arrays = {place.name: place.array(memory, piece.base) for place in form.places}
    if form.work is None:
        recipe = form.recipe
        grid = Grid(recipe.shape, recipe.axes, recipe.block, growing=piece.rows is not None)
        return prepare(recipe.loss, recipe.params, grid, arrays, form.bfloat16, piece.rows)
    return form.work.with_arrays(*arrays.values())


class _Place(NamedTuple):
    """A tensor in the arena.

    Attributes:
        name: Its name.
        dtype: As numpy has it.
        size: How many elements it has.
        offset: Where it lies, counted from a slice's base.
        shape: Its shape.
        order: Of its elements, ``C`` or ``F``.
    """

    name: str
    dtype: np.dtype[Any]
    size: int
    offset: int
    shape: tuple[int, ...]
    order: Literal["C", "F"]

    def array(self, memory: Memory, base: int) -> npt.NDArray[Any]:
        """The tensor where it lies, read in place."""
        flat = np.frombuffer(memory.view, dtype=self.dtype, count=self.size, offset=base + self.offset)
        return flat.reshape(self.shape, order=self.order)

    def elements(self, memory: Memory, base: int) -> npt.NDArray[Any]:
        """The elements in C order, [size], if they lie so; else as `array`."""
        if self.order == "F":
            return self.array(memory, base)
        return np.frombuffer(memory.view, dtype=self.dtype, count=self.size, offset=base + self.offset)


class _Form(NamedTuple):
    """A recipe as far as it can be made ready beforehand.

    Attributes:
        recipe: The recipe.
        places: Its tensors; where ``work`` is given the inputs come first.
        bfloat16: Which of them are bfloat16, as bit patterns.
        work: All but the tensors' elements, if those are inputs and dense targets alone.
    """

    recipe: Recipe
    places: list[_Place]
    bfloat16: frozenset[str]
    work: Work | None


@lru_cache(_KEPT)
def _parse(encoded: bytes) -> _Form:
    recipe = decode_recipe(encoded)
    places = [_place(name, tensor) for name, tensor in recipe.tensors.items()]
    places.sort(key=lambda place: place.name == "targets")
    bfloat16 = frozenset(name for name, tensor in recipe.tensors.items() if tensor.dtype == "bfloat16")
    work = None
    if len(places) == 2 and places[1].shape == recipe.shape:
        empty = {name: np.broadcast_to(np.zeros((), dtype), recipe.shape) for name, dtype, *_ in places}
        grid = Grid(recipe.shape, recipe.axes, recipe.block)
        work = prepare(recipe.loss, recipe.params, grid, empty, bfloat16)
    return _Form(recipe, places, bfloat16, work)


def _place(name: str, tensor: Tensor) -> _Place:
    dtype = np.dtype(_NUMPY[tensor.dtype]).newbyteorder(">" if tensor.big_endian else "<")
    return _Place(name, dtype, tensor.size, tensor.offset, tensor.shape, "F" if tensor.fortran else "C")


def partials_of(piece: Slice, memory: Memory) -> list[Float64Array]:
    """Where a slice's partial sums go."""
    return [
        np.frombuffer(memory.view, dtype=np.float64, count=count, offset=offset)
        for offset, count in piece.partials
    ]
