"""The server itself: is it one, is it ready, does it know the key, are its numbers right?"""

import json
import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossd.cli.checkup.finding import Finding, State, failed, ok, warning
from lossd.cli.checkup.network import LIVEZ
from lossd.cli.checkup.setup import Target
from lossd.cli.exits import Exit, exit_code
from lossd.cli.raw import raw_transport
from lossd_client import (
    LossClient,
    LossdError,
    LossResult,
    Request,
    Response,
    Timeout,
    Transport,
    Unauthorized,
)
from lossd_client._version import version

_LOGITS: Final = np.array([[-3.0, -0.5, 0.0, 0.25], [1.5, 2.0, -1.0, 3.0]])
_TARGETS: Final = np.array([[0.0, 1.0, 0.5, 1.0], [1.0, 0.0, 0.25, 1.0]])
_TOLERANCE: Final = 1e-12  # relative; numpy's own formulas below are not better than that
_TIMES: Final = 5
_GAMMA, _ALPHA = 1.5, 0.25


def look_at_service(target: Target, seconds: float) -> Iterator[Finding]:
    """Asks the server, as the client does; stops at the first that fails."""
    with raw_transport(target.settings) as transport:
        for look in (_alive, _ready):
            finding = look(transport, target, seconds)
            yield finding
            if finding.state is State.FAILED:
                return
    given = target.settings
    with LossClient(given.base_url, api_key=given.api_key, timeout=seconds, retry=None) as client:
        yield from _known_client(client)


def _known_client(client: LossClient) -> Iterator[Finding]:
    try:
        info = client.info()
    except Unauthorized as error:
        yield _refused(error)
        return
    except LossdError as error:
        yield failed("info", str(error), "is that a lossd server, or something before it?", exit_code(error))
        return
    yield ok("access", "the server answers this caller")
    yield _versions(info)
    try:
        yield _compared("bce", client.bce(_LOGITS, _TARGETS), _bce())
        focal = client.focal(_LOGITS, _TARGETS, gamma=_GAMMA, alpha=_ALPHA)
        yield _compared("focal", focal, _focal())
        yield _times(client)
    except LossdError as error:
        yield failed("answer", str(error), "see the server's log", exit_code(error))
        return
    yield ok("limits", _limits(info.get("limits", {})))


def _send(transport: Transport, target: Target, path: str, seconds: float) -> Response | Finding:
    try:
        return transport.send(Request("GET", path, base_url=target.settings.base_url), Timeout.of(seconds))
    except LossdError as error:
        remedy = (
            "does the server speak HTTPS? then the address begins with https://; or is it another program?"
        )
        return failed(path[1:], str(error), remedy, Exit.UNREACHABLE)


def _alive(transport: Transport, target: Target, seconds: float) -> Finding:
    answer = _send(transport, target, LIVEZ, seconds)
    if isinstance(answer, Finding):
        return answer
    if answer.status != 200 or not _object(answer):
        what = f"{LIVEZ} gives {answer.status} ({answer.media_type or 'no content type'})"
        remedy = "something else than lossd is at this address: look at its host, port and path"
        return failed("livez", what, remedy, Exit.REFUSED)
    return ok("livez", "the server is there")


def _ready(transport: Transport, target: Target, seconds: float) -> Finding:
    answer = _send(transport, target, "/readyz", seconds)
    if isinstance(answer, Finding):
        return answer
    said = _object(answer)
    reasons = ", ".join(map(str, said.get("reasons", [])))
    if answer.status != 200:
        remedy = "a start takes some seconds; if it stays so, the server's log says why"
        return failed("readyz", f"not ready (status {answer.status})", remedy, Exit.REFUSED)
    if said.get("status") != "ready":
        return warning(
            "readyz", f"{said.get('status')}: {reasons}", "losses are right; tell whoever runs the server"
        )
    return ok("readyz", "ready to score")


def _object(answer: Response) -> Mapping[str, Any]:
    try:
        found = json.loads(answer.body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _refused(error: Unauthorized) -> Finding:
    remedy = (
        "the key's team is disabled: ask whoever runs the server"
        if error.status == 403
        else "set LOSSD_API_KEY to a key of your team's; whoever runs the server makes them"
    )
    return failed("access", f"{error.status} {error.code}: {error.detail}", remedy, Exit.REFUSED)


def _versions(info: Mapping[str, Any]) -> Finding:
    theirs, own = info.get("version"), version()
    kernel = f"torch {info.get('torch')}, kernel {info.get('kernel')}"
    workers = ", ".join(f"{worker['device']} {worker['state']}" for worker in info.get("workers", []))
    if theirs != own:
        what = f"the server is lossd {theirs}, this is {own}"
        return warning("versions", what, "install the same here, if something is unknown to the server")
    return ok("versions", f"both are {own}; {kernel}; workers: {workers}")


def _bce() -> NDArray[np.float64]:
    x, y = _LOGITS, _TARGETS
    losses: NDArray[np.float64] = np.maximum(x, 0.0) - x * y + np.log1p(np.exp(-np.abs(x)))
    return losses


def _focal() -> NDArray[np.float64]:
    p, y = 1.0 / (1.0 + np.exp(-_LOGITS)), _TARGETS
    p_of_target = y * p + (1.0 - y) * (1.0 - p)
    alphas = y * _ALPHA + (1.0 - y) * (1.0 - _ALPHA)
    losses: NDArray[np.float64] = alphas * (1.0 - p_of_target) ** _GAMMA * _bce()
    return losses


def _compared(loss: str, found: LossResult, losses: NDArray[np.float64]) -> Finding:
    expected = float(losses.mean())
    if not abs(float(found) - expected) <= _TOLERANCE * expected:
        what = f"the server says {float(found)!r}, and numpy here {expected!r}"
        return failed(f"{loss} answer", what, "do not use this server; tell whoever runs it", Exit.REFUSED)
    return ok(f"{loss} answer", f"{float(found)!r}, as numpy has it here")


def _times(client: LossClient) -> Finding:
    times, inside = [], []
    for _ in range(_TIMES):
        start = time.perf_counter()
        result = client.bce(_LOGITS, _TARGETS)
        times.append((time.perf_counter() - start) * 1000.0)
        inside.append(sum(result.timing.values()))
    whole, server = statistics.median(times), statistics.median(inside)
    said = f"a small request takes {whole:.3g} ms, of which {server:.3g} ms in the server"
    return ok("time", f"{said}; lossd bench has more")


def _limits(limits: Mapping[str, Any]) -> str:
    said = {
        name.removesuffix("_bytes"): f"{value / (1 << 20):,.4g} MiB"
        for name, value in limits.items()
        if name.endswith("_bytes") and isinstance(value, int | float)
    }
    return ", ".join(f"{name} {size}" for name, size in said.items()) or "none given"
