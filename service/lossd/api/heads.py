"""What is known of a request by its bytes: what its head says, and how its arrays' heads divide its body.

Callers repeat themselves: a program sends the same head again and again, and arrays of the same shape. What
bytes meant once they mean again. Only what the fast lane is for is kept (`lossd.api.fastlane`).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import httptools
from starlette.types import Scope

from lossd.api.context import header, joined_header
from lossd.api.framing import check_head
from lossd.api.gate import CREDENTIALS
from lossd.api.intake import assemble
from lossd.api.negotiation import JSON
from lossd.api.plan import Plan, make_plan, said_by
from lossd.core.catalog import LOSSES
from lossd.core.grid import Grid
from lossd.engine.arena import Region
from lossd.engine.job import recipe_of
from lossd.request import Fault, LossRequest
from lossd.wire import Format

LONGEST_HEAD: Final = 4096
MEDIA_TYPE: Final = b"application/x-npy"
"""Without these bytes a head is none for here."""
_KEPT: Final = 1024
_KEPT_LAYOUTS: Final = 4
_LINE: Final = re.compile(rb"POST /[^ ]+ HTTP/1\.1\r\n")
_UNUSUAL: Final = frozenset({b"content-encoding", b"expect", b"transfer-encoding", b"upgrade"})


@dataclass(slots=True)
class Head:
    """A request's head.

    Attributes:
        plan: What it asks for.
        length: Of the body.
        identity: The request id that it gives.
        credentials: Its headers that hold keys, as a scope.
        headers: How many it has.
        forwarded: Whom it is forwarded for, as it says.
        layouts: Of bodies of that length that came with such a plan.
    """

    plan: Plan
    length: int
    identity: bytes | None
    credentials: Scope
    headers: int
    forwarded: bytes | None
    layouts: deque[Layout]

    def find_layout(self, data: bytes, start: int) -> Layout | None:
        """The layout of the body that begins at ``start``, if it is known."""
        for layout in self.layouts:
            if layout.fits(data, start):
                return layout
        return None


@lru_cache(_KEPT)
def read_head(raw: bytes) -> Head | None:
    """A head, up to and with the empty line, of at most `LONGEST_HEAD` bytes.

    Returns:
        None unless it is HTTP/1.1, may be followed by another request, and asks for a loss, as one number in
        JSON, of .npy files that are not coded, with parameters that are no lists; or where it is at fault.
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
    loss = (url.path or b"")[1:].decode("latin-1")
    if reader.beyond or not parser.should_keep_alive() or loss not in LOSSES:
        return None
    if any(name in _UNUSUAL for name, _ in reader.headers):
        return None
    scope = {"headers": reader.headers, "query_string": url.query or b""}
    length = int(header(scope, b"content-length") or 0)
    try:
        plan = make_plan(loss, said_by(scope))
    except Fault:
        return None
    if not length or not _is_small(plan):
        return None
    identity, number = header(scope, b"x-request-id"), len(reader.headers)
    credentials = {"headers": [pair for pair in reader.headers if pair[0] in CREDENTIALS]}
    forwarded = joined_header(scope, b"x-forwarded-for")
    return Head(plan, length, identity, credentials, number, forwarded, _layouts_of(plan, length))


@lru_cache(_KEPT)
def _layouts_of(_plan: Plan, _length: int) -> deque[Layout]:
    return deque(maxlen=_KEPT_LAYOUTS)


def _is_small(plan: Plan) -> bool:
    """Whether it is of the usual format, and both its parameters and its answer are a few numbers."""
    params = plan.params
    one_number = params["reduction"] != "none" and params["axis"] is None
    lists = any(isinstance(value, tuple) for value in params.values())
    return plan.form.name == "npy" and plan.answer == JSON and one_number and not lists


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


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """How a body is divided by the heads of its arrays.

    Attributes:
        heads: Where in the body each array's own head begins, and its bytes.
        request: The request, with offsets counted from the body's first byte.
        grid: Its blocks.
        recipe: What a worker is asked, with offsets counted likewise.
    """

    heads: Sequence[tuple[int, bytes]]
    request: LossRequest
    grid: Grid
    recipe: bytes

    def fits(self, data: bytes, start: int) -> bool:
        """Whether it is that of the body, of the same length, that begins at ``start``."""
        for place, head in self.heads:  # noqa: SIM110 -- a third of the time of all()
            if not data.startswith(head, start + place):
                return False
        return True


def read_layout(head: Head, body: bytes, region: Region, block_elements: int) -> Layout | None:
    """How a body is divided that lies in a region.

    Args:
        head: Its head.
        body: Its bytes.
        region: Where they lie.
        block_elements: How many elements a block has at most; a server never changes it.

    Returns:
        None where that is no work at all, or more than a block, or something is wrong with it.
    """
    plan = head.plan
    assert isinstance(plan.form, Format)
    try:
        reader = plan.form.reader(options=plan.options, names=plan.names)
        reader.feed(body)
        found = reader.finish(memoryview(body))
        request, grid = assemble(plan.loss, found, len(body), region, plan.given, block_elements)
    except Fault:
        return None
    if grid.blocks != 1:
        return None
    heads, end = [], 0
    for tensor in found.tensors.values():
        heads.append((end, body[end : tensor.offset]))
        end = tensor.offset + tensor.nbytes
    layout = Layout(
        heads, replace(request, tensors=found.tensors), grid, recipe_of(request, found.tensors, grid)
    )
    head.layouts.appendleft(layout)
    return layout
