"""A progress bar on standard error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from lossd_client import LossClient, progress_bar


@contextmanager
def progress_shown(client: LossClient, rows: int | None, shows: bool) -> Iterator[LossClient]:
    """Yield a client that shows a bar on standard error while it works, if that is a terminal."""
    if not (shows and sys.stderr.isatty()):
        yield client
        return
    with progress_bar() as show:
        yield client.with_options(progress=lambda progress: show(replace(progress, total_rows=rows)))
