import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from client.playback import Playback
from lossd_client import AsyncLossClient, LossClient

Ask = Callable[..., Any]
Options = Mapping[str, Any] | None


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOSSD_BASE_URL", "LOSSD_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def playback() -> Iterator[Playback]:
    with Playback() as server:
        yield server


def ask_sync(
    base_url: str | None, method: str, *args: object, options: Options = None, **kwargs: object
) -> object:
    with LossClient(base_url, **{"retry": None, **(options or {})}) as client:
        return getattr(client, method)(*args, **kwargs)


def ask_async(
    base_url: str | None, method: str, *args: object, options: Options = None, **kwargs: object
) -> object:
    async def ask() -> object:
        async with AsyncLossClient(base_url, **{"retry": None, **(options or {})}) as client:
            return await getattr(client, method)(*args, **kwargs)

    return asyncio.run(ask())


@pytest.fixture(params=[ask_sync, ask_async], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Calls one method of a fresh client that tries once: ask(url, "bce", logits, targets, options={...})."""
    asked: Ask = request.param
    return asked
