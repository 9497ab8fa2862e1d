"""The types of settings: how an environment variable's text is read, and what is refused."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticUseDefault
from pydantic_settings import NoDecode

SERVICE_LINK: Final = re.compile(r"(?:tcp|udp|sctp)://.*", re.DOTALL)
"""What Kubernetes sets ``…_PORT`` to, for a Service."""
UNIX: Final = "unix:"
"""Stands for the address of every caller at the Unix socket, as nginx writes it."""
_origin: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+")
_store_url: Final = re.compile(r"(redis|rediss|unix)://.")
_database_url: Final = re.compile(r"postgres(ql)?://")
_other_url: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def usage_place(text: str) -> Path | str:
    """Return the usage file that a text names, or the text if it is a database's URL.

    Raises:
        ValueError: It is another URL. Its text is not shown: it may have a password.
    """
    if _database_url.match(text):
        return _check_signs(text, "postgresql://USER:PASSWORD@HOST/DATABASE")
    if _other_url.match(text):
        msg = "this is neither a file nor postgresql://USER:PASSWORD@HOST/DATABASE; write one of them"
        raise ValueError(msg)
    return Path(text)


def _read_place(value: object) -> object:
    return usage_place(value) if isinstance(value, str) and value else value


def _check_store(value: str | None) -> str | None:
    if value is not None and not _store_url.match(value):
        msg = "this is no URL of a quota store; write redis://HOST:6379/0, rediss://... or unix:///PATH"
        raise ValueError(msg)
    return None if value is None else _check_signs(value, "redis://:PASSWORD@HOST:6379/0")


def _check_signs(url: str, example: str) -> str:
    """Refuse a URL whose password ends its address, which logs would show."""
    address, *rest = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)
    if address and "@" not in address and any("@" in part for part in rest):
        msg = (
            "the URL's password has signs that end an address; write / as %2F, ? as %3F, # as %23, @ as %40 "
            f"in {example}"
        )
        raise ValueError(msg)
    return url


def _pass_over_link(value: object) -> object:
    if isinstance(value, str) and SERVICE_LINK.fullmatch(value):
        raise PydanticUseDefault
    return value


def _read_nothing(value: object) -> object:
    return None if value == "" else value


def _read_word(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part) if isinstance(value, str) else value


def _check_proxies(value: tuple[str, ...]) -> tuple[str, ...]:
    for address in value:
        try:
            if address != UNIX:
                ipaddress.ip_network(address)
        except ValueError as error:
            msg = f"{address!r} is no address or network of a proxy ({error})"
            raise ValueError(msg) from None
    return value


def _check_origins(value: tuple[str, ...]) -> tuple[str, ...]:
    for origin in value:
        if origin != "*" and not _origin.fullmatch(origin):
            msg = f"{origin!r} is no origin; give scheme, host and port alone, as in https://example.org"
            raise ValueError(msg)
    return value


def _check_devices(value: tuple[str, ...]) -> tuple[str, ...]:
    for name in value or ("",):
        kind, _, index = name.partition(":")
        numbered = kind in ("cpu", "cuda") and index.isdecimal() and index == str(int(index))
        if name not in ("auto", "cpu") and not numbered:
            msg = f"{name!r} is not a device; use auto, cpu, cpu:N or cuda:N, several separated by commas"
            raise ValueError(msg)
    if "auto" in value and len(value) > 1:
        msg = "auto stands alone; name the devices, or leave them to auto"
        raise ValueError(msg)
    if len(set(value)) < len(value):
        msg = "a device is named twice; one worker serves a device"
        raise ValueError(msg)
    return value


# Of several validators before a type, the last one is called first.
EMPTY_IS_NONE: Final = BeforeValidator(_read_nothing)
"""An empty variable means None."""
LINK_IS_DEFAULT: Final = BeforeValidator(_pass_over_link)
"""A link to a Service means the default."""
ANY_CASE: Final = BeforeValidator(_read_word)
"""Capitals, and spaces around, mean nothing."""

Seconds = Annotated[float, Field(gt=0.0, le=1e7)]  # clocks and timers count further than callers wait
OptionalPath = Annotated[Path | None, EMPTY_IS_NONE]
UsagePlace = Annotated[Path | str | None, EMPTY_IS_NONE, BeforeValidator(_read_place)]
StoreUrl = Annotated[str | None, EMPTY_IS_NONE, AfterValidator(_check_store)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Devices = Annotated[Words, ANY_CASE, AfterValidator(_check_devices)]
Networks = Annotated[Words, AfterValidator(_check_proxies)]
Origins = Annotated[Words, AfterValidator(_check_origins)]


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
