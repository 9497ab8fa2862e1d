"""The forms of small requests: how a body of each is read, and how the answer to it is written.

Only what the fast lane is for (`lossd.api.small_requests.lane`) is read here; all else has its place in
`scoring`.
"""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from lossd import __version__
from lossd.api.problems import Problem, problem
from lossd.api.routes.inference import inference_problem
from lossd.api.scoring.request_spec import RequestSpec
from lossd.api.scoring.validation import assemble
from lossd.api.scoring.whole_body import PARAMETER_BYTES
from lossd.core.catalog import LOSSES, Loss
from lossd.engine.dispatch.in_place import InPlace, Prepared, prepare_request
from lossd.types import Body, ErrorCode, LossRequest, LossResult, RequestError, Tensor
from lossd.wire import (
    Format,
    InferenceReader,
    JsonAnswers,
    inference_arena_bytes,
    merge_params,
    parse_query,
    read_in_place,
    write_inference,
)

ONE_PART: Final = 1 << 62
"""Elements of a part: a request is one, whatever its size."""
_KEPT: Final = 256
_KEPT_LAYOUTS: Final = 4
_KEPT_LENGTHS: Final = 64
_KEPT_KINDS: Final = 256
_LONGEST_HEADS: Final = 1 << 11
"""Bytes of what lies between a body's tensors, where its layout is kept: a caller chooses what is kept."""
_JSON: Final = b"content-type: application/json\r\n"


class Written(NamedTuple):
    """An answer: the lines of the headers that say what it is, and its body."""

    headers: bytes
    body: bytes


Write: TypeAlias = Callable[[LossResult, str], Written]
"""Writes the answer with a result to the request of an id."""
Writer: TypeAlias = Callable[[LossRequest], Write]
"""What writes the answers to requests like one."""


class Scratch:
    """Memory for one body and what is read from it, used for one request after the other.

    Attributes:
        offset: 0: what lies in it is counted from its first byte.
        view: Its bytes.
    """

    offset: Final = 0

    def __init__(self, longest: int) -> None:
        self.nbytes: Final = inference_arena_bytes(longest, None) + PARAMETER_BYTES
        self.view: Final = memoryview(mmap.mmap(-1, self.nbytes))


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """What a body holds, and where.

    Attributes:
        heads: Where in the body there is something else than numbers, and its bytes; nothing for a document.
        request: What to score, made ready, with offsets counted from the body's first byte; of a document,
            from the first multiple of 8 behind it.
        write: Writes the answer.
    """

    heads: Sequence[tuple[int, bytes]]
    request: Prepared
    write: Write

    def fits(self, data: bytes, start: int) -> bool:
        """Whether it is that of the body, of the same length, that begins at ``start``."""
        for place, head in self.heads:  # noqa: SIM110 -- a third of the time of all()
            if not data.startswith(head, start + place):
                return False
        return True


class Form(ABC):
    """The form of requests that say the same, but for their numbers.

    Args:
        name: Of the format, for metrics and logs.
        loss: What is asked for.
        given: The parameters of the query.
    """

    problem: Callable[..., Problem] = staticmethod(problem)

    def __init__(self, name: str, loss: Loss, given: Mapping[str, object]) -> None:
        self.name: Final = name
        self.loss: Final = loss
        self._given = given
        self._known: dict[int, list[Layout]] = {}  # by the body's length

    @abstractmethod
    def _parse(self, body: memoryview, scratch: Scratch) -> tuple[Body, Writer]:
        """What a body holds, with offsets counted from its first byte.

        Raises:
            RequestError: It is at fault, or unusual.
        """

    def find(self, data: bytes, start: int, length: int) -> Layout | None:
        """The layout of the body that begins at ``start``, if it is known."""
        for layout in self._known.get(length, ()):
            if layout.fits(data, start):
                return layout
        return None

    def read(self, body: memoryview, scratch: Scratch, inplace: InPlace) -> tuple[Layout, int] | None:
        """The layout of a body that is laid in memory, with what is built from it behind it.

        Args:
            body: Its bytes.
            scratch: The memory.
            inplace: What is to score it.

        Returns:
            The layout, and where in the memory its offsets are counted from. None where the request is not
            scored here, or an array is to be answered, or something is wrong with it.
        """
        scratch.view[: len(body)] = body
        try:
            found, writer = self._parse(body, scratch)
            base = self._base(body)
            layout = self._layout_like(found)
            if layout is not None:
                return layout, base
            free = max((tensor.offset + tensor.nbytes for tensor in found.tensors.values()), default=0)
            params = merge_params(self._given, found.params)
            request, cut = assemble(self.loss, found, max(len(body), free), scratch, params, ONE_PART)
        except Exception:  # the ordinary way finds the same, and says what it is
            return None
        if cut.output_shape or not inplace.takes(request, cut):
            return None
        layout = Layout(self._heads(found, body), prepare_request(request, cut, base), writer(request))
        if request.tensors.keys() == found.tensors.keys():
            self._keep(layout, found, len(body))
        return layout, base

    def _base(self, body: memoryview) -> int:
        """Where offsets are counted from."""
        del body
        return 0

    def _heads(self, found: Body, body: memoryview) -> Sequence[tuple[int, bytes]]:
        """By what a body of this layout is known, before it is parsed."""
        return _between(found.tensors, body)

    def _layout_like(self, found: Body) -> Layout | None:
        """The layout of a body that has been parsed, if that is known by what was found."""
        del found
        return None

    def _keep(self, layout: Layout, found: Body, length: int) -> None:
        """Keep the layout of a body, of which no tensor but those that were found is a part."""
        del found
        if sum(len(head) for _, head in layout.heads) > _LONGEST_HEADS:
            return
        if length not in self._known and len(self._known) >= _KEPT_LENGTHS:
            self._known.clear()
        known = self._known.setdefault(length, [])
        known.insert(0, layout)
        del known[_KEPT_LAYOUTS:]


