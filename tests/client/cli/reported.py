"""Runs `lossd report` and `lossd merge`, and gives what they say."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from command import app
from lossd_client.report import Report


def run(base_url: str, *args: object, given: bytes | None = None) -> Result:
    """Run `lossd report`; `given` is its standard input."""
    return CliRunner().invoke(app, ["report", *map(str, args), "--url", base_url], input=given)


def report(base_url: str, *args: object, given: bytes | None = None) -> Report:
    """Give the report of one that succeeds, perhaps with notes."""
    done = run(base_url, *args, "--json", given=given)
    assert done.exit_code == 0, done.stderr
    assert all(line.startswith("note: ") for line in done.stderr.splitlines())
    return Report(json.loads(done.stdout))


def refused(base_url: str, *args: object, given: bytes | None = None) -> str:
    """Give the message of one that is refused as wrong usage, on one line."""
    return message(run(base_url, *args, given=given))


def merge(*args: object) -> Result:
    """Run `lossd merge`."""
    return CliRunner().invoke(app, ["merge", *map(str, args)])


def message(done: Result, code: int = 2) -> str:
    """Give the message of a command that failed, on one line."""
    assert (done.exit_code, done.stdout) == (code, "")
    return " ".join(done.stderr.replace("│", " ").split())


def inputs(found: Report) -> list[dict[str, Any]]:
    """Give what a report says of its files."""
    shards: list[dict[str, Any]] = found.to_dict()["run"]["inputs"]
    return shards


def sections(found: Report) -> dict[str, Any]:
    """Give what is equal in reports of the same rows."""
    return {name: section for name, section in found.to_dict().items() if name != "run"}
