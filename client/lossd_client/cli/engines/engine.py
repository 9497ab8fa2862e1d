"""The engines of --engine, and what they need of the server's package."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol, TypeAlias, TypeVar

import typer

from lossd_client import LossdError

Answer: TypeAlias = Callable[
    [str, Sequence[tuple[str, str]], Sequence[bytes | memoryview], str], tuple[int, str, bytes]
]
"""Answers a request in this process: takes the loss, the query, the pieces of the body and a request id, and
returns the status, the media type and the body. Pickled by its name."""

TaskT = TypeVar("TaskT")
DoneT = TypeVar("DoneT")

_RAY: Final = "ray"
_LOCAL: Final = "local"


class EngineFailed(LossdError):  # noqa: N818 - as the other errors
    """An engine could not be reached, or gave up."""

    code = "engine_failed"


class Here(NamedTuple):
    """What the server's package can do in a process.

    Attributes:
        answer: Answers a request.
        cores: The cores that this process may use.
    """

    answer: Answer
    cores: int


class Engine(Protocol):
    """Runs tasks somewhere."""

    @property
    def shown(self) -> str:
        """The engine, for people."""

    def map(self, run: Callable[[TaskT], DoneT], tasks: Sequence[TaskT]) -> Iterator[DoneT]:
        """Yield what `run` returns for each task, in their order. A few are ahead, never all of them.

        Args:
            run: A function of a module, which all processes can import. It raises nothing.
            tasks: What it is called with; pickled.

        Raises:
            EngineFailed: A task could not be run.
        """


_providers: Final[list[Callable[[], Here]]] = []


def provide(load: Callable[[], Here]) -> None:
    """Let --engine use what the server's package can do.

    Args:
        load: Imports that package, when an engine is asked for.
    """
    _providers[:] = [load]


def check_engine(name: str) -> None:
    """Refuse an engine that there is not.

    Raises:
        BadParameter: It is one.
    """
    if name not in (_LOCAL, _RAY) and not name.startswith(f"{_RAY}://"):
        raise typer.BadParameter(
            f"--engine {name}: there are {_LOCAL}, {_RAY} and {_RAY}://HOST:PORT, a cluster's client port"
        )


def load_here() -> Here:
    """Return what the server's package can do.

    Raises:
        ImportError: It is not installed.
    """
    try:
        [load] = _providers
        return load()
    except (ImportError, ValueError) as error:
        what = f" ({error})" if isinstance(error, ImportError) else ""
        raise ImportError(
            f"--engine scores without a server, and so needs its package{what}: "
            "pip install 'lossd[server,files]'"
        ) from error


def open_engine(name: str, here: Here) -> AbstractContextManager[Engine]:
    """Return an engine, which is closed behind its use.

    Args:
        name: The text of --engine.
        here: What this process can do.

    Raises:
        EngineFailed: It cannot be reached.
        ImportError: It is not installed.
    """
    if name == _LOCAL:
        from lossd_client.cli.engines.processes import processes

        return processes(here.cores)
    from lossd_client.cli.engines.ray_tasks import ray_tasks

    return ray_tasks(None if name == _RAY else name)
