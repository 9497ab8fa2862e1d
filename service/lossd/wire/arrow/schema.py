"""The schema of an Arrow stream: a field for each column, which is a tensor.

Taken are numbers and bools, and fixed-size lists of them; in a report's columns ``group.NAME`` and ``ids``
also strings, and dictionary-encoded strings and integers. Other types are refused, with the way to convert
them.

The metadata: Schema.fbs in https://github.com/apache/arrow/tree/main/format
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from lossd.error_text import SHOWN, pointer, shown, unknown_tensor
from lossd.types import GROUP_PREFIX, INTEGERS, ITEMSIZE, TENSOR_DTYPES, ErrorCode, RequestError
from lossd.wire.arrow.flatbuffer import INT, LONG, SHORT, UBYTE, Table
from lossd.wire.reader import Column

MAX_FIELD_METADATA: Final = 256
"""The most entries in the metadata of a field."""

STRINGS: Final[Mapping[str, int]] = {"utf8": 4, "large_utf8": 8, "utf8_view": 16}
"""The types of strings, and the bytes that a row takes beside its string."""

MAX_NAME: Final = 128
"""The most characters in the name of a column of groups."""

_DTYPE_KEY: Final = b"lossd.dtype"
_EXTENSION_KEY: Final = b"ARROW:extension:name"

_CODED_COLUMNS: Final = (
    f"strings, and dictionaries of strings or integers, are for columns {GROUP_PREFIX}NAME and ids, one a row"
)

# The fields of the tables, numbered as in Schema.fbs; a union takes two numbers.
_ENDIANNESS, _FIELDS = range(2)  # Schema
_NAME, _NULLABLE, _TYPE_KIND, _TYPE, _DICTIONARY, _CHILDREN, _METADATA = range(7)  # Field
_BIT_WIDTH, _SIGNED = range(2)  # Int
_PRECISION = 0  # FloatingPoint
_LIST_SIZE = 0  # FixedSizeList
_DICTIONARY_ID, _INDEX_TYPE = range(2)  # DictionaryEncoding
_KEY, _VALUE = range(2)  # KeyValue

# The union Type, in order.
_TYPES: Final = (
    "none", "null", "int", "float", "binary", "utf8", "bool", "decimal", "date", "time", "timestamp",
    "interval", "list", "struct", "union", "fixed_size_binary", "fixed_size_list", "map", "duration",
    "large_binary", "large_utf8", "large_list", "run_end_encoded", "binary_view", "utf8_view", "list_view",
    "large_list_view",
)  # fmt: skip
_FLOATS: Final = ("float16", "float32", "float64")  # the enum Precision
_NESTED: Final = frozenset(
    {
        "fixed_size_list", "list", "struct", "union", "map", "large_list", "run_end_encoded", "list_view",
        "large_list_view",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """A column as the stream stores it.

    Attributes:
        column: The column as it is handed out.
        kind: The type of its values: a dtype, or one of `STRINGS`.
        big_endian: Whether the stream's numbers are in big-endian byte order.
        dictionary: The id of the dictionary of its values; None where they stand in the rows.
        index_dtype: The dtype of the indices into the dictionary.
    """

    column: Column
    kind: str
    big_endian: bool
    dictionary: int | None = None
    index_dtype: str = "int32"

    @property
    def plain(self) -> bool:
        """Whether the bytes of the body are handed out as they are."""
        return self.dictionary is None and self.kind not in STRINGS

    def values(self) -> Field:
        """Return the field of the dictionary's entries."""
        bits = 8 * (STRINGS[self.kind] if self.kind in STRINGS else ITEMSIZE[self.kind])
        return Field(replace(self.column, wire_bits=bits), self.kind, self.big_endian)


def read_schema(schema: Table) -> tuple[Field, ...]:
    """Return the columns of a schema.

    Raises:
        RequestError: ``malformed_arrow``, ``unknown_tensor``, ``dtype_not_allowed`` or ``bad_shape``.
        FlatBufferError: It cannot be read.
    """
    endianness = schema.number(_ENDIANNESS, SHORT)
    if endianness not in (0, 1):
        raise malformed(f"a schema of endianness {endianness}, neither 0 nor 1")
    fields: dict[str, Field] = {}
    for table in schema.tables(_FIELDS):
        field = _read_field(table, big_endian=endianness == 1)
        if field.column.name in fields:
            raise malformed(f"two columns {field.column.name}", "send one")
        fields[field.column.name] = field
    return tuple(fields.values())


