"""A server under attack beside a small team's steady load: what the team, the probes and the log say."""

from __future__ import annotations

import asyncio
import math
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

import uvloop

from bench.attacks.steady import Seen, Steady
from bench.attacks.swarm import Attack, Attacker, Cost, Target
from bench.memory import family, own
from bench.neighbour import teams
from examples.local_server import LocalServer
from lossd.settings import Settings
from lossd_client.local import free_port

Place = Literal["teams", "open", "tls", "json"]
"""A server with teams, without, with a certificate too, or with logs as JSON."""

_MIB: Final = 1 << 20
_FREE_SECONDS: Final = 20.0
_UNFOLD_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Plan:
    """An attack as it is planned.

    Attributes:
        attack: What the hostile caller does; its docstring says it in a sentence.
        connections: How many it has.
        place: The server.
        key: Whether it has a key, where there are teams.
        addresses: From how many addresses it comes.
        large: Whether large requests are sent beside it, too.
        short: How many it has in the tests; 0 if they leave it out.
    """

    attack: Attack
    connections: int
    place: Place = "teams"
    key: bool = False
    addresses: int = 1
    large: bool = False
    short: int = 0

    @property
    def name(self) -> str:
        """Its name."""
        where = "_without_teams" if self.place == "open" else ""
        whence = f"_from_{self.addresses}" if self.addresses > 1 else ""
        return f"{self.attack.__name__}{where}{whence}"

    @property
    def what(self) -> str:
        """What the hostile caller does."""
        return (self.attack.__doc__ or "").partition("\n")[0].rstrip(".")


@dataclass(frozen=True, slots=True)
class Scale:
    """How long and how large sieges are, and what is promised then.

    Attributes:
        seconds: The time that is measured.
        settle: The time before, in which the attack unfolds.
        patience: Seconds in which every answer is expected.
        settings: The server's settings, beside those of its place.
        times: The most that a small request's p99 may be of that alone,
        least: or so many seconds, if that is more.
        fresh: The same seconds for a new connection's first request.
        probe: The most that a probe's p99 may be.
        lines: The most lines of the log a second.
        growth: The most that the processes' memory may grow, in bytes,
        growth_each: and so many for each connection.
    """

    seconds: float
    settle: float
    patience: float
    settings: Mapping[str, object]
    times: float
    least: float
    fresh: float
    probe: float
    lines: float = 20.0
    growth: int = 32 * _MIB
    growth_each: int = 16 << 10


LONG: Final = Scale(8.0, 2.0, 15.0, {}, 3.0, 0.010, 0.100, 0.050)
"""As ``make attacks`` and the soak have it."""
_SETTINGS: Final = {"max_connections": 1500, "max_output_bytes": 64 * _MIB, "arena_bytes": 1856 * _MIB}
"""Less room for connections and answers, and as much for bodies as by default."""
SHORT: Final = Scale(1.5, 1.0, 3.0, _SETTINGS, 5.0, 0.250, 0.250, 0.250)
"""As the tests have it, on shared machines and beside other tests."""


@dataclass(frozen=True, slots=True)
class Result:
    """What was seen of a siege.

    Attributes:
        plan: The attack.
        scale: Its scale, with what is promised.
        seconds: The time since the attack began.
        cost: What the attack cost.
        alone: What was seen before.
        beside: What was seen beside it.
        lines: Lines of the log a second.
        log_bytes: Bytes of the log a second.
        traceback: Whether the log has one.
        growth: Growth of the memory of the server's processes, without the arena.
        after: Seconds after its end until a probe was answered.
    """

    plan: Plan
    scale: Scale
    seconds: float
    cost: Cost
    alone: Seen
    beside: Seen
    lines: float
    log_bytes: float
    traceback: bool
    growth: int
    after: float

    @property
    def figures(self) -> str:
        """What was seen, in a sentence."""
        alone, beside = self.alone, self.beside
        pairs = {"small": (alone.small, beside.small), "new": (alone.fresh, beside.fresh)}
        pairs["probes"] = (alone.probes, beside.probes)
        times = ", ".join(f"{n} {1e3 * a.p99:.1f} to {1e3 * b.p99:.1f} ms" for n, (a, b) in pairs.items())
        cost = f"{self.cost.sent / self.seconds / 1e3:,.0f} kB/s on {self.cost.connections:,} connections"
        return f"{cost}: p99 {times}; {self.lines:.1f} lines/s; memory {self.growth / _MIB:+.0f} MiB"

    def broken(self) -> list[str]:
        """Return the promises that were not kept."""
        scale, alone, beside = self.scale, self.alone, self.beside
        found = [f"{n} {what}" for what, n in beside.failures().items()]
        small = math.inf if self.plan.place == "open" else max(scale.times * alone.small.p99, scale.least)
        for name, p99, most in (
            ("small", beside.small.p99, small),  # without teams it is one of the many
            ("fresh", beside.fresh.p99, max(scale.times * alone.fresh.p99, scale.fresh)),
            ("probes", beside.probes.p99, scale.probe),
            ("admin", beside.admin.p99, scale.probe),
        ):
            if p99 > most:
                found.append(f"{name}: p99 {1e3 * p99:.0f} ms, over {1e3 * most:.0f}")
        if self.lines > scale.lines + 20 / self.seconds:  # as many may come at once
            found.append(f"{self.lines:.0f} lines/s")
        if self.traceback:
            found.append("a traceback")
        kept = 0 if self.plan.place == "tls" else self.cost.connections  # those have not begun
        if self.growth > scale.growth + kept * scale.growth_each:
            found.append(f"memory +{self.growth / _MIB:.0f} MiB")
        if self.after > scale.patience:
            found.append(f"unreachable for {self.after:.0f} s afterwards")
        return found


