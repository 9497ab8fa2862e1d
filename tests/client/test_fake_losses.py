"""The fake's losses are those of the catalog: their parameters, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping
from sys import float_info
from typing import Any

import pytest

from lossd.core.catalog import LOSSES, SHARED
from lossd_client.testing import _fake_table as table


def test_the_fake_has_every_loss() -> None:
    assert set(LOSSES) - set(table.LOSSES) == set(), "losses that the fake does not have"
    assert set(table.LOSSES) - set(LOSSES) == set()


@pytest.mark.parametrize("name", table.LOSSES)
def test_its_parameters_are_the_catalogs(name: str) -> None:
    ours, entry = table.LOSSES[name], LOSSES[name]
    own = {parameter.name: parameter.default for parameter in entry.parameters}
    assert dict(ours.own) == own
    shared = {parameter.name for parameter in SHARED} - {"reduction"} - set(own)
    assert set(ours.options) == shared & {parameter.name for parameter in entry.all_parameters}
    assert set(ours.tensors) == set(entry.tensors)


@pytest.mark.parametrize("name", table.LOSSES)
def test_its_limits_are_the_catalogs(name: str) -> None:
    ours, entry = table.LOSSES[name], LOSSES[name]
    for parameter in entry.parameters:
        schema = parameter.schema
        if "enum" in schema:
            assert parameter.name == "targets_format" or list(ours.words[parameter.name]) == schema["enum"]
        if parameter.name != "label_smoothing":  # below 1, which is no limit of these
            limits = ours.limits.get(parameter.name)
            assert _limits_of(schema) == ({limits} if limits else set()), parameter.name


def _limits_of(schema: Mapping[str, Any]) -> set[tuple[float, float]]:
    """The least and greatest numbers of a schema, of its alternatives, and in its lists."""
    inner = [*schema.get("oneOf", ()), *([schema["items"]] if "items" in schema else ())]
    own = {(schema["minimum"], schema.get("maximum", float_info.max))} if "minimum" in schema else set()
    return own.union(*map(_limits_of, inner))
