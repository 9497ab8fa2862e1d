"""The layouts of small bodies: where the tensors lie in a body, and how the answer to it is written.

Only the fast lane (`lossd.api.small_requests.lane`) uses them.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from lossd import __version__
from lossd.api.problems import Problem, problem
from lossd.api.routes.inference import inference_problem
from lossd.api.scoring.request_spec import RequestSpec
from lossd.core.catalog import LOSSES, Loss
from lossd.engine.dispatch.in_place import InPlace, Prepared, prepare_request
from lossd.requests.validation import OwnMemory, assemble
from lossd.types import Body, LossRequest, LossResult, RequestError, Tensor
from lossd.wire import (
    Format,
    InferenceReader,
    JsonAnswers,
    merge_params,
    parse_query,
    read_in_place,
    write_inference,
)

logger = logging.getLogger(__name__)

ONE_PART: Final = 1 << 62
"""The most elements of a part: every request is one part, whatever its size."""
_KEPT: Final = 256
_KEPT_LAYOUTS: Final = 4
_KEPT_LENGTHS: Final = 64
_KEPT_KINDS: Final = 256
_LONGEST_GAPS: Final = 1 << 11
"""The most bytes between the tensors of a body whose layout is kept, since callers choose them."""
_JSON: Final = b"content-type: application/json\r\n"


class NotForLane(Exception):  # noqa: N818 -- it is no error
    """A request that must go the ordinary way, such as one whose body gives a timeout."""


class Written(NamedTuple):
    """An answer: the lines of its content headers, and its body."""

    headers: bytes
    body: bytes


Write: TypeAlias = Callable[[LossResult, str], Written]
"""Writes a result and a request id as an answer."""
Writer: TypeAlias = Callable[[LossRequest], Write]
"""Returns an answer writer for requests with equal parameters."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The tensors of a body, and where they lie.

    Attributes:
        gaps: The bytes that are not a tensor's, and their offsets in the body; none for a JSON document.
        request: The request, ready to score. Offsets are counted from the body's first byte; those of a
            document from the first multiple of 8 behind it.
        write: Writes the answer.
    """

    gaps: Sequence[tuple[int, bytes]]
    request: Prepared
    write: Write

    def fits(self, data: bytes, start: int) -> bool:
        """Return whether the body at ``start``, of the same length, has this layout."""
        for offset, gap in self.gaps:  # noqa: SIM110 -- a third of the time of all()
            if not data.startswith(gap, start + offset):
                return False
        return True


class Layouts(ABC):
    """The layouts of bodies that come with the same loss, format and query.

    Args:
        format: The format's name, for metrics and logs.
        loss: The loss.
        query_params: The parameters of the query.
    """

    problem: Callable[..., Problem] = staticmethod(problem)

    def __init__(self, format: str, loss: Loss, query_params: Mapping[str, object]) -> None:  # noqa: A002
        self.format: Final = format
        self.loss: Final = loss
        self._query_params = query_params
        self._known: dict[int, list[Layout]] = {}  # by the body's length

    @abstractmethod
    def _parse(self, body: memoryview, scratch: OwnMemory) -> tuple[Body, Writer]:
        """Parse a body; offsets are counted from its first byte.

        Raises:
            NotForLane: It must go the ordinary way.
            RequestError: It is malformed.
        """

    def find(self, data: bytes, start: int, length: int) -> Layout | None:
        """Return the layout of the body that begins at ``start``, if it is known."""
        for layout in self._known.get(length, ()):
            if layout.fits(data, start):
                return layout
        return None

    def read(self, body: memoryview, scratch: OwnMemory, inplace: InPlace) -> tuple[Layout, int] | None:
        """Copy a body to memory, with the tensors built from it behind it, and find its layout.

        Args:
            body: The body.
            scratch: The memory.
            inplace: Is to score it.

        Returns:
            The layout, and the offset in the memory that its offsets are counted from. None if the request
            is too large, its answer is an array, or it has an error.
        """
        scratch.view[: len(body)] = body
        try:
            found, writer = self._parse(body, scratch)
            base = self._base(body)
            layout = self._layout_like(found)
            if layout is not None:
                return layout, base
            free = max((tensor.offset + tensor.nbytes for tensor in found.tensors.values()), default=0)
            params = merge_params(self._query_params, found.params)
            request, cut = assemble(self.loss, found, max(len(body), free), scratch, params, ONE_PART)
        except (NotForLane, RequestError):  # the ordinary way finds the same error, and reports it
            return None
        except Exception:
            logger.exception("the lane failed; the request goes the ordinary way")
            return None
        if cut.output_shape or not inplace.takes(request, cut):
            return None
        layout = Layout(self._gaps(found, body), prepare_request(request, cut, base), writer(request))
        if request.tensors.keys() == found.tensors.keys():
            self._keep(layout, found, len(body))
        return layout, base

    def _base(self, body: memoryview) -> int:
        """Return the offset that those of a layout are counted from."""
        return 0

    def _gaps(self, found: Body, body: memoryview) -> Sequence[tuple[int, bytes]]:
        """Return the bytes by which this layout is found again, before a body is parsed."""
        return _gaps_between(found.tensors, body)

    def _layout_like(self, found: Body) -> Layout | None:
        """Return the known layout of a body that has been parsed, if there is one."""
        return None

    def _keep(self, layout: Layout, found: Body, length: int) -> None:
        """Keep a layout. All of its tensors lie in the body."""
        if sum(len(gap) for _, gap in layout.gaps) > _LONGEST_GAPS:
            return
        if length not in self._known and len(self._known) >= _KEPT_LENGTHS:
            self._known.clear()
        known = self._known.setdefault(length, [])
        known.insert(0, layout)
        del known[_KEPT_LAYOUTS:]


class NpyLayouts(Layouts):
    """The layouts of .npy files, one after another."""

    def __init__(self, spec: RequestSpec) -> None:
        super().__init__("npy", spec.loss, spec.query_params)
        self._spec = spec

    def _parse(self, body: memoryview, scratch: OwnMemory) -> tuple[Body, Writer]:
        spec = self._spec
        assert isinstance(spec.form, Format)
        reader = spec.form.reader(options=spec.options, names=spec.names)
        reader.feed(body)
        return reader.finish(body), _write_json


class JsonLayouts(Layouts):
    """The layouts of JSON objects."""

    def __init__(self, spec: RequestSpec) -> None:
        super().__init__("json", spec.loss, spec.query_params)
        self._spec = spec

    def _parse(self, body: memoryview, scratch: OwnMemory) -> tuple[Body, Writer]:
        spec = self._spec
        assert isinstance(spec.form, Format)
        spec.form.reader(options=spec.options, names=spec.names).feed(body)  # checks its beginning
        return read_in_place(scratch.view, len(body)), _write_json

    def _base(self, body: memoryview) -> int:
        return -(-len(body) // 8) * 8  # so that documents of different lengths share layouts

    def _gaps(self, found: Body, body: memoryview) -> Sequence[tuple[int, bytes]]:
        del found, body  # a document is always parsed
        return ()

    def _layout_like(self, found: Body) -> Layout | None:
        return _json_layouts.get((self._spec, _kind_of(found)))

    def _keep(self, layout: Layout, found: Body, length: int) -> None:
        if len(_json_layouts) >= _KEPT_KINDS:
            _json_layouts.clear()
        _json_layouts[self._spec, _kind_of(found)] = layout


class InferenceLayouts(Layouts):
    """The layouts of requests of the Open Inference Protocol.

    Args:
        loss: The loss.
        query_params: The parameters of the query.
        header_length: The length of the JSON object at the body's start; None if it is the whole body.
    """

    problem: Callable[..., Problem] = staticmethod(inference_problem)

    def __init__(self, loss: Loss, query_params: Mapping[str, object], header_length: int | None) -> None:
        super().__init__("v2", loss, query_params)
        self._header_length = header_length

    def _parse(self, body: memoryview, scratch: OwnMemory) -> tuple[Body, Writer]:
        reader = InferenceReader(header_length=self._header_length, max_json_bytes=len(body))
        reader.feed(body)
        found = reader.finish(body)
        if reader.timeout_us is not None or reader.needs_report:
            raise NotForLane
        model, request_id, outputs = self.loss.name, reader.request_id, reader.outputs

        def write(result: LossResult, _request_id: str) -> Written:
            answer = write_inference(result, model=model, request_id=request_id, outputs=outputs)
            text = b"".join(answer.text)
            if not answer.binary:
                return Written(_JSON, text)
            headers = b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n"
            return Written(headers % len(text), b"".join((text, *answer.binary)))

        return found, lambda _: write


@lru_cache(_KEPT)
def layouts_of(spec: RequestSpec) -> Layouts:
    """Return the layouts of bodies that come with a spec of JSON or .npy."""
    return JsonLayouts(spec) if spec.form.name == "json" else NpyLayouts(spec)


_json_layouts: Final[dict[tuple[RequestSpec, Hashable], Layout]] = {}
"""The layouts of JSON documents, by their spec and by `_kind_of` their content."""


def _kind_of(found: Body) -> Hashable:
    """Return what documents that differ only in numbers have in common.

    Their tensors lie behind them, in this order.
    """
    tensors = tuple([(name, tensor.dtype, tensor.shape) for name, tensor in found.tensors.items()])
    return tensors, repr(found.params) if found.params else ""


@lru_cache(_KEPT_LENGTHS)
def inference_layouts(loss: str, query: bytes, header_length: int | None) -> InferenceLayouts:
    """Return the layouts of inference bodies.

    Raises:
        RequestError: ``invalid_parameter``: the query is malformed.
    """
    return InferenceLayouts(LOSSES[loss], parse_query(query), header_length)


def _write_json(like: LossRequest) -> Write:
    answers = JsonAnswers(like.own, like.options, __version__)
    return lambda result, request_id: Written(_JSON, answers.write(result, request_id))


def _gaps_between(tensors: Mapping[str, Tensor], body: memoryview) -> list[tuple[int, bytes]]:
    """Return the bytes of a body before each of its tensors, and their offsets."""
    gaps, end = [], 0
    for tensor in tensors.values():
        if tensor.offset > end:
            gaps.append((end, bytes(body[end : tensor.offset])))
        end = tensor.offset + tensor.nbytes
    return gaps
