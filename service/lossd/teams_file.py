"""Edits of a teams file that keep what people wrote in it, order and comments included.

Lines are inserted and deleted; no other line changes. (tomlkit keeps comments, too, but treats those above a
table as the end of the table before, and so moves them.) If the result does not parse to the wanted teams,
the edit is refused: the file is then written in a way not known here, for instance with inline tables.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import msgspec

from lossd.teams import BadTeams, Key, Team, check_name, parse_teams, parse_toml, read_text

PATIENCE_SECONDS: Final = 20.0
"""The longest wait for another process that edits the file."""
_HEAD: Final = "# The teams of a lossd server. `lossd teams` and `lossd keys` edit this file; so may you."
_DISABLED: Final = re.compile(r"^(\s*disabled\s*=\s*)(?:true|false)\b")


def add_team(path: Path, team: Team) -> None:
    """Add a team without keys; create the file if there is none.

    Raises:
        BadTeams: There is such a team already, or the file or the team is invalid.
    """
    check_name(team.name)

    def change(lines: _Lines, teams: Mapping[str, Team]) -> Team:
        if team.name in teams:
            msg = f"there is a team {team.name} already"
            raise BadTeams(msg)
        place = _place("teams", team.name)
        limits = {
            name: value for name, value in msgspec.structs.asdict(team.limits).items() if value is not None
        }
        flags = ["operator = true"] if team.operator else []
        lines.append([f"[{place}]", f"weight = {_number(team.weight)}", *flags])
        if limits:
            lines.append(
                [f"[{place}.limits]", *(f"{name} = {_number(value)}" for name, value in limits.items())]
            )
        return team

    _edit(path, change, create=True)


def add_key(path: Path, name: str, key_id: str, sha256: str) -> None:
    """Add a key to a team.

    Raises:
        BadTeams: There is no such team, or the file cannot be used.
    """

    def change(lines: _Lines, teams: Mapping[str, Team]) -> Team:
        team = _team(teams, name)
        created = datetime.now(UTC).replace(microsecond=0)
        table = [
            f"[{_place('teams', name, 'keys', key_id)}]",
            f'sha256 = "{sha256}"',
            f"created = {created:%Y-%m-%dT%H:%M:%SZ}",
        ]
        lines.insert(table, ("teams", name))
        keys = {**team.keys, key_id: Key(sha256, str(created))}
        return msgspec.structs.replace(team, keys=keys)

    _edit(path, change)


def revoke_key(path: Path, key_id: str) -> str:
    """Delete a key; return the name of its team.

    Raises:
        BadTeams: There is no such key, or the file cannot be used.
    """
    owner = ""

    def change(lines: _Lines, teams: Mapping[str, Team]) -> Team:
        nonlocal owner
        ids = {known: team for team in teams.values() for known in team.keys}
        if key_id not in ids:
            msg = f"there is no key {key_id!a}{_nearest(key_id, ids)}"
            raise BadTeams(msg)
        team = ids[key_id]
        owner = team.name
        lines.remove(("teams", owner, "keys", key_id))
        keys = {known: key for known, key in team.keys.items() if known != key_id}
        return msgspec.structs.replace(team, keys=keys)

    _edit(path, change)
    return owner


def set_disabled(path: Path, name: str, disabled: bool) -> None:
    """Disable a team, so that all its keys are refused, or enable it again.

    Raises:
        BadTeams: There is no such team, or the file cannot be used.
    """

    def change(lines: _Lines, teams: Mapping[str, Team]) -> Team:
        team = _team(teams, name)
        lines.set_disabled(("teams", name), disabled=disabled)
        return msgspec.structs.replace(team, disabled=disabled)

    _edit(path, change)


def _team(teams: Mapping[str, Team], name: str) -> Team:
    team = teams.get(name)
    if team is None:
        msg = f"there is no team {name[:80]!a}{_nearest(name, teams)}"
        raise BadTeams(msg)
    return team


def _nearest(name: str, known: Mapping[str, object]) -> str:
    found = get_close_matches(name, known, 1)
    return f"; did you mean {found[0]}?" if found else ""


def _place(*names: str) -> str:
    """Return a table's name as TOML writes it. The names have no quotes in them."""
    return ".".join(name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'"{name}"' for name in names)


def _number(value: float) -> str:
    return str(int(value)) if isinstance(value, int) or value.is_integer() else repr(value)


@dataclass(slots=True)
class _Table:
    """A table's place in the file: the lines of its header and of its last value."""

    name: tuple[str, ...]
    header: int
    last: int


