"""Checks of the server: its health, the key, its versions, its numbers, its times."""

import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossd_client import (
    LossClient,
    LossdError,
    LossResult,
    Request,
    Response,
    Retry,
    Throttled,
    Timeout,
    Transport,
    Unauthorized,
    Unavailable,
)
from lossd_client._http.problems import status_error
from lossd_client._version import version
from lossd_client.cli.doctor.finding import Finding, State, failed, ok, warning
from lossd_client.cli.doctor.network import LIVEZ
from lossd_client.cli.doctor.setup import Target
from lossd_client.cli.exits import Exit, exit_code
from lossd_client.cli.raw import raw_transport

_LOGITS: Final = np.array([[-3.0, -0.5, 0.0, 0.25], [1.5, 2.0, -1.0, 3.0]])
_TARGETS: Final = np.array([[0.0, 1.0, 0.5, 1.0], [1.0, 0.0, 0.25, 1.0]])
_TOLERANCE: Final = 1e-12  # relative; numpy's own formulas below are not better than that
_TIMES: Final = 5
_GAMMA, _ALPHA = 1.5, 0.25


def look_at_service(target: Target, seconds: float) -> Iterator[Finding]:
    """Yield findings of the server, up to the first failure."""
    with raw_transport(target.base_url) as transport:
        for look in (_alive, _ready):
            finding = look(transport, target, seconds)
            yield finding
            if finding.state is State.FAILED:
                return
    # A limit that passes soon is waited out, so that numbers can be looked at.
    retry = Retry(attempts=4, first_contact=1, first_refusal=1, longest_retry_after=max(1.0, seconds))
    with LossClient(target.base_url, api_key=target.api_key, timeout=seconds, retry=retry) as client:
        yield from _known_client(client)


def _known_client(client: LossClient) -> Iterator[Finding]:
    try:
        info = client.info()
    except LossdError as error:
        remedy = "is that a lossd server, or something before it?"
        yield _understood(error) or failed("info", str(error), remedy, exit_code(error))
        return
    yield ok("access", "the server answers this caller")
    yield _versions(info)
    limits = ok("limits", _limits(info.get("limits", {})))
    try:
        yield _compared("bce", client.bce(_LOGITS, _TARGETS), _bce())
        focal = client.focal(_LOGITS, _TARGETS, gamma=_GAMMA, alpha=_ALPHA)
        yield _compared("focal", focal, _focal())
    except LossdError as error:
        finding = _understood(error)
        if finding is not None:
            yield limits  # the refusal may come from one of them
        yield finding or failed("answer", str(error), "see the server's log", exit_code(error))
        return
    try:
        yield _times(client.with_options(retry=None))
    except (Throttled, Unavailable) as error:
        what = f"not measured: {error.status} {error.code}: {error.detail}"
        yield warning(
            "time", what, "the set-up is right, and a limit is near: send fewer and larger requests"
        )
    except LossdError as error:
        yield failed("answer", str(error), "see the server's log", exit_code(error))
        return
    yield limits


def _understood(error: LossdError) -> Finding | None:
    """Return the finding of a refused key or a limit; None for another failure."""
    if isinstance(error, Unauthorized):
        return _refused(error)
    if not isinstance(error, Throttled | Unavailable):
        return None
    when = "later" if error.retry_after is None else f"in {math.ceil(error.retry_after)} s"
    by = "the team's limits: the server's operator can raise them, or send fewer and larger requests"
    remedy = {
        "rate_limited": f"the set-up is right; try again {when}. These are {by}",
        "too_many_in_flight": f"the set-up is right; try again {when}, when others are done. These are {by}",
        "overloaded": f"the set-up is right, and the server has more to do than it can; try again {when}",
        "draining": f"the server is about to stop; if it starts again, try again {when}",
    }.get(error.code or "", f"something before the server, such as a proxy, limits it; try again {when}")
    what = f"{error.status} {error.code or ''}".rstrip()
    return failed("limit", f"{what}: {error.detail}", remedy, Exit.REFUSED)


