"""Teams: their keys, shares and limits, as a teams file defines them.

A teams file is TOML, one table a team:

    [teams.vision]
    weight = 2.0                      # share of the workers' time, in proportion to others'; 1 by default
    disabled = false                  # true refuses all of its keys
    operator = false                  # true: its keys may ask for every team's usage, at /overview

    [teams.vision.limits]             # each is optional
    requests_per_second = 50
    elements_per_second = 1e9
    requests_in_flight = 64
    bytes_in_flight = 1073741824

    [teams.vision.keys.k3mv9x2q]      # the key's id, which is part of the key
    sha256 = "..."                    # of the whole key, in hexadecimal
    created = 2026-11-26T08:00:00Z

A key is ``lossd_<id>_<secret><checksum>``. Only its SHA-256 is kept: the secret has 190 random bits, which
nobody can guess, so a slow hash would protect nothing. The prefix lets scanners of repositories find leaked
keys, and the checksum tells keys from similar text.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import stat
import tomllib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

import msgspec

DEFAULT: Final = "default"
"""The team of all requests, on a server without teams."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"  # without look-alikes
_ID_LENGTH: Final = 8
_SECRET_LENGTH: Final = 32
_CHECKSUM_LENGTH: Final = 6
_KEY: Final = re.compile(
    rf"lossd_([a-z0-9]{{{_ID_LENGTH}}})_([0-9A-Za-z]{{{_SECRET_LENGTH}}})([0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})"
)
KEY_ID: Final = re.compile(rf"[a-z0-9]{{{_ID_LENGTH}}}")
"""The pattern of a key's id."""
_SECRET: Final = re.compile(rf"(lossd_[a-z0-9]{{{_ID_LENGTH}}}_)[0-9A-Za-z]{{12,}}")
KEY_IN_BYTES: Final = re.compile(_SECRET.pattern.encode())
"""Finds a key, or most of one."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of a team, over all front ends together, and all servers of a quota store; None does not limit.

    Attributes:
        requests_per_second: Requests for a loss; a second's worth may come at once.
        elements_per_second: Elements of their inputs.
        requests_in_flight: Requests that are not answered yet.
        bytes_in_flight: Bytes of their bodies, as announced.
    """

    requests_per_second: float | None = None
    elements_per_second: float | None = None
    requests_in_flight: int | None = None
    bytes_in_flight: int | None = None


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The record of a key.

    Attributes:
        sha256: SHA-256 of the key's text, in hexadecimal.
        created: Time of its creation, as TOML writes it; for people.
    """

    sha256: str
    created: str = ""


class Team(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A team.

    Attributes:
        name: Its name.
        weight: Its share of the server, in proportion to others'.
        limits: Its limits.
        keys: Its keys, by id.
        disabled: Whether all its requests are refused.
        operator: Whether it may see all teams, the workers and the queue.
    """

    name: str
    weight: float = 1.0
    limits: Limits = Limits()
    keys: Mapping[str, Key] = {}
    disabled: bool = False
    operator: bool = False


MOST_TEAMS: Final = 4096

EVERYONE: Final = Team(DEFAULT, operator=True)
"""The team of a server without teams."""
NOBODY: Final = Team("")
"""Stands for the team of a request whose key is invalid, or not checked yet."""


class BadTeams(ValueError):  # noqa: N818 -- it is the file that is bad
    """A teams file that cannot be used: the place in it, and the reason."""


@dataclass(frozen=True, slots=True)
class Roster:
    """All teams, by name."""

    teams: Mapping[str, Team]
    _owners: dict[str, tuple[Team, bytes]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for team in self.teams.values():
            for key_id, key in team.keys.items():
                self._owners[key_id] = team, bytes.fromhex(key.sha256)

    def find(self, key: str) -> Team | None:
        """Return a key's team, even if it is disabled; None if there is no such key."""
        _, _, rest = key.partition("_")
        owner = self._owners.get(rest.partition("_")[0])
        if owner is None:
            return None
        team, digest = owner
        return team if hmac.compare_digest(_sha256(key).digest(), digest) else None


def conceal_keys(text: str) -> str:
    """Return a text without the secrets of keys in it, even of truncated ones."""
    return _SECRET.sub(r"\1***", text) if "lossd_" in text else text


def new_key() -> tuple[str, str]:
    """Return a new key's id and its text."""
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))
    return key_id, f"lossd_{key_id}_{secret}{_checksum(key_id, secret)}"


def digest_of(key: str) -> str:
    """Return the SHA-256 of a key, in hexadecimal."""
    return _sha256(key).hexdigest()


def _sha256(key: str) -> hashlib._Hash:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass"))  # any text may come as a key


