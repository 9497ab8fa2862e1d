"""Teams files: what is read of them, and what edits leave as it was."""

from __future__ import annotations

import fcntl
import os
import string
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lossd import teams_file as teamsfile
from lossd.teams import (
    KEY_ID,
    BadTeams,
    Limits,
    Roster,
    Team,
    check_name,
    digest_of,
    is_key,
    new_key,
    parse_teams,
    read_teams,
)
from lossd.teams_file import add_key, add_team, revoke_key, set_disabled

DIGEST = "0123456789abcdef" * 4
COMMENTED = f"""\
# Who may use the server.

[teams.vision]  # the people with the cameras
weight = 2 # they paid for it
# until May

# Ann's laptop
[teams.vision.keys.aaaaaaaa]
sha256 = "{DIGEST}"  # a comment
# made by hand

# the nightly job
[teams.vision.keys.bbbbbbbb]
sha256 = "{DIGEST}"
created = 2026-11-26T08:00:00Z

# the team beside
[teams.speech]
disabled = true # for now

# the end"""
EDITED = COMMENTED + "\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "teams.toml"
    found.write_text(COMMENTED)
    return found


def key_table(key: str, team: str = "a") -> str:
    return f'[teams.{team}.keys.{key.split("_")[1]}]\nsha256 = "{digest_of(key)}"\n'


_WORDS = '[teams .a .keys .limits ] weight name sha256 created = " { } [ . 1 - e9 inf true 2026-11-26 # ,'
_PIECES = st.sampled_from([*_WORDS.split(), "\n", " ", "aaaaaaaa", DIGEST, "\\u0000", "\ud800"])


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(_PIECES, max_size=40).map("".join)))
@example("x = " + "[" * 5000)
@example("[teams.a]\nweight = " + "9" * 5000)
@example("[teams.a.limits]\nrequests_in_flight = " + "9" * 4000)
@example('[teams.a]\n"\ud800" = 1')
def test_any_text_is_teams_or_is_refused(text: str) -> None:
    with suppress(BadTeams):
        roster = parse_teams(text)
        assert roster.teams
        assert all(team.name == name for name, team in roster.teams.items())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no team"),
        ("[teams]", "names no team"),
        ("[[teams]]", "names no team"),
        ("teams = 3", "names no team"),
        ("[team.a]", "'team' is not known"),
        ("[teams.a]\nweigth = 2", "weigth"),
        ("[teams.a", "not TOML"),
        ("[teams.a]\n[teams.a]", "not TOML"),
        ('[teams.a]\nname = "b"', "teams.a.name is not known"),
        ("[teams]\na = 3", "teams.a is no table"),
        ('[teams." a"]', "is no name of a team"),
        ('[teams.""]', "is no name of a team"),
        ('[teams."a\\n"]', "is no name of a team"),
        ("[teams.a]\nweight = 0", "teams.a.weight is 0"),
        ("[teams.a]\nweight = nan", "teams.a.weight is nan"),
        ("[teams.a]\nweight = inf", "teams.a.weight is inf"),
        ("[teams.a]\nweight = true", "$.weight"),
        ("[teams.a]\ndisabled = 1", "$.disabled"),
        ("[teams.a]\noperator = 'yes'", "$.operator"),
        ("[teams.a.limits]\nrequests_in_flight = 0", "teams.a.limits.requests_in_flight is 0"),
        ("[teams.a.limits]\nrequests_in_flight = 1.5", "$.limits.requests_in_flight"),
        ("[teams.a.limits]\nrequests = 1", "requests"),
        ("[teams.a.keys]\naaaaaaaa = 3", "$.keys"),
        ("[teams.a.keys.aaaaaaaa]", "sha256"),
        (f'[teams.a.keys.aaaaaaa]\nsha256 = "{DIGEST}"', "is no id of a key"),
        (f'[teams.a.keys."\\u001b[1m"]\nsha256 = "{DIGEST}"', r"'\x1b[1m' is no id of a key"),
        (f'[teams.a.keys.aaaaaaaa]\nsha256 = "{DIGEST.upper()}"', "is no SHA-256"),
        (f'[teams.a.keys.aaaaaaaa]\nsha256 = "{DIGEST}"\ncreated = {{}}', "created"),
        (
            f'[teams.a.keys.aaaaaaaa]\nsha256 = "{DIGEST}"\n[teams.b.keys.aaaaaaaa]\nsha256 = "{DIGEST}"',
            "both a's and b's",
        ),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(BadTeams) as refused:
        parse_teams(text)
    assert said in str(refused.value)
    assert str(refused.value).isprintable()


