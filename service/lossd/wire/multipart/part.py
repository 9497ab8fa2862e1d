"""One part of a form: a tensor's .npy file, the JSON object ``params``, or a parameter as text."""

from __future__ import annotations

from typing import Final

from lossd.error_text import SHOWN, pointer, shown, unknown_tensor
from lossd.types import TENSOR_DTYPES, ErrorCode, RequestError, Tensor
from lossd.wire.json.values import MAX_PARAMETER_BYTES, parse_params
from lossd.wire.npy.npy import NpyParser
from lossd.wire.query import parse_text

PARAMS: Final = "params"
"""The name of the part that is a JSON object of parameters."""

_ALSO_PARAMETERS: Final = frozenset({"pos_weight", "class_weight"})  # tensors that may be sent as text
_NPY: Final = 0x93  # the first byte of a .npy file, and of no text in UTF-8


class FormPart:
    """Reader of one part.

    Attributes:
        name: The part's name; empty until it is known.
        is_file: Whether the part has a file name (RFC 7578, 4.2).
    """

    def __init__(self) -> None:
        self.name = ""
        self.is_file = False
        self._parser: NpyParser | None = None
        self._text = bytearray()

    @property
    def announced(self) -> Tensor | None:
        """The tensor that its .npy header announces; None until that is complete."""
        return None if self._parser is None else self._parser.tensor

    @property
    def wanted(self) -> int:
        """The bytes of its array that are still missing."""
        return 0 if self._parser is None else self._parser.wanted

    def begin(self) -> None:
        """Check the part's headers, once they are complete.

        Raises:
            RequestError: ``unknown_tensor``: it is a file, but its name is no tensor's.
        """
        if self.is_file and self.name != PARAMS and self.name not in TENSOR_DTYPES:
            remedy = (
                f"; a parameter goes into the query or into a part without a file name: -F {self.name}=..."
            )
            is_word = self.name.isidentifier() and len(self.name) <= SHOWN
            raise unknown_tensor(self.name, remedy if is_word else "")

    def feed(self, data: memoryview, position: int) -> None:
        """Take the next bytes of its data.

        Args:
            data: At least one.
            position: Their position in the body.

        Raises:
            RequestError: ``trailing_bytes``: a second file. ``malformed_npy``: text instead of a tensor.
                ``unknown_tensor``: a .npy file under another name. Or as `NpyParser` does.
        """
        if self._parser is None and not self._text and self._is_npy(data[0]):
            if self.name not in TENSOR_DTYPES:
                raise unknown_tensor(self.name)
            self._parser = NpyParser(self.name, position)
        if self._parser is None:
            # One byte more than allowed is enough to refuse it.
            self._text += data[: MAX_PARAMETER_BYTES + 1 - len(self._text)]
            if len(self._text) > SHOWN and self._is_tensor_alone():
                raise self._not_a_file()
            return
        used = self._parser.feed(data)
        if used < len(data):
            seen = f"bytes follow the array of the part {self.name}, from byte {position + used} on"
            raise RequestError(
                ErrorCode.TRAILING_BYTES, f"{seen}; send one .npy file a part", [(pointer(self.name), seen)]
            )

    def finish(self) -> Tensor | dict[str, object]:
        """Return the part's tensor, or its parameters.

        Raises:
            RequestError: ``truncated_body``, ``malformed_npy``, ``malformed_json`` or ``invalid_parameter``.
        """
        if self.name == PARAMS:
            return parse_params(bytes(self._text), "the part params")
        if self.is_file:
            return (self._parser or NpyParser(self.name, 0)).finish()
        if self._parser is not None:
            return self._parser.finish()
        if self._is_tensor_alone():
            raise self._not_a_file()
        return {self.name: self._value()}

    def _is_npy(self, first: int) -> bool:
        """Return whether the data are a .npy file, or should be, by their first byte."""
        return self.name != PARAMS and (self.is_file or first == _NPY)

    def _is_tensor_alone(self) -> bool:
        return self.name in TENSOR_DTYPES and self.name not in _ALSO_PARAMETERS

    def _not_a_file(self) -> RequestError:
        """Return the error of text under a tensor's name: often curl lacks the @ before a file name."""
        seen = f"the text {shown(bytes(self._text))}, not a .npy file"
        remedy = f"send the file itself, with @ before its name: curl -F {self.name}=@FILE.npy"
        return RequestError(
            ErrorCode.MALFORMED_NPY, f"the part {self.name} is {seen}; {remedy}", [(pointer(self.name), seen)]
        )

    def _value(self) -> object:
        """Return the parameter's value, read as in a query.

        Raises:
            RequestError: ``invalid_parameter``.
        """
        name, place = shown(self.name), pointer(self.name[:SHOWN])
        if len(self._text) > MAX_PARAMETER_BYTES:
            detail = f"the part {name} has more than {MAX_PARAMETER_BYTES} bytes; send arrays as .npy files"
            raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [(place, "too long")])
        try:
            text = self._text.decode()
        except UnicodeDecodeError:
            detail = (
                f"the part {name} is not text in UTF-8; send a parameter as text, a tensor as a .npy file"
            )
            raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [(place, "not UTF-8")]) from None
        return parse_text(text, f"the part {name}", place)
