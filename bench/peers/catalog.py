"""The servers that are measured: how each starts, and what it is sent."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
ENVIRONMENTS: Final = ROOT / ".bench"
REQUIREMENTS: Final = Path(__file__).with_name("requirements")
_SERVERS: Final = "bench.peers.servers"


@dataclass(frozen=True, slots=True)
class Way:
    """One form of request to a server.

    Attributes:
        form: Of `payloads.payload`.
        path: Where it goes.
        read: The mean out of an answer's body; None where the answer is no loss.
    """

    form: str
    path: str
    read: Callable[[bytes], float] | None


@dataclass(frozen=True, slots=True)
class Server:
    """A server to measure.

    Attributes:
        name: In the tables.
        setting: How it is run, in the tables.
        ways: What it is sent, its best first.
        command: From the interpreter and the port.
        environment: The folder of its environment, and its file of requirements; "" is this one.
        variables: Further environment variables, from the port.
        small: It is sent small requests, too.
    """

    name: str
    setting: str
    ways: tuple[Way, ...]
    command: Callable[[str, int], list[str]]
    environment: str = ""
    variables: Callable[[int], Mapping[str, str]] = field(default=lambda _: {})
    small: bool = True

    @property
    def interpreter(self) -> str:
        """Its python."""
        return str(ENVIRONMENTS / self.environment / "bin/python") if self.environment else sys.executable


def _loss(text: bytes) -> float:
    return float(json.loads(text)["loss"])


def _output(text: bytes) -> float:
    outputs = {one["name"]: one["data"] for one in json.loads(text)["outputs"]}
    return float(outputs["loss"][0])


def _uvicorn(application: str) -> Callable[[str, int], list[str]]:
    options = "--http httptools --loop uvloop --lifespan off --no-access-log --no-server-header"
    options += " --no-proxy-headers --log-level warning --host 127.0.0.1"
    return lambda python, port: [python, "-m", "uvicorn", application, *options.split(), "--port", str(port)]


def _module(name: str) -> Callable[[str, int], list[str]]:
    return lambda python, port: [python, "-m", f"{_SERVERS}.{name}", str(port)]


def _lossd(kernel: str, workers: int = 1) -> Server:
    def variables(_: int) -> dict[str, str]:
        return {"LOSSD_KERNEL": kernel, "LOSSD_CACHE_DIR": str(ENVIRONMENTS / "kernels")}

    devices = ",".join(f"cpu:{number}" for number in range(workers))
    serve = "from lossd.cli import main; main()"
    options = ["serve", "--host", "127.0.0.1", "--device", devices, "--port"]
    ways = (
        Way("npy", "/bce", _loss),
        Way("npy-bool", "/bce", _loss),
        Way("v2", "/v2/models/bce/infer", _output),
        Way("json", "/bce", _loss),
    )
    workers_text = "one worker" if workers == 1 else f"{workers} workers"
    return Server(
        ", ".join(["lossd", *[kernel] * (kernel != "eager"), *[workers_text] * (workers > 1)]),
        f"one front end, {workers_text}, kernel {kernel}; computes in float64",
        ways if workers == 1 else ways[:1],
        lambda python, port: [python, "-c", serve, *options, str(port)],
        variables=variables,
        small=workers == 1,
    )


LIMIT: Final = "uvicorn, body dropped"
LOSSD: Final = _lossd("eager")
COMPILED: Final = _lossd("compiled")
LOSSD_TWO: Final = _lossd("eager", 2)
COMPILED_TWO: Final = _lossd("compiled", 2)
OURS: Final = (LOSSD, COMPILED, LOSSD_TWO, COMPILED_TWO)
NP_LOAD: Final = "FastAPI, np.load"
PYDANTIC: Final = "FastAPI, pydantic"
LITSERVE, BENTOML, RAY, PYTRITON, MLSERVER = "LitServe", "BentoML", "Ray Serve", "PyTriton", "MLServer"
_FASTAPI: Final = _uvicorn(f"{_SERVERS}.fastapi_server:app")

SERVERS: Final = (
    Server(
        LIMIT,
        "one process, httptools and uvloop, no access log",
        (Way("npy", "/", None),),
        _uvicorn("bench.hot_path:read_and_drop"),
    ),
    *OURS,
    Server(
        NP_LOAD,
        "one uvicorn process as above, an async handler (a sync one goes through a thread)",
        (Way("npy", "/npy", _loss), Way("npy-bool", "/npy", _loss)),
        _FASTAPI,
    ),
    Server(PYDANTIC, "the same, a model of two list[list[float]]", (Way("json", "/json", _loss),), _FASTAPI),
    Server(
        LITSERVE,
        "one API process, one worker an API, fast_queue; .npy in a raw body, which is not documented",
        (Way("npy", "/npy", _loss), Way("json", "/json", _loss)),
        _module("litserve_server"),
        "litserve",
    ),
    Server(
        BENTOML,
        "one worker, no metrics, no access log; .npy as an octet stream (its pickled form it refuses)",
        (Way("npy-octets", "/npy", float), Way("json", "/lists", float)),
        lambda python, port: [
            *[python, "-m", "bentoml", "serve", f"{_SERVERS}.bentoml_server:Loss"],
            *["--host", "127.0.0.1", "--port", str(port)],
        ],
        "bentoml",
        lambda _: {
            "BENTOML_CONFIG_OPTIONS": "api_server.logging.access.enabled=false",
            "BENTOML_DO_NOT_TRACK": "True",
            "BENTOML_HOME": str(ENVIRONMENTS / "bentoml-home"),
        },
    ),
    Server(
        RAY,
        "one replica, user code and router in the replica's own loop, no access log, .npy in a raw body",
        (Way("npy", "/", _loss), Way("json", "/", _loss)),
        _module("ray_server"),
        "ray",
        lambda _: {
            "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
            "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
            "RAY_SERVE_LOG_TO_STDERR": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
    ),
    Server(
        PYTRITON,
        "v2 binary, dynamic batching up to 16 without delay, no metrics, no gRPC",
        (Way("v2", "/v2/models/bce/infer", _output),),
        _module("pytriton_server"),
        "pytriton",
    ),
    Server(
        MLSERVER,
        "v2 in JSON, in its own process (parallel_workers=0), no gzip, no metrics",
        (Way("v2-json", "/v2/models/bce/infer", _output),),
        lambda python, _: [str(Path(python).with_name("mlserver")), "start", "."],
        "mlserver",
        lambda port: {
            "MLSERVER_HTTP_PORT": str(port),
            "MLSERVER_GRPC_PORT": str(port + 1),
            "MLSERVER_METRICS_ENDPOINT": "",
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_PARALLEL_WORKERS": "0",
            "MLSERVER_GZIP_ENABLED": "false",
            "MLSERVER_DEBUG": "false",
            "MLSERVER_MODEL_NAME": "bce",
            "MLSERVER_MODEL_IMPLEMENTATION": f"{_SERVERS}.mlserver_server.Loss",
        },
    ),
)


def variables(server: Server, port: int) -> dict[str, str]:
    """The environment of a server: this one, less settings of lossd's, one thread, and the project's code."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LOSSD_")}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    bins = f"{Path(server.interpreter).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "PATH": bins} | dict(server.variables(port))
