"""What both clients offer, and how long they wait for it."""

import inspect
import threading
from typing import Any

import numpy as np
import pytest

from client.conftest import Ask
from client.playback import Answer, Playback
from lossd_client import AsyncLossClient, LossClient, TimedOut, Timeout

X, Y = np.zeros((2, 3)), np.zeros((2, 3))


def _methods(kind: type) -> dict[str, list[tuple[str, Any]]]:
    found = inspect.getmembers(kind, lambda item: inspect.isfunction(item) or inspect.ismethod(item))
    return {
        name.removeprefix("a") if name == "aclose" else name: [
            (each.name, each.default) for each in inspect.signature(method).parameters.values()
        ]
        for name, method in found
        if not name.startswith("_")
    }


def test_both_clients_have_the_same_methods_and_parameters() -> None:
    assert _methods(LossClient) == _methods(AsyncLossClient)
    both = [inspect.signature(kind).parameters for kind in (LossClient, AsyncLossClient)]
    assert [(p.name, p.default) for p in both[0].values()] == [(p.name, p.default) for p in both[1].values()]


def test_usage(ask: Ask, playback: Playback) -> None:
    playback.answer = Answer.of_json({"team": "default", "days": []})
    assert ask(playback.url, "usage") == {"team": "default", "days": []}
    assert (playback.last.method, playback.last.path, playback.last.query) == ("GET", "/usage", [])
    ask(playback.url, "usage", days=7)
    assert playback.last.query == [("days", "7")]


def test_the_overview(ask: Ask, playback: Playback) -> None:
    playback.answer = Answer.of_json({"teams": []})
    assert ask(playback.url, "overview", days=7) == {"teams": []}
    assert (playback.last.path, playback.last.query) == ("/overview", [("days", "7")])


def test_a_connection_is_waited_for_as_long_as_was_said(playback: Playback) -> None:
    playback.hold.clear()
    with LossClient(playback.url, max_connections=1, retry=None) as client:
        busy = threading.Thread(target=client.bce, args=(X, Y))
        busy.start()
        while not playback.arrivals:
            pass
        with pytest.raises(TimedOut, match="PoolTimeout"):
            client.with_options(timeout=Timeout(pool=0.1)).bce(X, Y)
        playback.hold.set()
        busy.join()
    assert playback.connections == 1


@pytest.mark.parametrize("field", ["connect", "read", "write", "pool", "deadline"])
@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf")])
def test_a_timeout_is_a_positive_number(field: str, seconds: float) -> None:
    with pytest.raises(ValueError, match=f"{field} is {seconds}"):
        Timeout(**{field: seconds})


def test_a_number_is_for_each_step_and_none_waits_for_ever() -> None:
    assert Timeout.of(2) == Timeout(connect=2, read=2, write=2, pool=2)
    assert Timeout.of(None) == Timeout(connect=None, read=None, write=None, pool=None)
    own = Timeout(deadline=5)
    assert Timeout.of(own) is own


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base_url", 3),
        ("api_key", 3),
        ("retry", 3),
        ("request_bytes", None),
        ("concurrency", 1.5),
        ("concurrency", True),
        ("max_connections", "32"),
    ],
)
def test_arguments_of_another_type(name: str, value: Any) -> None:  # noqa: ANN401 - of any type
    for kind in (LossClient, AsyncLossClient):
        with pytest.raises(TypeError, match=f"^{name} must be "):
            kind(**{name: value})


def test_numpys_integers_will_do() -> None:
    with LossClient(concurrency=np.int64(2)) as client:  # type: ignore[arg-type] # at run time
        assert client.with_options(retry=None).base_url == "http://127.0.0.1:8000"


@pytest.mark.parametrize("given", [{"request_bytes": 0}, {"concurrency": 0}, {"max_connections": 0}])
def test_numbers_are_at_least_one(given: dict[str, Any]) -> None:
    for kind in (LossClient, AsyncLossClient):
        with pytest.raises(ValueError, match="must be at least 1"):
            kind(**given)
