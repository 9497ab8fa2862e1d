from __future__ import annotations

import pytest
from pydantic import ValidationError

from lossd import settings as module
from lossd.core import grid
from lossd.settings import Settings, unknown_variables


def test_blocks_are_those_of_the_grid() -> None:
    assert (module.CPU_BLOCK, module.DEVICE_BLOCK) == (grid.BLOCK, grid.DEVICE_BLOCK)
    assert grid.block_elements(["cuda:0", "cuda:1"]) == grid.DEVICE_BLOCK
    assert grid.block_elements(["cpu"]) == grid.block_elements(["cuda:0", "cpu"]) == grid.BLOCK


def test_a_child_has_its_parents_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = Settings(port=81, device=("cpu",), losses=("a:b", "c:d"), timeout_seconds=3)
    for name, value in parent.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == parent


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("host", "0.0.0.0", "allow-open"),
        ("device", "gpu", "not a device"),
        ("device", "", "not a device"),
        ("device", ",", "not a device"),
        ("device", "cpu:0,cpu:00", "not a device"),
        ("device", "auto,cpu", "stands alone"),
        ("device", "cpu,cpu", "named twice"),
        ("arena_bytes", 1 << 20, "LOSSD_ARENA_BYTES"),
        ("log_level", "loud", "log_level"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(name: str, value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.model_validate({name: value})


def test_each_front_end_has_its_part_of_the_arena() -> None:
    one, two = Settings(), Settings(front_ends=2)
    assert two.arena_bytes == 2 * one.arena_bytes
    assert two.arena_bytes_each == one.arena_bytes_each == one.arena_bytes
    with pytest.raises(ValidationError, match="in each front end"):
        Settings(front_ends=2, arena_bytes=one.arena_bytes)


def test_misspelt_variables_are_noticed() -> None:
    found = unknown_variables(
        ["LOSSD_FRONTENDS", "LOSSD_PORT", "HOME", "LOSSD_API_KEY", "LOSSD_TIMEOUT_SECOND"]
    )
    assert found["LOSSD_FRONTENDS"] == "LOSSD_FRONT_ENDS"
    assert found["LOSSD_TIMEOUT_SECOND"] == "LOSSD_TIMEOUT_SECONDS"
    assert "LOSSD_PORT" not in found
    assert found["LOSSD_API_KEY"] is None
