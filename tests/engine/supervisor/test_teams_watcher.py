from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lossd.engine.supervisor.teams_watcher import TeamsWatcher
from lossd.teams import BadTeams
from teams_file import make_key, team_table, write_teams


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not done():  # noqa: ASYNC110 -- it is a log that is looked at
            await asyncio.sleep(0.01)


@pytest.mark.slow
def test_a_file_that_changes_is_taken_up_and_one_at_fault_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, changes = tmp_path / "teams.toml", list[int]()
    write_teams(path, team_table("a", make_key()))

    async def follow() -> None:
        watch = TeamsWatcher(path)
        task = asyncio.create_task(watch.follow(lambda: changes.append(1)))
        write_teams(path, team_table("a"), team_table("b"))
        await _until(lambda: len(changes) == 1)
        write_teams(path, "[teams.a]\nweigth = 2\n")
        await _until(lambda: "weigth" in caplog.text)
        path.unlink()
        await _until(lambda: "No such file" in caplog.text)
        await asyncio.sleep(0.6)  # two more looks
        os.mkfifo(path)
        await _until(lambda: "not a file" in caplog.text)
        await asyncio.sleep(0.6)
        path.unlink()
        path.mkdir()
        await _until(lambda: caplog.text.count("not a file") == 2)
        await asyncio.sleep(0.6)
        path.rmdir()
        write_teams(path, team_table("c"))
        await _until(lambda: len(changes) == 2)
        task.cancel()
        watch.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(follow())
    faults = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(faults) <= 5, caplog.text  # each is said once
    assert all("stay as they were" in record.getMessage() for record in faults)


def test_a_mounted_secret_is_followed_through_its_links(tmp_path: Path) -> None:
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        write_teams(tmp_path / version / "teams.toml", team_table(version))
    (tmp_path / "current").symlink_to("one")
    (tmp_path / "teams.toml").symlink_to("current/teams.toml")
    changes = list[int]()

    async def follow() -> None:
        watch = TeamsWatcher(tmp_path / "teams.toml")
        task = asyncio.create_task(watch.follow(lambda: changes.append(1)))
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").replace(tmp_path / "current")
        await _until(lambda: len(changes) == 1)
        task.cancel()
        watch.close()

    asyncio.run(follow())


@pytest.mark.parametrize("text", [None, b"", b"\xff", b"[teams]"])
def test_there_is_no_beginning_with_a_file_that_cannot_be_used(tmp_path: Path, text: bytes | None) -> None:
    path = tmp_path / "teams.toml"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(BadTeams):
        TeamsWatcher(path)
