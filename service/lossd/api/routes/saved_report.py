"""``GET /ui/report``: the saved report that the page opens with, if the server has one."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import stat
import zlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse

from lossd.api.auth import require_team
from lossd.api.routes.documentation import is_known
from lossd.core.document.document import SCHEMA
from lossd.types import ErrorCode, RequestError

logger = logging.getLogger(__name__)

_NAMED: Final = "the report that the server's page opens with (LOSSD_UI_REPORT)"
_GZIP: Final = b"\x1f\x8b"
_READ_SECONDS: Final = 5.0
_CHUNK_BYTES: Final = 1 << 16


class _Schema(msgspec.Struct):
    schema: object = None


_decoder: Final = msgspec.json.Decoder(_Schema)


class _Kept(NamedTuple):
    """The report as it was read.

    Attributes:
        state: The file's state then.
        text: The report's JSON.
        tag: Its ETag.
    """

    state: tuple[int, ...]
    text: bytes
    tag: str


class SavedReport:
    """A saved report. All who ask get the same bytes, until its file changes.

    Args:
        path: The file: JSON, perhaps compressed by gzip.
        most_bytes: The longest that is read.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._kept: _Kept | None = None

    def read(self) -> _Kept:
        """Return the report, read again if its file has changed.

        Raises:
            OSError: The file cannot be read.
            ValueError: It holds no report, or too long a one.
        """
        # The opening of a FIFO would wait for somebody who writes.
        with open(self._path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                msg = "it is no regular file"
                raise ValueError(msg)
            state = found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
            if self._kept is None or self._kept.state != state:
                text = self._checked(file.read(self._most_bytes + 1))
                self._kept = _Kept(state, text, f'"{hashlib.sha256(text).hexdigest()[:32]}"')
            return self._kept

    def _checked(self, data: bytes) -> bytes:
        """Return the report in a file's bytes, without compression."""
        if data.startswith(_GZIP):
            stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
            data = stream.decompress(data, self._most_bytes + 1)
            if not stream.eof and len(data) <= self._most_bytes:
                msg = "its compression ends too early"
                raise ValueError(msg)
        if len(data) > self._most_bytes:
            msg = f"it has more than {self._most_bytes} bytes; save fewer groups or rows"
            raise ValueError(msg)
        if (schema := _decoder.decode(data).schema) != SCHEMA:
            msg = f"it is no report: its schema is {str(schema)[:50]!r}, and not {SCHEMA!r}"
            raise ValueError(msg)
        return data


def saved_report_routes(path: Path | None, most_bytes: int) -> APIRouter:
    """Return the route; ``path`` is the report's file, if there is one."""
    router = APIRouter()
    saved = None if path is None else SavedReport(path, most_bytes)
    reader = ThreadPoolExecutor(1)  # a disk that hangs holds up only this route

    @router.get("/ui/report", include_in_schema=False, dependencies=[Depends(require_team)])
    async def report(request: Request) -> Response:
        if saved is None:
            return Response(status_code=204)
        try:
            async with asyncio.timeout(_READ_SECONDS):
                kept = await asyncio.get_running_loop().run_in_executor(reader, saved.read)
        except (OSError, RecursionError, TimeoutError, ValueError, zlib.error) as error:
            logger.error("%s cannot be shown: %s: %s", path, type(error).__name__, error)
            raise _refusal(error) from None
        headers = {"etag": kept.tag, "cache-control": "no-cache"}
        if is_known(kept.tag, request.headers.get("if-none-match")):
            return Response(status_code=304, headers=headers)
        headers |= {"content-length": str(len(kept.text)), "content-type": "application/json"}
        return StreamingResponse(_chunks(kept.text), headers=headers)

    return router


def _refusal(error: Exception) -> RequestError:
    """Return what to say of a report that cannot be shown, without its path."""
    if isinstance(error, FileNotFoundError):
        remedy = "there is no such file; `lossd report FILES --out FILE.json` writes one"
        return RequestError(ErrorCode.NOT_FOUND, f"{_NAMED} is missing: {remedy}")
    if isinstance(error, TimeoutError):
        why = "it takes too long to read; try again later"
    elif isinstance(error, RecursionError):
        why = "it is nested too deeply for a report"
    elif isinstance(error, OSError):
        why = error.strerror or "its file cannot be read"
    else:
        why = str(error)
    return RequestError(ErrorCode.INTERNAL_ERROR, f"{_NAMED} cannot be shown: {why}")


async def _chunks(text: bytes) -> AsyncIterator[bytes]:
    """Yield the report in pieces, so that callers who do not read it cost no memory."""
    for start in range(0, len(text), _CHUNK_BYTES):
        yield text[start : start + _CHUNK_BYTES]
