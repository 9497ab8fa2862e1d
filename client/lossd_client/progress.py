"""Progress of a large input or a stream of batches."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lossd_client._http.logs import logger


@dataclass(frozen=True, slots=True)
class Progress:
    """The rows, elements and requests done so far, and what the next request waits for.

    Attributes:
        rows: Rows scored: along axis 0 of the inputs.
        total_rows: Rows that there are; None for batches, whose end is not known.
        elements: Elements scored, dropped ones aside.
        requests: Requests answered; of an Arrow stream, record batches sent.
        resumes_in: Seconds until the next request is sent again; None while none waits for that.
        reason: Why it waits, such as "throttled" (the team's limit) or "the server is busy".
    """

    rows: int
    total_rows: int | None
    elements: int
    requests: int
    resumes_in: float | None = None
    reason: str = ""


@contextmanager
def progress_bar(description: str = "Scoring") -> Iterator[Callable[[Progress], None]]:
    """Show a bar on standard error, on a terminal only, while a `with` block lasts.

    >>> with progress_bar() as show:
    ...     client.with_options(progress=show).bce(logits, targets)

    While requests wait to be sent again it says so: "throttled, resuming in 26 s". Elsewhere than on a
    terminal, the first such wait is a warning of the logger `lossd_client`.
    """
    # Slow to import, and of use to few.
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _first_wait_logged()
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Countdown(ProgressColumn):
        """Says why nothing happens, and for how long; the bar redraws it several times a second."""

        def render(self, task: Task) -> Text:
            left = task.fields["resumes"] - time.monotonic()
            return Text(_wait_text(task.fields["reason"], left) if left > 0 else "", style="yellow")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeRemainingColumn(),
        Countdown(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=None, resumes=-math.inf, reason="")

        def show(progress: Progress) -> None:
            wait = progress.resumes_in
            resumes = -math.inf if wait is None else time.monotonic() + wait
            bar.update(
                task,
                completed=progress.rows,
                total=progress.total_rows,
                resumes=resumes,
                reason=progress.reason,
            )

        yield show


def _first_wait_logged() -> Callable[[Progress], None]:
    """Return a callback that logs the first wait of about a second or more, and nothing else."""
    has_logged = False

    def show(progress: Progress) -> None:
        nonlocal has_logged
        wait = progress.resumes_in
        if wait is not None and wait > 0.9 and not has_logged:
            has_logged = True
            logger.warning("%s", _wait_text(progress.reason, wait))

    return show


def _wait_text(reason: str, seconds: float) -> str:
    return f"{reason}, resuming in {math.ceil(seconds)} s"
