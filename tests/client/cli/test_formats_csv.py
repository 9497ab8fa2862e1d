"""Text tables as spreadsheets and libraries write them, by pyarrow and by Python's own reader alike."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

from client.cli.reading import read
from lossd_client.cli.files import csv_table
from lossd_client.cli.files.data_file import Column, Kind
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.formats import open_file

TABLE = "logits,targets\n0.5,1\n-2,0\n"


@pytest.fixture(autouse=True, params=["pyarrow", "python"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "python":
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    return str(request.param)


def written(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def notes(path: Path, *names: str) -> tuple[str, ...]:
    file = open_file(str(path))
    for name in names:
        file.whole(Column(name, Kind.NUMBER))
    return tuple(note.removeprefix(f"{path}: ") for note in file.notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TABLE, ()),
        (TABLE.replace(",", ";"), ("read with ; between columns",)),
        (TABLE.replace(",", "\t"), ("read with tab between columns",)),
        (TABLE.replace(",", "|"), ("read with | between columns",)),
        (TABLE.replace(",", ", "), ()),
        (TABLE.replace(",", " , ").replace("\n", " \n"), ()),
        (
            TABLE.replace(",", ";").replace(".", ","),
            ("read with ; between columns and decimal commas in logits",),
        ),
        ("sep=;\r\n" + TABLE.replace(",", ";"), ("read with ; between columns",)),
        ("# run 7\n" + TABLE, ()),
        ("# run 7, of 9\n\n#\n" + TABLE, ()),
        ("\ufeff# run 7\r\n" + TABLE.replace("\n", "\r\n") + "\r\n", ()),
        (TABLE.replace("\n", "\r"), ()),
        ('"logits","targets"\n"0.5","1"\n"-2","0"\n', ()),
        ('logits, "targets"\n0.5, "1"\n-2, 0\n', ()),
        ("logits,targets\n+.5e0,1.\n-2E+0,00\n", ()),
    ],
)
def test_dialects(tmp_path: Path, text: str, said: tuple[str, ...]) -> None:
    path = written(tmp_path, text)
    assert open_file(str(path)).names == ("logits", "targets")
    np.testing.assert_array_equal(read(path, "logits"), [0.5, -2.0], strict=True)
    np.testing.assert_array_equal(read(path, "targets"), [1.0, 0.0], strict=True)
    assert notes(path, "logits", "targets") == said


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.tsv", TABLE.replace(",", "\t").encode(), ()),
        ("t.tsv", TABLE.encode(), ("read with , between columns",)),
        ("t.csv.gz", gzip.compress(TABLE.encode(), mtime=0), ()),
        ("t.tsv.gz", gzip.compress(TABLE.replace(",", "\t").encode(), mtime=0), ()),
        ("t", gzip.compress(TABLE.encode(), mtime=0), ()),
        ("t", TABLE.encode(), ()),
        ("t.txt", TABLE.replace(",", "\t").encode(), ("read with tab between columns",)),
        ("t.csv.gz", TABLE.encode(), ()),  # decompressed on its way here
    ],
)
def test_names(tmp_path: Path, name: str, content: bytes, said: tuple[str, ...]) -> None:
    path = written(tmp_path, content, name)
    np.testing.assert_array_equal(read(path, "logits"), [0.5, -2.0], strict=True)
    assert notes(path) == said


def test_a_delimiter_within_other_columns_names(tmp_path: Path) -> None:
    path = written(tmp_path, "a;b,logits\n1,2\n3,4\n")
    np.testing.assert_array_equal(read(path, "logits"), [2.0, 4.0])
    path = written(tmp_path, "a,b;logits\n1;2\n3;4\n")
    np.testing.assert_array_equal(read(path, "logits"), [2.0, 4.0])


DECIMAL = "a decimal point, and the file has decimal commas"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("logits;targets\n1.234,5;1\n", r"column 'logits', line 2: '1\.234,5' is not a number"),
        (
            "logits;targets\n0,5;1\n0.5;1\n",
            r"line 2: '0,5' has a comma, and column 'logits', line 3: '0\.5' a decimal point",
        ),
        ("targets;logits\n0,5;1.234\n", rf"column 'logits', line 2: '1\.234' has {DECIMAL}"),
        (
            "targets;logits\n0,5;1,234,567\n",
            "column 'logits', line 2: '1,234,567' has a comma, .* nothing between thousands",
        ),
        ('logits,targets\n"0,5",1\n', "'0,5' has a comma, and commas part the columns: write a point in"),
        ("logits,targets\nWAHR,1\n", "'WAHR' is not a number; flags are written 0, 1, true and false"),
        ("logits,targets\n0,5,1\n", "line 2 has 3 values for 2 columns; where commas are decimal commas, ;"),
        ("logits;targets\n1;0\n1;0;1\n", "line 3 has 3 values for 2 columns$"),
        ("0.5,1\n-2,0\n", r"its first line, 0\.5,1, is all numbers; it must name the columns$"),
        ("0,5;1\n", "is all numbers"),
        ("0.5\n-2\n", r"its first line, 0\.5, is all numbers; it must name the columns$"),
        ("# of 3 classes\n0.5\n-2\n", "it must name the columns$"),
        ("# logits\n0.5\n-2\n", "named in the comment # logits: take the # away"),
        ("# logits,targets\n0.5,1\n", "named in the comment # logits,targets: take the # away"),
        ("logits targets\n0.5 1\n", "seems to name 2 columns; they are read where , ; tab or |"),
        ("logits;a,targets\n1\n", "may be parted by , or ;: part all lines by ,"),
        ("targets,logits\n1,0.5\n0,\n", "line 3: there is no value. Where .* fill .*--drop-unlabelled"),
        ("targets,logits\n1,NA\n", "line 2: there is NA in place of a value. .*--drop-unlabelled"),
        ("targets,logits\n1,1_0\n", "'1_0' is not a number"),
        ("targets,logits\n1,0x10\n", "'0x10' is not a number"),
        ("targets,logits\n1,\u0661\n", "is not a number"),
        ("targets,logits\n1,1e400\n", "1e400 is greater than float64 holds"),
        ('logits,targets\n1,0\n"2,0\n3,1\n', r'a quote \("\) is not closed'),
        ("logits\n1\n\n2\n", 'line 3 is empty: write "" where there is no value'),
        ("site,logits\na,1\n#b,2\n", 'line 3 begins with # and may be a row of 2 .* put quotes .* "#b"'),
        ('tag,text,logits\nabc,hello,0.5\n#foo,"a, b",4\nxyz,q,-1\n', "line 3 begins with #"),
        ("tag,targets,logits\n12,0,0.5\n#14,1,4\n13,0,-1\n", 'line 3 begins with # .* as in "#14"'),
        ("tag,targets,logits\n#12,0,0.5\n13,0,-1\n", "line 2 begins with #"),
        ("tag,targets,logits\n12,0,0.5\n#x,0,-1\n", "line 3 begins with #"),
        ('a,b,c,logits\n#f,"x\ny,z",4,0\n1,2,3,4\n', "line 2 begins with #"),
        ("a,targets,logits\n#x,0\n#y\n", "every line behind the header begins with #, from line 2 on"),
        (
            "s,logits\n\xfc,1\n".encode("latin-1"),
            r"line 2 is not UTF-8 \(byte 0xfc\): save it as UTF-8 .*CSV UTF-8",
        ),
        (TABLE.encode("utf-16"), "UTF-16: save it as UTF-8 .*CSV UTF-8"),
        ("", "is empty"),
        ("# only\n\n", "is empty; its first line must name the columns"),
        ("logits,logits\n1,2\n", "columns of the same name"),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BadFile, match=message) as raised:
        read(path, "logits")
    assert str(path) in str(raised.value)


THOUSANDS = "and no other number tells which: write all numbers with decimal points, and nothing between"


def both(path: Path, size: int = 1 << 20) -> tuple[list[list[float]], tuple[str, ...]]:
    """Reads two columns in one pass, in pieces of about `size` bytes; gives their rows, and the notes."""
    file = open_file(str(path))
    columns = [Column(name, Kind.NUMBER) for name in ("logits", "w")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_table, "_PIECE_BYTES", size)
        blocks = list(file.blocks(columns, 2))
    values = [[float(x) for block in blocks for x in block[column]] for column in columns]
    return values, tuple(note.removeprefix(f"{path}: ") for note in file.notes)


@pytest.mark.slow
@pytest.mark.parametrize("size", [8, 1 << 20])
@pytest.mark.parametrize("mark", [";", "\t", "|"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "0.5;1,200\n-2.5;2,000\n",
            "column 'w', line 2: '1,200' has a comma, and column 'logits', line 2: '0.5' a",
        ),
        (
            "1;1,200\n-2.5;2,000\n",
            "line 2: '1,200' has a comma, and column 'logits', line 3: '-2.5' a decimal point",
        ),
        ("1;1,200\n-2;2,000\n", f"column 'w', line 2: '1,200' is 1.2.* and 1200 if .* {THOUSANDS}"),
        ("1;-1,200\n", f"'-1,200' is -1.200 .* and -1200 if .* {THOUSANDS}"),
        (
            "0,5;1\n" + "1;2\n" * 1100 + "1;2.5\n",
            "line 2: '0,5' has a comma, and column 'w', line 1103: '2.5' a",
        ),
        ("1;1.5\n" * 1100 + "0,5;2\n", "line 1102: '0,5' has a comma, and column 'w', line 2: '1.5' a"),
        ("1;1\n" * 1100 + "1;1,200\n", "line 1102: '1,200' has a comma, and no first row of its column has"),
        ("1;1,234,567\n", "'1,234,567' has a comma, .* nothing between thousands"),
    ],
)
def test_commas_that_are_unclear(tmp_path: Path, text: str, mark: str, message: str, size: int) -> None:
    with pytest.raises(BadFile, match=message):
        both(written(tmp_path, f"logits;w\n{text}".replace(";", mark)), size)


def test_a_point_in_a_column_that_is_not_read_makes_commas_unclear(tmp_path: Path) -> None:
    path = written(tmp_path, "logits;w\n0.5;1,200\n-2.5;2,000\n")
    with pytest.raises(BadFile, match=r"'1,200' has a comma, and column 'logits', line 2: '0\.5' a"):
        read(path, "w")
    np.testing.assert_array_equal(read(path, "logits"), [0.5, -2.5], strict=True)


@pytest.mark.parametrize("size", [8, 1 << 20])
@pytest.mark.parametrize(
    ("text", "values", "said"),
    [
        ("0,5;1,200\n-2;2,000\n", [[0.5, -2], [1.2, 2]], " and decimal commas"),
        ("1;1,200\n-2;2,5\n", [[1, -2], [1.2, 2.5]], " and decimal commas in w"),
        ("1;0,125\n-2;0,250\n", [[1, -2], [0.125, 0.25]], " and decimal commas in w"),
        ("1;1.200\n-2;2.000\n", [[1, -2], [1.2, 2]], ""),
    ],
)
def test_commas_that_are_clear(tmp_path: Path, text: str, values: object, said: str, size: int) -> None:
    path = written(tmp_path, f"logits;w\n{text}")
    assert both(path, size) == (values, (f"read with ; between columns{said}",))


def test_missing_values(tmp_path: Path) -> None:
    path = written(tmp_path, 't,x,f\n,1,true\nNA,2,\n"",3,false\n null ,4,1\nnan,5,0\n0.5,6,True\n')
    nan = np.nan
    np.testing.assert_array_equal(read(path, "t", nulls=True), [nan, nan, nan, nan, nan, 0.5], strict=True)
    np.testing.assert_array_equal(read(path, "f", nulls=True), [1, nan, 0, 1, 0, 1.0], strict=True)
    assert read(path, "t", Kind.LABEL).tolist() == [None, "NA", None, "null", "nan", "0.5"]
    path = written(tmp_path, 't\n1\n""\n0\n\n')
    np.testing.assert_array_equal(read(path, "t", nulls=True), [1, nan, 0.0], strict=True)


def test_masks(tmp_path: Path) -> None:
    path = written(tmp_path, "m,n,o\n1,1.0,nan\n0,0.0,1\n")
    np.testing.assert_array_equal(read(path, "m", Kind.FLAG), [True, False], strict=True)
    for name in ("n", "o"):
        with pytest.raises(BadFile, match=f"column '{name}', line 2: .* is none of 0, 1, true and false"):
            read(path, name, Kind.FLAG)


def test_comments_and_quotes_in_later_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "_PIECE_BYTES", 16)
    text = 'site,logits,targets\na,1,0\nb,2,0\n# note\n"c, d",3,0\n"e\n# f",4,0\n"g ""h""",5,1\ni,6,1\n'
    path = written(tmp_path, text)
    np.testing.assert_array_equal(read(path, "logits"), np.arange(1, 7.0), strict=True)
    expected = ["a", "b", "c, d", "e\n# f", 'g "h"', "i"]
    assert read(path, "site", Kind.LABEL).tolist() == expected
    with pytest.raises(BadFile, match="column 'logits', line 10: 'x'"):
        read(written(tmp_path, text + "j,x,1\n"), "logits")


