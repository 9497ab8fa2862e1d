"""`lossd teams`, `lossd keys` and `lossd serve --teams`, as they are typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from command import app
from lossd.teams import is_key, read_teams


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "teams.toml"
    assert lossd("teams", "add", "vision", "--teams", str(found)).exit_code == 0
    return found


def lossd(*args: str, **environment: str) -> Result:
    return CliRunner().invoke(app, list(args), env=environment)


def new_key(path: Path, team: str = "vision") -> str:
    done = lossd("keys", "new", team, "--teams", str(path))
    assert done.exit_code == 0
    return done.stdout.strip()


def test_a_new_key_stands_alone_on_standard_output_and_nowhere_else(path: Path) -> None:
    done = lossd("keys", "new", "vision", "--teams", str(path))
    key = done.stdout.removesuffix("\n")
    assert is_key(key)
    assert key not in done.stderr
    assert key.split("_")[2] not in path.read_text()
    team = read_teams(path).find(key)
    assert team is not None
    assert team.name == "vision"


def test_the_file_may_be_named_by_the_environment(path: Path) -> None:
    assert lossd("keys", "new", "vision", LOSSD_TEAMS=str(path)).exit_code == 0
    assert lossd("teams", "list", LOSSD_TEAMS=str(path)).stdout.count("key ") == 1
    missing = lossd("teams", "list", LOSSD_TEAMS="")
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert "--teams" in missing.stderr


def test_a_team_has_what_it_was_given(path: Path) -> None:
    limits = {
        "requests_per_second": 50.0,
        "elements_per_second": 1e9,
        "requests_in_flight": 64,
        "bytes_in_flight": 1 << 30,
    }
    flat = [part for name, value in limits.items() for part in (f"--{name.replace('_', '-')}", f"{value}")]
    assert lossd("teams", "add", "a.b", "--weight", "2.5", *flat, "--teams", str(path)).exit_code == 0
    key = new_key(path, "a.b")
    shown = json.loads(lossd("teams", "list", "--json", "--teams", str(path)).stdout)["teams"]
    assert shown[0] == {
        "name": "vision",
        "weight": 1.0,
        "disabled": False,
        "operator": False,
        "limits": {},
        "keys": [],
    }
    (kept,) = shown[1].pop("keys")
    assert shown[1] == {"name": "a.b", "weight": 2.5, "disabled": False, "operator": False, "limits": limits}
    assert kept["id"] == key.split("_")[1]
    assert kept["created"].startswith("20")


def test_the_list_says_who_is_an_operator(path: Path) -> None:
    assert lossd("teams", "add", "ops", "--operator", "--teams", str(path)).exit_code == 0
    shown = json.loads(lossd("teams", "list", "--json", "--teams", str(path)).stdout)["teams"]
    assert [(team["name"], team["operator"]) for team in shown] == [("vision", False), ("ops", True)]
    assert "ops (operator)\n" in lossd("teams", "list", "--teams", str(path)).stdout
    lossd("teams", "disable", "ops", "--teams", str(path))
    assert "ops (operator, disabled)\n" in lossd("teams", "list", "--teams", str(path)).stdout


def test_the_list_shows_no_hash(path: Path) -> None:
    new_key(path)
    lossd("teams", "disable", "vision", "--teams", str(path))
    (key,) = read_teams(path).teams["vision"].keys.items()
    for options in ([], ["--json"]):
        shown = lossd("teams", "list", *options, "--teams", str(path))
        assert (shown.exit_code, shown.stderr) == (0, "")
        assert key[0] in shown.stdout
        assert key[1].sha256 not in shown.stdout
        assert "disabled" in shown.stdout


def test_disabling_keeps_the_keys(path: Path) -> None:
    key = new_key(path)
    for command, disabled in (("disable", True), ("disable", True), ("enable", False)):
        assert lossd("teams", command, "vision", "--teams", str(path)).exit_code == 0
        team = read_teams(path).find(key)
        assert team is not None
        assert team.disabled == disabled


def test_a_key_is_revoked_by_its_id(path: Path) -> None:
    old, new = new_key(path), new_key(path)
    done = lossd("keys", "revoke", old.split("_")[1], "--teams", str(path))
    assert (done.exit_code, done.stdout) == (0, "")
    roster = read_teams(path)
    assert roster.find(old) is None
    assert roster.find(new) is not None


@pytest.mark.parametrize("part", [slice(None), slice(40), slice(17)], ids=["whole", "cut", "no secret"])
def test_a_key_given_for_its_id_is_understood_and_not_repeated(path: Path, part: slice) -> None:
    key = new_key(path)
    done = lossd("keys", "revoke", key[part], "--teams", str(path))
    assert done.exit_code == 0
    assert "its id is enough" in done.stderr
    assert key.split("_")[2][:20] not in done.stderr
    assert read_teams(path).find(key) is None


def test_a_secret_given_for_an_id_is_not_repeated(path: Path) -> None:
    secret = new_key(path).split("_")[2]
    for given in (secret, f"lossd_{secret}", f"lossd__{secret}"):
        done = lossd("keys", "revoke", given, "--teams", str(path))
        assert (done.exit_code, done.stdout) == (2, "")
        assert "no key's id" in done.stderr
        assert secret not in done.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["teams", "add", "vision"], "there is a team vision already"),
        (["teams", "add", "no spaces"], "is no name of a team"),
        (["teams", "add", "a", "--weight", "0"], "teams.a.weight is 0.0; it must be from"),
        (["teams", "add", "a", "--weight", "nan"], "teams.a.weight is nan"),
        (["teams", "add", "a", "--weight", "much"], "--weight"),
        (["teams", "add", "a.b", "--requests-in-flight", "-1"], "limits.requests_in_flight is -1"),
        (["teams", "add", "a", "--requests-in-flight", "9" * 400], "it must be from"),
        (["teams", "disable", "visoin"], "there is no team 'visoin'; did you mean vision?"),
        (["teams", "enable", "\x1b[1m"], r"there is no team '\x1b[1m'"),
        (["keys", "new", "visoin"], "did you mean vision?"),
        (["keys", "revoke", "aaaaaaaa"], "there is no key 'aaaaaaaa'"),
    ],
)
def test_wrong_usage_is_2_and_changes_nothing(path: Path, command: list[str], message: str) -> None:
    before = path.read_bytes()
    done = lossd(*command, "--teams", str(path))
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert path.read_bytes() == before


def test_the_nearest_id_is_named(path: Path) -> None:
    key_id = new_key(path).split("_")[1]
    done = lossd("keys", "revoke", key_id[:6] + "00", "--teams", str(path))
    assert done.exit_code == 2
    assert f"did you mean {key_id}?" in done.stderr


COMMANDS = [
    ["teams", "add", "a"],
    ["teams", "list"],
    ["teams", "disable", "a"],
    ["keys", "new", "a"],
    ["keys", "revoke", "aaaaaaaa"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("content", [None, b"[teams.a", b"\xff\n", b"[teams.a]\nweigth = 2\n"])
def test_a_file_that_cannot_be_used_is_2(tmp_path: Path, command: list[str], content: bytes | None) -> None:
    bad = tmp_path / "bad.toml"
    if content is None:
        bad.mkdir()
    else:
        bad.write_bytes(content)
    done = lossd(*command, "--teams", str(bad))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {bad}: ")
    assert content is None or bad.read_bytes() == content


@pytest.mark.parametrize("command", COMMANDS[1:], ids=" ".join)
def test_only_adding_a_team_makes_a_file(tmp_path: Path, command: list[str]) -> None:
    done = lossd(*command, "--teams", str(tmp_path / "teams.toml"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "No such file" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_key_that_cannot_be_printed_is_revoked_again(path: Path) -> None:
    before = path.read_bytes()
    command = [sys.executable, "-m", "lossd", "keys", "new", "vision", "--teams", str(path)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert "could not be printed (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [None, "", "[teams]\n", "[teams.a]\nweight = 'much'\n"])
def test_a_server_does_not_start_with_a_file_that_cannot_be_used(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "teams.toml"
    if content is not None:
        path.write_text(content)
    for options, environment in ((["--teams", str(path)], {}), ([], {"LOSSD_TEAMS": str(path)})):
        done = lossd("serve", "--port", "0", *options, **environment)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: {path}: ")
