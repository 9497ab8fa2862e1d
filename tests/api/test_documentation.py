"""The documentation, which anyone may ask for: made before the first request."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import httpx
import pytest

from lossd.api.app import create_app
from lossd.api.routes import openapi
from lossd.api.services import Service
from lossd.settings import Settings


def test_the_document_is_made_once_and_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = SimpleNamespace(settings=Settings(), gate=None, accounting=SimpleNamespace(log=None))
    app = create_app(cast(Service, parts))

    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(openapi, "get_openapi", fail)

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            first, second = [await client.get("/openapi.json") for _ in range(2)]
            known = {"if-none-match": f'"other", W/{first.headers["etag"]}'}
            return [first, second, await client.get("/openapi.json", headers=known)]

    first, second, unchanged = asyncio.run(ask())
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == second.headers["etag"]
    assert first.headers["content-type"] == "application/json"
    assert first.content == second.content
    assert "/focal" in first.json()["paths"]