class _Lines:
    """A file's lines."""

    def __init__(self, text: str) -> None:
        self._return = "\r" if "\r\n" in text else ""  # stays at the lines' ends
        self._lines = text.removesuffix("\n").split("\n") if text else []

    def text(self) -> str:
        return "\n".join([*self._lines, ""])

    def append(self, table: list[str]) -> None:
        """Append a table."""
        self._put(len(self._lines), table)

    def insert(self, table: list[str], behind: tuple[str, ...]) -> None:
        """Insert a table behind the last one within another, or at the end."""
        within = [one for one in self._tables() if one.name[: len(behind)] == behind]
        if not within:
            self.append(table)
            return
        place = end = within[-1].last + 1
        while end < len(self._lines) and self._lines[end].lstrip().startswith("#"):
            end += 1
        if end == len(self._lines) or not self._lines[end].strip():
            place = end  # comments right below, that are not right above what follows
        self._put(place, table)

    def remove(self, name: tuple[str, ...]) -> None:
        """Delete a table's header and values; all comments stay."""
        lines = self._lines
        for table in [one for one in self._tables() if one.name == name]:
            inside = lines[table.header : table.last + 1]
            lines[table.header : table.last + 1] = [line for line in inside if not _is_statement(line)]
            above = lines[table.header - 1].strip() if table.header else ""
            below = lines[table.header].strip() if table.header < len(lines) else ""
            if above.startswith("#") and below:
                lines.insert(table.header, self._return)  # else it would seem to be about what follows
            elif table.header and not above and not below:
                del lines[table.header - 1]

    def set_disabled(self, name: tuple[str, ...], *, disabled: bool) -> None:
        word = str(disabled).lower()
        for table in self._tables():
            if table.name != name:
                continue
            for number in range(table.header + 1, table.last + 1):
                self._lines[number], found = _DISABLED.subn(rf"\g<1>{word}", self._lines[number])
                if found:
                    return
            self._lines.insert(table.last + 1, f"disabled = {word}{self._return}")
            return
        self.append([f"[{_place(*name)}]", f"disabled = {word}"])

    def _put(self, place: int, table: list[str]) -> None:
        above = [""] if place and self._lines[place - 1].strip() else []
        below = [""] if place < len(self._lines) and self._lines[place].strip() else []
        self._lines[place:place] = [line + self._return for line in (*above, *table, *below)]

    def _tables(self) -> list[_Table]:
        tables: list[_Table] = []
        for number, line in enumerate(self._lines):
            name = _header(line)
            if name is not None:
                tables.append(_Table(name, number, number))
            elif tables and _is_statement(line):
                tables[-1].last = number
        return tables


def _is_statement(line: str) -> bool:
    """Return whether a line is more than a comment."""
    return line.strip() != "" and not line.lstrip().startswith("#")


def _header(line: str) -> tuple[str, ...] | None:
    """Return the name of the table that a line begins, if it begins one."""
    if not line.lstrip().startswith("["):
        return None
    try:
        found: object = tomllib.loads(line.strip())
    except ValueError:  # within a list of several lines
        return None
    names = []
    while isinstance(found, dict) and found:
        ((name, found),) = found.items()
        names.append(name)
    return tuple(names)


def _edit(path: Path, change: Callable[[_Lines, Mapping[str, Team]], Team], *, create: bool = False) -> None:
    """Change one team in a file.

    Args:
        path: The file, or a link to it.
        change: Changes the lines, and returns the team as it is then.
        create: Whether the file may be missing or empty.
    """
    try:
        path = path.resolve()
    except (OSError, RuntimeError):
        msg = "it is a link that leads round in a circle"
        raise BadTeams(msg) from None
    with _locked(path.parent):
        text = _read(path) if create else read_text(path)
        empty = create and parse_toml(text or "") in ({}, {"teams": {}})
        teams = {} if empty else parse_teams(text or "").teams
        lines = _Lines(text or _HEAD)
        team = change(lines, teams)
        changed = lines.text()
        _check(changed, {**teams, team.name: team}, team.name)
        if _read(path) != text:
            msg = "it was changed by something else meanwhile; try again"
            raise BadTeams(msg)
        _replace(path, changed)


def _read(path: Path) -> str | None:
    """Return the text of a file; None if there is none."""
    return read_text(path) if os.path.lexists(path) else None


def _check(text: str, teams: Mapping[str, Team], name: str) -> None:
    """Check that a text parses to the wanted teams.

    Raises:
        BadTeams: The team is invalid, or the edit did not have the wanted effect.
    """
    try:
        found = parse_teams(text).teams
    except BadTeams as error:
        if str(error).startswith(f"teams.{name}."):
            raise
        found = {}
    if found != teams:
        msg = f"team {name} is written in it in a way that this command cannot edit; edit it yourself"
        raise BadTeams(msg)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other edits of a teams file in it."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        msg = f"{folder}: {error.strerror}"
        raise BadTeams(msg) from None
    try:
        ends = time.monotonic() + PATIENCE_SECONDS
        while not _lock(fd):
            if time.monotonic() > ends:
                msg = f"another process has been editing in {folder} for {PATIENCE_SECONDS:g} s"
                raise BadTeams(msg)
            time.sleep(0.01)
        yield
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        msg = f"its folder cannot be locked: {error.strerror}"
        raise BadTeams(msg) from None
    return True


def _replace(path: Path, text: str) -> None:
    """Replace a file atomically, keeping its owner and mode; a new file is for its owner alone.

    Raises:
        BadTeams: It cannot be written; the file is as it was.
    """
    fresh = ""
    try:
        fd, fresh = tempfile.mkstemp(prefix=".lossd-teams-", dir=path.parent)
        with os.fdopen(fd, "wb") as file:
            file.write(text.encode())
            if path.exists():
                old, new = path.stat(), os.fstat(file.fileno())
                if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode))
            file.flush()
            os.fsync(file.fileno())
        Path(fresh).replace(path)
        fresh = ""
        _sync(path.parent)
    except OSError as error:
        msg = f"it cannot be written: {error.strerror or error}"
        raise BadTeams(msg) from None
    finally:
        if fresh:
            with suppress(OSError):
                Path(fresh).unlink()


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
