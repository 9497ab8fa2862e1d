"""A reverse proxy that has the server below a path of its own."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest

from lossd_client.local import free_port

_CONFIGURATION: Final = """
daemon off; pid nginx.pid; user root;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port};
        location /tools/loss/ {{ proxy_pass http://{server}/; }}
    }}
}}
"""


@contextmanager
def prefixed(folder: Path, url: str) -> Iterator[str]:
    """Where a server is found behind the proxy."""
    program = shutil.which("nginx")
    if program is None:
        pytest.skip("nginx is not installed: .ci/tools installs it")
    port = free_port()
    written = _CONFIGURATION.format(port=port, server=urlsplit(url).netloc)
    (folder / "nginx.conf").write_text(written)
    words = [program, "-p", ".", "-e", "nginx.log", "-c", "nginx.conf"]
    process = subprocess.Popen(words, cwd=folder, stderr=subprocess.DEVNULL)
    try:
        below = f"http://127.0.0.1:{port}/tools/loss"
        _wait_for(f"{below}/livez", folder / "nginx.log")
        yield below
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url: str, log: Path) -> None:
    ends = time.monotonic() + 30
    while True:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < ends, log.read_text()
        time.sleep(0.05)
