"""The body of an Open Inference Protocol request, with Triton's extension for binary tensors.

A body is a JSON object that describes the inputs. Binary tensors follow it, if there are any, and the header
``Inference-Header-Content-Length`` then says where the object ends. An object before binary tensors is
usually short: it is parsed as soon as it is complete, so that the tensors' places are known early.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lossd.types import Body, ErrorCode, RequestError
from lossd.wire.inference.request import InferenceRequest, RequestedOutput, read_request
from lossd.wire.json.arrays import array_bytes
from lossd.wire.npy.npy import cut_short
from lossd.wire.reader import Chunk

MAX_KEPT_BYTES: Final = 1 << 16
"""The longest JSON object before binary tensors that is parsed as soon as it is complete.

A longer one is parsed in `InferenceReader.finish`, which the caller may run in a thread.
"""


class InferenceReader:
    """Reader of the body of an inference request.

    Attributes:
        request_id: The caller's id of the request, which the answer repeats. This and what follows is known
            when `finish` returns.
        outputs: The outputs that the answer must have, in order; a report only if there is one.
        timeout_us: The caller's time limit in microseconds, 1 to 2**63 - 1, or None.
        needs_report: Whether a report is asked for among the outputs, but not by the parameters.
    """

    def __init__(self, *, header_length: int | None, max_json_bytes: int) -> None:
        """Expect a body.

        Args:
            header_length: The length of the JSON object, in bytes; None where it is the whole body.
            max_json_bytes: The longest JSON object, in bytes.

        Raises:
            RequestError: ``body_too_large``.
        """
        self.request_id: str | None = None
        self.outputs: tuple[RequestedOutput, ...] = ()
        self.timeout_us: int | None = None
        self.needs_report = False
        self._header_length = header_length
        self._max_json_bytes = max_json_bytes
        self._received = 0
        self._head = bytearray()
        self._request: InferenceRequest | None = None
        self._check_json_bytes(header_length or 0)

    as_is: Final = True
    skipped: Final = 0

    @property
    def needed(self) -> int:
        """The end of the last tensor, or of the JSON object while that is not parsed."""
        if self._request is not None:
            return self._request.length
        return max(self._received, self._header_length or 0)

    def feed(self, chunk: Chunk) -> Iterable[Chunk]:
        """Take the body's next bytes, and return them.

        Raises:
            RequestError: ``body_too_large``, ``trailing_bytes``, or as `finish` does.
        """
        start = self._received
        self._received += len(chunk)
        if self._header_length is None:
            self._check_json_bytes(self._received)
        elif start < self._header_length <= MAX_KEPT_BYTES:
            self._head += chunk[: self._header_length - start]
            if len(self._head) == self._header_length:
                self._parse(bytes(self._head))
                self._head.clear()
        if self._request is not None:
            self._check_end(self._request)
        return (chunk,)

    def outline(self, length: int | None) -> Body | None:
        """Return the tensors once only bytes of the last one are missing."""
        request = self._request
        if request is None or self._received < request.last or length not in (None, request.length):
            return None
        return request.body

    def finish(self, stored: memoryview) -> Body:
        """Return the tensors and the loss's parameters.

        Returns:
            Binary tensors where they lie; numbers in the JSON object as arrays, rounded to their datatype.

        Raises:
            RequestError: ``truncated_body`` or ``trailing_bytes``: the body's length is not the announced
                one. ``malformed_json``, ``bad_request``: the JSON object is not the protocol's, or names an
                unknown output. ``unknown_tensor``, ``missing_tensor``, ``dtype_not_allowed``, ``bad_shape``,
                ``shape_mismatch``: an input is wrong. ``invalid_parameter``: a parameter is wrong.
        """
        if self._request is None:
            end = self._header_length
            if end is not None and len(stored) < end:
                detail = f"{len(stored)} bytes came, less than the {end} of Inference-Header-Content-Length"
                raise RequestError(ErrorCode.TRUNCATED_BODY, f"{detail}; send all of the body")
            self._parse(bytes(stored[:end]))
        request = self._request
        assert request is not None
        self._check_end(request)
        if self._received < request.length:
            tensors = request.body.tensors.items()
            name, tensor = next(
                (name, tensor) for name, tensor in tensors if self._received < tensor.offset + tensor.nbytes
            )
            raise cut_short(name, tensor, max(0, self._received - tensor.offset), "the body")
        return request.body

    def _parse(self, text: bytes) -> None:
        """Parse the JSON object."""
        request = read_request(text)
        if request.length > len(text) and self._header_length is None:
            detail = "binary_data_size is given, but not where the binary data begins"
            raise RequestError(
                ErrorCode.BAD_REQUEST, f"{detail}; send the header Inference-Header-Content-Length"
            )
        self._request = request
        self.request_id = request.request_id
        self.outputs = request.outputs
        self.timeout_us = request.timeout_us
        self.needs_report = request.needs_report

    def _check_end(self, request: InferenceRequest) -> None:
        if self._received > request.length:
            seen = f"bytes follow the last input, from byte {request.length} on"
            remedy = "send as many as the binary_data_size of the inputs says"
            raise RequestError(ErrorCode.TRAILING_BYTES, f"{seen}; {remedy}")

    def _check_json_bytes(self, length: int) -> None:
        if length > self._max_json_bytes:
            detail = f"the JSON object has {length} bytes or more, at most {self._max_json_bytes} are taken"
            raise RequestError(ErrorCode.BODY_TOO_LARGE, f"{detail}; send the inputs as binary data")


def arena_bytes(content_length: int, header_length: int | None) -> int:
    """Return the memory for a body and the arrays built from its JSON object."""
    json_bytes = content_length if header_length is None else min(header_length, content_length)
    return content_length + array_bytes(json_bytes)
