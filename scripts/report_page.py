"""Run the examples of docs/how-to/reports.md, and draw its pictures: `make pictures`.

The pictures are those of the pages that the examples make by `--html`, as files of their own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Final

from examples.local_server import LocalServer
from lossd_client.report._drawing.html import _STYLE

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs/how-to/reports.md"
FOLDER: Final = ROOT / "docs/how-to/pictures"
ADDRESS: Final = "127.0.0.1:8000"
COMMANDS: Final = Path(sys.executable).parent
# The file, the page that the picture is in, and its title.
PICTURES: Final = (
    ("rows.svg", "digits.html", "Losses of rows"),
    ("cameras.svg", "nights.html", "Mean loss by camera"),
    ("gammas.svg", "sweep.html", "Mean loss by gamma"),
    ("precision-recall.svg", "sweep.html", "Precision and recall"),
)
_GREY: Final = "#777"  # readable on white and on black
_BLOCK: Final = re.compile(r"^```(python|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_EXPECTED: Final = re.compile(r"^(?:.*\)  )?# (.+)$", re.MULTILINE)


def run(url: str, folder: Path, page: Path = PAGE) -> Iterator[tuple[str, str]]:
    """Run the blocks of a page one after the other, in a folder; yield what each shows and what it prints.

    `…` stands for anything. Commands below which nothing is shown are only run.

    Raises:
        subprocess.CalledProcessError: A command failed.
    """
    address = url.removeprefix("http://")
    names: dict[str, object] = {"__name__": "page"}
    for language, text in _BLOCK.findall(page.read_text()):
        if language == "python":
            with chdir(folder), redirect_stdout(StringIO()) as out:
                exec(compile(text.replace(ADDRESS, address), str(page), "exec"), names)  # noqa: S102 - ours
            yield "\n".join(_EXPECTED.findall(text)), _stripped(out.getvalue())
        else:
            for command in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                line, _, shown = command.partition("\n")
                output = _output(line, url, folder)
                if shown:
                    yield shown.rstrip(), _stripped(output)


def _output(command: str, url: str, folder: Path) -> str:
    """Run a command of the page by the shell, and return its standard output."""
    here = re.sub(r"^lossd ", f"{sys.executable} -m lossd ", command)
    done = subprocess.run(  # noqa: S602 - our own page's
        here.replace("localhost:8000", url.removeprefix("http://")),
        shell=True,
        cwd=folder,
        env={**os.environ, "LOSSD_BASE_URL": url, "PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def _stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines())


def pictures(folder: Path) -> dict[str, str]:
    """Return the pictures of the pages in a folder, by file."""
    return {file: picture((folder / page).read_text(), title) for file, page, title in PICTURES}


def picture(page: str, title: str) -> str:
    """Return a picture of a page as a file of its own: with its style, its size, and a colour for its text.

    Raises:
        ValueError: The page has not one picture of this title.
    """
    rules = [line.removeprefix(".lossd svg ") for line in _STYLE.splitlines()]
    style = "\n".join(rule for rule in rules if rule.startswith(("text{", ".lossd-")))
    [found] = re.findall(rf"<svg [^>]*aria-label=\"{re.escape(title)}\".*?</svg>", page, re.DOTALL)
    [(width, height)] = re.findall(r'viewBox="0 0 (\S+) (\S+)"', found)
    given = f' xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" color="{_GREY}"'
    return f"{found.replace('>', f'{given}><style>{style}</style>', 1)}\n"


def main() -> None:
    """Write the pictures."""
    with (
        LocalServer(Path(sys.executable).with_name("lossd")) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        for _ in run(server.url, Path(folder)):
            pass
        for file, drawn in pictures(Path(folder)).items():
            (FOLDER / file).write_text(drawn)


if __name__ == "__main__":
    main()
