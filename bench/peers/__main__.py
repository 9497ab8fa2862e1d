"""Benchmark of lossd against serving frameworks around torch's own loss: ``make bench-peers``.

Installs each framework into ``.bench`` first, which takes minutes. It and lossd then run side by side and are
measured in turn. A framework that does not install or start is reported. Needs wrk.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.loads import Load, by_hand, by_wrk, need_wrk, post
from bench.payloads import CLASSES, LARGE, MIDDLE, SMALL, payload
from bench.servers import ROOT, NotMeasuredError, Running, lossd, serving
from bench.table import Figure, of_figures, options, tell

ENVIRONMENTS: Final = ROOT / ".bench"
REQUIREMENTS: Final = Path(__file__).with_name("requirements")
INSTALL_SECONDS: Final = 420.0
INFER: Final = "/v2/models/bce/infer"
OURS: Final = {"npy": "/bce", "json": "/bce", "v2": INFER, "v2-json": INFER}
SERVERS: Final = "bench.peers.servers"
_SYSTEM: Final = Path("/usr/bin/python3")  # Triton loads the distribution's libpython
_CONNECTIONS: Final = {SMALL: 16, MIDDLE: 16, LARGE: 1}


@dataclass(frozen=True, slots=True)
class Peer:
    """A framework.

    Attributes:
        name: Its name.
        environment: The name of its environment's folder and of its requirements file.
        ways: The path for each format that it is sent; lossd is sent the same formats, and .npy.
        command: Its command in ``bin/``; ``PORT`` stands for the port.
        variables: Environment variables; ``PORT`` stands for the port.
    """

    name: str
    environment: str
    ways: Mapping[str, str]
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


def _module(name: str) -> tuple[str, ...]:
    return ("python", "-m", f"{SERVERS}.{name}", "PORT")


PEERS: Final = (
    # One API process, one worker an API, fast_queue; .npy in a raw body, which is not documented.
    Peer("LitServe", "litserve", {"npy": "/npy", "json": "/json"}, _module("litserve_server")),
    # One worker, no metrics, no access log; .npy as an octet stream (its pickled form it refuses).
    Peer(
        "BentoML",
        "bentoml",
        {"npy-octets": "/npy", "json": "/lists"},
        ("bentoml", "serve", f"{SERVERS}.bentoml_server:Loss", "--host", "127.0.0.1", "--port", "PORT"),
        {
            "BENTOML_CONFIG_OPTIONS": "api_server.logging.access.enabled=false",
            "BENTOML_DO_NOT_TRACK": "True",
            "BENTOML_HOME": str(ENVIRONMENTS / "bentoml-home"),
        },
    ),
    # One replica, user code and router in its own loop, no access log, .npy in a raw body.
    Peer(
        "Ray Serve",
        "ray",
        {"npy": "/", "json": "/"},
        _module("ray_server"),
        {
            "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
            "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
            "RAY_SERVE_LOG_TO_STDERR": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
    ),
    # Dynamic batching up to 16 without delay, no metrics, no gRPC.
    Peer("PyTriton", "pytriton", {"v2": INFER}, _module("pytriton_server")),
    # In its own process (parallel_workers=0), no gzip, no metrics.
    Peer(
        "MLServer",
        "mlserver",
        {"v2-json": INFER},
        ("mlserver", "start", "."),
        {
            "MLSERVER_HTTP_PORT": "PORT",
            "MLSERVER_GRPC_PORT": "0",
            "MLSERVER_METRICS_ENDPOINT": "",
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_PARALLEL_WORKERS": "0",
            "MLSERVER_GZIP_ENABLED": "false",
            "MLSERVER_DEBUG": "false",
            "MLSERVER_MODEL_NAME": "bce",
            "MLSERVER_MODEL_IMPLEMENTATION": f"{SERVERS}.mlserver_server.Loss",
        },
    ),
)


def install(name: str) -> None:
    """Install a framework's environment, unless it is there.

    Raises:
        NotMeasuredError: It cannot be installed.
    """
    folder, wanted = ENVIRONMENTS / name, REQUIREMENTS / f"{name}.txt"
    stamp = folder / ".installed"
    if stamp.is_file() and stamp.read_bytes() == wanted.read_bytes():
        return
    python = _SYSTEM if name == "pytriton" else Path(sys.executable)
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
    for command in ([str(python), "-m", "venv", "--clear", str(folder)], [*pip, "-r", str(wanted)]):
        try:
            done = subprocess.run(  # noqa: S603 -- our own commands
                command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotMeasuredError(f"not installed: {error}") from None
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise NotMeasuredError(f"not installed: {' '.join(last)[:280]}")
    stamp.write_bytes(wanted.read_bytes())


def measure(peer: Peer, ours: Running, rounds: int) -> list[Figure]:
    """Measure lossd's requests a second as ratios to a framework's.

    Raises:
        NotMeasuredError: It does not install, or does not start.
    """
    install(peer.environment)
    bins = ENVIRONMENTS / peer.environment / "bin"

    def command(port: int) -> list[str]:
        arguments = [word.replace("PORT", str(port)) for word in peer.command]
        variables = {name: value.replace("PORT", str(port)) for name, value in peer.variables.items()}
        return [
            "env",
            *(f"{name}={value}" for name, value in variables.items()),
            str(bins / arguments[0]),
            *arguments[1:],
        ]

    form, path = next(iter(peer.ways.items()))
    environment = {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{bins}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    with serving(command, path, form, environment=environment) as theirs:
        return [
            figure
            for form, path in peer.ways.items()
            for own in sorted({form.removesuffix("-octets"), "npy"})
            for rows in (SMALL, MIDDLE, *[LARGE] * ("json" not in form))
            if (figure := _one(peer.name, (theirs, form, path), (ours, own), rows, rounds)).found
        ]


def _one(
    name: str, way: tuple[Running, str, str], own_way: tuple[Running, str], rows: int, rounds: int
) -> Figure:
    (theirs, form, path), (ours, own) = way, own_way
    figure = Figure(
        f"{rows:,}x{CLASSES}, {_CONNECTIONS[rows]} at once, requests/s: {own}, of {name}'s {form}"
    )
    try:
        for _ in range(rounds):
            their_rate = _load(theirs, path, form, rows).rate
            if their_rate:
                figure.found.append(_load(ours, OURS[own], own, rows).rate / their_rate)
    except OSError as error:  # the body is too large for it
        say(f"{figure.what}: {error}")
    return figure


def _load(running: Running, path: str, form: str, rows: int) -> Load:
    body = payload(form, rows)
    post(running.port, path, body)
    if rows == LARGE:
        return by_hand(running.port, path, body, 2)
    return by_wrk(running.port, path, body, _CONNECTIONS[rows])


def say(text: str) -> None:
    """Print progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Install and measure the frameworks, and print the table."""
    parser = options("peers", __doc__, rounds=3)
    parser.add_argument("--only", default="", help="frameworks whose names contain one of these, by commas")
    given = parser.parse_args()
    need_wrk()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers are stopped on the way out
    figures = []
    with lossd() as ours:
        for peer in PEERS:
            if any(word in peer.name.lower() for word in given.only.lower().split(",")):
                try:
                    figures += measure(peer, ours, given.rounds)
                except NotMeasuredError as why:
                    say(f"{peer.name}: {why}")
    tell("bench-peers", given, of_figures(figures))


if __name__ == "__main__":
    main()