def test_all_that_a_file_may_say_is_read() -> None:
    limits = (
        "requests_per_second = 0.5\nelements_per_second = 1e9\nrequests_in_flight = 3\nbytes_in_flight = 4"
    )
    key = new_key()[1]
    text = "[teams.a]\nweight = 2\ndisabled = true\noperator = true\n"
    text += f"[teams.a.limits]\n{limits}\n{key_table(key)}"
    text += "created = 2026-11-26T08:00:00Z\n[teams.b]\n"
    a, b = parse_teams(text).teams.values()
    assert (a.weight, a.disabled, a.operator) == (2.0, True, True)
    assert a.limits == Limits(0.5, 1e9, 3, 4)
    assert [(one.sha256, one.created) for one in a.keys.values()] == [
        (digest_of(key), "2026-11-26 08:00:00+00:00")
    ]
    assert b == Team("b")


def test_keys_are_found_by_their_whole_text_alone() -> None:
    mine, others, nobodys = (new_key()[1] for _ in range(3))
    roster = parse_teams(key_table(mine) + key_table(others, "b"))
    assert [team.name for team in map(roster.find, (mine, others)) if team is not None] == ["a", "b"]
    swapped = "_".join([*mine.split("_")[:2], others.split("_")[2]])
    wrong = [nobodys, swapped, mine[:-1], mine + "x", mine + "\n", " " + mine, mine.upper(), mine[6:]]
    wrong += ["", "_", "__", mine.split("_")[1], f"lossd_{mine.split('_')[1]}", f"x{mine[1:]}"]
    wrong += [
        mine + "é",
        mine[:-1] + "\N{FULLWIDTH DIGIT ONE}",
        mine + "\ud800",
        "\udcff" + mine,
        mine + "\0",
    ]
    assert not [key for key in wrong if roster.find(key) is not None]


@settings(deadline=None)
@given(st.text())
def test_no_text_is_found_among_no_keys(text: str) -> None:
    assert parse_teams("[teams.a]").find(text) is None
    assert Roster({}).find(text) is None


def test_keys_are_told_from_what_only_looks_like_one() -> None:
    key_id, key = new_key()
    assert is_key(key)
    assert KEY_ID.fullmatch(key_id)
    assert key.split("_")[:2] == ["lossd", key_id]
    assert not any(map(is_key, ["", key[:-1], key + "a", key + "\n", key.lower(), key.replace("_", "-")]))
    for place, was in enumerate(key):
        for other in {*string.ascii_letters, *string.digits, "_", "é"} - {was}:
            assert not is_key(key[:place] + other + key[place + 1 :])


def test_no_two_keys_are_alike() -> None:
    keys = [new_key() for _ in range(2000)]
    assert len({key for _, key in keys}) == len({key_id for key_id, _ in keys}) == 2000


@pytest.mark.parametrize("name", ["a", "A-b_c.d", "0", "a" * 64])
def test_names(name: str) -> None:
    check_name(name)
    with pytest.raises(BadTeams):
        check_name("." + name[1:])


def test_an_operator_is_written_down_and_stays_one(path: Path) -> None:
    add_team(path, Team("ops", operator=True))
    key_id, key = new_key()
    add_key(path, "ops", key_id, digest_of(key))
    set_disabled(path, "ops", True)
    ops = read_teams(path).teams["ops"]
    assert (ops.operator, ops.disabled, list(ops.keys)) == (True, True, [key_id])
    assert path.read_text().count("operator") == 1  # others are none, and nothing is said of it


def test_a_new_file_is_its_owners_alone_and_grows(tmp_path: Path) -> None:
    path = tmp_path / "teams.toml"
    before = os.umask(0)
    try:
        add_team(path, Team("a.b", 0.5, Limits(requests_per_second=50.0, bytes_in_flight=1 << 30)))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    add_team(path, Team("c"))
    keys = [new_key() for _ in range(3)]
    for name, (key_id, key) in zip(("a.b", "c", "a.b"), keys, strict=True):
        add_key(path, name, key_id, digest_of(key))
    roster = read_teams(path)
    assert [team.name for _, key in keys if (team := roster.find(key)) is not None] == ["a.b", "c", "a.b"]
    assert roster.teams["a.b"].limits == Limits(50, None, None, 1 << 30)
    assert roster.teams["a.b"].weight == 0.5
    assert [one.name for one in tmp_path.iterdir()] == ["teams.toml"]


def test_a_key_that_comes_leaves_everything_where_it_was(path: Path) -> None:
    add_key(path, "vision", "cccccccc", DIGEST)
    lines = path.read_text().splitlines(keepends=True)
    (place,) = (number for number, line in enumerate(lines) if line == "[teams.vision.keys.cccccccc]\n")
    assert lines[place - 2].startswith("created = 2026-11-26T08")  # behind the team's others
    assert lines[place + 3 : place + 5] == ["\n", "# the team beside\n"]
    assert "".join(lines[: place - 1] + lines[place + 3 :]) == EDITED


