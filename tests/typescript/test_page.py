"""The modules of the server's page: their types, and that they need only what is served beside them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from typescript.tools import PACKAGE, ROOT, run, tool

_PAGE: Final = ROOT / "service/lossd/ui"


def test_the_modules_have_the_types_that_they_say() -> None:
    run(tool("tsc"), "-p", Path(__file__).with_name("page.tsconfig.json"), folder=PACKAGE)


def test_modules_import_modules_of_the_page_alone() -> None:
    for path in _PAGE.glob("*.js"):
        code = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)  # types alone are imported there
        for name in re.findall(r"""(?:\bfrom|\bimport\() ?["']([^"']+)["']""", code):
            assert (path.parent / name).is_file(), f"{path.name} imports {name}"
