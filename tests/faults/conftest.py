from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a figure, whatever pytest captures."""

    def printed(figure: str) -> None:
        with capsys.disabled():
            print(f"\n{figure}", end="")  # noqa: T201

    return printed
