"""The two readers of text tables: they take the same files, give the same bits, and hold little in memory."""

from __future__ import annotations

import csv
import gzip
import io
import random
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.cli.reading import read
from lossd_client.cli.files import csv_table
from lossd_client.cli.files.data_file import Kind
from lossd_client.cli.files.errors import BadFile

pytestmark = pytest.mark.slow


def written(folder: Path, text: str) -> Path:
    (folder / "t.csv").write_bytes(text.encode())
    return folder / "t.csv"


CELLS = st.one_of(
    st.floats(allow_nan=False).map(repr),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(
        ["", " 1", "1 ", "+2", "1.", ".5", "nan", "inf", "-Infinity", "x", "NA", "1,5", "a b", "#"]
    ),
    st.text(alphabet="ab 1.,;#\"'\n\r\t", max_size=5),
)


def outcome(path: Path, name: str, kind: Kind, nulls: bool) -> object:
    try:
        found = read(path, name, kind, nulls=nulls)
    except BadFile:  # of two faults one may be found first
        return "refused"
    return found.tolist() if kind is Kind.LABEL else (found.dtype, found.tobytes())


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=6),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE]),
    end=st.sampled_from(["\n", "\r\n"]),
    size=st.sampled_from([16, 1 << 20]),
)
def test_both_readers_take_the_same_and_give_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, ...]],
    delimiter: str,
    quoting: Literal[0, 1, 3],
    end: str,
    size: int,
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(
        text, delimiter=delimiter, quoting=quoting, lineterminator=end, escapechar=None, quotechar='"'
    )
    writer.writerow(("a", "b", "c"))
    for row in rows:
        try:
            writer.writerow(row)
        except csv.Error:  # what cannot be written without quotes
            text.write(delimiter.join(row) + end)
    path = written(tmp_path_factory.mktemp("csv"), text.getvalue())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_table, "_PIECE_BYTES", size)
        check_both(path)


def check_both(path: Path) -> None:
    for kind, nulls in ((Kind.NUMBER, False), (Kind.NUMBER, True), (Kind.FLAG, True), (Kind.LABEL, False)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(csv_table, "has_pyarrow", lambda: False)
            expected = outcome(path, "b", kind, nulls)
        assert outcome(path, "b", kind, nulls) == expected


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30),
    seed=st.integers(),
)
def test_numbers_are_what_python_reads(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], seed: int
) -> None:
    form = random.Random(seed)
    cells = [form.choice([repr, "{:.17g}".format, "{:.20e}".format, "{:+.3f}".format])(one) for one in values]
    path = written(tmp_path_factory.mktemp("csv"), "x,y\n" + "".join(f"{cell},0\n" for cell in cells))
    np.testing.assert_array_equal(read(path, "x"), [float(cell) for cell in cells], strict=True)


MEASURED = """
import sys
sys.modules["pandas"] = None  # pyarrow imports it where it is installed, and nothing here uses it
from lossd_client.cli.files.data_file import Column, Kind
from lossd_client.cli.files.formats import open_file
rows = sum(len(next(iter(block.values()))) for block in
           open_file(sys.argv[1]).blocks([Column("logits", Kind.NUMBER)], 1 << 14))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(rows, int(peak.split()[1]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["t.csv.gz", "t.jsonl.gz"])
def test_memory_does_not_grow_with_what_is_decompressed(tmp_path: Path, name: str) -> None:
    line = b'{"logits": 0.5, "s": "' if "json" in name else b"0.5,"
    line += b"x" * 300 + (b'"}\n' if "json" in name else b"\n")
    with gzip.open(tmp_path / name, "wb", compresslevel=1) as file:
        file.write(b"" if "json" in name else b"logits,s\n")
        for _ in range(100):
            file.write(line * 5000)  # 150 MB in all
    command = [sys.executable, "-c", MEASURED, str(tmp_path / name)]
    rows, peak = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    assert int(rows) == 500_000
    assert int(peak) < 140  # MiB, with numpy, Python and pyarrow