def test_a_team_that_comes_leaves_everything_where_it_was(path: Path) -> None:
    add_team(path, Team("c", 3.0))
    assert path.read_text() == EDITED + "\n[teams.c]\nweight = 3\n"


@pytest.mark.parametrize("key_id", ["aaaaaaaa", "bbbbbbbb"])
def test_a_key_that_goes_takes_no_comment_along_and_leaves_none_to_another(path: Path, key_id: str) -> None:
    assert revoke_key(path, key_id) == "vision"
    header = f"[teams.vision.keys.{key_id}]\n"
    above, _, below = EDITED.partition(header)
    said = [line for line in below.splitlines(keepends=True) if line.startswith(("sha256", "created"))]
    for line in said if key_id == "bbbbbbbb" else said[:1]:
        below = below.replace(line, "", 1)
    assert path.read_text() == above + ("\n" if key_id == "aaaaaaaa" else "") + below
    assert set(read_teams(path).teams["vision"].keys) == {"aaaaaaaa", "bbbbbbbb"} - {key_id}


def test_a_comment_above_a_key_that_goes_does_not_come_to_stand_above_another(tmp_path: Path) -> None:
    path = tmp_path / "teams.toml"
    path.write_text(
        f'[teams.a]\n# one\n[teams.a.keys.aaaaaaaa]\nsha256 = "{DIGEST}"\n'
        f'[teams.a.keys.bbbbbbbb]\nsha256 = "{DIGEST}"\n'
    )
    revoke_key(path, "aaaaaaaa")
    assert path.read_text() == f'[teams.a]\n# one\n\n[teams.a.keys.bbbbbbbb]\nsha256 = "{DIGEST}"\n'
    revoke_key(path, "bbbbbbbb")
    assert path.read_text() == "[teams.a]\n# one\n"


def test_adding_a_key_and_revoking_it_is_as_if_nothing_had_been(path: Path) -> None:
    for name in ("vision", "speech"):
        add_key(path, name, "cccccccc", DIGEST)
        revoke_key(path, "cccccccc")
        assert path.read_text() == EDITED


def test_disabling_and_enabling_change_a_word(path: Path) -> None:
    set_disabled(path, "speech", False)
    assert path.read_text() == EDITED.replace("disabled = true # for now", "disabled = false # for now")
    set_disabled(path, "speech", True)
    assert path.read_text() == EDITED
    set_disabled(path, "vision", True)
    line = "weight = 2 # they paid for it\n"
    assert path.read_text() == EDITED.replace(line, line + "disabled = true\n")


def test_a_team_without_a_table_of_its_own_can_be_disabled(tmp_path: Path) -> None:
    path = tmp_path / "teams.toml"
    path.write_text(f'[teams."a.b".keys.aaaaaaaa]\nsha256 = "{DIGEST}"\n')
    set_disabled(path, "a.b", True)
    assert read_teams(path).teams["a.b"].disabled


def test_lines_end_as_the_others_do(path: Path) -> None:
    path.write_bytes(EDITED.replace("\n", "\r\n").encode())
    add_key(path, "vision", "cccccccc", DIGEST)
    set_disabled(path, "vision", True)
    revoke_key(path, "bbbbbbbb")
    assert path.read_bytes().count(b"\n") == path.read_bytes().count(b"\r\n")
    assert set(read_teams(path).teams["vision"].keys) == {"aaaaaaaa", "cccccccc"}


def add_a_team(path: Path) -> None:
    add_team(path, Team("new"))


def add_a_key(path: Path) -> None:
    add_key(path, "a", "cccccccc", DIGEST)


def revoke_a_key(path: Path) -> None:
    revoke_key(path, "aaaaaaaa")


def disable_a_team(path: Path) -> None:
    set_disabled(path, "a", True)


