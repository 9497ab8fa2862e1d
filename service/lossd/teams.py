"""Teams: who may use the server, by which keys, with what share and within which limits.

A teams file is TOML, one table a team:

    [teams.vision]
    weight = 2.0                      # share of the workers' time, in proportion to others'; 1 by default
    disabled = false                  # true refuses all of its keys

    [teams.vision.limits]             # each may be left out, and does not limit then
    requests_per_second = 50
    elements_per_second = 1e9
    requests_in_flight = 64
    bytes_in_flight = 1073741824

    [teams.vision.keys.k3mv9x2q]      # the key's id, which is part of the key
    sha256 = "..."                    # of the whole key, in hexadecimal
    created = 2026-11-26T08:00:00Z

A key is ``lossd_<id>_<secret><checksum>``. What is kept of it is its SHA-256: the secret has 190 random bits,
so there is nothing to guess that a slow hash would protect. The prefix lets scanners of repositories find
keys that have leaked, and the checksum lets them, and us, tell a key from what only looks like one.
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
"""The team that everyone is of, as long as there are no teams."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"  # none that are mistaken for others
_ID_LENGTH: Final = 8
_SECRET_LENGTH: Final = 32
_CHECKSUM_LENGTH: Final = 6
_KEY: Final = re.compile(
    rf"lossd_([a-z0-9]{{{_ID_LENGTH}}})_([0-9A-Za-z]{{{_SECRET_LENGTH}}})([0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})"
)
KEY_ID: Final = re.compile(rf"[a-z0-9]{{{_ID_LENGTH}}}")
"""The form of a key's id."""
_SECRET: Final = re.compile(rf"(lossd_[a-z0-9]{{{_ID_LENGTH}}}_)[0-9A-Za-z]{{12,}}")
KEY_IN_BYTES: Final = re.compile(_SECRET.pattern.encode())
"""Finds a key, or most of one."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a team may use at most, over all front ends together; None does not limit.

    Attributes:
        requests_per_second: Requests for a loss that begin; as many may come at once as in one second.
        elements_per_second: Elements of their inputs.
        requests_in_flight: Requests that are not answered.
        bytes_in_flight: Bytes of their bodies, as announced.
    """

    requests_per_second: float | None = None
    elements_per_second: float | None = None
    requests_in_flight: int | None = None
    bytes_in_flight: int | None = None


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of a key.

    Attributes:
        sha256: Of the key's text, in hexadecimal.
        created: When it was made, as TOML writes it; for people.
    """

    sha256: str
    created: str = ""


class Team(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A team.

    Attributes:
        name: Its name.
        weight: Its share of what is shared, in proportion to others'.
        limits: What it may use at most.
        keys: By id.
        disabled: It may not use the server.
    """

    name: str
    weight: float = 1.0
    limits: Limits = Limits()
    keys: Mapping[str, Key] = {}
    disabled: bool = False


MOST_TEAMS: Final = 4096

EVERYONE: Final = Team(DEFAULT)
"""The team of a server without teams."""
NOBODY: Final = Team("")
"""Instead of a team, for a request whose key is not valid, or not looked at yet."""


class BadTeams(ValueError):  # noqa: N818 -- it is the file that is bad
    """A teams file that cannot be used; says where in it, and why."""


@dataclass(frozen=True, slots=True)
class Roster:
    """All teams.

    Attributes:
        teams: By name.
    """

    teams: Mapping[str, Team]
    _owners: dict[str, tuple[Team, bytes]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for team in self.teams.values():
            for key_id, key in team.keys.items():
                self._owners[key_id] = team, bytes.fromhex(key.sha256)

    def find(self, key: str) -> Team | None:
        """The team that a key is of, if it is one; also if that is disabled."""
        _, _, rest = key.partition("_")
        owner = self._owners.get(rest.partition("_")[0])
        if owner is None:
            return None
        team, digest = owner
        return team if hmac.compare_digest(_sha256(key).digest(), digest) else None


def conceal_keys(text: str) -> str:
    """A text without the secrets of the keys in it, which may be cut short."""
    return _SECRET.sub(r"\1***", text) if "lossd_" in text else text


def new_key() -> tuple[str, str]:
    """A new key's id, and its text."""
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))
    return key_id, f"lossd_{key_id}_{secret}{_checksum(key_id, secret)}"


def digest_of(key: str) -> str:
    """What is kept of a key: its SHA-256, in hexadecimal."""
    return _sha256(key).hexdigest()


def _sha256(key: str) -> hashlib._Hash:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass"))  # whatever text comes for one


def is_key(text: str) -> bool:
    """Whether a text has the form of a key, its checksum included; no team need have it."""
    found = _KEY.fullmatch(text)
    return found is not None and found[3] == _checksum(found[1], found[2])


def _checksum(key_id: str, secret: str) -> str:
    rest, text = zlib.crc32(f"{key_id}_{secret}".encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        rest, digit = divmod(rest, len(_ALPHABET))
        text = _ALPHABET[digit] + text
    return text


def read_text(path: Path) -> str:
    """What a teams file holds.

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
    """The teams that a file names.

    Raises:
        BadTeams: It cannot be read, or used: what is wrong with it, and where.
    """
    return parse_teams(read_text(path))


def parse_toml(text: str) -> dict[str, object]:
    """A file's text as TOML, whatever it names.

    Raises:
        BadTeams: It is none.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # the former also for numbers of thousands of digits
        msg = f"not TOML: {error}"
        raise BadTeams(msg) from None


def parse_teams(text: str) -> Roster:
    """The teams that a file's text names.

    Raises:
        BadTeams: It cannot be used: what is wrong with it, and where.
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
    """Refuse what is no team's name.

    Raises:
        BadTeams: With what names are.
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
    """A key's table whose date, a type of TOML's own, is text."""
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
