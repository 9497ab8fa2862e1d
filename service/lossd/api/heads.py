"""What is known of a request by the bytes of its head.

Callers repeat themselves: a program sends the same head again and again, and arrays of the same shape. What
bytes meant once they mean again. Only what the fast lane is for is kept (`lossd.api.fastlane`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import httptools
from starlette.types import Scope

from lossd.api.context import header, header_text, joined_header
from lossd.api.forms import Form, form_of, inference_form
from lossd.api.framing import check_head
from lossd.api.gate import CREDENTIALS
from lossd.api.incoming import read_timeout
from lossd.api.inference import model_paths
from lossd.api.negotiation import JSON
from lossd.api.plan import Plan, make_plan, said_by
from lossd.core.catalog import LOSSES
from lossd.request import Fault

LONGEST_HEAD: Final = 4096
BEGINNING: Final = b"POST /"
"""A head that begins otherwise is none for here."""
_KEPT: Final = 1024
_LINE: Final = re.compile(rb"POST /[^ ]+ HTTP/1\.1\r\n")
_INFERENCES: Final = {f"{path}/infer": loss.name for loss in LOSSES.values() for path in model_paths(loss)}
_UNUSUAL: Final = frozenset({b"content-encoding", b"expect", b"origin", b"transfer-encoding", b"upgrade"})


@dataclass(slots=True)
class Head:
    """A request's head.

    Attributes:
        form: The form of its body.
        timeout: The seconds that the caller allows, if it says so.
        length: Of the body.
        identity: The request id that it gives.
        credentials: Its headers that hold keys, as a scope.
        headers: How many it has.
        forwarded: Whom it is forwarded for, as it says.
    """

    form: Form
    timeout: float | None
    length: int
    identity: bytes | None
    credentials: Scope
    headers: int
    forwarded: bytes | None


@lru_cache(_KEPT)
def read_head(raw: bytes) -> Head | None:
    """A head, up to and with the empty line, of at most `LONGEST_HEAD` bytes.

    Returns:
        None unless it is HTTP/1.1, may be followed by another request, and asks for a loss, as one number in
        JSON, of .npy files or JSON that are not coded, with parameters that are no lists, or for an
        inference; or where it is at fault.
    """
    if not _LINE.match(raw):
        return None
    reader = _HeadReader()
    parser = httptools.HttpRequestParser(reader)
    try:
        parser.feed_data(raw)
        url = httptools.parse_url(reader.url)
        check_head(parser.get_method(), reader.url, parser.get_http_version(), reader.headers)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade, Fault):
        return None
    if reader.beyond or not parser.should_keep_alive():
        return None
    if any(name in _UNUSUAL for name, _ in reader.headers):
        return None
    scope = {"headers": reader.headers, "query_string": url.query or b""}
    length = int(header(scope, b"content-length") or 0)
    try:
        found = _find_form((url.path or b"").decode("latin-1"), scope, length)
    except Fault:
        return None
    if not length or found is None:
        return None
    form, timeout = found
    identity, number = header(scope, b"x-request-id"), len(reader.headers)
    credentials = {"headers": [pair for pair in reader.headers if pair[0] in CREDENTIALS]}
    forwarded = joined_header(scope, b"x-forwarded-for")
    return Head(form, timeout, length, identity, credentials, number, forwarded)


def _find_form(path: str, scope: Scope, length: int) -> tuple[Form, float | None] | None:
    """The form of a request's body, with the seconds that its caller allows; None if it is for elsewhere.

    Raises:
        Fault: What is wrong with what the request says.
    """
    if path[1:] in LOSSES:
        plan = make_plan(path[1:], said_by(scope))
        return (form_of(plan, length), plan.timeout) if _is_small(plan) else None
    loss = _INFERENCES.get(path)
    if loss is None:
        return None
    given = joined_header(scope, b"inference-header-content-length")
    if given is not None and not (given.isdigit() and len(given) <= 15 and int(given) <= length):
        return None
    header_length = None if given is None else int(given)
    query: bytes = scope["query_string"]
    form = inference_form(loss, query, header_length, length)
    return form, read_timeout(header_text(scope, b"x-timeout-ms"))


def _is_small(plan: Plan) -> bool:
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