class Siege:
    """A server that is attacked in turn, for a ``with`` block.

    Args:
        place: The server.
        scale: How long, and what is promised.
    """

    def __init__(self, place: Place, scale: Scale) -> None:
        self._place: Place = place
        self._scale = scale
        self._stack = ExitStack()
        self._alone: dict[bool, Seen] = {}  # with large requests, and without

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self._runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
            settings, tls = dict(self._scale.settings), None
            self._keys = {"small": "", "big": ""}
            if self._place != "open":
                settings["teams"], self._keys = teams(folder)
            if self._place == "json":
                settings |= {"log_format": "json", "log_requests": "failed"}
            if self._place == "tls":
                chain, key = _certificate(folder)
                settings |= {"tls_certificate": chain, "tls_key": key}
                tls = ssl.create_default_context(cafile=str(chain))
            admin = None
            if "admin_port" in Settings.model_fields:
                settings["admin_port"] = admin = free_port()
            lossd = Path(sys.executable).with_name("lossd")
            self._server = stack.enter_context(LocalServer(lossd, settings=settings, tls=tls))
            self._steady = Steady(
                self._server.port, self._keys["small"], tls=tls, admin=admin, patience=self._scale.patience
            )
            self.see(0.5, large=True)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._steady.close())
        self._stack.close()

    @property
    def pid(self) -> int:
        """The server's main process."""
        return self._server.pid

    def under(self, plan: Plan) -> Result:
        """Attack it, and return what was seen."""
        scale = self._scale
        connections = plan.connections if scale is LONG else plan.short or min(plan.connections, 1000)
        if plan.large not in self._alone:
            self._alone[plan.large] = self.see(scale.seconds, large=plan.large)
        said, began = len(self._server.log()), time.monotonic()
        with (
            _Growth(self.pid) as growth,
            self.attacked(plan.attack, connections, key=plan.key, addresses=plan.addresses) as attacker,
        ):
            self._let_unfold(attacker, connections)
            beside = self.see(scale.seconds, large=plan.large)
            seconds = time.monotonic() - began
            cost = attacker.cost()
        log = self._server.log()[said:]
        return Result(
            plan,
            scale,
            seconds,
            cost,
            self._alone[plan.large],
            beside,
            log.count("\n") / seconds,
            len(log) / seconds,
            "Traceback" in log,
            growth.most - growth.before,
            self._until_served(),
        )

    @contextmanager
    def attacked(
        self, attack: Attack, connections: int, *, key: bool, addresses: int = 1
    ) -> Iterator[Attacker]:
        """Attack it for a block."""
        target = Target(self._server.port, self._keys["big"] if key else "", connections, addresses)
        attacker = Attacker(attack, target)
        try:
            attacker.start()
            yield attacker
        finally:
            attacker.stop()

    def see(self, seconds: float, *, large: bool = False) -> Seen:
        """Put the small team's load on it, and return what was seen."""
        return self._runner.run(self._steady.run(seconds, large=large))

    def ready(self) -> bool:
        """Return whether the server says that all is well, or nothing."""
        return self._runner.run(self._steady.ready())

    def _let_unfold(self, attacker: Attacker, connections: int) -> None:
        """Wait until an attack has its connections, if it comes to that."""
        time.sleep(self._scale.settle)
        ends = time.monotonic() + _UNFOLD_SECONDS
        while attacker.cost().connections < connections and time.monotonic() < ends:
            time.sleep(0.1)

    def _until_served(self) -> float:
        """Wait until the small team is served again, and return how long that took."""
        began = time.monotonic()
        while time.monotonic() < began + _FREE_SECONDS:
            if not self.see(0.05).failures():
                break
        return time.monotonic() - began


class _Growth:
    """The memory of a server's processes, without the arena, during a ``with`` block."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.before = self.most = self._look()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> int:
        return sum(map(own, family(self._pid)))

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self.most = max(self.most, self._look())


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate of 127.0.0.1 that it signs itself, and its key."""
    chain, key = folder / "server.pem", folder / "server.key"
    command = [shutil.which("openssl") or "openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
    command += ["-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", str(key), "-out", str(chain)]
    command += ["-subj", "/CN=server", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 -- our own command
    return chain, key