class NpyForm(Form):
    """.npy files, one after the other."""

    def __init__(self, plan: RequestSpec) -> None:
        super().__init__("npy", plan.loss, plan.given)
        self._plan = plan

    def _parse(self, body: memoryview, scratch: Scratch) -> tuple[Body, Writer]:
        del scratch
        plan = self._plan
        assert isinstance(plan.form, Format)
        reader = plan.form.reader(options=plan.options, names=plan.names)
        reader.feed(body)
        return reader.finish(body), _write_json


class JsonForm(Form):
    """A JSON object."""

    def __init__(self, plan: RequestSpec) -> None:
        super().__init__("json", plan.loss, plan.given)
        self._plan = plan

    def _parse(self, body: memoryview, scratch: Scratch) -> tuple[Body, Writer]:
        plan = self._plan
        assert isinstance(plan.form, Format)
        plan.form.reader(options=plan.options, names=plan.names).feed(body)  # looks at its beginning
        return read_in_place(scratch.view, len(body)), _write_json

    def _base(self, body: memoryview) -> int:
        return -(-len(body) // 8) * 8  # so that documents of any length have layouts in common

    def _heads(self, found: Body, body: memoryview) -> Sequence[tuple[int, bytes]]:
        del found, body  # none is known before
        return ()

    def _layout_like(self, found: Body) -> Layout | None:
        return _json_layouts.get((self._plan, _kind_of(found)))

    def _keep(self, layout: Layout, found: Body, length: int) -> None:
        del length
        if len(_json_layouts) >= _KEPT_KINDS:
            _json_layouts.clear()
        _json_layouts[self._plan, _kind_of(found)] = layout


class InferenceForm(Form):
    """A request of the Open Inference Protocol.

    Args:
        loss: What is asked for.
        given: The parameters of the query.
        header_length: Of the JSON object at a body's beginning; None where that is all of it.
    """

    problem: Callable[..., Problem] = staticmethod(inference_problem)

    def __init__(self, loss: Loss, given: Mapping[str, object], header_length: int | None) -> None:
        super().__init__("v2", loss, given)
        self._header_length = header_length

    def _parse(self, body: memoryview, scratch: Scratch) -> tuple[Body, Writer]:
        del scratch
        reader = InferenceReader(header_length=self._header_length, max_json_bytes=len(body))
        reader.feed(body)
        found = reader.finish(body)
        if reader.timeout_us is not None:
            raise RequestError(
                ErrorCode.DEADLINE_EXCEEDED, "a deadline that the body gives is kept by the ordinary way"
            )
        model, request_id, outputs = self.loss.name, reader.request_id, reader.outputs

        def write(result: LossResult, _identity: str) -> Written:
            answer = write_inference(result, model=model, request_id=request_id, outputs=outputs)
            text = b"".join(answer.text)
            if not answer.binary:
                return Written(_JSON, text)
            headers = b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n"
            return Written(headers % len(text), b"".join((text, *answer.binary)))

        return found, lambda _: write


@lru_cache(_KEPT)
def form_of(plan: RequestSpec) -> Form:
    """The form of bodies that come with a plan of JSON or .npy."""
    return JsonForm(plan) if plan.form.name == "json" else NpyForm(plan)


_json_layouts: Final[dict[tuple[RequestSpec, Hashable], Layout]] = {}
"""The layouts of documents of any length, by the plan that they came with and what was found in them."""


def _kind_of(found: Body) -> Hashable:
    """What documents say that are alike but for their numbers: their tensors lie behind them in order."""
    tensors = tuple([(name, tensor.dtype, tensor.shape) for name, tensor in found.tensors.items()])
    return tensors, repr(found.params) if found.params else ""


@lru_cache(_KEPT_LENGTHS)
def inference_form(loss: str, query: bytes, header_length: int | None) -> InferenceForm:
    """The form of inference bodies.

    Raises:
        RequestError: ``invalid_parameter``, of the query.
    """
    return InferenceForm(LOSSES[loss], parse_query(query), header_length)


def _write_json(like: LossRequest) -> Write:
    answers = JsonAnswers(like.own, like.options, __version__)
    return lambda result, identity: Written(_JSON, answers.write(result, identity))


def _between(tensors: Mapping[str, Tensor], body: memoryview) -> list[tuple[int, bytes]]:
    """What lies in a body before each of the tensors in it, and where."""
    heads, end = [], 0
    for tensor in tensors.values():
        if tensor.offset > end:
            heads.append((end, bytes(body[end : tensor.offset])))
        end = tensor.offset + tensor.nbytes
    return heads
