"""Proxies that speak HTTP/2 to callers: who is refused while still sending gets the answer, with its body."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from certificates import make_certificate
from faults.observe import port_of
from faults.raw import connect, receive
from live_server import LiveServer, free_port, live_server
from teams_file import make_key, team_table, write_teams

BODY = bytes(10_000_000)
NGINX = """
daemon off; pid nginx.pid; error_log nginx.log; worker_processes 1; user root;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        location / {{
            proxy_pass http://127.0.0.1:{server};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_request_buffering off;
            client_max_body_size 1g;
        }}
    }}
}}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 20s
  timeout client 60s
  timeout server 60s
frontend callers
  bind 127.0.0.1:{port} ssl crt {both} alpn h2,http/1.1
  option forwardfor
  default_backend lossd
backend lossd
  server one 127.0.0.1:{server}
"""
PROXIES = {
    "nginx": (NGINX, ["nginx", "-p", "{folder}", "-e", "nginx.log", "-c", "proxy.conf"]),
    "haproxy": (HAPROXY, ["haproxy", "-db", "-f", "{folder}/proxy.conf"]),
}
KEY, LIMITED = make_key(), make_key()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("server")
    limited = team_table("limited", LIMITED, limits={"requests_per_second": 0.001})
    write_teams(folder / "teams.toml", team_table("vision", KEY), limited)
    with live_server(
        folder, teams=folder / "teams.toml", max_json_bytes=1_000_000, trusted_proxies="127.0.0.1"
    ) as server:
        yield server


@contextmanager
def proxy(name: str, folder: Path, server: LiveServer) -> Iterator[str]:
    """Start a proxy in front of the server; its address."""
    chain, key = make_certificate(folder, name)
    both = folder / "both.pem"
    both.write_text(chain.read_text() + key.read_text())
    port = free_port()
    config, command = PROXIES[name]
    places = {"port": port, "chain": chain, "key": key, "both": both, "server": port_of(server)}
    (folder / "proxy.conf").write_text(config.format(**places))
    with (folder / "output").open("wb") as output:
        words = [word.format(folder=folder) for word in command]
        process = subprocess.Popen(words, stdout=output, stderr=output)
    url = f"https://127.0.0.1:{port}"
    try:
        wait_for(f"{url}/livez", folder / "output")
        yield url
    finally:
        process.terminate()
        process.wait(30)


def wait_for(url: str, output: Path) -> None:
    ends = time.monotonic() + 30
    while subprocess.run(["curl", "-sfk", url], capture_output=True).returncode:
        assert time.monotonic() < ends, output.read_text()
        time.sleep(0.1)


@pytest.mark.parametrize("name", PROXIES)
def test_early_refusals_keep_their_bodies_behind_http2(name: str, tmp_path: Path, server: LiveServer) -> None:
    for tool in (name, "curl"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    body = tmp_path / "body"
    body.write_bytes(BODY)
    npy, text = "content-type: application/x-npy", "content-type: text/plain"
    cases = [
        (401, [npy]),
        (415, [text, f"x-api-key: {KEY}"]),
        (413, ["content-type: application/json", f"x-api-key: {KEY}"]),
        (429, [npy, f"x-api-key: {LIMITED}"]),
    ]
    with proxy(name, tmp_path, server) as url:
        # The first request is let in, and says that the body is not .npy.
        post(f"{url}/bce", body, cases[-1][1])
        for status, headers in cases:
            problem, received, version, sent = post(f"{url}/bce", body, headers)
            assert (problem["status"], received, version) == (status, status, "2")
            assert sent == len(BODY), "callers such as curl often lose an answer that comes earlier"


def post(url: str, body: Path, headers: list[str]) -> tuple[dict[str, object], int, str, int]:
    """Send a body over HTTP/2: the problem, the status, the version, and how much of the body was sent."""
    lines = [word for line in ["expect:", *headers] for word in ("-H", line)]
    wanted = r"\n%{http_code} %{http_version} %{size_upload}"
    command = ["curl", "-sk", "--http2", "-m", "60", *lines, "--data-binary", f"@{body}", "-w", wanted, url]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done
    document, _, last = done.stdout.rpartition("\n")
    status, version, sent = last.split()
    return json.loads(document), int(status), version, int(sent)


HEAD = b"POST /bce HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-npy\r\nx-forwarded-for: 10.0.0.1\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"content-length: 1000000\r\n\r\n" + bytes(1_000_000),
        HEAD + b"content-length: 1000000\r\n\r\n" + bytes(500_000),
        HEAD + b"content-length: 10\r\n\r\n" + bytes(5),
        HEAD + b"content-length: 1000000\r\nexpect: 100-continue\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
    ids=["whole", "half", "short", "expects", "chunks", "all chunks"],
)
def test_an_answer_through_a_proxy_does_not_wait_for_a_body_that_does_not_come(
    sent: bytes, server: LiveServer
) -> None:
    with connect(server) as caller:
        caller.sendall(sent)
        received = receive(caller, 15, answers=1)
        assert received.statuses == [401]
        assert received.seconds < 10  # it is a second, of the server's own `_LATE_SECONDS`


def test_an_answer_through_a_proxy_waits_for_the_body_for_so_long(server: LiveServer) -> None:
    first, seconds = answered_while_sending(server, HEAD)
    assert first.startswith(b"HTTP/1.1 401")
    assert seconds > 3


def test_nobody_else_has_an_answer_wait(server: LiveServer, tmp_path: Path) -> None:
    whole = HEAD.replace(b"POST /bce", b"GET /openapi.json")
    first, seconds = answered_while_sending(server, whole)
    assert first.startswith(b"HTTP/1.1 200")
    assert seconds < 3
    with live_server(tmp_path) as untrusting:
        refused = HEAD.replace(b"POST /bce", b"POST /nothing") + b"via: 1.1 x\r\n"
        first, seconds = answered_while_sending(untrusting, refused)
    assert first.startswith(b"HTTP/1.1 404")
    assert seconds < 3


def answered_while_sending(server: LiveServer, head: bytes) -> tuple[bytes, float]:
    """The beginning of the answer to a request whose body trickles, and when it came."""
    with connect(server) as caller:
        began = time.monotonic()
        caller.sendall(head + b"content-length: 10000000\r\n\r\n")
        caller.settimeout(0.1)
        first = b""
        while not first and time.monotonic() < began + 20:
            caller.sendall(bytes(1000))
            try:
                first = caller.recv(1 << 16)
            except TimeoutError:
                continue
        return first, time.monotonic() - began
