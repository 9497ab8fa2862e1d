"""The engine that --engine names."""

from contextlib import AbstractContextManager

from lossd_client.cli.engines.engine import LOCAL, RAY, Engine, Here
from lossd_client.cli.engines.processes import processes
from lossd_client.cli.engines.ray_tasks import ray_tasks


def open_engine(name: str, here: Here) -> AbstractContextManager[Engine]:
    """Return an engine, which is closed after its use.

    Args:
        name: The text of --engine.
        here: Scoring in this process.

    Raises:
        EngineFailed: It cannot be reached.
        ImportError: It is not installed.
    """
    if name == LOCAL:
        return processes(here.cores)
    return ray_tasks(None if name == RAY else name)
