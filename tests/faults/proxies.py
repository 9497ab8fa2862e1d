"""The example proxies of deploy/proxies: each file with the tests' addresses and certificate put in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from certificates import make_certificate
from lossd_client.local import free_port

EXAMPLES: Final = Path(__file__).parents[2] / "deploy/proxies"
_NGINX: Final = """
daemon off; pid nginx.pid; worker_processes 2; user root;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    include nginx.conf;
}
"""
"""What a distribution's own file says around the example."""


@dataclass(frozen=True, slots=True)
class Example:
    """One proxy.

    Attributes:
        file: The example's name.
        command: What runs it, from within a folder that has the file.
        ports: What stands in the file once for the callers' port, each replica and the other engine, and how
            that is written with a port.
        files: What stands there once for the certificate, the key, or both in one.
    """

    file: str
    command: Sequence[str]
    ports: Sequence[tuple[str, str]]
    files: Sequence[tuple[str, str]]


PROXIES: Final = {
    "nginx": Example(
        "nginx.conf",
        ["nginx", "-p", ".", "-e", "nginx.log", "-c", "main.conf"],
        [
            ("listen 443 ssl http2;", "listen 127.0.0.1:{} ssl http2;"),
            ("10.0.0.11:8000", "127.0.0.1:{}"),
            ("10.0.0.12:8000", "127.0.0.1:{}"),
            ("10.0.0.21:8000", "127.0.0.1:{}"),
        ],
        [("/etc/ssl/certs/loss.example.org.pem", "chain"), ("/etc/ssl/private/loss.example.org.key", "key")],
    ),
    "haproxy": Example(
        "haproxy.cfg",
        ["haproxy", "-db", "-f", "haproxy.cfg"],
        [
            ("bind :443 ", "bind 127.0.0.1:{} "),
            ("10.0.0.11:8000", "127.0.0.1:{}"),
            ("10.0.0.12:8000", "127.0.0.1:{}"),
            ("10.0.0.21:8000", "127.0.0.1:{}"),
        ],
        [("/etc/haproxy/loss.example.org.pem", "both")],
    ),
    "envoy": Example(
        "envoy.yaml",
        ["envoy", "-c", "envoy.yaml", "--disable-hot-restart", "--concurrency", "2"],
        [
            ("address: 0.0.0.0, port_value: 443", "address: 127.0.0.1, port_value: {}"),
            ("address: 10.0.0.11, port_value: 8000", "address: 127.0.0.1, port_value: {}"),
            ("address: 10.0.0.12, port_value: 8000", "address: 127.0.0.1, port_value: {}"),
            ("address: 10.0.0.21, port_value: 8000", "address: 127.0.0.1, port_value: {}"),
        ],
        [("/etc/envoy/loss.example.org.pem", "chain"), ("/etc/envoy/loss.example.org.key", "key")],
    ),
}


@dataclass(frozen=True, slots=True)
class Proxy:
    """One that runs: its address, and the certificate that it shows."""

    url: str
    chain: Path


def skip_without(*tools: str) -> None:
    """Skip a test if a program is not installed, here or beside this Python."""
    for tool in tools:
        if _found(tool) is None:
            pytest.skip(f"{tool} is not installed")


def _found(tool: str) -> str | None:
    return shutil.which(tool, path=os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)]))


@contextmanager
def proxy(name: str, folder: Path, replicas: tuple[int, int], engine: int | None = None) -> Iterator[Proxy]:
    """Start a proxy in front of servers and an engine, by their ports; without an engine, a free one."""
    example = PROXIES[name]
    chain, key = make_certificate(folder, name)
    both = folder / "both.pem"
    both.write_text(chain.read_text() + key.read_text())
    port = free_port()
    written = (EXAMPLES / example.file).read_text()
    ports = (port, *replicas, engine or free_port())
    places = [(old, new.format(number)) for (old, new), number in zip(example.ports, ports, strict=True)]
    paths = {"chain": chain, "key": key, "both": both}
    for old, new in places + [(old, str(paths[new])) for old, new in example.files]:
        assert written.count(old) == 1, old
        written = written.replace(old, new)
    (folder / example.file).write_text(written)
    (folder / "main.conf").write_text(_NGINX)
    output = folder / "output"
    program = _found(name)
    assert program is not None
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [program, *example.command[1:]], cwd=folder, stdout=stream, stderr=subprocess.STDOUT
        )
    url = f"https://127.0.0.1:{port}"
    try:
        _wait_for(f"{url}/livez", output)
        yield Proxy(url, chain)
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url: str, output: Path) -> None:
    ends = time.monotonic() + 30
    while subprocess.run(["curl", "-sfk", url], capture_output=True).returncode:
        assert time.monotonic() < ends, output.read_text()
        time.sleep(0.1)
