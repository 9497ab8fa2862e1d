"""Checks of this machine: Python, packages, address, key, proxies and certificates."""

import os
import platform
import re
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from lossd_client._http.addresses import is_loopback, server_address, socket_path
from lossd_client._options import Settings
from lossd_client.cli.doctor.finding import Finding, failed, ok, warning
from lossd_client.cli.exits import Exit

_NEEDED: Final = ("httpx", "numpy", "pydantic", "rich", "typer")
_EXTRAS: Final = {
    "pyarrow": "for parquet and Arrow files, Arrow streams: pip install 'lossd[files]'",
    "fsspec": "for files at URLs: pip install 'lossd[files]'",
    "safetensors": "nor needed: such files are read without it",
    "torch": "for a server on GPUs, and scoring torch's tensors: pip install 'lossd[server]'",
}
_KEY: Final = re.compile(r"lossd_([a-z0-9]{8})_")
_PROXY_SCHEMES: Final = ("http", "https", "socks5", "socks5h")  # httpx's
_LEAST: Final = (3, 11)


@dataclass(frozen=True, slots=True)
class Target:
    """The server to check, and the proxy to it.

    Attributes:
        base_url: The server's address.
        api_key: The key, if one was given.
        host: The server's host.
        port: Its port.
        proxy: The proxy that requests go by, if they do.
        unix_socket: The path of its Unix socket, instead of host and port.
    """

    base_url: str
    api_key: str | None
    host: str
    port: int
    proxy: str | None
    unix_socket: str | None = None

    @property
    def is_https(self) -> bool:
        """Whether the address is https."""
        return self.base_url.startswith("https:")


def look_at_packages() -> Iterator[Finding]:
    """Yield findings of Python and the installed packages."""
    running = platform.python_version()
    if sys.version_info < _LEAST:
        yield failed("python", running, "lossd needs Python 3.11 or later", Exit.USAGE)
    else:
        yield ok("python", f"{running} ({sys.executable})")
    own = _version("lossd")
    if own is None:
        yield warning("lossd", "runs without being installed", "install it: pip install path/to/lossd")
    else:
        yield ok("lossd", own)
    found = {name: _version(name) for name in _NEEDED}
    missing = [name for name, version in found.items() if version is None]
    if missing:
        lacks = ", ".join(missing)
        yield failed("packages", f"{lacks} not installed", f"pip install {' '.join(missing)}", Exit.USAGE)
    else:
        yield ok("packages", ", ".join(f"{name} {version}" for name, version in found.items()))
    for name, use in _EXTRAS.items():
        version = _version(name)
        yield ok(f"extra {name}", version or f"not installed; {use}")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def look_at_settings(url: str | None, api_key: str | None) -> Iterator[Finding | Target]:
    """Yield findings of address, key and proxies; then the target, if they are usable."""
    try:
        settings = Settings(base_url=server_address(url), api_key=api_key)
    except ValueError as error:
        remedy = "give --url or LOSSD_BASE_URL as http://host:port, or unix:///path"
        yield failed("address", str(error), remedy, Exit.USAGE)
        return
    by = "--url" if url else "LOSSD_BASE_URL" if os.environ.get("LOSSD_BASE_URL") else "the default"
    yield ok("address", f"{settings.base_url}, by {by}")
    try:
        settings.headers()
    except ValueError as error:
        yield failed("key", str(error), "copy it again, without quotes around it", Exit.USAGE)
        return
    yield ok("key", _key(api_key))
    path = socket_path(settings.base_url)
    if path is not None:  # neither proxies nor certificates are used for it
        yield Target(settings.base_url, api_key, "", 0, None, path)
        return
    parts = urlsplit(settings.base_url)
    host = parts.hostname or ""
    proxy, finding = _proxy(settings.base_url, parts.scheme, host)
    yield finding
    if finding.code != Exit.OK:
        return
    for found in _certificates():
        yield found
        if found.code is not Exit.OK:
            return
    yield Target(
        settings.base_url, api_key, host, parts.port or (443 if parts.scheme == "https" else 80), proxy
    )


def _key(given: str | None) -> str:
    """Return a description of the key with nothing but its id, which is no secret."""
    given, variable = (given or "").strip(), os.environ.get("LOSSD_API_KEY", "").strip()
    key = given or variable
    if not key:
        return "none; a server with teams asks for one"
    by = "--api-key" if given else "LOSSD_API_KEY"
    known = _KEY.match(key)
    return f"given by {by}" + (
        f", its id is {known[1]}" if known else ", and not of the form of lossd's keys"
    )


def _proxy(base_url: str, scheme: str, host: str) -> tuple[str | None, Finding]:
    there = getproxies()
    found = {
        name: value if "://" in value else f"http://{value}"
        for name, value in there.items()
        if name in ("http", "https", "all")
    }
    if not found:
        return None, ok("proxy", "none")
    named = ", ".join(f"{name.upper()}_PROXY" for name in found)
    if is_loopback(base_url):
        return None, ok("proxy", f"{named} set, and not used for this machine")
    if "*" not in map(str.strip, there.get("no", "").split(",")):  # all must be usable, whichever is used
        for name, value in found.items():
            finding = _unusable(_variable(name), value)
            if finding is not None:
                return None, finding
    proxy = found.get(scheme) or found.get("all")
    if proxy is None or proxy_bypass(host):
        return None, ok("proxy", f"{named} set, and not used for {host}")
    remedy = f"if it does not let requests of this size through, set NO_PROXY={host}"
    return proxy, warning("proxy", f"requests go by way of {_without_password(proxy)}", remedy)


def _variable(name: str) -> str:
    """Return the name of a proxy's environment variable, in the case in which it is set."""
    lower = f"{name}_proxy"
    return lower if os.environ.get(lower) else lower.upper()


def _unusable(variable: str, proxy: str) -> Finding | None:
    """Return the finding of a proxy's URL that cannot be used, without its password."""
    scheme, _, _ = proxy.partition("://")
    remedy = f"set {variable} to http://host:port, or unset it"
    if scheme.lower() not in _PROXY_SCHEMES:
        what = f"its scheme is {scheme}, not {', '.join(_PROXY_SCHEMES[:-1])} or {_PROXY_SCHEMES[-1]}"
    elif not _has_address(proxy):
        what = "it has no host, or a port that is no number"
    elif scheme.lower().startswith("socks") and find_spec("socksio") is None:
        what, remedy = "it needs socksio", f"pip install 'httpx[socks]', or unset {variable}"
    else:
        return None
    return failed("proxy", f"{variable} cannot be used: {what}", remedy, Exit.USAGE)


def _has_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _without_password(proxy: str) -> str:
    parts = urlsplit(proxy)
    return (
        proxy if parts.username is None else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    )


def _certificates() -> Iterator[Finding]:
    """Yield findings of files of certificates, which must be readable for http:// too."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        path = os.environ.get(name)
        if not path:
            continue
        try:
            if name == "SSL_CERT_FILE":
                ssl.create_default_context(cafile=path)
            else:
                ssl.create_default_context(capath=path)
        except OSError as error:
            what, remedy = (
                f"{path}: {error.strerror or error}",
                f"name a file of certificates, or unset {name}",
            )
            yield failed(name, what, remedy, Exit.USAGE)
        else:
            yield ok(name, path)
