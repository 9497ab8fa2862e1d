"""Progress of a large input or a stream of batches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """The rows, elements and requests done so far.

    Attributes:
        rows: Rows scored: along axis 0 of the inputs.
        total_rows: Rows that there are; None for batches, whose end is not known.
        elements: Elements scored, dropped ones aside.
        requests: Requests answered; of an Arrow stream, record batches sent.
    """

    rows: int
    total_rows: int | None
    elements: int
    requests: int


@contextmanager
def progress_bar(description: str = "Scoring") -> Iterator[Callable[[Progress], None]]:
    """Show a bar on standard error, on a terminal only, while a `with` block lasts.

    with progress_bar() as show:
        client.with_options(progress=show).bce(logits, targets)
    """
    # Slow to import, and of use to few.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=None)

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.rows, total=progress.total_rows)

        yield show
