"""Checks of the network: the server's name, a connection, TLS; or its Unix socket."""

import socket
import ssl
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from lossd_client import LossdError, Request, Timeout
from lossd_client.cli.doctor.finding import Finding, State, failed, ok
from lossd_client.cli.doctor.setup import Target
from lossd_client.cli.exits import Exit
from lossd_client.cli.raw import raw_transport

LIVEZ: Final = "/livez"


def look_at_network(target: Target, seconds: float) -> Iterator[Finding]:
    """Yield findings of the name, a connection and TLS, up to the first failure."""
    if target.unix_socket is not None:
        yield _socket(target.unix_socket, seconds)
        return
    host, port = target.host, target.port
    if target.proxy is not None:
        parts = urlsplit(target.proxy)
        host, port = parts.hostname or "", parts.port or 80
    found = _name(host, port)
    yield found
    if found.state is State.FAILED:
        return
    found = _connection(host, port, seconds)
    yield found
    if found.state is not State.FAILED and target.is_https:
        yield _tls(target, seconds)


def _name(host: str, port: int) -> Finding:
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        remedy = f"is {host!r} spelt right, and known to this machine's DNS or /etc/hosts?"
        return failed("name", f"{host} is not known ({error})", remedy, Exit.UNREACHABLE)
    there = dict.fromkeys(str(address[0]) for *_, address in addresses)
    return ok("name", f"{host} is {', '.join(there)}")


def _connection(host: str, port: int, seconds: float) -> Finding:
    try:
        with socket.create_connection((host, port), timeout=seconds) as connected:
            peer = connected.getpeername()
    except ConnectionRefusedError:
        remedy = f"is the server running (lossd serve), and does it listen on port {port} of this address?"
        return failed("connection", f"nothing listens at {host}:{port}", remedy, Exit.UNREACHABLE)
    except TimeoutError:
        remedy = "does a firewall, or the wrong network, stand between?"
        return failed(
            "connection", f"no answer from {host}:{port} in {seconds:g} s", remedy, Exit.UNREACHABLE
        )
    except OSError as error:
        remedy = "is there a network, and a way to that address?"
        return failed("connection", f"{host}:{port}: {error.strerror or error}", remedy, Exit.UNREACHABLE)
    return ok("connection", f"to {peer[0]}:{peer[1]}")


def _socket(path: str, seconds: float) -> Finding:
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(seconds)
            link.connect(path)
    except FileNotFoundError:
        what = f"there is no {path}"
        remedy = "is the server running, and is its LOSSD_UNIX_SOCKET this path?"
    except ConnectionRefusedError:
        what = f"nothing listens at {path}"
        remedy = "is it another program's file, or is the server that made it gone? start the server"
    except PermissionError:
        what = f"this user may not connect to {path}"
        remedy = "join the group that owns the socket, or ask the server's operator"
    except OSError as error:
        what, remedy = f"{path}: {error.strerror or error}", "is the server overloaded, or hung?"
    else:
        return ok("connection", f"to {path}")
    return failed("connection", what, remedy, Exit.UNREACHABLE)


def _tls(target: Target, seconds: float) -> Finding:
    """Check TLS with the client's certificates."""
    ask = Request("GET", LIVEZ, base_url=target.base_url)
    try:
        with raw_transport(target.base_url) as transport:
            transport.send(ask, Timeout.of(seconds))
    except LossdError as error:
        reason = _of_tls(error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            what = f"the certificate is not trusted: {reason.verify_message}"
            remedy = (
                "name the signer's certificate in SSL_CERT_FILE, and use the name that the certificate has"
            )
            return failed("tls", what, remedy, Exit.UNREACHABLE)
        if reason is not None:
            remedy = "does the server speak TLS at all? if not, its address begins with http://"
            return failed("tls", str(reason), remedy, Exit.UNREACHABLE)
        return failed("tls", str(error), "is there a proxy, or another server?", Exit.UNREACHABLE)
    return ok("tls", "the certificate is trusted")


def _of_tls(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error
