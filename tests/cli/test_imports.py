"""What a command imports: it is most of what a short one takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMMANDS = {"score", "report", "merge", "compare", "ping", "doctor", "bench"}
CODE = """
import sys
from lossd.__main__ import main
try:
    main()
except SystemExit:
    print(*(name.split(".")[2] for name in sys.modules if name.startswith("lossd_client.cli.")))
"""


@pytest.mark.parametrize(
    ("words", "own"),
    [
        (["serve", "--help"], set()),
        (["teams", "--help"], set()),
        (["ping", "--help"], {"ping"}),
        (["--help"], COMMANDS),
        (["sirve"], COMMANDS),
    ],
    ids=["serve", "teams", "ping", "all", "mistyped"],
)
def test_a_command_imports_no_other(words: list[str], own: set[str]) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, *words], capture_output=True, text=True, check=True)
    assert COMMANDS & set(done.stdout.splitlines()[-1].split()) == own
