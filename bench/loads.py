"""Load on a server: by wrk, or by a small client for large bodies."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.payloads import Payload

# A header of the value "*" gets another value in each request.
_SCRIPT: Final = """
local fresh, number = {}, 0
for line in io.open(os.getenv("HEADERS"), "r"):lines() do
  local name, value = line:match("^(.-): (.*)$")
  wrk.headers[name] = value
  if value == "*" then fresh[#fresh + 1] = name end
end
wrk.method = "POST"
wrk.body = io.open(os.getenv("BODY"), "rb"):read("*a")
if #fresh > 0 then
  request = function()
    number = number + 1
    for _, name in ipairs(fresh) do wrk.headers[name] = string.format("%032x", number) end
    return wrk.format()
  end
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('\\nresult {"requests": %d, "seconds": %f, "failed": %d, "p50": %f, "p99": %f}\\n',
    summary.requests, summary.duration / 1e6, e.connect + e.status + e.read + e.write + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """The outcome of a load.

    Attributes:
        requests: Requests that were answered.
        seconds: The time that they took together.
        failed: Requests without an answer, or with a status other than 200.
        p50: The median time of a request, in milliseconds.
        p99: The 99th percentile, in milliseconds; the longest time where requests are few.
    """

    requests: int
    seconds: float
    failed: int
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Requests a second; 0 if one failed."""
        return 0.0 if self.failed else self.requests / self.seconds


def need_wrk() -> None:
    """Exit if wrk is missing."""
    if shutil.which("wrk") is None:
        sys.exit("this needs wrk, a package of Debian's and Ubuntu's: apt-get install wrk")


def post(port: int, path: str, payload: Payload, timeout: float = 120.0) -> bytes:
    """Send one request on a new connection, and return the answer's body.

    Raises:
        OSError: The server cannot be reached, or answers with a status other than 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        return exchange(connection, path, payload)
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()


def exchange(connection: http.client.HTTPConnection, path: str, payload: Payload) -> bytes:
    """Send one request on an open connection, and return the answer's body."""
    connection.request("POST", path, payload.data, payload.headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise OSError(f"{path}: {answer.status}: {text[:300]!r}")
    return text


def by_wrk(
    port: int,
    path: str,
    payload: Payload,
    connections: int,
    seconds: int = 1,
    headers: Mapping[str, str] | None = None,
) -> Load:
    """Send requests for some seconds; each connection sends the next once it has the answer."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "body").write_bytes(payload.data)
        lines = "".join(f"{name}: {value}\n" for name, value in (headers or payload.headers).items())
        (folder / "headers").write_text(lines)
        (folder / "post.lua").write_text(_SCRIPT)
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "120s"]
        done = subprocess.run(  # noqa: S603 -- our own command
            [*command, "-s", str(folder / "post.lua"), f"http://127.0.0.1:{port}{path}"],
            env={**os.environ, "BODY": str(folder / "body"), "HEADERS": str(folder / "headers")},
            capture_output=True,
            text=True,
            check=True,
        )
    return Load(**json.loads(done.stdout.rpartition("result ")[2]))


def by_hand(port: int, path: str, payload: Payload, times: int) -> Load:
    """Send requests one after the other on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300.0)
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        exchange(connection, path, payload)
        taken.append(time.perf_counter() - began)
    connection.close()
    return Load(times, sum(taken), 0, 1e3 * statistics.median(taken), 1e3 * max(taken))
