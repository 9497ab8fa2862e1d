"""`lossd usage`, as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from client.cli.scripted import scripted
from command import app
from live_server import live_server
from lossd.engine.usage_store import FIELDS, UsageStore
from lossd_client.local import free_port

SOME = dict(zip(FIELDS, (2.0, 5120.0, 20480.0, 0.25), strict=True))


def day(ago: int) -> str:
    return (datetime.now(UTC).date() - timedelta(days=ago)).isoformat()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "lossd" / "usage.sqlite3"
    with closing(UsageStore(found)) as store:
        store.add({(day(0), "vision"): SOME, (day(3), "vision"): SOME, (day(3), "speech"): SOME})
    return found


def lossd(*args: str, **environment: str) -> Result:
    environment = {"COLUMNS": "100", "LOSSD_USAGE_FILE": "", **environment}
    return CliRunner().invoke(app, ["usage", *args], env=environment)


def test_json_has_days_and_totals_by_team(path: Path) -> None:
    done = lossd("--json", "--file", str(path))
    assert (done.exit_code, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    some = {"requests": 2, "elements": 5120, "bytes": 20480, "device_seconds": 0.25}
    assert found == {
        "file": str(path),
        "since": day(29),
        "teams": [
            {"team": "speech", "days": [{"day": day(3), **some}], "total": some},
            {
                "team": "vision",
                "days": [{"day": day(3), **some}, {"day": day(0), **some}],
                "total": {name: 2 * value for name, value in some.items()},
            },
        ],
        "total": {name: 3 * value for name, value in some.items()},
    }


def test_the_table_has_days_and_totals_by_team(path: Path) -> None:
    done = lossd(LOSSD_USAGE_FILE=str(path))
    assert (done.exit_code, done.stderr) == (0, "")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines()]
    some = ["2", "5,120", "20,480", "0.250"]
    assert [row for row in rows if row] == [
        [day(3), "speech", *some],
        [day(3), "vision", *some],
        [day(0), "vision", *some],
        ["total", "speech", *some],
        ["total", "vision", "4", "10,240", "40,960", "0.500"],
        ["total", "all", "6", "15,360", "61,440", "0.750"],
    ]


def test_one_team_and_few_days(path: Path) -> None:
    done = lossd("--team", "vision", "--days", "3", "--json", "--file", str(path))
    (team,) = json.loads(done.stdout)["teams"]
    assert [row["day"] for row in team["days"]] == [day(0)]
    nothing = lossd("--team", "visoin", "--file", str(path))
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "by team visoin" in nothing.stderr


def test_where_a_server_of_the_same_user_keeps_it_is_where_it_looks(path: Path) -> None:
    state = str(path.parent.parent)
    runner = CliRunner(env={"LOSSD_USAGE_FILE": None, "XDG_STATE_HOME": state})
    done = runner.invoke(app, ["usage", "--json"])
    assert json.loads(done.stdout)["file"] == str(path)


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A server with teams, of which one has a key and has used something."""
    teams, file = tmp_path / "teams.toml", tmp_path / "usage.sqlite3"
    runner = CliRunner()
    for name in ("vision", "speech"):
        assert runner.invoke(app, ["teams", "add", name, "--teams", str(teams)]).exit_code == 0
    key = runner.invoke(app, ["keys", "new", "vision", "--teams", str(teams)]).stdout.split()[-1]
    with closing(UsageStore(file)) as store:
        store.add({(day(0), "vision"): SOME, (day(9), "vision"): SOME, (day(0), "speech"): SOME})
    with live_server(tmp_path, teams=teams, usage_file=file) as server:
        yield server.url, key


