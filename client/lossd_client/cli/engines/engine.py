"""The engines of --engine, and what they need of the server's package."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias, TypeVar

import typer

from lossd_client._extras import needs

Answer: TypeAlias = Callable[
    [str, Sequence[tuple[str, str]], Sequence[bytes | memoryview], str], tuple[int, str, bytes]
]
"""Answers a request in this process: takes the loss, the query, the pieces of the body and a request id, and
returns the status, the media type and the body. Pickled by its name."""

TaskT = TypeVar("TaskT")
DoneT = TypeVar("DoneT")

RAY: Final = "ray"
"""The engine of a Ray cluster, and the scheme of its address."""
LOCAL: Final = "local"
"""The engine of this machine's processes."""


class Here(NamedTuple):
    """Scoring in this process, by the server's package.

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
    """Let --engine score in this process.

    Args:
        load: Imports that package, when an engine is asked for.
    """
    _providers[:] = [load]


def check_engine(name: str) -> None:
    """Refuse an unknown engine.

    Raises:
        BadParameter: It is unknown.
    """
    if name not in (LOCAL, RAY) and not name.startswith(f"{RAY}://"):
        raise typer.BadParameter(
            f"--engine {name}: there are {LOCAL}, {RAY} and {RAY}://HOST:PORT, a cluster's client port"
        )


@needs("--engine scores without a server, and so", "local")
def load_here() -> Here:
    """Return how to score in this process.

    Raises:
        ModuleNotFoundError: Something that it takes is not installed.
    """
    if not _providers:
        raise ModuleNotFoundError(name="lossd")
    return _providers[0]()