EDITS = [add_a_team, add_a_key, revoke_a_key, disable_a_team]


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize(
    "text",
    [
        f'teams = {{ a = {{ keys = {{ aaaaaaaa = {{ sha256 = "{DIGEST}" }} }} }}, b = {{}} }}\n',
        f'[teams]\na = {{ disabled = false, keys = {{ aaaaaaaa = {{ sha256 = "{DIGEST}" }} }} }}\nb = {{}}',
        f'teams.a.disabled = false\nteams.a.keys.aaaaaaaa.sha256 = "{DIGEST}"\n[teams.b]\n',
        f'[teams.a]\n"disabled" = false\nkeys.aaaaaaaa.sha256 = "{DIGEST}"\n[teams.b]\n',
        f'[teams.b]\n[teams.a.keys.aaaaaaaa]\nsha256 = """\\\n{DIGEST}"""\n# [teams.a]\n',
        f"[ teams . \"a\" ]\n[teams.a.keys]\n[\tteams.a.keys.aaaaaaaa ] # x\nsha256 = '{DIGEST}'\n[teams.b]",
    ],
)
def test_however_a_file_is_written_an_edit_is_right_or_is_not_made(
    tmp_path: Path, text: str, edit: Callable[[Path], None]
) -> None:
    path = tmp_path / "teams.toml"
    path.write_text(text)
    a = parse_teams(text).teams["a"]
    said = ""
    try:
        edit(path)
    except BadTeams as error:
        said = str(error)
    if said:
        assert "edit it yourself" in said
        assert path.read_text() == text
        return
    teams = dict(read_teams(path).teams)
    new = teams.pop("new", None)
    assert (new is not None) == (edit is add_a_team)
    assert teams["b"] == Team("b")
    expected = {"aaaaaaaa", "cccccccc"} if edit is add_a_key else {"aaaaaaaa"}
    assert set(teams["a"].keys) == (set() if edit is revoke_a_key else expected)
    assert teams["a"].disabled == (edit is disable_a_team)
    assert teams["a"].limits == a.limits


@pytest.mark.parametrize(
    "content", [b"[teams.a", b"\xff", b"[teams.a]\nweigth = 1\n", b"[[teams]]", b"x = 1"]
)
def test_a_file_that_is_wrong_is_never_written_over(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "teams.toml"
    path.write_bytes(content)
    for edit in EDITS:
        with pytest.raises(BadTeams):
            edit(path)
    assert path.read_bytes() == content
    assert [one.name for one in tmp_path.iterdir()] == ["teams.toml"]


@pytest.mark.parametrize("content", ["", "# nobody yet\n", "[teams]\n"])
def test_a_file_that_says_nothing_yet_takes_a_first_team(tmp_path: Path, content: str) -> None:
    path = tmp_path / "teams.toml"
    path.write_text(content)
    add_team(path, Team("a"))
    assert path.read_text().startswith(content)
    assert list(read_teams(path).teams) == ["a"]


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "round").symlink_to("round")
    strange = [tmp_path / name for name in ("pipe", "folder", "round", "missing/teams.toml")]
    for path in (*strange, Path("/dev/null")):
        for edit in EDITS:
            with pytest.raises(BadTeams):
                edit(path)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder", "pipe", "round"]


def test_a_link_stays_a_link_and_a_mode_a_mode(path: Path) -> None:
    path.chmod(0o640)
    (path.parent / "mounts").mkdir()
    link = path.parent / "mounts" / "teams.toml"
    link.symlink_to("../teams.toml")
    add_team(link, Team("a"))
    assert link.is_symlink()
    assert "a" in read_teams(path).teams
    assert path.stat().st_mode & 0o777 == 0o640
    (path.parent / "later").symlink_to("mounts/new.toml")
    add_team(path.parent / "later", Team("b"))
    assert (path.parent / "mounts" / "new.toml").is_file()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_files_owner_stays_its_owner(path: Path) -> None:
    os.chown(path, 12345, 54321)
    add_team(path, Team("a"))
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_in_is_said(path: Path) -> None:
    path.parent.chmod(0o555)
    try:
        with pytest.raises(BadTeams, match="Permission denied"):
            add_team(path, Team("a"))
    finally:
        path.parent.chmod(0o755)


def test_who_holds_the_folder_too_long_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teamsfile, "PATIENCE_SECONDS", 0.1)
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(BadTeams, match="another process"):
            add_team(path, Team("a"))
    finally:
        os.close(fd)
    add_team(path, Team("a"))


_EDITOR = """
import sys
from pathlib import Path
from lossd.teams import digest_of, new_key
from lossd.teams_file import add_key
sys.stdin.read()
for _ in range(10):
    key_id, key = new_key()
    add_key(Path(sys.argv[1]), sys.argv[2], key_id, digest_of(key))
    print(key)
"""


def test_several_who_edit_at_once_lose_nothing(path: Path) -> None:
    names = ["vision", "speech", "vision", "speech"]
    editors = [
        subprocess.Popen(
            [sys.executable, "-c", _EDITOR, str(path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    keys = []
    for editor in editors:
        assert editor.stdin is not None
        editor.stdin.close()  # now all begin
    for editor in editors:
        assert editor.stdout is not None
        keys.append(editor.stdout.read().split())
        editor.stdout.close()
        assert editor.wait(60) == 0
    roster = read_teams(path)
    for name, made in zip(names, keys, strict=True):
        assert [team.name for key in made if (team := roster.find(key)) is not None] == [name] * 10
    for line in COMMENTED.splitlines():
        assert line in path.read_text()
