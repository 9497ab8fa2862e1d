"""What `lossd compare` writes and prints."""

import json
from itertools import combinations
from pathlib import Path

import typer

from lossd_client.cli.comparing.options import CompareOptions
from lossd_client.cli.comparing.summary import print_summary
from lossd_client.cli.part_file import PartFile, appending, is_special, writing
from lossd_client.cli.reporting.output import check_outputs
from lossd_client.comparison import Comparison


def check_all(options: CompareOptions) -> None:
    """Refuse files that cannot be written, before anything is scored.

    Raises:
        BadParameter: One's name does not say what is written, or two are one file.
        Exit: One cannot be appended to; the message was printed.
    """
    check_outputs(options.out, options.html)
    written = {
        "--out": options.out,
        "--html": options.html,
        "--markdown": options.markdown,
        "--junit": options.junit,
    }
    given = [(option, path) for option, path in written.items() if path is not None]
    for option, path in given:
        if path.name == "-":
            raise typer.BadParameter(f"{option} -: name a file; --json prints to standard output")
    for (a, mine), (b, its) in combinations(given, 2):
        if mine.resolve() == its.resolve() and not is_special(mine):
            raise typer.BadParameter(f"{a} and {b} both name {mine}: write one of them to another file")
    if options.markdown is not None:
        _try_to_append(options.markdown)


def _try_to_append(path: Path) -> None:
    if is_special(path):  # whose reader would see an end
        return
    is_new = not path.exists()
    with writing(path):
        path.open("ab").close()
        if is_new:
            path.unlink()


def finish(
    comparison: Comparison, names: tuple[str, str], options: CompareOptions, junit: PartFile | None
) -> None:
    """Write the files of a comparison, and print it.

    Args:
        comparison: The comparison.
        names: What the new model and the baseline are called.
        options: The options.
        junit: The file of --junit.
    """
    if junit is not None:
        with writing(junit.path):
            junit.write(comparison.to_junit(strict=options.strict).encode())
            junit.publish()
    if options.markdown is not None:
        with writing(options.markdown), appending(options.markdown) as file:
            if file.seekable() and file.tell():  # a heading begins after an empty line
                file.write(b"\n\n")
            file.write(comparison.to_markdown().encode())
    if options.as_json:
        # Bytes, since JSON is UTF-8 whatever the encoding of a console.
        typer.echo(json.dumps(comparison.to_dict(), ensure_ascii=False, allow_nan=False).encode())
    else:
        print_summary(comparison, names)
