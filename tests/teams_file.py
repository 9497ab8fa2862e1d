"""Teams files for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lossd.teams import digest_of, new_key


def team_table(
    name: str,
    *keys: str,
    disabled: bool = False,
    weight: float = 1.0,
    limits: Mapping[str, float] | None = None,
) -> str:
    """A team, as it stands in a teams file."""
    lines = [f"[teams.{name}]", f"weight = {weight}", f"disabled = {str(disabled).lower()}"]
    if limits:
        lines += [f"[teams.{name}.limits]", *(f"{limit} = {value}" for limit, value in limits.items())]
    for key in keys:
        lines += [f"[teams.{name}.keys.{key.split('_')[1]}]", f'sha256 = "{digest_of(key)}"']
    return "\n".join(lines) + "\n"


def make_key() -> str:
    return new_key()[1]


def write_teams(path: Path, *tables: str) -> None:
    """Replace a teams file, as an editor does that writes another file first."""
    fresh = path.with_suffix(".new")
    fresh.write_text("\n".join(tables))
    fresh.replace(path)
