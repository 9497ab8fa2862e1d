"""NaN from one caller, however many others are served in the same moment, is that caller's alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from faults.asked import SMALL, outcomes, pair, scaled, undisturbed, wrong
from faults.load import Load, Plan, post
from faults.observe import port_of
from live_server import LiveServer
from wire.feeding import npy

pytestmark = pytest.mark.alone

SECONDS = scaled(4.0, 60.0)
AT_ONCE = 16


def test_a_neighbour_who_sends_nan(server: LiveServer, say: Callable[[str], None]) -> None:
    x, y = pair(32)
    x[::3, ::7] = np.nan
    body = npy(x) + npy(y)
    nan = [
        post("/focal?allow_nan=true", body, name="nan focal"),
        post("/bce?allow_nan=true", body, name="nan bce"),
        post("/bce", body, name="refused"),
    ]
    with Load() as load:
        right = undisturbed(server, load, [*SMALL, *nan[:2]])
        plan = Plan(port_of(server), [*SMALL * 2, *nan], at_once=AT_ONCE, seconds=SECONDS, seed=1)
        shots = load.run(plan)
    others = [shot for shot in shots if shot.name in ("focal", "bce")]
    theirs = [shot for shot in shots if shot.name.startswith("nan")]
    refused = [shot for shot in shots if shot.name == "refused"]
    say(
        f"{len(others)} requests among {len(theirs)} with NaN, {AT_ONCE} at once: {outcomes(others)}, "
        f"{wrong(others, right)} wrong"
    )
    assert len(others) > 100
    assert len(theirs) > 50
    assert outcomes(others) == {"ok": len(others)}
    assert wrong(others, right) == 0
    assert {shot.figures for shot in theirs} == {("NaN", "NaN")}
    assert outcomes(refused) == {"non_finite_input": len(refused)}
