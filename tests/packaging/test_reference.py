"""What is public and not described fails the build of the documentation, with its name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import MappingProxyType

import pytest

from lossd.api.problems import KINDS
from lossd.settings import Settings
from lossd.types import ErrorCode
from lossd_client import LossClient
from lossd_client.cli import ping
from scripts import reference_tables, site_reference
from scripts.public_names import MODULES, names
from scripts.site_reference import GENERATED


@pytest.mark.parametrize("kind", GENERATED)
def test_all_that_is_public_is_described(kind: str) -> None:
    assert GENERATED[kind]().count("\n## ") >= len(MODULES) - 1


def test_every_error_code_has_a_remedy() -> None:
    assert KINDS.keys() == set(ErrorCode)
    assert len({kind.remedy for kind in KINDS.values()}) > len(KINDS) - 5


def test_a_code_without_a_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = dataclasses.replace(KINDS[ErrorCode.EMPTY_MEAN], remedy="")
    kinds = MappingProxyType({**KINDS, ErrorCode.EMPTY_MEAN: bare})
    monkeypatch.setattr(reference_tables, "KINDS", kinds)
    with pytest.raises(ValueError, match="empty_mean is not described"):
        reference_tables.problems()


def test_a_setting_without_a_description_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings.model_fields["host"], "description", None)
    with pytest.raises(ValueError, match="host is not described"):
        reference_tables.settings(["host"])


def test_a_method_without_a_docstring_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LossClient.focal, "__doc__", None)
    with pytest.raises(ValueError, match=r"lossd_client\.AsyncLossClient\.focal is not described"):
        site_reference.python()


def test_an_alias_without_a_string_below_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "bare_names.py").write_text(
        "from typing import Final\nX: Final = 1\nY: Final = 2\n'''Two.'''\n__all__ = ['Y', 'X']\n"
    )
    found = names("bare_names")
    assert next(found).summary == "Two."
    with pytest.raises(ValueError, match=r"bare_names\.X is not described"):
        next(found)


def test_an_option_without_help_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def ping_(hidden: str = "") -> None:
        """Ask."""

    monkeypatch.setattr(ping, "ping", ping_)
    with pytest.raises(ValueError, match=r"--hidden <str> is not described"):
        site_reference.commands()
