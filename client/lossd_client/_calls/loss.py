"""What the client knows of a loss: `catalog.py` has the entries."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

from lossd_client._calls.values import NORMALIZERS

Kind: TypeAlias = Literal["number", "numbers", "word", "shared"]
"""What a loss's own parameter holds: a number; one or a list of them; a word; or what the shared parameter of
that name does."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of one loss.

    Attributes:
        kind: What it holds.
        default: The server's default.
        words: Those that it may be.
        has_none: Whether None has a meaning.
    """

    kind: Kind
    default: Any
    words: tuple[str, ...] = ()
    has_none: bool = False


@dataclass(frozen=True)
class Loss:
    """A loss, as far as the client has to know it.

    Attributes:
        name: Its name.
        inputs: The names that its inputs may have.
        row: What one loss value belongs to. Empty: an element; "classes": the classes of a sample or pixel;
            "sample": an index of axis 0, or what `per` says; "box": the last axis's four numbers.
        targets: The values that a target may have.
        without: The sections of a report that it does not have.
        shared: The parameters that it has in common with others.
        own: Its own parameters.
    """

    name: str
    inputs: tuple[str, ...]
    row: Literal["", "classes", "sample", "box"]
    targets: Literal["probability", "number", "box"]
    without: tuple[str, ...]
    shared: tuple[str, ...]
    own: Mapping[str, Parameter]

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """The names of all its parameters."""
        return (*self.shared, *self.own)

    @cached_property
    def answered(self) -> tuple[str, ...]:
        """The names of the parameters in the `params` of an answer; all others are in its `options`."""
        return tuple(name for name, parameter in self.own.items() if parameter.kind != "shared")

    @cached_property
    def normalizers(self) -> tuple[str, ...]:
        """The words for what its mean may divide by; positives are a sum of probabilities."""
        return NORMALIZERS if self.targets == "probability" else ("count", "weight")

    def per(self, params: Mapping[str, Any]) -> str:
        """Return what one value of a loss over samples belongs to: "sample", "class" or "all"; else ""."""
        return str(params.get("per") or "sample") if self.row == "sample" else ""

    def losses_shape(self, params: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the losses of inputs of a shape: it lacks the axes of a row.

        Weights, masks, groups and ids belong to losses, and axes are counted in their shape.

        Args:
            params: Parameters, of which defaults may be missing.
            shape: The inputs'. What the server refuses has the shape of its inputs here.
        """
        axis = int(params.get("class_axis", -1))
        if not shape or not (self.row and -len(shape) <= axis < len(shape)):
            return shape
        if self.row == "box":
            return shape[:-1]
        if self.row == "classes":
            return tuple(n for place, n in enumerate(shape) if place != axis % len(shape))
        return {"sample": shape[:1], "class": (shape[axis],)}.get(self.per(params), (1,))

    def dimensions(self, params: Mapping[str, Any], inputs: int) -> int:
        """Return how many dimensions the losses have of inputs with a number of them."""
        return len(self.losses_shape(params, (1,) * inputs))

    def refuse_joining(self, params: Mapping[str, Any], what: str) -> None:
        """Refuse to join results whose loss spans all samples.

        Args:
            params: The parameters.
            what: What would be joined, for the message.

        Raises:
            ValueError: Their loss does.
        """
        per = self.per(params)
        if per in ("class", "all"):
            raise ValueError(
                f"{what} cannot be joined by per={per!r}: a {self.name} loss over all samples does not "
                "follow from those of parts; score them in one request, or by per='sample'"
            )


@dataclass(frozen=True, slots=True)
class Losses:
    """The losses of inputs that are not read yet.

    Attributes:
        loss: The loss.
        params: Its parameters, of which defaults may be missing.
    """

    loss: Loss
    params: Mapping[str, Any]

    def shape(self, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the losses of inputs of a shape."""
        return self.loss.losses_shape(self.params, inputs)

    def dimensions(self, inputs: int) -> int:
        """Return how many dimensions they have, of inputs with a number of them."""
        return self.loss.dimensions(self.params, inputs)

    def have_rows(self, inputs: int) -> bool:
        """Return whether each belongs to a row, of inputs with a number of dimensions."""
        per, axis = self.loss.per(self.params), int(self.params.get("class_axis", -1))
        return per not in ("class", "all") or (per == "class" and axis in (0, -inputs))
