"""A deadline that passes in the queue is answered with 504 there and then, and nothing is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from faults.asked import outcomes, pair_body
from faults.load import Load, Plan, post
from faults.observe import metrics, port_of, total, wait_until
from live_server import LiveServer, live_server

pytestmark = pytest.mark.waits

BLOCK_SECONDS = 2.5
EXPIRING = 20
DEADLINE = 0.3
BUSY = post(f"/slow?seconds={BLOCK_SECONDS}", pair_body(32))
URGENT = post("/bce", pair_body(32), X_Timeout_Ms=int(1000 * DEADLINE))
ORDINARY = post("/bce", pair_body(32))


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server whose own deadline is a second, and that has a loss that takes longer."""
    folder, here = tmp_path_factory.mktemp("slow"), Path(__file__).parent
    with live_server(
        folder, modules=here, losses="slow_loss:SLOW", inline_ms=0, timeout_seconds=1
    ) as running:
        yield running


def occupy(server: LiveServer, load: Load) -> None:
    """Have the worker in the midst of a block that takes long."""
    load.start(Plan(port_of(server), [BUSY], count=1))
    wait_until(lambda: metrics(server)["lossd_requests_in_flight"] == 1, 5, "it does not come")


def test_expired_work_is_never_computed(slow: LiveServer, say: Callable[[str], None]) -> None:
    with Load() as busy, Load() as load:
        port = port_of(slow)
        assert outcomes(load.run(Plan(port, [URGENT], count=5))) == {"ok": 5}
        before = total(slow, "lossd_elements_total", loss="bce")
        seconds = total(slow, "lossd_device_seconds_total")
        occupy(slow, busy)
        shots = load.run(Plan(port, [URGENT], rate=200.0, count=EXPIRING))
        busy.finish()  # 504, too: but a block cannot be interrupted
        (last,) = load.run(Plan(port, [ORDINARY], count=1))
        while last.code != "ok":  # as long as that block takes
            (last,) = load.run(Plan(port, [ORDINARY], count=1))
        computed = total(slow, "lossd_elements_total", loss="bce") - before
        spent = total(slow, "lossd_device_seconds_total") - seconds
    longest = max(shot.seconds for shot in shots)
    say(
        f"{EXPIRING} deadlines of {1e3 * DEADLINE:.0f} ms that passed in the queue: {outcomes(shots)}, "
        f"answered within {1e3 * longest:.0f} ms, elements computed of them: {computed - 2560:.0f}"
    )
    assert outcomes(shots) == {"deadline_exceeded": EXPIRING}
    assert all(orjson.loads(shot.answer)["retryable"] is False for shot in shots)
    assert min(shot.seconds for shot in shots) > DEADLINE - 0.01
    assert longest < DEADLINE + 0.7
    assert computed == 32 * 80  # the last one's
    assert spent < 0.5


def test_the_server_has_a_deadline_of_its_own(slow: LiveServer) -> None:
    with Load() as busy, Load() as load:
        before = total(slow, "lossd_elements_total", loss="bce")
        occupy(slow, busy)
        (shot,) = load.run(Plan(port_of(slow), [ORDINARY], count=1))
        busy.finish()
    assert shot.code == "deadline_exceeded"
    assert orjson.loads(shot.answer)["retryable"] is True
    assert 1.0 <= shot.seconds < 2.0
    assert total(slow, "lossd_elements_total", loss="bce") == before
