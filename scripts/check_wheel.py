"""Build what is published, install it and use it with the sources out of reach: ``make wheel``.

There are two clean environments, made by the script that the Dockerfile runs: a server with ``lossd[cpu]`` of
the wheel, and a client with the base install of the source distribution, without a compiler. The client
scores over HTTP, and its losses are compared with values computed here. A third is made by the GitHub action,
which gates a model in it.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import posixpath
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import numpy as np
from rich.console import Console

from examples.local_server import LocalServer
from scripts.build_native import NAME
from scripts.composite_action import run_action

ROOT = Path(__file__).resolve().parents[1]
INSTALL_SECONDS = 900
COMMAND_SECONDS = 60
TOPS = {"lossd", "lossd_client", "pytest_lossd.py"}
PACKAGES = {"lossd", "lossd_client"}
ACTION = ROOT / "deploy/github-action/action.yml"
REGRESSED = 4
LIBRARY = f"lossd/core/native/{NAME}"
SERVER_ONLY = ("fastapi", "starlette", "torch", "uvicorn", "pydantic_settings", "sklearn")
LACKS_KERNEL = "from lossd.core.native.library import why_missing; print(why_missing())"

LOGITS = [[2.0, -1.5, 0.0], [0.25, -15.0, 40.0]]
TARGETS = [[1.0, 0.0, 0.5], [0.75, 0.0, 1.0]]
GAMMA, ALPHA = 2.0, 0.25
TOLERANCE = 1e-13

OK = 200
LINK = re.compile(r"""\b(?:href|src)\s*=\s*["'](ui/[^"']*)["']""")
IMPORT = re.compile(r"""^(?:import|export)\b[^;'"]*?from\s*["']([^"']+)["']""", re.MULTILINE)

USE_CLIENT = f"""
import json, sys
import numpy as np
from lossd_client import LossClient

logits, targets = np.load("logits.npy"), np.load("targets.npy")
with LossClient(sys.argv[1]) as client:
    bce = client.bce(logits, targets)
    focal = client.focal(logits, targets, gamma={GAMMA}, alpha={ALPHA})
print(json.dumps({{"bce": float(bce), "focal": float(focal)}}))
"""

FIND_SERVER_ONLY = f"""
from importlib.util import find_spec

found = [name for name in {SERVER_ONLY!r} if find_spec(name)]
assert not found, f"the base install brings {{found}}"
"""

IMPORT_CLIENT = """
import lossd_client

missing = [name for name in lossd_client.__all__ if not hasattr(lossd_client, name)]
assert not missing, missing
assert lossd_client.__version__ != "unknown"
"""


class CheckError(Exception):
    """A fault of the wheel or of one of its commands."""


class Sandbox:
    """A directory and an environment for commands, from which the sources cannot be found."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        away = ("PYTHON", "LOSSD_", "VIRTUAL_ENV")
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(away)} | {
            "PYTHON": sys.executable,  # for the install scripts
            "COLUMNS": "200",  # no message is wrapped
            "NO_COLOR": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def run(
        self, command: Sequence[str | Path], *, seconds: float = COMMAND_SECONDS, code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that must exit with ``code`` in time."""
        arguments = [str(part) for part in command]
        try:
            done = subprocess.run(  # noqa: S603 -- commands of this file
                arguments,
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CheckError(f"{arguments} took more than {seconds:g} s") from error
        if done.returncode != code:
            raise CheckError(
                f"{arguments} ended with {done.returncode}, not {code}:\n{done.stdout}{done.stderr}"
            )
        return done


def check_contents(wheel: Path) -> None:
    """Check that the wheel holds both packages with py.typed, the plugin of pytest, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = {PurePosixPath(name) for name in archive.namelist()}
    tops = {name.parts[0] for name in names if not name.parts[0].endswith(".dist-info")}
    if tops != TOPS:
        raise CheckError(f"the wheel holds {sorted(tops)}, not {sorted(TOPS)}")
    for package in sorted(PACKAGES):
        if PurePosixPath(package, "py.typed") not in names:
            raise CheckError(f"{package}/py.typed is not in the wheel")
    shown = subprocess.run(  # noqa: S603 -- of the development environment
        [sys.executable, "-m", "auditwheel", "show", wheel], capture_output=True, text=True, check=False
    ).stdout
    platform = wheel.stem.rpartition("-")[2]
    if f'is consistent with the\nfollowing platform tag: "{platform}"' not in shown:
        raise CheckError(f"auditwheel does not find that {wheel.name} runs on {platform}:\n{shown}")
    compiled = {str(name) for name in names if name.suffix in {".c", ".h", ".so"}}
    if compiled != {LIBRARY} or wheel.stem.endswith("-any"):
        raise CheckError(f"{wheel.name} holds {sorted(compiled)}, not {LIBRARY} alone")
    tests = sorted(str(name) for name in names if "tests" in name.parts or name.name.startswith("test_"))
    if tests:
        raise CheckError(f"the wheel holds tests: {tests}")


def check_base_install(sandbox: Sandbox, client: Path) -> None:
    """Check that the base install is a working client without the server, and says how to get what it lacks.

    Its remedies work although no index has this lossd: pip takes the one that is installed.
    """
    python, lossd = client / "bin/python", client / "bin/lossd"
    sandbox.run([python, "-c", IMPORT_CLIENT])
    sandbox.run([python, "-c", FIND_SERVER_ONLY])
    shown = sandbox.run([lossd, "--help"]).stdout
    if "serve" not in shown or "score" not in shown:
        raise CheckError(f"lossd --help does not name its commands:\n{shown}")
    refused = sandbox.run([lossd, "serve", "--port", "0"], code=2)
    if "lossd[cpu]" not in refused.stdout + refused.stderr:
        raise CheckError(f"lossd serve does not name lossd[cpu]:\n{refused.stdout}{refused.stderr}")
    lacks = sandbox.run([python, "-c", LACKS_KERNEL]).stdout
    if "C compiler" not in lacks:
        raise CheckError(f"without a compiler the kernel is not said to be missing: {lacks}")
    sandbox.run([python, "-m", "pip", "install", "--quiet", "lossd[quota]"], seconds=INSTALL_SECONDS)
    sandbox.run([python, "-c", "import redis"])


def check_scoring(sandbox: Sandbox, server: Path, client: Path) -> None:
    """Check that a client gets correct losses from a server of the wheel, which then ends cleanly."""
    np.save(sandbox.directory / "logits.npy", np.array(LOGITS))
    np.save(sandbox.directory / "targets.npy", np.array(TARGETS))
    with LocalServer(
        server / "bin/lossd", directory=sandbox.directory, environment=sandbox.environment
    ) as running:
        answered = sandbox.run([client / "bin/python", "-c", USE_CLIENT, running.url])
        for name, value in json.loads(answered.stdout).items():
            compare(f"LossClient.{name}", value, expected(name))
        lossd = str(client / "bin/lossd")
        score = [lossd, "score", "logits.npy", "targets.npy", "--json", "--url", running.url]
        answer = json.loads(sandbox.run(score).stdout)
        compare("lossd score", answer["loss"], expected("bce"))
        if answer["kernel"] != "native":
            raise CheckError(f"the server of the wheel computes with {answer['kernel']}, not native")
        score += ["--loss", "focal", "--gamma", str(GAMMA)]
        compare("lossd score --loss focal", json.loads(sandbox.run(score).stdout)["loss"], expected("focal"))
        check_page(running.url)
        if (code := running.stop()) != 0:
            raise CheckError(f"the server ended with {code} on SIGTERM:\n{running.log()}")


def check_page(url: str) -> None:
    """Check that a server answers with its page, with all modules that the page loads, and with a view."""
    links, seen = ["ui"], set[str]()
    while links:
        if (link := links.pop()) in seen:
            continue
        seen.add(link)
        status, text = ask(f"{url}/{link}")
        if status != OK:
            raise CheckError(f"the page's {link} is answered with {status}:\n{text[:1000]}")
        found, folder = (LINK if link == "ui" else IMPORT).findall(text), posixpath.dirname(link)
        links += [posixpath.normpath(posixpath.join(folder, one)) for one in found]
    if missing := {"ui/main.js", "ui/client/index.js", "ui/report.css"} - seen:
        raise CheckError(f"the page does not load {sorted(missing)}, only {sorted(seen)}")
    scored = {"logits": LOGITS, "targets": TARGETS, "report": "all"}
    report = json.loads(ask(f"{url}/bce", scored)[1])["report"]
    status, text = ask(f"{url}/ui/view", {"reports": [{"name": "A", "document": report}]})
    if status != OK or f"{expected('bce'):.6f}"[:-1] not in text:
        raise CheckError(f"a view is answered with {status}:\n{text[:1000]}")


def ask(url: str, document: object = None) -> tuple[int, str]:
    """Return the status and the text of an answer to a GET, or to a POST of a document."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.netloc, timeout=COMMAND_SECONDS)
    try:
        if document is None:
            connection.request("GET", where.path)
        else:
            headers = {"content-type": "application/json"}
            connection.request("POST", where.path, json.dumps(document), headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def check_gate(sandbox: Sandbox, wheel: Path, scratch: Path) -> None:
    """Check that the GitHub action installs the wheel, and fails a model that has regressed."""
    for name, logits in (("new", np.zeros((2, 3))), ("baseline", np.array(LOGITS))):
        np.savez(sandbox.directory / f"{name}.npz", logits=logits, targets=np.array(TARGETS))
    inputs = {
        "new": "new.npz",
        "baseline": "baseline.npz",
        "install": f"lossd[local] @ {wheel.as_uri()}",
        "python": sys.executable,
        "strict": "true",
    }
    runner = scratch / "runner"
    runner.mkdir()
    environment = {**sandbox.environment, "PIP_CONSTRAINT": str(ROOT / "constraints.txt")}
    ran = run_action(ACTION, inputs, sandbox.directory, runner, environment)
    if ran.code != REGRESSED or "| all rows |" not in ran.summary:
        raise CheckError(f"the GitHub action ended with {ran.code}, not {REGRESSED}:\n{ran.log}")


def build(sandbox: Sandbox, scratch: Path) -> tuple[Path, Path]:
    """Build the source distribution, and of it the wheel; return both.

    The wheel must be that of the checkout, byte for byte: nothing is missing in the sources.
    """
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir"]
    sandbox.run([*command, scratch / "dist", ROOT], seconds=INSTALL_SECONDS)
    (sources,) = (scratch / "dist").glob("*.tar.gz")
    (wheel,) = (scratch / "dist").glob("*.whl")
    sandbox.run([ROOT / "scripts/build_wheel.sh", scratch / "again"], seconds=INSTALL_SECONDS)
    (again,) = (scratch / "again").glob("*.whl")
    if (wheel.name, wheel.read_bytes()) != (again.name, again.read_bytes()):
        raise CheckError(f"{sources.name} gives {wheel.name}, the checkout {again.name}, and they differ")
    return sources, wheel


def expected(name: str) -> float:
    """Compute the mean loss, element by element, from its definition."""
    element = {"bce": bce, "focal": focal}[name]
    losses = [
        element(x, y)
        for row, row_targets in zip(LOGITS, TARGETS, strict=True)
        for x, y in zip(row, row_targets, strict=True)
    ]
    return math.fsum(losses) / len(losses)


def bce(x: float, y: float) -> float:
    """Compute -y log p - (1-y) log(1-p) without rounding p first."""
    tail = math.log1p(math.exp(-abs(x)))
    return y * (max(-x, 0.0) + tail) + (1 - y) * (max(x, 0.0) + tail)


def focal(x: float, y: float) -> float:
    """Compute the binary cross entropy times the balance and (1 - p_t)^gamma."""
    p, q = 1 / (1 + math.exp(-x)), 1 / (1 + math.exp(x))
    balance = y * ALPHA + (1 - y) * (1 - ALPHA)
    return float(balance * (y * q + (1 - y) * p) ** GAMMA * bce(x, y))


def compare(who: str, value: float, truth: float) -> None:
    """Raise if a loss is not the correct one."""
    if not math.isclose(value, truth, rel_tol=TOLERANCE):
        raise CheckError(f"{who} gave {value!r}, and the loss is {truth!r}")


def check(say: Console, scratch: Path) -> None:
    """Build the wheel, install it twice, and use it."""
    outside = scratch / "outside"
    outside.mkdir()
    sandbox = Sandbox(outside)

    say.print("building the source distribution, and of it the wheel")
    sources, wheel = build(sandbox, scratch)
    check_contents(wheel)

    say.print("the base install of the sources, without a compiler, in a clean environment")
    client = scratch / "client"
    install = ROOT / "scripts/install_runtime.sh"
    sandbox.run(["env", "CC=none", install, client, sources, ""], seconds=INSTALL_SECONDS)
    check_base_install(sandbox, client)

    say.print(r"lossd\[cpu] of the wheel, in another")
    server = scratch / "server"
    sandbox.run([install, server, wheel, "cpu"], seconds=INSTALL_SECONDS)
    check_scoring(sandbox, server, client)
    say.print(r"lossd\[local], installed by the GitHub action")
    check_gate(sandbox, wheel, scratch)
    say.print(f"{wheel.name}: installs, serves and scores")


def main() -> int:
    """Check the wheel in a temporary directory; return 1 if something is wrong."""
    say = Console(highlight=False)
    try:
        with tempfile.TemporaryDirectory(prefix="lossd-wheel-") as scratch:
            check(say, Path(scratch))
    except (CheckError, RuntimeError, TimeoutError) as error:
        say.print(f"wheel check: {error}", markup=False, soft_wrap=True)
        return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