def _read_field(field: Table, *, big_endian: bool) -> Field:
    name = _name_of(field)
    levels = [field]
    width = None
    kind, details = _type_of(field)
    if kind == "fixed_size_list":
        width = details.number(_LIST_SIZE, INT)
        if width < 0:
            raise malformed(f"{name} is of lists of {width} items")
        levels += islice(field.tables(_CHILDREN), 2)
        if len(levels) != 2:
            raise malformed(f"{name} is of lists that have not just one field of items")
        kind, _ = _type_of(levels[1])
    if kind in _NESTED or (width is not None and _is_group(name)):
        raise _nested(name, kind, width)
    found = {pair for level in levels for pair in _annotations(level, name)}
    may_be_coded = _is_group(name) or name == "ids"
    for encoding in filter(None, (level.table(_DICTIONARY) for level in levels)):
        if not may_be_coded or width is not None or found or kind not in {*STRINGS, *INTEGERS}:
            remedy = "send column.dictionary_decode()" + ("" if may_be_coded else f"; {_CODED_COLUMNS}")
            raise bad_shape(name, "is dictionary-encoded", remedy)
        return _encoded_field(name, kind, encoding, big_endian=big_endian)
    if may_be_coded and kind in STRINGS and width is None and not found:
        return Field(_coded_column(name, kind, 8 * STRINGS[kind]), kind, big_endian)
    dtype = _dtype(name, kind, found)
    itemsize = ITEMSIZE[dtype]
    bits = 1 if dtype == "bool" else 8 * itemsize
    row_bits = (1 if width is None else width) * bits
    return Field(Column(name, dtype, width, big_endian and itemsize > 1, row_bits), dtype, big_endian)


def _name_of(field: Table) -> str:
    """Return the name of a field: a tensor's, or one of groups."""
    try:
        name = str(field.string(_NAME), "utf-8")
    except UnicodeDecodeError:
        raise malformed("a column whose name is not UTF-8") from None
    if _is_group(name):
        if not len(GROUP_PREFIX) < len(name) <= MAX_NAME or not name.isprintable():
            most = MAX_NAME - len(GROUP_PREFIX)
            detail = f"a column {shown(name)}; name the groups by 1 to {most} printable characters"
            raise RequestError(
                ErrorCode.UNKNOWN_TENSOR, detail, [(pointer(name[:SHOWN]), "no name of groups")]
            )
        return name
    if name not in TENSOR_DTYPES:
        raise unknown_tensor(
            name,
            f", and {GROUP_PREFIX}NAME for groups; name each column after its tensor, and leave out those "
            "that the loss does not depend on",
        )
    return name


def _is_group(name: str) -> bool:
    return name.startswith(GROUP_PREFIX)


def _nested(name: str, kind: str, width: int | None) -> RequestError:
    """Return the error of a column of lists that are not taken."""
    if _is_group(name):
        remedy = f"send an integer or a string a row, and a column {GROUP_PREFIX}NAME for each grouping"
        return bad_shape(name, "has lists" if width is not None else f"has the Arrow type {kind}", remedy)
    seen = f"has the Arrow type {kind}" if width is None else f"has lists of the Arrow type {kind}"
    remedy = (
        "send numbers, or lists of them of one size, pa.list_(type, size); if you pad shorter ones, "
        "send a mask that drops the padding; send more dimensions as .npy"
    )
    return bad_shape(name, seen, remedy)


def _encoded_field(name: str, kind: str, encoding: Table, *, big_endian: bool) -> Field:
    """Return a field whose values stand in a dictionary."""
    details = encoding.table(_INDEX_TYPE)
    index_dtype = "int32" if details is None else _int_type(details)
    if index_dtype not in INTEGERS:
        raise malformed(f"{name} is dictionary-encoded with {index_dtype} indices")
    column = _coded_column(name, kind, 8 * ITEMSIZE[index_dtype])
    return Field(column, kind, big_endian, encoding.number(_DICTIONARY_ID, LONG), index_dtype)


