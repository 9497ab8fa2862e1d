"""Text tables: .csv and .tsv. pyarrow reads them ten times faster, where it is installed; else Python's csv.

Both take the same files and give the same bits: pyarrow reads pieces of plain lines only. Where it fails,
Python's csv reads that piece again, and names the line and the fault.
"""

import io
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from lossd_client.cli.extras import has_pyarrow
from lossd_client.cli.files import cells as read
from lossd_client.cli.files.data_file import Block, Column, DataFile, Kind, recut
from lossd_client.cli.files.dialect import Records, find_dialect
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.location import Location

_ROWS: Final = 1 << 14
_PIECE_BYTES: Final = 1 << 20
_LONGEST_LINE: Final = 64 << 20
_BOM: Final = b"\xef\xbb\xbf"
_AS_UTF8: Final = 'save it as UTF-8 (in Excel: Save As, "CSV UTF-8")'
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_COMMENT: Final = re.compile(rb"(?:\A|[\r\n])#")
_EMPTY_LINE: Final = re.compile(rb"\A[\r\n]|\n\r?\n|\r\r")

_Rows = list[tuple[int, list[str]]]  # with the number of each one's line


class CsvFile(DataFile):
    """A text table whose first line names the columns.

    Numbers are read as float64, or as bool in a column whose first value is true or false.

    Raises:
        BadFile: It cannot be read.
    """

    is_table = True

    def __init__(self, location: Location) -> None:
        self.location = location
        with location.errors(), location.open() as file:
            sample = next(_pieces(file), b"")
            self._dialect = find_dialect(location, _decoded(sample, 0))
        self.names = self._dialect.names
        self._plain = _plain_quotes(self._dialect.delimiter)
        self._comments = 0  # that the last reading passed over, behind the header
        self._first_comment = 0  # its line

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self._dialect.notes(self.location), *self._of_comments())

    def _of_comments(self) -> Iterator[str]:
        if self._comments == 1:
            yield f"{self.location}: line {self._first_comment} begins with # and was passed over"
        elif self._comments:
            what = f"{self._comments} lines that begin with # were passed over"
            yield f"{self.location}: {what}, the first of them line {self._first_comment}"

    def rows(self, name: str) -> int | None:
        return None

    def dimensions(self, name: str) -> int:
        return 1

    def row_bytes(self, columns: Sequence[Column]) -> int:
        return 8 * max(1, len(columns))

    def blocks(self, columns: Sequence[Column], rows: int) -> Iterator[Block]:
        none: _Rows = []
        yield from recut(self.location, chain([self._of_rows(none, columns)], self._read(columns)), rows)

    def _read(self, columns: Sequence[Column]) -> Iterator[Block]:
        self._comments = self._first_comment = 0
        has_rows = False
        with self.location.errors(), self.location.open() as file:
            for block in self._blocks(file, columns):
                has_rows = True
                yield block
            self._dialect.marks.check()
            if self._comments and not has_rows:
                raise ValueError(
                    f"every line behind the header begins with #, from line {self._first_comment} on: "
                    "put quotes around the first value of each line that is a row"
                )

    def _blocks(self, file: BinaryIO, columns: Sequence[Column]) -> Iterator[Block]:
        """Read plain pieces by pyarrow, and everything from the first other one on by Python's csv."""
        pieces = _without_first_lines(_pieces(file), self._dialect.lines)
        for line, piece in pieces:
            if not has_pyarrow() or not self._is_plain(piece):
                yield from self._by_csv(chain([(line, piece)], pieces), columns)
                return
            block = self._by_pyarrow(line, piece, columns)
            if block is None:
                yield from self._by_csv(iter([(line, piece)]), columns)
            else:
                yield block

    def _is_plain(self, piece: bytes) -> bool:
        """Return whether every line is a row, with quotes only around whole cells."""
        if (b"#" in piece and _COMMENT.search(piece)) or (len(self.names) == 1 and _EMPTY_LINE.search(piece)):
            return False
        return b'"' not in piece or b'"' not in self._plain.sub(b"", b"\n%b\n" % piece)

    def _by_pyarrow(self, line: int, piece: bytes, columns: Sequence[Column]) -> Block | None:
        """Return a block; None if something is wrong, which Python's csv will find."""
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        _decoded(piece, line)
        wanted = list(dict.fromkeys(column.name for column in columns))
        try:
            table = arrow_csv.read_csv(
                io.BytesIO(piece),
                arrow_csv.ReadOptions(
                    column_names=list(self.names), block_size=len(piece) + 1, use_threads=False
                ),
                arrow_csv.ParseOptions(delimiter=self._dialect.delimiter),
                arrow_csv.ConvertOptions(
                    include_columns=wanted,
                    column_types=dict.fromkeys(wanted, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            ).combine_chunks()
            return {column: self._of_text(table.column(column.name), column) for column in columns}
        except pa.ArrowException:
            return None

    def _of_text(self, text: Any, column: Column) -> NDArray[Any]:  # noqa: ANN401 - pyarrow's
        """Read a column of text.

        Raises:
            ArrowException: A cell does not hold what it should.
        """
        import pyarrow as pa
        from pyarrow import compute as pc

        if column.kind is Kind.LABEL:
            return read.labels(pc.utf8_trim(text, read.SPACES).to_pylist())
        if text.null_count and not column.nulls:
            raise pa.ArrowInvalid("there are empty cells")
        if self._is_flags(column):
            return _flags(text, column.nulls)
        self._check_marks(text, column)
        if column.name in self._dialect.commas:
            if pc.any(pc.match_substring(text, ".")).as_py():
                raise pa.ArrowInvalid("there are decimal points")
            text = pc.replace_substring(text, ",", ".")
        try:
            values = text.cast(pa.float64())
        except pa.ArrowInvalid:  # spaces, perhaps
            values = pc.utf8_trim(text, read.SPACES).cast(pa.float64())
        array: NDArray[Any] = values.to_numpy()  # NaN where there is no value
        if np.isinf(array).any():
            raise pa.ArrowInvalid("there are infinities, or numbers that overflow")
        return array

    def _check_marks(self, text: Any, column: Column) -> None:  # noqa: ANN401 - pyarrow's
        import pyarrow as pa
        from pyarrow import compute as pc

        if self._dialect.delimiter == ",":
            return
        commas, points = (bool(pc.any(pc.match_substring(text, mark)).as_py()) for mark in ",.")
        if not self._dialect.marks.knows(column.name, commas, points):
            raise pa.ArrowInvalid("there are marks to be looked at cell by cell")

    def _is_flags(self, column: Column) -> bool:
        return column.kind is Kind.FLAG or column.name in self._dialect.flags

    def _by_csv(self, pieces: Iterator[tuple[int, bytes]], columns: Sequence[Column]) -> Iterator[Block]:
        first, piece = next(pieces)
        lines = (
            line
            for start, data in chain([(first, piece)], pieces)
            for line in io.StringIO(_decoded(data, start), newline="")
        )
        records = Records(lines, self._dialect.delimiter, len(self.names), first)
        while rows := [(records.line, row) for row in islice(records, _ROWS)]:
            yield self._of_rows(rows, columns)
        self._comments += records.comments
        self._first_comment = self._first_comment or records.first_comment

    def _of_rows(self, rows: _Rows, columns: Sequence[Column]) -> Block:
        for line, row in rows:
            if len(row) != len(self.names):
                raise ValueError(self._why_other_length(line, row))
        return {column: self._converted(rows, column) for column in columns}

    def _why_other_length(self, line: int, row: Sequence[str]) -> str:
        what = f"line {line} has {len(row)} values for {len(self.names)} columns"
        if self._dialect.delimiter == "," and len(row) > len(self.names):
            what += "; where commas are decimal commas, ; or tabs must stand between the columns"
        return what

    def _converted(self, rows: _Rows, column: Column) -> NDArray[Any]:
        index = self.names.index(column.name)
        found = [row[index] for _, row in rows]
        try:
            if column.kind is Kind.LABEL:
                return read.labels(found)
            if self._is_flags(column):
                return read.flags(found, column.nulls)
            is_parted = self._dialect.delimiter == ","
            if not is_parted:
                self._dialect.marks.read(column.name, found, [line for line, _ in rows])
            return read.numbers(found, column.nulls, column.name in self._dialect.commas, is_parted)
        except read.CellError as error:
            where = f"{self.location}: column {column.name!r}, line {rows[error.row][0]}: {error}"
            is_absent = found[error.row] in read.ABSENT
            remedy = f". Where values are missing, {column.fill}" if is_absent else ""
            raise BadFile(f"{where}{remedy}") from error


def _flags(text: Any, nulls: bool) -> NDArray[Any]:  # noqa: ANN401 - pyarrow's
    import pyarrow as pa
    from pyarrow import compute as pc

    is_true = pc.is_in(text, pa.array(read.TRUE))
    known = pc.or_(is_true, pc.is_in(text, pa.array(read.FALSE)))
    if not pc.all(pc.or_(known, pc.is_null(text))).as_py():
        raise pa.ArrowInvalid("there are other values")
    found: NDArray[Any] = is_true.to_numpy()
    if not nulls:
        return found.astype(np.bool_)
    return np.where(pc.is_null(text).to_numpy(), np.nan, found.astype(np.float64))


def _plain_quotes(delimiter: str) -> re.Pattern[bytes]:
    """Return a pattern of whole cells in quotes, without line ends."""
    ends = rb"[%b\r\n]" % re.escape(delimiter.encode())
    return re.compile(rb'"(?<=%b")[^"\r\n]*(?:""[^"\r\n]*)*"(?=%b)' % (ends, ends))


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield whole lines, about _PIECE_BYTES at a time.

    Raises:
        ValueError: It is not in UTF-8, or a line has no end.
    """
    held = file.read(3)
    if held.startswith(_UTF16):
        raise ValueError(f"it is UTF-16: {_AS_UTF8}")
    held = held.removeprefix(_BOM)
    while piece := file.read(_PIECE_BYTES):
        held += piece
        end = held.rfind(b"\n") + 1 or held.rfind(b"\r", 0, -1) + 1  # \r\n may be cut between the two
        if end:
            yield held[:end]
            held = held[end:]
        elif len(held) > _LONGEST_LINE:
            raise ValueError(f"a line is longer than {_LONGEST_LINE >> 20} MiB: is it a text table?")
    if held:
        yield held


def _without_first_lines(pieces: Iterator[bytes], number: int) -> Iterator[tuple[int, bytes]]:
    """Yield pieces without the first lines, with the number of lines before each."""
    before = 0
    for piece in pieces:
        if before < number:
            lines = piece.splitlines(keepends=True)
            skipped = min(number - before, len(lines))
            before += skipped
            piece = b"".join(lines[skipped:])
        if piece:
            yield before, piece
        before += piece.count(b"\n") or piece.count(b"\r")


def _decoded(piece: bytes, before: int) -> str:
    try:
        return piece.decode()
    except UnicodeDecodeError as error:
        line = before + piece.count(b"\n", 0, error.start) + 1
        what = f"line {line} is not UTF-8 (byte 0x{piece[error.start]:02x})"
        raise ValueError(f"{what}: {_AS_UTF8}") from error
