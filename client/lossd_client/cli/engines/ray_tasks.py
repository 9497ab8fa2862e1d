"""`--engine ray`: tasks of a Ray cluster, whose machines have lossd, and see the files by the same names."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, Final

from lossd_client.cli.engines.engine import DoneT, TaskT
from lossd_client.cli.exits import EngineFailed

_AHEAD: Final = 2
"""Tasks for each core that are handed out before the first of them must be done."""
_RETRIES: Final = 4
"""How often a task is run again whose process or machine is lost. By default Ray would try for ever."""


class RayTasks:
    """A cluster of Ray.

    Args:
        ray: The module.
        address: The cluster's client port, or None for the one that the environment names.
    """

    def __init__(self, ray: Any, address: str | None) -> None:  # noqa: ANN401 - a module
        self._ray, self._address = ray, address
        self._cores = max(1, int(ray.cluster_resources().get("CPU", 1)))

    @property
    def shown(self) -> str:
        """The engine, for people."""
        return f"{self._address or 'ray'}, {self._cores} cores"

    def map(self, run: Callable[[TaskT], DoneT], tasks: Sequence[TaskT]) -> Iterator[DoneT]:
        """Yield what `run` returns for each task, in their order."""
        ray = self._ray
        remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(run)
        out: deque[Any] = deque()
        left = iter(tasks)
        try:
            while True:
                while len(out) < _AHEAD * self._cores and (task := next(left, None)) is not None:
                    out.append(remote.remote(task))
                if not out:
                    return
                yield ray.get(out.popleft())
        except ray.exceptions.RayError as error:
            raise EngineFailed(f"Ray gave a task up: {_reason(error)}") from error
        finally:
            for each in out:
                ray.cancel(each, force=True)


@contextmanager
def ray_tasks(address: str | None) -> Iterator[RayTasks]:
    """Yield a cluster: that of an address, or of RAY_ADDRESS, or a new one on this machine.

    Raises:
        EngineFailed: It cannot be reached.
        ImportError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError("--engine ray needs Ray: pip install 'lossd[local,files,ray]'") from error
    own = not ray.is_initialized()
    try:
        if own:
            ray.init(
                address, log_to_driver=False, logging_level="ERROR", include_dashboard=_dashboard(address)
            )
    except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
        raise EngineFailed(f"--engine {address or 'ray'} cannot be reached: {_reason(error)}") from error
    try:
        with redirect_stdout(sys.stderr):  # Ray says there which machines are lost
            yield RayTasks(ray, address)
    finally:
        if own:
            ray.shutdown()


def _dashboard(address: str | None) -> bool | None:
    """Return whether to have a dashboard: False for a cluster started here, else None, Ray's default."""
    return False if address is None and "RAY_ADDRESS" not in os.environ else None


def _reason(error: BaseException) -> str:
    """Return the last line of an error, which in Ray's is the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any("ModuleNotFoundError" in line for line in lines):
        found = next(line for line in reversed(lines) if "ModuleNotFoundError" in line)
        return (
            f"{found}: install this version of lossd with its extras server, files and ray on every machine"
        )
    return lines[-1] if lines else type(error).__name__
