"""Heads of requests, known again by what has meaning in them.

Callers repeat themselves: a program sends the same head again and again, but for the body's length, a request
id and the like. A head is parsed once, without these, and then looked up. Only what the fast lane is for is
kept (`lossd.api.small_requests.lane`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

import httptools
from starlette.types import Scope

from lossd.api.auth import CREDENTIALS
from lossd.api.http.head_rules import check_head
from lossd.api.http.request_context import joined_header
from lossd.api.routes.inference import model_paths
from lossd.api.scoring.negotiation import JSON
from lossd.api.scoring.request_spec import RequestSpec, read_spec, spec_fields
from lossd.api.small_requests.layouts import Form, form_of, inference_form
from lossd.core.catalog import LOSSES
from lossd.types import RequestError

LONGEST_HEAD: Final = 4096
BEGINNING: Final = b"POST /"
"""A head that begins otherwise is none for here."""
_KEPT: Final = 1024
_LINE: Final = re.compile(rb"POST /[^ ]+ HTTP/1\.1\r\n")
_INFERENCES: Final = {f"{path}/infer": loss.name for loss in LOSSES.values() for path in model_paths(loss)}
_UNUSUAL: Final = frozenset({b"content-encoding", b"expect", b"origin", b"transfer-encoding", b"upgrade"})
_TRACES: Final = ("traceparent", "tracestate", "baggage", "b3", "x-b3-[a-z]+", "x-amzn-trace-id")
_VARYING: Final = re.compile(
    rb"\r\n(?:content-length:[ \t]*([0-9]{1,15})"
    rb"|x-request-id:[ \t]*([A-Za-z0-9._:/+=-]{1,128})"
    rb"|x-timeout-ms:[ \t]*([1-9][0-9]{0,8})"
    rb"|(?:%b):[ \t!-~]*)[ \t]*(?=\r\n[^ \t])" % "|".join(_TRACES).encode(),
    re.IGNORECASE,
)
"""Lines whose values differ from request to request, and change nothing in how the rest is read. A line that
goes on in the next, or is written in some other way, is left in its place."""
_STEP: Final = 1 + _VARYING.groups
_ONCE: Final = (b"\r\ncontent-length:", b"\r\nx-request-id:", b"\r\nx-timeout-ms:")
"""What is left of lines that are written in some other way, or stand there twice."""


@dataclass(slots=True)
class Shape:
    """What heads say that are alike.

    Attributes:
        form: The form of their bodies.
        credentials: Their headers that hold keys, as a scope.
        forwarded: Whom they are forwarded for, as they say.
        headers: How many they have, but for those that vary.
    """

    form: Form
    credentials: Scope
    forwarded: bytes | None
    headers: int


class Head(NamedTuple):
    """A request's head.

    Attributes:
        shape: What it has in common with others.
        length: Of the body.
        identity: The request id that it gives, if it is well-formed.
        timeout: The seconds that the caller allows, if it says so.
        headers: How many it has.
    """

    shape: Shape
    length: int
    identity: bytes | None
    timeout: float | None
    headers: int


_known: Final[dict[bytes, Shape | None]] = {}


def read_head(raw: bytes) -> Head | None:
    """A head, up to and with the empty line, of at most `LONGEST_HEAD` bytes.

    Returns:
        None unless it is HTTP/1.1, may be followed by another request, and asks for a loss, as one number in
        JSON, of .npy files or JSON that are not coded, with parameters that are no lists, or for an
        inference; or where it is at fault.
    """
    pieces = _VARYING.split(raw)
    length = identity = timeout = None
    for i in range(1, len(pieces), _STEP):
        if pieces[i]:
            length, pieces[i] = pieces[i], length
        elif pieces[i + 1]:
            identity, pieces[i + 1] = pieces[i + 1], identity
        elif pieces[i + 2]:
            timeout, pieces[i + 2] = pieces[i + 2], timeout
        if pieces[i] or pieces[i + 1] or pieces[i + 2]:
            return None  # it says that twice
    if length is None:
        return None
    key = b"".join(pieces[::_STEP])
    try:
        shape = _known[key]
    except KeyError:
        if len(_known) >= _KEPT:
            del _known[next(iter(_known))]
        shape = _known[key] = _read_shape(raw, key)
    if shape is None:
        return None
    seconds = None if timeout is None else int(timeout) / 1000.0
    return Head(shape, int(length), identity, seconds, shape.headers + len(pieces) // _STEP)


def _read_shape(raw: bytes, key: bytes) -> Shape | None:
    """What a head says.

    Args:
        raw: The head.
        key: The same without the lines that vary.
    """
    lower = key.lower()
    if not _LINE.match(raw) or any(line in lower for line in _ONCE):
        return None
    reader = _HeadReader()
    parser = httptools.HttpRequestParser(reader)
    try:
        parser.feed_data(raw)
        url = httptools.parse_url(reader.url)
        check_head(parser.get_method(), reader.url, parser.get_http_version(), reader.headers)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade, RequestError):
        return None
    if reader.beyond or not parser.should_keep_alive():
        return None
    if any(name in _UNUSUAL for name, _ in reader.headers):
        return None
    scope = {"headers": reader.headers, "query_string": url.query or b""}
    try:
        form = _find_form((url.path or b"").decode("latin-1"), scope)
    except RequestError:
        return None
    if form is None:
        return None
    credentials = {"headers": [pair for pair in reader.headers if pair[0] in CREDENTIALS]}
    headers = len(reader.headers) - (raw.count(b"\r\n") - key.count(b"\r\n"))
    return Shape(form, credentials, joined_header(scope, b"x-forwarded-for"), headers)


def _find_form(path: str, scope: Scope) -> Form | None:
    """The form of a request's body; None if it is for elsewhere.

    Raises:
        RequestError: What is wrong with what the request says.
    """
    if path[1:] in LOSSES:
        plan = read_spec(path[1:], spec_fields(scope)._replace(timeout_ms=None))
        return form_of(plan) if _is_small(plan) else None
    loss = _INFERENCES.get(path)
    if loss is None:
        return None
    given = joined_header(scope, b"inference-header-content-length")
    if given is not None and not (given.isdigit() and len(given) <= 15):
        return None
    return inference_form(loss, scope["query_string"], None if given is None else int(given))


def _is_small(plan: RequestSpec) -> bool:
    """Whether it is of a usual format, and both its parameters and its answer are a few numbers."""
    params = plan.params
    one_number = params["reduction"] != "none" and params["axis"] is None
    lists = any(isinstance(value, tuple) for value in params.values())
    return plan.form.name in ("npy", "json") and plan.answer == JSON and one_number and not lists


class _HeadReader:
    """Keeps what httptools finds, in the form of ASGI.

    Attributes:
        url: The request's target.
        headers: Its headers, their names in lower case.
        beyond: The head has ended before the bytes did.
    """

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.beyond = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, _body: bytes) -> None:
        self.beyond = True

    def on_message_complete(self) -> None:
        self.beyond = True
