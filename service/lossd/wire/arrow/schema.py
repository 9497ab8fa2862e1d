"""The schema of an Arrow stream: a field for each column, which is a tensor.

Taken are numbers and bools, and fixed-size lists of them. Other types are refused, with the way to convert
them.

The metadata: Schema.fbs in https://github.com/apache/arrow/tree/main/format
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from lossd.error_text import SHOWN, pointer, shown, unknown_tensor
from lossd.types import ITEMSIZE, TENSOR_DTYPES, ErrorCode, RequestError
from lossd.wire.arrow.flatbuffer import INT, SHORT, UBYTE, Table
from lossd.wire.reader import Column

MAX_FIELD_METADATA: Final = 256
"""The most entries in the metadata of a field."""

_DTYPE_KEY: Final = b"lossd.dtype"
_EXTENSION_KEY: Final = b"ARROW:extension:name"

# The fields of the tables, numbered as in Schema.fbs; a union takes two numbers.
_ENDIANNESS, _FIELDS = range(2)  # Schema
_NAME, _NULLABLE, _TYPE_KIND, _TYPE, _DICTIONARY, _CHILDREN, _METADATA = range(7)  # Field
_BIT_WIDTH, _SIGNED = range(2)  # Int
_PRECISION = 0  # FloatingPoint
_LIST_SIZE = 0  # FixedSizeList
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


def read_schema(schema: Table) -> tuple[Column, ...]:
    """Return the columns of a schema.

    Raises:
        RequestError: ``malformed_arrow``, ``unknown_tensor``, ``dtype_not_allowed`` or ``bad_shape``.
        FlatBufferError: It cannot be read.
    """
    endianness = schema.number(_ENDIANNESS, SHORT)
    if endianness not in (0, 1):
        raise malformed(f"a schema of endianness {endianness}, neither 0 nor 1")
    columns: dict[str, Column] = {}
    for field in schema.tables(_FIELDS):
        column = _read_field(field, big_endian=endianness == 1)
        if column.name in columns:
            raise malformed(f"two columns {column.name}", "send one")
        columns[column.name] = column
    return tuple(columns.values())


def _read_field(field: Table, *, big_endian: bool) -> Column:
    try:
        name = str(field.string(_NAME), "utf-8")
    except UnicodeDecodeError:
        raise malformed("a column whose name is not UTF-8") from None
    if name not in TENSOR_DTYPES:
        raise unknown_tensor(
            name, "; name each column after its tensor, and leave out those that the loss does not depend on"
        )
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
    if kind in _NESTED:
        seen = f"has the Arrow type {kind}" if width is None else f"has lists of the Arrow type {kind}"
        remedy = (
            "send numbers, or lists of them of one size, pa.list_(type, size); if you pad shorter ones, "
            "send a mask that drops the padding; send more dimensions as .npy"
        )
        raise bad_shape(name, seen, remedy)
    if any(level.table(_DICTIONARY) is not None for level in levels):
        raise bad_shape(name, "is dictionary-encoded", "send column.dictionary_decode()")
    dtype = _dtype(name, kind, {pair for level in levels for pair in _annotations(level, name)})
    itemsize = ITEMSIZE[dtype]
    bits = 1 if dtype == "bool" else 8 * itemsize
    row_bits = (1 if width is None else width) * bits
    return Column(name, dtype, width, big_endian and itemsize > 1, row_bits)


def _type_of(field: Table) -> tuple[str, Table]:
    """Return the name of a field's Arrow type, and the table of its details."""
    number = field.number(_TYPE_KIND, UBYTE)
    details = field.table(_TYPE)
    if details is None or not 0 < number < len(_TYPES):
        raise malformed(f"a column of type {number}, which Arrow does not define")
    kind = _TYPES[number]
    if kind == "int":
        sign = "" if details.number(_SIGNED, UBYTE) else "u"
        kind = f"{sign}int{details.number(_BIT_WIDTH, INT)}"
    elif kind == "float":
        precision = details.number(_PRECISION, SHORT)
        kind = _FLOATS[precision] if 0 <= precision < len(_FLOATS) else f"float of precision {precision}"
    return kind, details


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
    if kind == "uint16" and annotations == {(_DTYPE_KEY, b"bfloat16")}:
        return "bfloat16"
    others = annotations - {(_DTYPE_KEY, kind.encode())}
    bare = kind == "uint16" and kind not in TENSOR_DTYPES[name]  # bfloat16 without its annotation
    if kind in ITEMSIZE and not others and not bare:
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
    else:
        remedy = (
            f"send numbers as one of {', '.join(ITEMSIZE)}, of which column.cast(pa.float64()) rounds least; "
            "bfloat16 is uint16 with the field metadata lossd.dtype=bfloat16"
        )
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
