"""JSON Schemas in the form that generators of clients take, which says the same.

Generators make types of what is simple, and fail on the rest, or drop it: alternatives one of which is a
list, objects that differ in their keys, a schema that refers to itself. They skip what stands behind `if`,
`not` and `unevaluatedProperties`, which validators read. So the first says what a type can, the second the
rest. Generators also take a number without a format for 32 bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

Document = dict[str, Any]

_FORMATS: Final = {"number": "double", "integer": "int64"}
_TYPES: Final = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
    type(None): "null",
}
_NULL: Final[Document] = {"type": "null"}
_NESTED: Final = ("items", "additionalProperties")
# Types would be named after titles. What has a default must be given in one language, and is sent in others.
_LEFT_OUT: Final = ("title", "default")
_NAMED: Final = ("properties", "patternProperties")
_LISTED: Final = ("allOf", "anyOf", "oneOf")


def plain_schema(schema: Mapping[str, Any], *, sent: bool = False) -> Document:
    """Return a schema that says the same, for generators.

    Args:
        schema: The schema.
        sent: Whether it describes what the server sends. A client that is older than the server can then be
            made to pass over new keys.
    """
    plain: Document = {}
    for key, value in schema.items():
        if key in _NESTED and isinstance(value, Mapping):
            plain[key] = plain_schema(value, sent=sent)
        elif key in _NAMED:
            plain[key] = {name: plain_schema(each, sent=sent) for name, each in value.items()}
        elif key in _LISTED:
            plain[key] = [plain_schema(each, sent=sent) for each in value]
        elif key not in _LEFT_OUT:
            plain[key] = value
    if "const" in plain:
        plain["enum"] = [plain.pop("const")]
    _add_type(plain)
    if sent and plain.get("type") == "object" and not plain.setdefault("additionalProperties", True):
        plain["unevaluatedProperties"] = plain.pop("additionalProperties")
    if plain.get("type") == "object":
        return _with_conditions_aside(plain)
    alternatives = plain.pop("oneOf", None) or plain.pop("anyOf", None)
    if alternatives is None:
        alternatives = _single_types(plain)
        if len(alternatives) - (_NULL in alternatives and "enum" not in plain) < 2:
            return plain
        plain = {"description": plain["description"]} if "description" in plain else {}
    return {**plain, **_alternatives(alternatives)}


def _add_type(schema: Document) -> None:
    """Say what type the values are, if the schema only lists them, and how wide a number is."""
    types = list(dict.fromkeys(_TYPES[type(value)] for value in schema.get("enum", ())))
    if types and "type" not in schema:
        schema["type"] = types[0] if len(types) == 1 else types
    named = schema.get("type", ())
    widths = [_FORMATS[name] for name in ([named] if isinstance(named, str) else named) if name in _FORMATS]
    if widths:
        schema.setdefault("format", widths[0])


def _with_conditions_aside(schema: Document) -> Document:
    """Return an object's schema with its alternatives, which only name keys, behind `if`."""
    conditions = {key: schema.pop(key) for key in _LISTED if key in schema}
    return {**schema, "if": {"type": "object"}, "then": conditions} if conditions else schema


def _alternatives(schemas: list[Document]) -> Document:
    """Return one schema for what is described by one of several."""
    single = [part for schema in schemas for part in _single_types(schema)]
    lists = [schema for schema in single if schema.get("type") == "array"]
    objects = [schema for schema in single if schema.get("type") == "object"]
    others = [schema for schema in single if schema not in lists and schema not in objects]
    if others == [_NULL] and len(single) == 2:  # generators know what may be null
        return {"anyOf": single}
    if len(lists) == 1:
        return {"if": {"type": "array"}, "then": lists[0], "else": _alternatives([*objects, *others])}
    if len(objects) > 1 and not others:
        return _merged(objects)
    return single[0] if len(single) == 1 else {"anyOf": single}


def _single_types(schema: Document) -> list[Document]:
    """Return a schema of several types as one for each."""
    types = schema.get("type")
    if not isinstance(types, list):
        return [schema]
    about = ("description", "format")
    rules = {key: value for key, value in schema.items() if key not in about}
    if "enum" in rules:
        rules["enum"] = [value for value in rules["enum"] if value is not None]
    parts = [_NULL if each == "null" else {**rules, "type": each} for each in types]
    for part in parts:
        _add_type(part)
    return parts


def _rules(schema: Document) -> Document:
    return {key: value for key, value in schema.items() if key != "description"}


def _merged(schemas: list[Document]) -> Document:
    """Return the schema of an object with the keys of several, of which it is one."""
    keys: dict[str, list[Document]] = {}
    for schema in schemas:
        for name, each in schema["properties"].items():
            found = keys.setdefault(name, [])
            if all(_rules(each) != _rules(other) for other in found):
                found.append(each)
    common = set.intersection(*(set(schema["required"]) for schema in schemas))
    return {
        "type": "object",
        "properties": {
            name: found[0] if len(found) == 1 else _alternatives(found) for name, found in keys.items()
        },
        "required": [name for name in keys if name in common],
        "if": {"type": "object"},
        "then": {"oneOf": schemas},
    }


_DIGITS: Final = "(?:0|[1-9][0-9]*)"
_TEXTS: Final = {
    "null": "null",
    "boolean": "(?:true|false)",
    "integer": _DIGITS,
    "number": rf"{_DIGITS}(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?",
}


def query_schema(schema: Mapping[str, Any], default: object) -> Document:
    """Return the schema of a parameter in a query: of its text, if it has several types or is a list.

    Few generators write lists and alternatives into a query as they are read, all of them text.

    Args:
        schema: The values allowed.
        default: The value if the parameter is not given, which is as good as null.
    """
    parts = [part for part in _parts(schema) if default is not None or part != _NULL]
    if len(parts) == 1 and parts[0]["type"] != "array":
        return plain_schema(parts[0])
    return {"type": "string", "pattern": f"^(?:{_either(parts)})$"}


def _parts(schema: Mapping[str, Any]) -> list[Document]:
    """Return a schema's alternatives, each of one type."""
    listed = schema.get("oneOf") or schema.get("anyOf") or [schema]
    parts = [dict(each) for each in listed]
    for part in parts:
        _add_type(part)
    return [single for part in parts for single in _single_types(part)]


def _either(schemas: Iterable[Mapping[str, Any]]) -> str:
    """Return the regular expression of one of several, without those that a list of them says already."""
    texts = list(dict.fromkeys(filter(None, map(_text, schemas))))
    return "|".join(text for text in texts if _listed(text) not in texts)


def _listed(item: str) -> str:
    return f"(?:{item})(?:,(?:{item}))*"


def _text(schema: Mapping[str, Any]) -> str:
    """Return the regular expression of a value's text in a query; empty if it is an object."""
    if "enum" in schema:
        return "|".join(re.escape(str(value)) for value in schema["enum"])
    match schema.get("type"):
        case "array":
            return _listed(_either(_parts(schema["items"])))
        case "string":
            return str(schema.get("pattern", "[^,]+")).removeprefix("^").removesuffix("$")
        case "integer" | "number" as name:
            sign = "" if schema.get("minimum", schema.get("exclusiveMinimum", -1)) >= 0 else "-?"
            return sign + _TEXTS[name]
        case name:
            return _TEXTS.get(str(name), "")