def _coded_column(name: str, kind: str, wire_bits: int) -> Column:
    """Return a column that is handed out otherwise than it came: strings as codes, integers as they are."""
    strings = kind in STRINGS
    return Column(name, "int64" if strings else kind, None, False, wire_bits, strings)


def _type_of(field: Table) -> tuple[str, Table]:
    """Return the name of a field's Arrow type, and the table of its details."""
    number = field.number(_TYPE_KIND, UBYTE)
    details = field.table(_TYPE)
    if details is None or not 0 < number < len(_TYPES):
        raise malformed(f"a column of type {number}, which Arrow does not define")
    kind = _TYPES[number]
    if kind == "int":
        kind = _int_type(details)
    elif kind == "float":
        precision = details.number(_PRECISION, SHORT)
        kind = _FLOATS[precision] if 0 <= precision < len(_FLOATS) else f"float of precision {precision}"
    return kind, details


def _int_type(details: Table) -> str:
    sign = "" if details.number(_SIGNED, UBYTE) else "u"
    return f"{sign}int{details.number(_BIT_WIDTH, INT)}"


def _annotations(field: Table, name: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a field's metadata that change the meaning of its type."""
    for number, entry in enumerate(field.tables(_METADATA)):
        if number == MAX_FIELD_METADATA:
            raise malformed(f"{name} has more than {MAX_FIELD_METADATA} entries of metadata", "send fewer")
        key, value = (bytes(entry.string(part)[: SHOWN + 1]) for part in (_KEY, _VALUE))
        if key in (_DTYPE_KEY, _EXTENSION_KEY):
            yield key, value


def _dtype(name: str, kind: str, annotations: set[tuple[bytes, bytes]]) -> str:
    """Return the dtype of an Arrow type with its annotations."""
    if kind == "uint16" and annotations == {(_DTYPE_KEY, b"bfloat16")} and not _is_group(name):
        return "bfloat16"
    others = annotations - {(_DTYPE_KEY, kind.encode())}
    if _is_group(name):
        taken = kind in INTEGERS
    else:
        bare = kind == "uint16" and kind not in TENSOR_DTYPES[name]  # bfloat16 without its annotation
        taken = kind in ITEMSIZE and not bare
    if taken and not others:
        return kind
    seen = f"the Arrow type {kind}"
    for key, value in sorted(others)[:1]:
        seen += f" with the field metadata {key.decode()}={shown(value.decode(errors='replace'))}"
    if any(key == _EXTENSION_KEY for key, _ in others):
        remedy = (
            "the meaning and the order of its storage are not known here: convert it with its own library to "
            "numbers or fixed-size lists of numbers; send a fixed_shape_tensor's to_numpy_ndarray() as .npy, "
            "or its rows as fixed-size lists"
        )
    elif _is_group(name):
        remedy = "send integers or strings, such as column.cast(pa.string())"
    else:
        remedy = (
            f"send numbers as one of {', '.join(ITEMSIZE)}, of which column.cast(pa.float64()) rounds least; "
            "bfloat16 is uint16 with the field metadata lossd.dtype=bfloat16"
        )
        if kind in STRINGS:
            remedy += f"; {_CODED_COLUMNS}"
    detail = f"{name} has {seen}, which is not taken; {remedy}"
    raise RequestError(ErrorCode.DTYPE_NOT_ALLOWED, detail, [(pointer(name), f"{seen} is not taken")])


def bad_shape(name: str, seen: str, remedy: str) -> RequestError:
    """Return the error of a column that is no plain array of one or two dimensions."""
    return RequestError(ErrorCode.BAD_SHAPE, f"{name} {seen}; {remedy}", [(pointer(name), seen)])


def malformed(
    seen: str, remedy: str = "write it with an Arrow library, such as pa.ipc.new_stream"
) -> RequestError:
    """Return the error of a stream that breaks the format."""
    return RequestError(ErrorCode.MALFORMED_ARROW, f"the Arrow stream is malformed: {seen}; {remedy}")