def test_a_server_says_what_its_keys_team_has_used(asked: tuple[str, str]) -> None:
    url, key = asked
    some = {"requests": 2, "elements": 5120, "bytes": 20480, "device_seconds": 0.25}
    done = lossd("--url", url, "--api-key", f"{key}\n", "--days", "3", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    days = [{"day": day(0), **some}]
    assert json.loads(done.stdout) == {
        "server": url,
        "since": day(2),
        "teams": [{"team": "vision", "days": days, "total": some}],
        "total": some,
    }
    done = lossd("--url", url, LOSSD_API_KEY=key, LOSSD_USAGE_FILE="/not/looked/at")
    assert done.exit_code == 0
    assert f"since {day(29)}" in done.stdout
    assert "10,240" in done.stdout
    other = lossd("--url", url, "--team", "speech", LOSSD_API_KEY=key)
    assert (other.exit_code, other.stdout) == (2, "")
    assert "usage of its key's team, vision; for speech give a key of speech" in other.stderr
    unknown = lossd("--url", url)
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert "401 unauthorized" in unknown.stderr


def test_usage_that_is_none_or_cannot_be_asked_for(path: Path) -> None:
    with scripted({"/usage": (200, {"team": "a"})}) as url:
        done = lossd("--url", url)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "a lossd server?" in done.stderr
        both = lossd("--url", url, "--file", str(path))
        assert both.exit_code == 2
        assert "give one of them" in both.stderr
    gone = lossd("--url", "http://127.0.0.1:1")
    assert (gone.exit_code, gone.stdout) == (3, "")


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://user:s3cret@127.0.0.1:80x", "k"),
        ("http://user:s3cret@[::1", "k"),
        ("http://127.0.0.1:1", "s3cret\ns3cret"),
        ("http://127.0.0.1:1", "s3crét"),
        ("http://127.0.0.1:99999", "k"),
        ("http://127.0.0.1:1/x?y=z", "k"),
    ],
)
def test_no_secret_is_shown_of_an_address_or_a_key_that_cannot_be_used(url: str, key: str) -> None:
    done = lossd("--url", url, "--api-key", key)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "error:" in done.stderr
    assert "s3cr" not in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--days", "0"], "--days"),
        (["--days", "3661"], "--days"),
        ([], "LOSSD_USAGE_FILE is empty"),
        (["--file", "nowhere.sqlite3"], "there is no usage file at nowhere.sqlite3"),
    ],
)
def test_wrong_usage_is_2(args: list[str], message: str) -> None:
    done = lossd(*args)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_file_that_cannot_be_used_is_2(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(b"no database" * 500)
    for path, message in ((bad, "file is not a database"), (tmp_path, "")):
        done = lossd("--file", str(path))
        assert (done.exit_code, done.stdout) == (2, "")
        assert f"error: {path}: {message}" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("form", [["--json"], []])
def test_a_full_disk_behind_standard_output_is_2(path: Path, form: list[str]) -> None:
    command = [sys.executable, "-m", "lossd", "usage", "--file", str(path), *form]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert done.returncode == 2
    assert done.stderr == "error: standard output: No space left on device\n"


@pytest.mark.parametrize("url", ["postgresql://u:s3cr%et@127.0.0.1/x", "mysql://u:s3cr%et@127.0.0.1/x"])
def test_an_url_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    done = lossd("--file", url)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "postgresql://USER" in done.stderr
    assert "s3cr" not in done.stderr


def test_a_database_that_is_not_there_is_said_without_its_password() -> None:
    done = lossd("--file", f"postgresql://u:s3cret@127.0.0.1:{free_port()}/x")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "postgresql://u@127.0.0.1" in done.stderr
    assert "refused" in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("LOSSD_QUOTA_STORE", "redis://:s3cret/pass@127.0.0.1:1/0", "redis://:PASSWORD"),
        ("LOSSD_USAGE_FILE", "postgresql://u:s3cret%zz@127.0.0.1/x", "postgresql://USER"),
    ],
)
def test_a_server_refuses_an_url_that_cannot_be_read(variable: str, value: str, remedy: str) -> None:
    done = CliRunner().invoke(app, ["serve", "--port", "0"], env={"LOSSD_USAGE_FILE": "", variable: value})
    assert done.exit_code == 2, done.output
    assert variable in done.stderr
    assert remedy in done.stderr
    assert "s3cret" not in done.output + done.stderr
