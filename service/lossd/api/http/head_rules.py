"""What a request's head must be, so that no other program on its way can have read it as something else.

The parser, which is strict, refuses most of it: line ends and folded lines, names and values with control
characters, lengths and chunks' sizes that are no plain numbers, a length beside Transfer-Encoding. Here is
what it takes all the same.

A target is of the origin form, or of the absolute form, which a server must take and whose authority then
stands for Host (RFC 9112, 3.2.2); lossd looks at neither further than that they are well-formed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from lossd.types import ErrorCode, RequestError

_HOST: Final = rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
_host: Final = re.compile(_HOST)
_target: Final = re.compile(rb"(?i:https?)://(?![/:])" + _HOST + rb"/[!\"$-~]*|/[!\"$-~]*")
_upgrade: Final = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_partial: Final = re.compile(rb"\r(?:\n(?:u|up|upg|upgr|upgra|upgrad|upgrade)?)?\Z", re.IGNORECASE)
_length: Final = re.compile(rb"[0-9]{1,19}[ \t]*")


def check_head(method: bytes, target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a head that could be read in two ways.

    Args:
        method: Of the request.
        target: What is asked for.
        version: HTTP's.
        headers: Names, in lower case, and values.

    Raises:
        RequestError: ``bad_request``.
    """
    if version not in ("1.1", "1.0"):
        raise RequestError(ErrorCode.BAD_REQUEST, "the request is of another version; send HTTP/1.1")
    if method == b"CONNECT" or not (_target.fullmatch(target) or (method, target) == (b"OPTIONS", b"*")):
        detail = "the request's target is not a path, with a query or without; send it as in GET /info"
        raise RequestError(ErrorCode.BAD_REQUEST, detail)
    hosts = lengths = codings = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if not _host.fullmatch(value.rstrip(b" \t")):
                raise RequestError(
                    ErrorCode.BAD_REQUEST, "Host has characters that no host has; send a host and its port"
                )
        elif name == b"content-length":
            lengths += 1
            if not _length.fullmatch(value):
                raise RequestError(
                    ErrorCode.BAD_REQUEST, "Content-Length is no number; send the body's bytes in decimal"
                )
        elif name == b"transfer-encoding":
            codings += 1
            if value.rstrip(b" \t").lower() != b"chunked":
                raise RequestError(
                    ErrorCode.BAD_REQUEST, "a Transfer-Encoding other than chunked is not read; send that"
                )
    if hosts > 1 or (not hosts and version == "1.1"):
        raise RequestError(ErrorCode.BAD_REQUEST, f"the request has {hosts} Host headers; send exactly one")
    if lengths + codings > 1:
        detail = "the body's length is given more than once; send one Content-Length, or chunked alone"
        raise RequestError(ErrorCode.BAD_REQUEST, detail)
    if codings and version == "1.0":
        raise RequestError(
            ErrorCode.BAD_REQUEST, "HTTP/1.0 knows no Transfer-Encoding; send Content-Length, or HTTP/1.1"
        )


def without_upgrade(data: bytes, *, begun: bool) -> tuple[bytes, bytes]:
    """A head without an offer to upgrade.

    Args:
        data: Its next bytes.
        begun: They are not its first.

    Returns:
        The bytes without an offer, and what of their end may be the beginning of one.
    """
    end = data.find(b"\r\n\r\n")
    stop = len(data) if end < 0 else end
    if _upgrade.search(data, 0, stop):
        data = _upgrade.sub(b"\r\nx-ignored-upgrade:", data[:stop]) + data[stop:]
    if end < 0 and (cut := _partial.search(data)) and (cut.start() or begun):
        return data[: cut.start()], data[cut.start() :]
    return data, b""
