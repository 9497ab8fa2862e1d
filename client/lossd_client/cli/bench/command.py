"""`lossd bench`: measures a server."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lossd_client import LossClient, Request, TooLarge
from lossd_client import Timeout as Limits
from lossd_client._http.addresses import without_password
from lossd_client._options import Settings
from lossd_client.cli.bench.bodies import formats, request_of, rounded
from lossd_client.cli.bench.load import Measured, measure
from lossd_client.cli.exits import Exit, client_errors, fail, leave_at_signals
from lossd_client.cli.options import ApiKey, Timeout, Url
from lossd_client.cli.raw import raw_transport

_SIZES: Final = (1_000, 100_000, 1_000_000)
_NOTE: Final = (
    "Focal loss of random numbers, made before the clock runs. Times are of whole requests as this client "
    "saw them: client and network are part of them, and so is what else the server did meanwhile."
)


def bench(
    seconds: Annotated[
        float, typer.Option(help="How long each format and size is measured.", min=0.1, max=600)
    ] = 2.0,
    connections: Annotated[int, typer.Option(help="Requests in flight.", min=1, max=256)] = 1,
    elements: Annotated[
        list[int] | None,
        typer.Option(
            help="Elements a request; may be given several times.",
            min=1,
            show_default="1000, 100000, 1000000",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    timeout: Timeout = 60.0,
) -> None:
    """Measure what a server gives this machine: elements a second and times by format and size.

    It takes some of the server's time, and of a team's rates, as any requests do.
    """
    with client_errors(), LossClient(url, api_key=api_key, timeout=timeout, retry=None) as client:
        if not client.ready():
            fail(f"{without_password(client.base_url)} is there, but not ready", Exit.REFUSED)
        headers = Settings(base_url=client.base_url, api_key=api_key).headers()
        about = {
            "server": without_password(client.base_url),
            "version": client.info().get("version"),
            "connections": connections,
            "seconds": seconds,
            "note": _NOTE,
        }
        cases = [(form, size) for form in formats() for size in elements or _SIZES]
        rows = []
        with (
            raw_transport(client.base_url, max_connections=connections) as transport,
            leave_at_signals(),
            _bar(len(cases)) as tell,
        ):
            for form, size in cases:
                tell(f"{form}, {size:,} elements")
                request = request_of(form, size, client.base_url, headers)
                try:
                    measured = measure(transport, request, seconds, connections, Limits.of(timeout))
                except TooLarge as error:
                    typer.echo(f"{form}, {size:,} elements, left out: {error.detail}", err=True)
                    continue
                rows.append(_row(form, rounded(size), request, measured))
    if as_json:
        typer.echo(json.dumps({**about, "measurements": rows}))
    else:
        _print(about, rows)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[str], None]]:
    """Show on standard error, if that is a terminal, what is being measured."""
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        number = count()

        def tell(what: str) -> None:
            bar.update(task, description=what, completed=next(number))

        yield tell


def _row(form: str, elements: int, request: Request, measured: Measured) -> dict[str, Any]:

    row = {
        "format": form,
        "elements": elements,
        "bytes": request.length,
        "requests": len(measured.times),
        "refused": measured.refused,
        "elements_per_second": len(measured.times) * elements / measured.wall,
    }
    for percent in (50, 95, 99):
        seconds = measured.percentile(percent)
        row[f"p{percent}_ms"] = None if seconds is None else seconds * 1000.0
    return row


def _print(about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    console = Console(highlight=False, width=max(100, Console().width))
    how = f"{about['connections']} at a time, {about['seconds']:g} s each"
    console.print(Text(f"{about['server']}, lossd {about['version']}; {how}"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("format")
    for name in ("elements", "MB", "requests", "elements/s", "p50 ms", "p95 ms", "p99 ms", "refused"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["format"],
            f"{row['elements']:,}",
            f"{row['bytes'] / 1e6:.3g}",
            f"{row['requests']:,}",
            f"{row['elements_per_second']:,.0f}",
            *map(_milliseconds, (row["p50_ms"], row["p95_ms"], row["p99_ms"])),
            str(row["refused"]),
        )
    console.print(table)
    console.print(Text(f"{_NOTE} A percentile is '-' where too few requests came to tell it."))


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
