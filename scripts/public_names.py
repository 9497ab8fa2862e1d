"""The names that the client is imported by, and what describes each."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

MODULES: Final = (
    "lossd_client",
    "lossd_client.report",
    "lossd_client.comparison",
    "lossd_client.testing",
    "lossd_client.torchmetrics",
    "lossd_client.loggers",
    "lossd.batch",
)
"""The public modules that name what is public in `__all__`."""


@dataclass(frozen=True)
class Name:
    """A public name.

    Attributes:
        module: The module that has it.
        name: The name.
        value: What it is.
        alias: For a type alias, what it stands for.
        summary: For a type alias or a constant, the string below it.
    """

    module: str
    name: str
    value: Any
    alias: str | None = None
    summary: str = ""

    @property
    def path(self) -> str:
        """The name with its module."""
        return f"{self.module}.{self.name}"


def names(module: str) -> Iterator[Name]:
    """Yield the names of a module's ``__all__``.

    Raises:
        ValueError: An alias or a constant is not described by a string below it.
    """
    there = import_module(module)
    for name in there.__all__:
        value = getattr(there, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield Name(module, name, value)
        else:
            alias, summary = _assigned(module, name)
            yield Name(module, name, value, alias, summary)


def public_members(name: Name) -> Iterator[Name]:
    """Yield a name that is a class or a function, and what a class defines that is public."""
    if inspect.isclass(name.value) or inspect.isfunction(name.value):
        yield name
    if inspect.isclass(name.value):
        for kind in name.value.__mro__:
            if kind.__module__.partition(".")[0] not in ("lossd", "lossd_client"):
                continue
            for member, value in vars(kind).items():
                inner = value.__func__ if isinstance(value, classmethod | staticmethod) else value
                if member[0] != "_" and (inspect.isfunction(inner) or isinstance(inner, property)):
                    yield Name(name.module, f"{name.name}.{member}", getattr(name.value, member))


def _assigned(module: str, name: str) -> tuple[str | None, str]:
    """Return what an alias stands for, and the string below an alias or a constant."""
    body = _tree(module).body
    for statement, below in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.ImportFrom) and any(one.name == name for one in statement.names):
            return _assigned(str(statement.module), name)
        if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == name:
            if not (isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)):
                raise ValueError(f"{module}.{name} is not described")
            is_alias = ast.unparse(statement.annotation) == "TypeAlias"
            value = ast.unparse(statement.value) if is_alias and statement.value else None
            return value, str(below.value.value)
    raise ValueError(f"{module}.{name} is not found")


def _tree(module: str) -> ast.Module:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"there is no module {module}")
    return ast.parse(Path(spec.origin).read_text())
