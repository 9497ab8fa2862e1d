"""Files by torch.save: tensors by name. No code of a file is run, and no other objects are made."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from lossd_client.cli.files.arrays import ArraysFile, HeldArray, Member
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.location import Location

if TYPE_CHECKING:
    import torch

_PARTS: Final = "a tensor, or a dict of tensors by name"


class TorchFile(ArraysFile):
    """A .pt file: a tensor, or tensors in a dict, whose dicts' names are joined by dots.

    Raises:
        BadFile: It is damaged, holds objects that are not loaded, or torch is not installed.
    """

    def __init__(self, location: Location) -> None:
        loaded = _loaded(location)
        members: dict[str, Member] = {}
        with location.errors():
            for name, value in _parts(loaded):
                if name in members:
                    raise BadFile(f"{location} holds two arrays that are named {name}")
                members[name] = _member(value)
        if not any(isinstance(member, HeldArray) for member in members.values()):
            whys = [f"{name} {why}".strip() for name, why in list(members.items())[:8]]
            what = ", ".join(whys)
            raise BadFile(f"{location} holds no tensor of numbers ({what or 'it is empty'}): save {_PARTS}")
        super().__init__(location, members)

    @property
    def notes(self) -> tuple[str, ...]:
        return self.passed_over()


def _loaded(location: Location) -> Any:  # noqa: ANN401 - whatever was saved
    try:
        import torch
    except ModuleNotFoundError:
        remedy = "pip install torch, or save the arrays as .safetensors or .npz"
        raise BadFile(f"{location} was saved by torch, and needs it to be read: {remedy}") from None
    import pickle

    with location.errors(), location.open() as file:
        try:
            # Mapped where that can be: blocks of rows are then all that is in memory.
            if location.path is not None and _is_zip(file):
                return torch.load(location.path, map_location="cpu", weights_only=True, mmap=True)
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:  # its message advises to load anyway
            what = "it is damaged, or holds more than tensors and plain values, which might run code"
            raise BadFile(f"{location} is not loaded: {what}; save {_PARTS}") from error


def _is_zip(file: BinaryIO) -> bool:
    magic = file.read(4)
    file.seek(0)
    return magic == b"PK\x03\x04"


def _parts(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Yield the items of nested dicts and lists, by names such as outputs.logits and outputs.0."""
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list | tuple) and any(hasattr(item, "layout") for item in value):
        items = list(enumerate(value))
    else:
        yield name, value
        return
    for key, item in items:
        yield from _parts(item, f"{name}.{key}" if name else str(key))


def _member(value: Any) -> Member:  # noqa: ANN401
    import torch

    if not isinstance(value, torch.Tensor):
        return f"is no tensor but of type {type(value).__name__}"
    if value.layout is not torch.strided or value.is_quantized:
        return "is a sparse or quantized tensor"
    if value.device.type != "cpu":
        return f"has no values, but lies on device {value.device.type}"
    if value.dtype is torch.bfloat16:
        return HeldArray(value.detach().view(torch.int16).numpy().view("V2"))
    if value.dtype not in _numpys():
        return f"has dtype {str(value.dtype).removeprefix('torch.')}"
    return HeldArray(value.detach().numpy())


def _numpys() -> "set[torch.dtype]":
    """Return the dtypes that numpy has, too."""
    import torch

    floats = {torch.float16, torch.float32, torch.float64, torch.bool}
    signed = {torch.int8, torch.int16, torch.int32, torch.int64}
    return floats | signed | {torch.uint8, torch.uint16, torch.uint32, torch.uint64}
