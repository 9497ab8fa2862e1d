"""What a request asks for, as far as its target and its headers say.

Callers repeat themselves: a plan is made once, and kept for requests that say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from starlette.types import Scope

from lossd.api.http.request_context import header_text, joined_header
from lossd.api.scoring.body import read_timeout
from lossd.api.scoring.negotiation import AnswerForm, choose_answer, parse_media_type
from lossd.core.catalog import LOSSES, Loss
from lossd.core.parameters import check_params
from lossd.types import ErrorCode, RequestError
from lossd.wire import FORMATS, STREAMS, Format, StreamFormat, make_decoder, parse_query

_KEPT: Final = 256
_LONGEST_KEPT: Final = 4096
"""Bytes of what is said, all in all, by a request whose plan is kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is to be done with a body. Shared by requests: nothing of it is ever changed.

    Attributes:
        loss: The loss.
        form: The body's format.
        options: Its media type's own parameters.
        coding: Its Content-Encoding.
        answer: How the answer is written.
        given: The parameters of the query.
        params: All parameters, if the body gives none.
        names: The tensors that the body holds, for a format that does not name them itself.
        timeout: The seconds that the caller allows, if it says so.
    """

    loss: Loss
    form: Format | StreamFormat
    options: Mapping[str, str]
    coding: str | None
    answer: AnswerForm
    given: Mapping[str, object]
    params: Mapping[str, object]
    names: tuple[str, ...]
    timeout: float | None


class Said(NamedTuple):
    """What a plan follows from: the query, and headers' values."""

    query: bytes
    content_type: str | None
    content_encoding: str | None
    accept: str | None
    timeout_ms: str | None


def make_plan(loss: str, said: Said) -> Plan:
    """The plan of a request.

    Args:
        loss: The loss's name.
        said: What the request says.

    Raises:
        RequestError: What is wrong with it, in the order that docs/api.md promises.
    """
    values = (said.content_type, said.content_encoding, said.accept, said.timeout_ms)
    length = len(said.query) + sum(len(value) for value in values if value is not None)
    return _kept_plan(loss, said) if length <= _LONGEST_KEPT else _make_plan(loss, said)


def said_by(scope: Scope) -> Said:
    """What the request of an ASGI scope says, several headers of a name as one."""
    accept = joined_header(scope, b"accept")
    return Said(
        scope["query_string"],
        header_text(scope, b"content-type"),
        header_text(scope, b"content-encoding"),
        None if accept is None else accept.decode("latin-1"),
        header_text(scope, b"x-timeout-ms"),
    )


def format_name(content_type: str | None) -> str:
    """The name of a body's format, ``none`` where it is not known."""
    form, _ = _find_format(content_type)
    return "none" if form is None else form.name


def _find_format(content_type: str | None) -> tuple[Format | StreamFormat | None, Mapping[str, str]]:
    """The format of a body, if it is known, and its media type's options."""
    media = parse_media_type(content_type) if content_type is not None else None
    return (
        (None, {}) if media is None else (FORMATS.get(media.name) or STREAMS.get(media.name), media.options)
    )


def _choose_format(content_type: str | None) -> tuple[Format | StreamFormat, Mapping[str, str]]:
    form, options = _find_format(content_type)
    if form is None:
        shown = "no Content-Type" if content_type is None else f"Content-Type {content_type[:100]!r}"
        raise RequestError(
            ErrorCode.UNSUPPORTED_MEDIA_TYPE,
            f"the request has {shown}; send {', '.join([*FORMATS, *STREAMS])}",
        )
    return form, options


def _make_plan(name: str, said: Said) -> Plan:
    loss = LOSSES[name]
    form, options = _choose_format(said.content_type)
    make_decoder(said.content_encoding)  # whether there is one
    answer = choose_answer(said.accept)
    given = parse_query(said.query)
    names = _tensor_names(given) if form.name == "npy" else ()
    params = check_params(loss, given)
    timeout = read_timeout(said.timeout_ms)
    return Plan(loss, form, options, said.content_encoding, answer, given, params, names, timeout)


_kept_plan = lru_cache(_KEPT)(_make_plan)


def _tensor_names(query: dict[str, object]) -> tuple[str, ...]:
    """Take the names of the tensors to come out of the query, for the format that needs them."""
    names = query.pop("tensors", ["logits", "targets"])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        detail = (
            "tensors lists the tensors in the order of their arrays, such as tensors=logits,targets,weight"
        )
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [("/tensors", detail)])
    return tuple(names)
