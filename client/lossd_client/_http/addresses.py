"""Addresses of servers."""

import os
import re
from ipaddress import ip_address
from typing import Final
from urllib.parse import unquote, urlsplit

_DEFAULT: Final = "http://127.0.0.1:8000"
_UNIX: Final = "unix://"
_LONGEST_PATH: Final = 107  # bytes of a Unix socket's path


def server_address(given: str | None) -> str:
    """Return the base URL: the given one, else LOSSD_BASE_URL, else the default.

    Raises:
        TypeError: It is no text.
        ValueError: It is not an http, https or unix address.
    """
    if not isinstance(given, str | None):
        raise TypeError(f"base_url must be a str or None, and is {given!r}")
    url = (given or "").strip() or os.environ.get("LOSSD_BASE_URL", "").strip() or _DEFAULT
    if url.lower().startswith("unix:"):
        return _socket_address(url)
    try:
        parts = urlsplit(url)
        _ = parts.port  # checked when it is read
    except ValueError as error:
        if "@" in url:  # the error may quote a part of the password
            raise ValueError(f"base_url is {without_password(url)!r}, whose port is no number") from None
        raise ValueError(f"base_url is {url!r}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"base_url must be like http://host:8000, and is {without_password(url)!r}")
    return url.rstrip("/")


def _socket_address(url: str) -> str:
    """Return the base URL of a Unix socket, checked.

    Raises:
        ValueError: It has no absolute path, or one that no socket can have.
    """
    path = socket_path(_UNIX + url[len(_UNIX) :]) if url.lower().startswith(_UNIX) else None
    if path is None or not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise ValueError(f"base_url must be like unix:///run/lossd.sock, with three slashes, and is {url!r}")
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ValueError(f"the path of a Unix socket has at most {_LONGEST_PATH} bytes; that of {url!r} more")
    return _UNIX + url[len(_UNIX) :]


def socket_path(url: str) -> str | None:
    """Return the path of the Unix socket that an address names; None if it names a host."""
    return unquote(url.removeprefix(_UNIX)) if url.startswith(_UNIX) else None


def is_loopback(url: str) -> bool:
    """Return whether an address is of this machine alone; proxies are not used for it."""
    if socket_path(url) is not None:
        return True
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def without_password(url: str) -> str:
    """Return an address without its password, for messages."""
    return url if socket_path(url) is not None else re.sub("//.*@", "//[secure]@", url)
