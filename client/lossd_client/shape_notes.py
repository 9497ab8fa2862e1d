"""What the server notes of tensors whose shapes could mean two things, for requests that are sent in parts.

A part of a call may be ambiguous where the whole is not, and the other way round: a weight of shape [N] goes
with inputs [N, N] in two ways, and with N / 2 of their rows in one.
"""

from collections.abc import Mapping

from lossd_client.call import Checked


def shape_notes(call: Checked) -> list[str]:
    """Give the notes of a call, in the server's words."""
    shapes = {name: array.shape for name, array in call.tensors.items()}
    return notes_of(shapes, call.inputs.shape, call.class_axis)


def notes_of(shapes: Mapping[str, tuple[int, ...]], shape: tuple[int, ...], class_axis: int) -> list[str]:
    """Give the notes of tensors.

    Args:
        shapes: By name.
        shape: The inputs'.
        class_axis: Where the classes lie.
    """
    if not -len(shape) <= class_axis < len(shape):
        return []
    notes = []
    for name, other in (("weight", 0), ("mask", 0), ("pos_weight", class_axis % len(shape))):
        given = shapes.get(name, ())
        found = [len(shape) - len(given) + place for place, n in enumerate(given) if n != 1]
        if name == "pos_weight" and len(given) < 2:
            continue
        if len(found) == 1 and found != [other] and shape[found[0]] == shape[other]:
            as_other = [n if place == other else 1 for place, n in enumerate(shape)]
            notes.append(
                f"{name} of shape {list(given)} goes along axis {found[0]} of the inputs, {list(shape)}, by "
                f"numpy's rules; if axis {other} is meant, send it in the shape {as_other}"
            )
    return notes
