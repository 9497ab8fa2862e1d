"""The parts of the site's reference that are generated as Markdown: commands, routes, and the Python client.

docs/conf.py puts these between ``<!-- name -->`` and ``<!-- end -->`` of pages in docs/reference/. Each
raises ValueError for something public that is not described.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Final

import typer

from lossd.api.app import openapi_document
from lossd.cli import add_commands
from lossd.settings import Settings
from lossd_client.cli import create_app
from scripts.public_names import MODULES, Name, names, public_members
from scripts.reference_tables import described, table

_PANEL: Final = "Options"
_OTHERS: Final = "BaseException, Exception, Enum, Metric, Module, object, tuple"  # whose members are not ours


def commands() -> str:
    """Return a section for each command, with its arguments and options."""
    root = typer.main.get_command(create_app(add_commands))
    return "\n\n".join(_command(root, root.context_class(root, info_name="lossd")))


def _command(command: Any, context: Any) -> Iterator[str]:  # noqa: ANN401 - of the click within typer
    if context.parent is None:
        yield _literal(command.epilog)
    else:
        yield f"## {context.command_path}"
        yield f"```text\n{context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```"
        yield _literal(described(context.command_path, inspect.cleandoc(command.help or "")))
        yield from _options(command, context)
    for name, inner in getattr(command, "commands", {}).items():
        yield from _command(inner, inner.context_class(inner, info_name=name, parent=context))


def _options(command: Any, context: Any) -> Iterator[str]:  # noqa: ANN401
    panels: dict[str, list[tuple[str, str]]] = {}
    for option in command.get_params(context):
        if "--help" in option.opts:
            continue
        spelt, text = option.get_help_record(context)
        text = described(f"{context.command_path} {spelt}", text)
        panels.setdefault(option.rich_help_panel or _PANEL, []).append((f"`{spelt}`", _literal(text)))
    for panel, rows in panels.items():
        yield table((panel.lower(), "what"), rows)


def routes() -> str:
    """Return a section for each route of the OpenAPI document, and for each of its schemas."""
    document = openapi_document(Settings())
    parts: list[str] = []
    for path, item in document["paths"].items():
        if re.search(r"/versions/\d+", path):
            continue  # the same as without
        for method, operation in item.items():
            parts += _route(f"{method.upper()} {path}", operation)
    parts.append("## Schemas")
    for name, schema in document["components"]["schemas"].items():
        parts += _schema(name, schema)
    return "\n\n".join(parts)


def _route(route: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"## {route}"
    summary = described(route, operation.get("summary"))
    yield f"{summary}." if summary[-1].isalnum() else summary
    yield operation.get("description", "")
    if "security" in operation:
        yield "Takes a [key](api.md#keys), where the server has teams."
    if parameters := operation.get("parameters"):
        rows = [
            (f"`{one['name']}`", one["in"], _type(one["schema"]), described(f"{route} {one['name']}", text))
            for one in parameters
            for text in [one.get("description")]
        ]
        yield table(("parameter", "in", "type", "what"), rows)
    if body := operation.get("requestBody"):
        yield table(("body", "schema"), _contents(body))
    answers = [
        (status, described(f"{route} {status}", answer.get("description")), kinds)
        for status, answer in operation["responses"].items()
        for kinds in [", ".join(f"`{kind}`" for kind in answer.get("content", {}))]
    ]
    yield table(("answer", "what", "as"), answers)


def _contents(body: dict[str, Any]) -> list[tuple[str, str]]:
    return [(f"`{kind}`", _type(content.get("schema", {}))) for kind, content in body["content"].items()]


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"### {name}"
    yield schema.get("description", "")
    if properties := schema.get("properties"):
        required = schema.get("required", [])
        rows = [
            (f"`{field}`", _type(one), "yes" * (field in required), one.get("description", ""))
            for field, one in properties.items()
        ]
        yield table(("field", "type", "required", "what"), rows)
    else:
        yield _type(schema)


def _type(schema: dict[str, Any]) -> str:
    """Return a JSON Schema's type in words, with links to the schemas that it names."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[key]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{one}`" for one in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        inner = schema.get("prefixItems") or [schema.get("items") or {}]
        return f"array of {', '.join(dict.fromkeys(_type(one) for one in inner))}"
    kind = schema.get("type", "anything")
    return " or ".join(kind) if isinstance(kind, list) else kind


def python() -> str:
    """Return directives of Sphinx for every public name of the client, by module."""
    parts, seen = [], set()
    for module in MODULES:
        summary = described(module, inspect.getdoc(import_module(module))).partition("\n")[0]
        lines = [f".. py:module:: {module}", ""]
        for one in names(module):
            if id(one.value) in seen and one.alias is None:
                continue  # a name of the module above, too
            seen.add(id(one.value))
            for member in public_members(one):
                described(member.path, inspect.getdoc(member.value))
            lines += [*_directive(one), ""]
        text = "\n".join(lines)
        parts.append(f"## {module}\n\n{summary}\n\n```{{eval-rst}}\n{text}\n```")
    return "\n\n".join(parts)


def _directive(name: Name) -> list[str]:
    if name.alias is not None:
        return [f".. py:data:: {name.name}", f"   :value: {name.alias}", "", f"   {name.summary}"]
    if inspect.isclass(name.value):
        return [f".. autoclass:: {name.name}", "   :members:", f"   :inherited-members: {_OTHERS}"]
    if callable(name.value):
        return [f".. autofunction:: {name.name}"]
    return [f".. py:data:: {name.name}", "", f"   {name.summary}"]


def _literal(text: str) -> str:
    """Return a help text as Markdown in which nothing is markup, but options are code."""
    escaped = re.sub(r"([\\`*_<>\[\]{}$])", r"\\\1", text)
    return re.sub(r"(?<![\w-])--[a-z-]+", r"`\g<0>`", escaped)


GENERATED: Final[dict[str, Callable[[], str]]] = {"commands": commands, "routes": routes, "python": python}
"""What stands in the pages, by its name."""