def test_a_column_without_a_name(tmp_path: Path) -> None:
    path = written(tmp_path, ",logits,targets\n0,0.5,3.0\n")  # as pandas writes an index, and ids beside NaN
    assert open_file(str(path)).names == ("", "logits", "targets")
    np.testing.assert_array_equal(read(path, "targets"), [3.0], strict=True)


def test_a_damaged_gzip(tmp_path: Path) -> None:
    content = gzip.compress((TABLE + "1,0\n" * 50_000).encode(), mtime=0)
    with pytest.raises(BadFile, match=r"t\.csv\.gz cannot be read: "):
        read(written(tmp_path, content[:-20], "t.csv.gz"), "logits", rows=1 << 16)
    broken = content[:-6] + bytes([content[-6] ^ 1]) + content[-5:]  # of the checksum
    with pytest.raises(BadFile, match="cannot be read: CRC check failed"):
        read(written(tmp_path, broken, "t.csv.gz"), "logits", rows=1 << 16)


def test_comments_behind_the_header_are_said(tmp_path: Path) -> None:
    def found(text: str) -> tuple[list[float], tuple[str, ...]]:
        path = written(tmp_path, text)
        file = open_file(str(path))
        values = [
            float(x)
            for block in file.blocks([Column("logits", Kind.NUMBER)], 2)
            for x in next(iter(block.values()))
        ]
        return values, tuple(note.removeprefix(f"{path}: ") for note in file.notes)

    one = "line 4 begins with # and was passed over"
    assert found("# a, b\nlogits,targets\n0.5,1\n# run\n-2,0\n") == ([0.5, -2.0], (one,))
    two = "2 lines that begin with # were passed over, the first of them line 2"
    assert found("logits,targets\n# a, b, c\n0.5,1\n-2,0\n\n# end\n") == ([0.5, -2.0], (two,))
    assert found('tag,logits\n"#foo",0.5\n"#bar",-2\n') == ([0.5, -2.0], ())
