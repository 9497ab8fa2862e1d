"""Write the reference tables of docs/reference/ from the code: losses, parameters, settings and so on.

A table stands between ``<!-- name -->`` and ``<!-- end -->``. Settings have several tables, and each place
names those that it shows: ``<!-- settings: host port -->``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Final, cast

from bench.table import fill
from lossd.api.metrics import Metrics, _Exposition
from lossd.api.problems import KINDS
from lossd.cli.serve import serve
from lossd.core.catalog import LOSSES, SHARED, Loss, Parameter
from lossd.core.report.parameters import REPORT
from lossd.engine.dispatch.worker_pool import WorkerPool
from lossd.engine.ipc.counters import COUNTERS_BYTES, Counters
from lossd.engine.ipc.memory import create_memory
from lossd.settings import Settings

DOCS: Final = Path(__file__).resolve().parents[1] / "docs/reference"
_OF_THE_MACHINE: Final = {"threads": "all cores", "usage_file": "~/.local/state/lossd/usage.sqlite3"}
_UNITS: Final = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("bytes", 1))


def settings(names: Iterable[str]) -> str:
    """Return the table of some settings, with their options of ``lossd serve``."""
    rows = []
    for name in names:
        field = Settings.model_fields[name]
        option = f", `--{name.replace('_', '-')}`" if name in serve.__annotations__ else ""
        value = field.get_default(call_default_factory=True, validated_data={})
        default = _OF_THE_MACHINE.get(name) or _default(name, value) + " a front end" * (
            name == "arena_bytes"
        )
        rows.append((f"`LOSSD_{name.upper()}`{option}", default, described(name, field.description)))
    return table(("variable", "default", "what"), rows)


_OF: Final = {
    "": "element",
    "classes": "row of classes",
    "sample": "sample, class, or all (`per`)",
    "box": "box",
}
"""What one loss belongs to, by `Loss.row`."""


def losses() -> str:
    """Return the table of the losses."""
    rows = [
        (
            f"`/{loss.name}`",
            " or ".join(f"`{name}`" for name in loss.inputs),
            _OF[loss.row],
            loss.summary,
            ", ".join(f"`{section}`" for section in loss.without),
        )
        for loss in _built_in()
    ]
    return table(("route", "inputs", "a loss for each", "which is", "reports without"), rows)


def parameters() -> str:
    """Return the table of the losses' parameters: one line for those that mean the same."""
    having: dict[tuple[str, str, str], list[str]] = {}
    listed = _built_in()
    order = [*SHARED, *(parameter for loss in listed for parameter in loss.parameters)]
    for parameter in order:
        having[_described(parameter)] = []
    for loss in listed:
        for parameter in loss.all_parameters:
            having[_described(parameter)].append(loss.name)
    return table(
        ("name", "losses", "default", "meaning"),
        [
            (name, _shown_names(names, listed), default, summary)
            for (name, default, summary), names in having.items()
        ],
    )


def _shown_names(names: Sequence[str], listed: Sequence[Loss]) -> str:
    """Return the names of losses, by those that are missing if these are few."""
    missing = [loss.name for loss in listed if loss.name not in names]
    if len(missing) > 2:
        return ", ".join(names)
    return f"all but {' and '.join(missing)}" if missing else "all"


def _described(parameter: Parameter) -> tuple[str, str, str]:
    """Return a parameter's name, default and meaning, as the table has them."""
    return f"`{parameter.name}`", f"`{json.dumps(parameter.default)}`", parameter.summary


def _built_in() -> list[Loss]:
    """Return the losses that are not an operator's."""
    return [loss for loss in LOSSES.values() if loss.is_native]


def report_parameters() -> str:
    """Return the table of a report's parameters."""
    rows = [(f"`{one.name}`", f"`{json.dumps(one.default)}`", one.summary) for one in REPORT]
    return table(("name", "default", "meaning"), rows)


def problems() -> str:
    """Return the table of the error codes."""
    kinds = sorted(KINDS.items(), key=lambda item: item[1].status)
    return table(
        ("status", "code", "title", "what to do", "retryable"),
        [
            (str(kind.status), f"`{code}`", kind.title, described(code, kind.remedy), "yes" * kind.retryable)
            for code, kind in kinds
        ],
    )


def metrics() -> str:
    """Return the table of the metrics."""
    rows = [
        (f"`{name}`", kind, ", ".join(labels), summary) for name, kind, labels, summary in sorted(_families())
    ]
    return table(("metric", "type", "labels", "what"), rows)


def written(page: Path) -> str:
    """Return a page's text with its tables as they should be.

    Raises:
        ValueError: The page of settings does not name each exactly once.
    """
    text = page.read_text()
    if page.name == "settings.md":
        places = re.findall(r"<!-- settings: (.+) -->", text)
        if sorted(" ".join(places).split()) != sorted(Settings.model_fields):
            raise ValueError(f"{page.name} must name each setting once")
        for place in places:
            text = fill(text, f"settings: {place}", settings(place.split()))
    tables = {
        "losses": losses,
        "parameters": parameters,
        "report parameters": report_parameters,
        "problems": problems,
        "metrics": metrics,
    }
    for name, table in tables.items():
        if f"<!-- {name} -->" in text:
            text = fill(text, name, table())
    return text


def stale() -> list[Path]:
    """Return the pages whose tables are not as they should be."""
    return [page for page in sorted(DOCS.glob("*.md")) if page.read_text() != written(page)]


def _families() -> Iterator[tuple[str, str, Sequence[str], str]]:
    """Yield each metric's name, type, labels and help text."""
    pool = cast(WorkerPool, SimpleNamespace(slots={}, degraded=(), supervisor_hung=False))
    counters = Counters(create_memory(COUNTERS_BYTES))
    for family in _Exposition(Metrics([counters], 0), pool).collect():
        suffix = "_total" * (family.type == "counter")
        yield family.name + suffix, family.type, vars(family)["_labelnames"], family.documentation


def _default(name: str, value: object) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, int) and "bytes" in name:
        unit, size = next((unit, size) for unit, size in _UNITS if value % size == 0)
        return f"{value // size} {unit}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def described(what: str, text: str | None) -> str:
    """Return what describes something.

    Raises:
        ValueError: Nothing does.
    """
    if not text:
        raise ValueError(f"{what} is not described")
    return text


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    cells = [columns, ["---"] * len(columns), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def main() -> None:
    """Write the tables, or compare them with ``--check``."""
    parser = argparse.ArgumentParser(prog="python -m scripts.reference_tables", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is stale")
    check = parser.parse_args().check
    pages = stale()
    for page in pages:
        print(f"{page}: {'stale; run make reference' if check else 'written'}")
        if not check:
            page.write_text(written(page))
    sys.exit(check and bool(pages))


if __name__ == "__main__":
    main()
