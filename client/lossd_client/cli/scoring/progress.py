"""A progress bar on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from lossd_client import LossClient, progress_bar


@contextmanager
def progress_shown(client: LossClient, rows: int | None, shows: bool) -> Iterator[LossClient]:
    """Yield a client that shows on standard error how far it is: see `progress_bar`."""
    if not shows:
        yield client
        return
    with progress_bar() as show:
        yield client.with_options(progress=lambda progress: show(replace(progress, total_rows=rows)))
