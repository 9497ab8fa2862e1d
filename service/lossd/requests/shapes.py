"""Shapes in error details."""

from __future__ import annotations

from typing import TypeAlias

from lossd.types import ROWS, ErrorCode, RequestError

Shape: TypeAlias = tuple[int, ...]


def shown_shape(shape: Shape) -> str:
    """Return a shape as text, such as ``[32, 80]``, or ``[rows, 80]`` for a stream."""
    return f"[{', '.join('rows' if n == ROWS else str(n) for n in shape)}]"


def shape_mismatch(name: str, shape: Shape, detail: str) -> RequestError:
    """Return the error of a tensor whose shape does not fit the others'."""
    return RequestError(ErrorCode.SHAPE_MISMATCH, detail, [(f"/{name}", f"shape {shown_shape(shape)}")])
