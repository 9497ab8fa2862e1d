from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, _validate_metric_name
from tensorboardX.summary import _clean_tag

from lossd_client.loggers._names import IDENTIFIER, PLAIN, name_of

ids = st.one_of(st.integers(), st.text(max_size=80), st.text("ab_ .-/", max_size=4))
paths = st.lists(ids, min_size=1, max_size=9).map(lambda parts: ("lossd", "group", *parts, "mean"))
both = pytest.mark.parametrize("allowed", [PLAIN, IDENTIFIER], ids=["plain", "identifier"])


@given(path=paths)
def test_mlflow_and_tensorboard_take_names_as_they_are(path: tuple[object, ...]) -> None:
    name = name_of(path, PLAIN)
    _validate_metric_name(name)
    assert len(name) <= MAX_ENTITY_KEY_LENGTH
    assert _clean_tag(name) == name


@given(path=paths)
def test_wandb_can_sort_by_names(path: tuple[object, ...]) -> None:
    for part in name_of(path, IDENTIFIER).split("/"):
        assert re.fullmatch("[_a-zA-Z0-9]+", part)


@both
@given(first=paths, second=paths)
def test_different_groups_have_different_names(
    allowed: re.Pattern[str], first: tuple[object, ...], second: tuple[object, ...]
) -> None:
    same = [str(each) for each in first] == [str(each) for each in second]
    assert (name_of(first, allowed) == name_of(second, allowed)) == same


@both
@pytest.mark.parametrize("given_id", ["a b", "a:b", "a/b", "é b"])
def test_nobody_else_has_the_name_of_an_id_that_is_not_allowed(
    allowed: re.Pattern[str], given_id: str
) -> None:
    name = name_of([given_id], allowed)
    assert name_of([name], allowed) != name
    assert name_of([re.sub("[ :/é.]", "_", given_id)], allowed) != name


def test_plain_names_stay_as_they_are() -> None:
    assert name_of(["val", "group", "rear-left_1.5", 7, "mean"], PLAIN) == "val/group/rear-left_1.5/7/mean"