def _send(transport: Transport, target: Target, path: str, seconds: float) -> Response | Finding:
    try:
        return transport.send(Request("GET", path, base_url=target.base_url), Timeout.of(seconds))
    except LossdError as error:
        remedy = (
            "does the server speak https? then the address begins with https://; or is it another program?"
        )
        return failed(path[1:], str(error), remedy, Exit.UNREACHABLE)


def _alive(transport: Transport, target: Target, seconds: float) -> Finding:
    answer = _send(transport, target, LIVEZ, seconds)
    if isinstance(answer, Finding):
        return answer
    if answer.status != 200:
        finding = _before(answer)
        if finding is not None:
            return finding
    if answer.status != 200 or not _object(answer):
        what = f"{LIVEZ} gives {answer.status} ({answer.media_type or 'no content type'})"
        remedy = "something else than lossd is at this address: look at its host, port and path"
        return failed("livez", what, remedy, Exit.REFUSED)
    return ok("livez", "the server is there")


def _before(answer: Response) -> Finding | None:
    """Return the finding of a proxy's answer; None for another answer."""
    error = status_error(answer)
    if error.code is not None:
        return None
    if 300 <= answer.status < 400:
        return failed("livez", str(error), "give the address that it leads to, by --url", Exit.REFUSED)
    remedy = {
        401: "a proxy asks who you are, before lossd does: ask its operator for a way past it",
        403: "a proxy does not let you through: ask its operator",
        407: "put name and password into HTTP_PROXY or HTTPS_PROXY",
        429: "a proxy limits you: try again later, or ask its operator",
    }.get(answer.status)
    return None if remedy is None else failed("livez", str(error), remedy, Exit.REFUSED)


def _ready(transport: Transport, target: Target, seconds: float) -> Finding:
    answer = _send(transport, target, "/readyz", seconds)
    if isinstance(answer, Finding):
        return answer
    found = _object(answer)
    reasons = ", ".join(map(str, found.get("reasons", [])))
    if answer.status != 200:
        remedy = "a start takes some seconds; if it stays so, the server's log says why"
        return failed("readyz", f"not ready (status {answer.status})", remedy, Exit.REFUSED)
    if found.get("status") != "ready":
        return warning(
            "readyz", f"{found.get('status')}: {reasons}", "losses are right; tell the server's operator"
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
        "the key's team is disabled: ask the server's operator"
        if error.status == 403
        else "set LOSSD_API_KEY to a key of your team's; the server's operator makes them"
    )
    return failed("access", f"{error.status} {error.code}: {error.detail}", remedy, Exit.REFUSED)


def _versions(info: Mapping[str, Any]) -> Finding:
    theirs, own = info.get("version"), version()
    kernel = f"torch {info.get('torch')}, kernel {info.get('kernel')}"
    workers = ", ".join(f"{worker['device']} {worker['state']}" for worker in info.get("workers", []))
    if theirs != own:
        what = f"the server is lossd {theirs}, this is {own}"
        return warning("versions", what, "install the same here, if something is unknown to the server")
    notes = info.get("notes") or []
    if notes:
        remedy = "install a wheel of lossd, or a C compiler and lossd again"
        return warning("kernel", "; ".join(map(str, notes)), remedy)
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
        return failed(f"{loss} answer", what, "do not use this server; tell its operator", Exit.REFUSED)
    return ok(f"{loss} answer", f"{float(found)!r}, as numpy has it here")


def _times(client: LossClient) -> Finding:
    times, inside = [], []
    for _ in range(_TIMES):
        start = time.perf_counter()
        result = client.bce(_LOGITS, _TARGETS)
        times.append((time.perf_counter() - start) * 1000.0)
        inside.append(sum(result.timing.values()))
    whole, server = statistics.median(times), statistics.median(inside)
    found = f"a small request takes {whole:.3g} ms, of which {server:.3g} ms in the server"
    return ok("time", f"{found}; lossd bench has more")


def _limits(limits: Mapping[str, Any]) -> str:
    sizes = {
        name.removesuffix("_bytes"): f"{value / (1 << 20):,.4g} MiB"
        for name, value in limits.items()
        if name.endswith("_bytes") and isinstance(value, int | float)
    }
    return ", ".join(f"{name} {size}" for name, size in sizes.items()) or "none given"
