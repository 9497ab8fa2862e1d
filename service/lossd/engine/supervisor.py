"""Starts the front end and the workers, replaces a worker that ends, and stops them all in order.

It imports neither torch nor the HTTP framework, and holds no request: if it were to die, the front end would
see its socket close and end, and the workers would see the front end's close and end too.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Final

from lossd.core.grid import block_elements
from lossd.engine.arena import create_memory
from lossd.engine.devices import resolve
from lossd.engine.frames import UNUSABLE, WorkerGone, WorkerStarted, encode, socket_pair
from lossd.settings import Settings

logger = logging.getLogger(__name__)

FRONT_END: Final = "lossd.api.server"
_WORKER: Final = "lossd.engine.worker"
_STEADY_SECONDS: Final = 10.0  # a worker that lived so long did not end for what it is
_LONGEST_PAUSE: Final = 5.0
_END_SECONDS: Final = 5.0  # for a process that has nothing left to do


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit status, 0 for a clean end."""
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    try:
        listener = listen(settings.host, settings.port)
    except OSError as error:
        logger.error("cannot listen on %s port %d: %s", settings.host, settings.port, error.strerror or error)
        return 1
    return asyncio.run(_Supervisor(settings, listener).run())


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        OSError: The address is taken, or not one of this machine's.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


class _Supervisor:
    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._arena_fd = create_memory(settings.arena_bytes)
        self._control, self._front_control = socket_pair()
        self._block = 0
        self._stopping = asyncio.Event()
        self._drained = asyncio.Event()  # the front end has ended

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        devices = await asyncio.to_thread(resolve, self._settings.device)
        self._block = block_elements(devices)  # one for all: who is free must not change a bit
        front_end = await self._start(
            FRONT_END,
            {
                "listen_fd": self._listener.fileno(),
                "arena_fd": self._arena_fd,
                "control_fd": self._front_control.fileno(),
                "workers": len(devices),
                "block": self._block,
            },
            (self._listener.fileno(), self._arena_fd, self._front_control.fileno()),
        )
        self._front_control.close()
        self._listener.close()  # the front end's alone: when it stops listening, callers are refused at once
        keepers = [
            asyncio.create_task(self._keep_worker(index, device)) for index, device in enumerate(devices)
        ]
        ended = asyncio.create_task(front_end.wait())
        stop = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({ended, stop, *keepers}, return_when=asyncio.FIRST_COMPLETED)
        unasked = not self._stopping.is_set()
        if unasked:
            logger.error("the front end or a worker's keeper ended; stopping")
            self._stopping.set()
        status = await self._stop(front_end)
        self._drained.set()
        # The front end is gone, and with it its ends of the workers' sockets: they end by themselves.
        await asyncio.gather(*keepers)
        stop.cancel()
        self._control.close()
        os.close(self._arena_fd)
        return 1 if unasked or status else 0

    async def _stop(self, front_end: asyncio.subprocess.Process) -> int:
        """Let the front end finish what it has accepted; its exit status."""
        with suppress(ProcessLookupError):
            front_end.terminate()
        try:
            async with asyncio.timeout(self._settings.drain_seconds + _END_SECONDS):
                status = await front_end.wait()
                return 0 if status == -signal.SIGTERM else status  # it had not begun to listen
        except TimeoutError:
            logger.error("the front end did not drain in time; killed")
            front_end.kill()
            await front_end.wait()
            return 1

    async def _keep_worker(self, index: int, device: str) -> None:
        """Keep a worker running on a device until everything stops."""
        pause, restarts = 0.0, 0
        while not self._stopping.is_set():
            started = time.monotonic()
            process = await self._start_worker(index, device, restarts)
            await self._outlive(process)
            if self._stopping.is_set():
                return
            self._tell(WorkerGone(index, process.pid, process.returncode or 0))
            if process.returncode == UNUSABLE and not restarts:
                return  # it said why; everything stops, as an operator expects of a wrong setting
            if time.monotonic() - started > _STEADY_SECONDS:
                pause = 0.0
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            pause = min(_LONGEST_PAUSE, max(0.2, 2.0 * pause))
            restarts += 1

    async def _start_worker(self, index: int, device: str, restarts: int) -> asyncio.subprocess.Process:
        link, worker_link = socket_pair()
        with link, worker_link:
            options = {
                "index": index,
                "device": device,
                "link_fd": worker_link.fileno(),
                "arena_fd": self._arena_fd,
                "arena_bytes": self._settings.arena_bytes,
                "log_level": self._settings.log_level,
                "kernel": self._settings.kernel,
                "block": self._block,
                "losses": self._settings.losses,
                "cache_dir": str(self._settings.cache_dir) if self._settings.cache_dir else None,
            }
            process = await self._start(_WORKER, options, (worker_link.fileno(), self._arena_fd))
            self._tell(WorkerStarted(index, device, process.pid, restarts), link)
        return process

    async def _outlive(self, process: asyncio.subprocess.Process) -> None:
        """Wait for a worker's end; when everything stops, see to it that it comes."""
        drained = asyncio.create_task(self._drained.wait())
        ended = asyncio.create_task(process.wait())
        await asyncio.wait({drained, ended}, return_when=asyncio.FIRST_COMPLETED)
        drained.cancel()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await asyncio.shield(ended)
        except TimeoutError:
            logger.error("worker pid %d did not end by itself; killed", process.pid)
            process.kill()
            await ended

    def _tell(self, frame: WorkerStarted | WorkerGone, link: socket.socket | None = None) -> None:
        """Tell the front end; if it is gone, everything stops anyway."""
        with suppress(ConnectionError):
            socket.send_fds(self._control, [encode(frame)], [link.fileno()] if link is not None else [])

    async def _start(
        self, module: str, options: dict[str, object], fds: tuple[int, ...]
    ) -> asyncio.subprocess.Process:
        # A group of its own: Ctrl-C is for the supervisor, which then stops the others in order.
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            json.dumps(options),
            pass_fds=fds,
            env={**os.environ, **self._settings.environment()},
            process_group=0,
        )
