"""Options that the supervisor passes to the processes it starts, as their one argument in JSON.

Descriptors are inherited. What is a setting is not repeated here, unless its process does not load settings.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class FrontEndOptions(msgspec.Struct, frozen=True):
    """Options of a front end or the admin listener, whose settings are in the environment.

    Attributes:
        index: Its number.
        listen_fds: The listening sockets; none if another program accepts, which embeds it.
        arena_fd: Its arena.
        heartbeats_fd: The heartbeats of all processes.
        control_fd: The socket to the supervisor.
        quotas_fd: The memory of the teams' quotas.
        counters_fds: The counters of all front ends, the admin listener and the supervisor.
        workers: Number of workers.
        elements: Most elements of a slice.
        restarts: Number of processes before it in its place.
        holds_back: Whether it accepts only once all workers are ready, since another server still does.
    """

    index: int
    listen_fds: tuple[int, ...]
    arena_fd: int
    heartbeats_fd: int
    control_fd: int
    quotas_fd: int
    counters_fds: tuple[int, ...]
    workers: int
    elements: int
    restarts: int
    holds_back: bool

    @property
    def fds(self) -> tuple[int, ...]:
        """All descriptors that it inherits."""
        its = self.arena_fd, self.heartbeats_fd, self.control_fd, self.quotas_fd, *self.counters_fds
        return *self.listen_fds, *its


class WorkerOptions(msgspec.Struct, frozen=True):
    """Options of a worker, which loads no settings so that it starts quickly.

    Attributes:
        index: Its number.
        device: Its device.
        control_fd: The socket to the supervisor.
        heartbeats_fd: The heartbeats of all processes.
        front_ends: Number of front ends.
        workers: Number of workers.
        log_level: As the setting.
        log_format: As the setting.
        traces: As the setting.
        kernel: As the setting.
        threads: Number of threads on a CPU.
        torch: The installed version of torch; empty if there is none.
        losses: As the setting.
        check_seconds: As the setting.
    """

    index: int
    device: str
    control_fd: int
    heartbeats_fd: int
    front_ends: int
    workers: int
    log_level: str
    log_format: Literal["console", "json"]
    traces: bool
    kernel: str
    threads: int
    torch: str
    losses: tuple[str, ...]
    check_seconds: float

    @property
    def fds(self) -> tuple[int, ...]:
        """All descriptors that it inherits."""
        return self.control_fd, self.heartbeats_fd
