"""Run the examples of a page of docs/, and draw its pictures into pictures/ beside it: `make pictures`.

The pictures are those of the pages that the examples make by `--html`, as files of their own.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Final

from examples.local_server import LocalServer
from lossd_client.local import free_port
from lossd_client.report._drawing.style import style
from scripts.photographs import PHOTOGRAPHS, photograph
from scripts.terminal import Terminal

ROOT: Final = Path(__file__).resolve().parents[1]
LESSONS: Final = ROOT / "docs/tutorials"
REPORTS: Final = ROOT / "docs/how-to/reports.md"
# For each page the files, the pages by `--html` that the pictures are in, and their titles.
PICTURES: Final = {
    REPORTS: (
        ("rows.svg", "digits.html", "Losses of rows"),
        ("cameras.svg", "nights.html", "Mean loss by camera"),
        ("gammas.svg", "sweep.html", "Mean loss by gamma"),
        ("precision-recall.svg", "sweep.html", "Precision and recall"),
    ),
    LESSONS / "score-my-first-arrays.md": (("classes.svg", "report.html", "Mean loss by class"),),
    LESSONS / "find-mislabelled-rows.md": (("labels.svg", "before.html", "Losses of rows"),),
}
_GREY: Final = "#777"  # readable on white and on black
_BLOCK: Final = re.compile(r"^```(python|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PORT: Final = re.compile(r"((?:127\.0\.0\.1|localhost):|--port )(800\d)\b")
_FILE: Final = re.compile(r"# (\w+\.py)\n")
_EXPECTED: Final = re.compile(r"^(?:.*\)  )?# (.+)$", re.MULTILINE)


def run(url: str, folder: Path, page: Path) -> Iterator[tuple[str, str]]:
    """Run the blocks of a page one after the other, in a folder; yield what each shows and what it prints.

    `…` stands for anything. Commands below which nothing is shown are only run, all of them by one shell.
    A block of Python that begins with the name of a file is saved as that file.

    Raises:
        subprocess.CalledProcessError: A command failed.
    """
    text = _at_own_ports(page.read_text(), url)
    names: dict[str, object] = {"__name__": "page"}
    with Terminal(folder, url) as terminal:
        for language, block in _BLOCK.findall(text):
            if language == "console":
                yield from _session(terminal, block)
            elif file := _FILE.match(block):
                (folder / file[1]).write_text(block)
            else:
                with chdir(folder), redirect_stdout(StringIO()) as out:
                    exec(compile(block, str(page), "exec"), names)  # noqa: S102 - ours
                yield "\n".join(_EXPECTED.findall(block)), _stripped(out.getvalue())


def _at_own_ports(text: str, url: str) -> str:
    """Return a page's text with the server's port for 8000, and a free one for each other of 8001 to 8009."""
    ports = {port: str(free_port()) for _, port in _PORT.findall(text)} | {"8000": url.rpartition(":")[2]}
    return _PORT.sub(lambda found: found[1] + ports[found[2]], text)


def _session(terminal: Terminal, block: str) -> Iterator[tuple[str, str]]:
    """Run the commands of a block, and yield what it shows below each and what that printed."""
    for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, _, shown = command.partition("\n")
        output = terminal.run(line)
        if shown:
            yield shown.rstrip(), _stripped(output)


def _stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines())


def pictures(folder: Path, page: Path) -> dict[str, str]:
    """Return a page's pictures, by file, out of what its examples have made in a folder."""
    return {file: picture((folder / html).read_text(), title) for file, html, title in PICTURES[page]}


def picture(page: str, title: str) -> str:
    """Return a picture of a page as a file of its own: with its style, its size, and a colour for its text.

    Raises:
        ValueError: The page has not one picture of this title.
    """
    rules = " ".join(line for line in style().splitlines() if line.startswith(".lossd-picture "))
    [found] = re.findall(rf"<svg [^>]*aria-label=\"{re.escape(title)}\".*?</svg>", page, re.DOTALL)
    [(width, height)] = re.findall(r'viewBox="0 \S+ (\S+) (\S+)"', found)
    given = f' xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" color="{_GREY}"'
    return f"{found.replace('>', f'{given}><style>{rules}</style>', 1)}\n"


def main() -> None:
    """Write the pictures; the photographs of the server's page too, where there is a browser."""
    with LocalServer(Path(sys.executable).with_name("lossd")) as server:
        for page in PICTURES.keys() | {LESSONS / f"{lesson}.md" for lesson in PHOTOGRAPHS}:
            with tempfile.TemporaryDirectory() as folder:
                for _ in run(server.url, Path(folder), page):
                    pass
                if page in PICTURES:
                    for file, drawn in pictures(Path(folder), page).items():
                        (page.parent / "pictures" / file).write_text(drawn)
                if find_spec("playwright"):
                    photograph(page, server.url, Path(folder))


if __name__ == "__main__":
    main()
