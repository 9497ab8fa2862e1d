from __future__ import annotations

from lossd.api.problems import KINDS
from lossd.types import ErrorCode


def test_every_error_code_has_a_kind() -> None:
    assert set(KINDS) == set(ErrorCode)
