"""A cache of parsed heads. The key leaves out Content-Length, request id, timeout and trace headers.

A program sends the same head again and again, except for these. So a head is parsed once, and then looked up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

import httptools
from starlette.types import Scope

from lossd.api.auth import CREDENTIALS
from lossd.api.http.request import check_head, joined_header
from lossd.api.routes.inference import model_paths
from lossd.api.scoring.negotiation import JSON
from lossd.api.scoring.request_spec import RequestSpec, read_spec, spec_fields
from lossd.api.small_requests.layouts import Layouts, inference_layouts, layouts_of
from lossd.core.catalog import LOSSES
from lossd.types import RequestError

LONGEST_HEAD: Final = 4096
BEGINNING: Final = b"POST /"
"""The beginning of every head that is taken here."""
_KEPT: Final = 1024
_LINE: Final = re.compile(rb"POST /[^ ]+ HTTP/1\.1\r\n")
_INFERENCES: Final = {f"{path}/infer": loss.name for loss in LOSSES.values() for path in model_paths(loss)}
_UNUSUAL: Final = frozenset({b"content-encoding", b"expect", b"origin", b"transfer-encoding", b"upgrade"})
_TRACES: Final = ("traceparent", "tracestate", "baggage", "b3", "x-b3-[a-z]+", "x-amzn-trace-id")
_VARYING: Final = re.compile(
    rb"\r\n(?:content-length:[ \t]*([1-9][0-9]{0,14})"
    rb"|x-request-id:[ \t]*([A-Za-z0-9._:/+=-]{1,128})"
    rb"|x-timeout-ms:[ \t]*([1-9][0-9]{0,8})"
    rb"|(?:%b):[ \t!-~]*)[ \t]*(?=\r\n[^ \t])" % "|".join(_TRACES).encode(),
    re.IGNORECASE,
)
"""Lines whose values differ from request to request, and do not change the meaning of the rest. A line that
is folded, or written in another way, is left in its place."""
_STEP: Final = 1 + _VARYING.groups
_ONCE: Final = (b"\r\ncontent-length:", b"\r\nx-request-id:", b"\r\nx-timeout-ms:")
"""If one of these is still in the key, it was 0, malformed or repeated."""


@dataclass(slots=True)
class CommonHead:
    """The part that similar heads have in common.

    Attributes:
        layouts: The layouts of their bodies.
        credentials: A scope with the headers that carry keys.
        forwarded: X-Forwarded-For.
        headers: The number of headers that do not vary.
    """

    layouts: Layouts
    credentials: Scope
    forwarded: bytes | None
    headers: int


class Head(NamedTuple):
    """The head of a request.

    Attributes:
        common: The part that it has in common with similar heads.
        length: The length of the body.
        request_id: The request id that it gives, if well-formed.
        timeout: The caller's own timeout in seconds, if it gives one.
        headers: The number of headers.
    """

    common: CommonHead
    length: int
    request_id: bytes | None
    timeout: float | None
    headers: int


_known: Final[dict[bytes, CommonHead | None]] = {}


def read_head(raw: bytes) -> Head | None:
    """Parse a head of at most `LONGEST_HEAD` bytes, with the empty line at its end.

    Returns:
        None if the fast lane does not take it. It takes HTTP/1.1 on a connection that is kept, for an
        inference, or for a loss that is one number answered in JSON, of .npy files or JSON without a coding,
        and with no lists among the parameters.
    """
    parts = _VARYING.split(raw)
    length = request_id = timeout = None
    for i in range(1, len(parts), _STEP):
        if parts[i]:
            length, parts[i] = parts[i], length
        elif parts[i + 1]:
            request_id, parts[i + 1] = parts[i + 1], request_id
        elif parts[i + 2]:
            timeout, parts[i + 2] = parts[i + 2], timeout
        if parts[i] or parts[i + 1] or parts[i + 2]:
            return None  # the line is repeated
    if length is None:
        return None
    key = b"".join(parts[::_STEP])
    try:
        common = _known[key]
    except KeyError:
        if len(_known) >= _KEPT:
            del _known[next(iter(_known))]
        common = _known[key] = _parse_common(raw, key)
    if common is None:
        return None
    seconds = None if timeout is None else int(timeout) / 1000.0
    return Head(common, int(length), request_id, seconds, common.headers + len(parts) // _STEP)


def _parse_common(raw: bytes, key: bytes) -> CommonHead | None:
    """Parse the part of a head that similar ones have in common; None if the fast lane does not take it.

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
        layouts = _find_layouts((url.path or b"").decode("latin-1"), scope)
    except RequestError:
        return None
    if layouts is None:
        return None
    credentials = {"headers": [pair for pair in reader.headers if pair[0] in CREDENTIALS]}
    headers = len(reader.headers) - (raw.count(b"\r\n") - key.count(b"\r\n"))
    return CommonHead(layouts, credentials, joined_header(scope, b"x-forwarded-for"), headers)


def _find_layouts(path: str, scope: Scope) -> Layouts | None:
    """Return the layouts of a request's body; None if the fast lane does not take it.

    Raises:
        RequestError: The error of its query or headers.
    """
    if path[1:] in LOSSES:
        spec = read_spec(path[1:], spec_fields(scope)._replace(timeout_ms=None))
        return layouts_of(spec) if _is_small(spec) else None
    loss = _INFERENCES.get(path)
    if loss is None:
        return None
    given = joined_header(scope, b"inference-header-content-length")
    if given is not None and not (given.isdigit() and len(given) <= 15):
        return None
    return inference_layouts(loss, scope["query_string"], None if given is None else int(given))


def _is_small(spec: RequestSpec) -> bool:
    """Return whether the format is a usual one, and parameters and answer are a few numbers."""
    params = spec.params
    one_number = params["reduction"] != "none" and params["axis"] is None
    lists = any(isinstance(value, tuple) for value in params.values())
    return spec.form.name in ("npy", "json") and spec.answer == JSON and one_number and not lists


class _HeadReader:
    """Collects what httptools finds in a head, as ASGI has it.

    Attributes:
        url: The request target.
        headers: The headers, with names in lower case.
        beyond: Whether there were bytes behind the head.
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
