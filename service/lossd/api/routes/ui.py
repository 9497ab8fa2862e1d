"""The page for people: its files, which need no key.

The page is plain modules and styles in ``lossd/ui``, which ask this server and nobody else. Its links are
relative, so that it works behind a proxy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.types import Receive, Scope, Send

import lossd
from lossd.api.routes.documentation import Document
from lossd.types import ErrorCode, RequestError

FOLDER: Final = Path(lossd.__file__).parent / "ui"
_KINDS: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'; trusted-types lossd"
)
HEADERS: Final = (
    (b"content-security-policy", _POLICY),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


_OF_FILES: Final = (
    *HEADERS,
    (b"cache-control", b"no-cache"),  # browsers ask whether a file has changed: a server may be upgraded
)


class Redirect:
    """A redirect to a relative link, as an endpoint."""

    def __init__(self, link: bytes) -> None:
        self._headers = ((b"location", link), (b"content-length", b"0"))

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer a GET, as ASGI has it."""
        await send({"type": "http.response.start", "status": 307, "headers": [*self._headers]})
        await send({"type": "http.response.body"})


def page_files() -> dict[str, Document | Redirect]:
    """Return the page's files by path, as they are now: no path of a request names a file.

    Raises:
        OSError: They cannot be read, such as in a checkout whose links are no links.
    """
    found = {
        f"/ui/{path.relative_to(FOLDER).as_posix()}": Document(path.read_bytes(), kind, _OF_FILES)
        for folder in (FOLDER, FOLDER / "client")  # a link in a checkout, which rglob would not follow
        for path in sorted(folder.iterdir())
        if (kind := _KINDS.get(path.suffix)) is not None
    }
    page = {"/ui": found.pop("/ui/index.html")} if "/ui/index.html" in found else {}
    return {"/": Redirect(b"ui"), "/ui/": Redirect(b"../ui"), **page, **found}


def lacking_routes() -> APIRouter:
    """Return the route of a server that lacks the page's files: it says so."""
    router = APIRouter()

    @router.get("/ui", include_in_schema=False)
    async def lacking() -> None:
        detail = (
            "the files of the server's page cannot be read; its log says why. In a checkout without symbolic "
            "links: git config core.symlinks true && git checkout -- service/lossd/ui"
        )
        raise RequestError(ErrorCode.NOT_FOUND, detail)

    return router
