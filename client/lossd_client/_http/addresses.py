"""Addresses of servers."""

import os
import re
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

_DEFAULT: Final = "http://127.0.0.1:8000"


def server_address(given: str | None) -> str:
    """Return the base URL: the given one, else LOSSD_BASE_URL, else the default.

    Raises:
        TypeError: It is no text.
        ValueError: It is not an http or https address.
    """
    if not isinstance(given, str | None):
        raise TypeError(f"base_url must be a str or None, and is {given!r}")
    url = (given or "").strip() or os.environ.get("LOSSD_BASE_URL", "").strip() or _DEFAULT
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


def is_loopback(url: str) -> bool:
    """Return whether an address is loopback; proxies are not used for it."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def without_password(url: str) -> str:
    """Return an address without its password, for messages."""
    return re.sub("//.*@", "//[secure]@", url)
