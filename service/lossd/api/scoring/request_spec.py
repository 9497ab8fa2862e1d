"""The spec of a request, from its target and headers: loss, parameters, formats of body and answer.

Callers repeat themselves, so a spec is kept and shared by all requests that say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from starlette.types import Scope

from lossd.api.http.request import header_text, joined_header
from lossd.api.scoring.body import read_timeout
from lossd.api.scoring.negotiation import AnswerForm, choose_answer, parse_media_type
from lossd.core.catalog import LOSSES, Loss
from lossd.core.parameters import check_params
from lossd.types import ErrorCode, RequestError
from lossd.wire import FORMATS, STREAMS, Format, StreamFormat, make_decoder, parse_query

_CACHED: Final = 256
_LONGEST_CACHED: Final = 4096
"""Bytes of a request's fields, in all, whose spec is kept."""


@dataclass(frozen=True, slots=True, eq=False)
class RequestSpec:
    """Everything in a request's target and headers. Shared by requests, so never changed.

    Attributes:
        loss: The loss.
        form: The body's format.
        options: The parameters of the Content-Type, such as a boundary.
        coding: The Content-Encoding, if there is one.
        answer: The answer's format.
        query_params: The parameters of the query.
        params: All parameters, checked, if the body adds none.
        names: The tensors of the body, in order, for a format that does not name them.
        timeout: The caller's timeout in seconds, if it sets one.
    """

    loss: Loss
    form: Format | StreamFormat
    options: Mapping[str, str]
    coding: str | None
    answer: AnswerForm
    query_params: Mapping[str, object]
    params: Mapping[str, object]
    names: tuple[str, ...]
    timeout: float | None


@dataclass(frozen=True, slots=True)
class LossSpec:
    """Loss and parameters known before the body.

    Attributes:
        loss: The loss.
        params: The parameters given outside the body.
        binary_hint: How to get arrays in binary, for an answer that has them as text; None for a binary one.
        has_report: Whether the answer's format has room for a report.
    """

    loss: Loss
    params: Mapping[str, object]
    binary_hint: str | None
    has_report: bool = True


class SpecFields(NamedTuple):
    """The query and the header fields that a spec follows from."""

    query: bytes
    content_type: str | None
    content_encoding: str | None
    accept: str | None
    timeout_ms: str | None


def read_spec(loss: str, fields: SpecFields) -> RequestSpec:
    """Return the spec of a request.

    Args:
        loss: The loss's name.
        fields: The query and the header fields.

    Raises:
        RequestError: The first error, in the order that docs/reference/api.md promises.
    """
    values = (fields.content_type, fields.content_encoding, fields.accept, fields.timeout_ms)
    length = len(fields.query) + sum(len(value) for value in values if value is not None)
    return _cached_spec(loss, fields) if length <= _LONGEST_CACHED else _read_spec(loss, fields)


def spec_fields(scope: Scope) -> SpecFields:
    """Return the fields of a request from its ASGI scope, several headers of a name joined."""
    accept = joined_header(scope, b"accept")
    return SpecFields(
        scope["query_string"],
        header_text(scope, b"content-type"),
        header_text(scope, b"content-encoding"),
        None if accept is None else accept.decode("latin-1"),
        header_text(scope, b"x-timeout-ms"),
    )


def format_name(content_type: str | None) -> str:
    """Return the name of a body's format; ``none`` for an unknown Content-Type."""
    form, _ = _find_format(content_type)
    return "none" if form is None else form.name


def _find_format(content_type: str | None) -> tuple[Format | StreamFormat | None, Mapping[str, str]]:
    """Return the format of a Content-Type, None for an unknown one, and the media type's parameters."""
    media = None if content_type is None else parse_media_type(content_type)
    if media is None:
        return None, {}
    return FORMATS.get(media.name) or STREAMS.get(media.name), media.options


def _read_spec(name: str, fields: SpecFields) -> RequestSpec:
    loss = LOSSES[name]
    form, options = _find_format(fields.content_type)
    if form is None:
        raise _unsupported_media_type(fields.content_type)
    make_decoder(fields.content_encoding)  # refuses an unknown coding
    answer = choose_answer(fields.accept)
    query_params = parse_query(fields.query)
    names = _pop_tensor_names(loss, query_params) if form.name == "npy" else ()
    params = check_params(loss, query_params)
    if "report" in params and answer.format != "json":
        raise no_report()
    timeout = read_timeout(fields.timeout_ms)
    return RequestSpec(
        loss, form, options, fields.content_encoding, answer, query_params, params, names, timeout
    )


_cached_spec = lru_cache(_CACHED)(_read_spec)


def _unsupported_media_type(content_type: str | None) -> RequestError:
    shown = "no Content-Type" if content_type is None else f"Content-Type {content_type[:100]!r}"
    detail = f"the request has {shown}; send {', '.join([*FORMATS, *STREAMS])}"
    return RequestError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, detail)


def no_report() -> RequestError:
    """Return the error of a report that is asked for in an answer that is the loss alone."""
    detail = "a .npy answer holds the loss alone, and no report; accept application/json, or leave report out"
    return RequestError(ErrorCode.NOT_ACCEPTABLE, detail)


def _pop_tensor_names(loss: Loss, query: dict[str, object]) -> tuple[str, ...]:
    """Remove ``tensors`` from the query's parameters, and return the names in it."""
    usual = [loss.inputs[0], "targets"]
    names = query.pop("tensors", usual)
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        detail = (
            "tensors lists the tensors in the order of their arrays, such as "
            f"tensors={','.join([*usual, 'weight'])}"
        )
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [("/tensors", detail)])
    return tuple(names)
