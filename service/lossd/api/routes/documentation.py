"""What anybody may read without a key: the OpenAPI document, and the page that shows it, with its scripts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.types import Receive, Scope, Send

from lossd.api.http.request import header_text
from lossd.api.routes.openapi import describe_api

_ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "favicon.png": "image/png",
}
_TLS_BYTES: Final = 1 << 14
"""Bytes that are given to TLS at once, which makes a copy of them."""


def is_known(tag: str, known: str | None) -> bool:
    """Return whether an If-None-Match header, if there is one, names a tag: the caller has the content."""
    tags = [one.strip().removeprefix("W/") for one in (known or "").split(",")]
    return tag in tags or "*" in tags


class Document:
    """A document that never changes, as an endpoint.

    A request costs next to nothing, and callers that do not read what they ask for cost no memory: the same
    bytes are sent to all of them.

    Args:
        content: The document.
        media_type: Its media type.
        headers: Headers of the answer besides.
    """

    def __init__(self, content: bytes, media_type: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self._content = content
        self._tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        self._headers = (
            (b"content-type", media_type.encode()),
            (b"content-length", b"%d" % len(content)),
            (b"etag", self._tag.encode()),
            *headers,
        )

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer a GET, as ASGI has it."""
        if is_known(self._tag, header_text(scope, b"if-none-match")):
            headers = [(b"etag", self._tag.encode())]
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [*self._headers]})
        length = len(self._content)
        step = _TLS_BYTES if scope["scheme"] == "https" else length
        for start in range(0, length, step):
            piece = self._content[start : start + step]  # the whole is no copy
            await send({"type": "http.response.body", "body": piece, "more_body": start + step < length})


def documents(app: FastAPI) -> dict[str, Document]:
    """Return all documents by path.

    The links of the page are relative to it, so that it works behind a proxy; it needs no internet.
    """
    described = json.dumps(describe_api(app), ensure_ascii=False, separators=(",", ":")).encode()
    folder = "docs/assets"
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="lossd",
        swagger_js_url=f"{folder}/swagger-ui-bundle.js",
        swagger_css_url=f"{folder}/swagger-ui.css",
        swagger_favicon_url=f"{folder}/favicon.png",
    )
    files = Path(fastapi_offline.__file__).parent / "static"
    return {
        "/openapi.json": Document(described, "application/json"),
        "/docs": Document(bytes(page.body), "text/html; charset=utf-8"),
        **{
            f"/{folder}/{name}": Document((files / name).read_bytes(), kind) for name, kind in _ASSETS.items()
        },
    }
