"""Stage 5 of `lossd report`: groups and ids of rows, each column all whole numbers or all text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from lossd_client.cli.files.errors import BadFile

_FILL: Final = "give these rows a value of their own, or leave them out of the files"


@dataclass(slots=True)
class LabelColumn:
    """A column of groups or ids, read block by block.

    Attributes:
        option: The option that names it.
        name: Its name in the report.
        kind: What its values are; None until there was one.
    """

    option: str
    name: str
    kind: Literal["whole numbers", "text"] | None = None

    def read(self, values: NDArray[Any], start: int) -> NDArray[Any]:
        """Return the values of a block as integers, or as text.

        Args:
            values: Whatever the files hold.
            start: The number of the block's first row.

        Raises:
            BadFile: There is no value in a row, or it is neither, or it is of another kind than those before.
        """
        plain = [_plain(value) for value in values.tolist()]
        for row, value in enumerate(plain):
            kind: Literal["whole numbers", "text"] = "whole numbers" if isinstance(value, int) else "text"
            self.kind = self.kind or kind
            if value is None or isinstance(value, float) or kind != self.kind:
                raise BadFile(f"{self.option} {self.name}, row {start + row}: {self._fault(value)}")
        return _as_array(plain, is_text=self.kind == "text")

    def _fault(self, value: object) -> str:
        if value is None:
            return f"there is no value; {_FILL}"
        if isinstance(value, float):
            return f"{value} is neither a whole number nor text: write it as text"
        what = "a whole number" if isinstance(value, int) else "text"
        return f"{value!r} is {what}, and the values before are {self.kind}: write all of them alike"


def _plain(value: Any) -> int | float | str | None:  # noqa: ANN401 - whatever a column holds
    """Return a value as a whole number or text; as a float if it is neither, and None if there is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return str(value)


def _as_array(values: Sequence[Any], *, is_text: bool) -> NDArray[Any]:
    if is_text:
        found = np.empty(len(values), dtype=object)
        found[:] = values
        return found
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError:
        return np.array(values, dtype=object)  # beyond what int64 holds