def is_key(text: str) -> bool:
    """Return whether a text has a key's form and checksum, whether or not a team has it."""
    found = _KEY.fullmatch(text)
    return found is not None and found[3] == _checksum(found[1], found[2])


def _checksum(key_id: str, secret: str) -> str:
    rest, text = zlib.crc32(f"{key_id}_{secret}".encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        rest, digit = divmod(rest, len(_ALPHABET))
        text = _ALPHABET[digit] + text
    return text


def read_text(path: Path) -> str:
    """Return the text of a teams file.

    Raises:
        BadTeams: It cannot be read, or is not text.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            msg = "it is not a file"
            raise BadTeams(msg)
        return path.read_bytes().decode()
    except OSError as error:
        raise BadTeams(error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        msg = f"not UTF-8: {error}"
        raise BadTeams(msg) from None


def read_teams(path: Path) -> Roster:
    """Read a teams file.

    Raises:
        BadTeams: It cannot be read, or is invalid.
    """
    return parse_teams(read_text(path))


def parse_toml(text: str) -> dict[str, object]:
    """Parse a file's text as TOML.

    Raises:
        BadTeams: It is not TOML.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # the former also for numbers of thousands of digits
        msg = f"not TOML: {error}"
        raise BadTeams(msg) from None


def parse_teams(text: str) -> Roster:
    """Parse the text of a teams file.

    Raises:
        BadTeams: It is invalid.
    """
    document = parse_toml(text)
    strange = [name for name in document if name != "teams"]
    if strange:
        msg = f"{strange[0]!r} is not known; every table is [teams.NAME] or within one"
        raise BadTeams(msg)
    tables = document.get("teams", {})
    if not isinstance(tables, dict) or not tables:
        msg = "it names no team; there must be at least one table [teams.NAME]"
        raise BadTeams(msg)
    if len(tables) > MOST_TEAMS:
        msg = f"it names {len(tables)} teams; there may be {MOST_TEAMS}"
        raise BadTeams(msg)
    teams = {name: _read_team(name, table) for name, table in tables.items()}
    _check_ids(teams)
    return Roster(teams)


def check_name(name: str) -> None:
    """Check a team's name.

    Raises:
        BadTeams: It is invalid.
    """
    if not _NAME.fullmatch(name):
        msg = f"{name[:80]!r} is no name of a team: 1 to 64 letters, digits, '.', '_' and '-', no mark first"
        raise BadTeams(msg)


def _read_team(name: str, table: object) -> Team:
    check_name(name)
    place = f"teams.{name}"
    if not isinstance(table, dict):
        msg = f"{place} is no table; write [{place}]"
        raise BadTeams(msg)
    if "name" in table:
        msg = f"{place}.name is not known; a team's name is that of its table"
        raise BadTeams(msg)
    keys = table.get("keys")
    if isinstance(keys, dict):
        table = table | {"keys": {key_id: _readable(key) for key_id, key in keys.items()}}
    try:
        team = msgspec.convert({"name": name, **table}, Team, strict=True)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        msg = f"{place}: {ascii(str(error)[:200])[1:-1]}"  # it may quote anything that stands there
        raise BadTeams(msg) from None
    _check_numbers(place, team)
    for key_id, key in team.keys.items():
        if not KEY_ID.fullmatch(key_id):
            msg = f"{place}.keys.{key_id[:80]!a} is no id of a key; make keys by `lossd keys new {name}`"
            raise BadTeams(msg)
        if not _SHA256.fullmatch(key.sha256):
            msg = f"{place}.keys.{key_id}.sha256 is no SHA-256; it has 64 of 0-9 and a-f"
            raise BadTeams(msg)
    return team


def _readable(key: object) -> object:
    """Return a key's table with its TOML date as text."""
    if not isinstance(key, dict) or not isinstance(key.get("created"), date):
        return key
    return key | {"created": str(key["created"])}


def _check_numbers(place: str, team: Team) -> None:
    numbers = {"weight": team.weight} | {
        f"limits.{name}": value for name, value in msgspec.structs.asdict(team.limits).items()
    }
    for name, value in numbers.items():
        if value is not None and not 1e-6 <= value <= 1e18:  # also NaN
            msg = f"{place}.{name} is {str(value)[:40]}; it must be from 1e-6 to 1e18"
            raise BadTeams(msg)


def _check_ids(teams: Mapping[str, Team]) -> None:
    owners: dict[str, str] = {}
    for team in teams.values():
        for key_id in team.keys:
            if key_id in owners:
                msg = f"the key {key_id} is both {owners[key_id]}'s and {team.name}'s; it can be of one team"
                raise BadTeams(msg)
            owners[key_id] = team.name
