"""What a report was made from, and how."""

from collections.abc import Mapping
from typing import Final

from lossd_client.report._drawing.markup import counted, details
from lossd_client.report._drawing.section import Section
from lossd_client.report._drawing.tables import Cell, scrolled, table, words
from lossd_client.report._drawing.tables import figure as cell
from lossd_client.report._view import ReportView

_ABOUT: Final = ("version", "client_version", "kernel", "device", "request_id", "started", "ended")


def inputs(report: ReportView, most: int) -> Section | None:
    """Return the parameters, the run and the shards."""
    params = [(name, words(shown(value))) for name, value in report.params.items()]
    about = [
        (name.replace("_", " "), words(shown(report.run[name]))) for name in _ABOUT if name in report.run
    ]
    parts = [
        table(("parameter", "value"), params, caption="Parameters of the loss"),
        table(("run", "value"), about, caption="How it was made") if about else "",
        _shards(report, most),
    ]
    return Section("Parameters and inputs", details("Show them", *parts))


def _shards(report: ReportView, most: int) -> str:
    shards = [shard for shard in report.run.get("inputs") or [] if isinstance(shard, Mapping)]
    if not shards:
        return ""
    rows = [
        (words(shown(shard.get("path"))), _rows(shard.get("rows")), words(shown(shard.get("sha256"))))
        for shard in shards[:most]
    ]
    title = counted(len(shards), "shard") + (f", the first {most}" if len(shards) > most else "")
    return scrolled(table(("path", "rows", "SHA-256"), rows, caption=title), "Shards")


def _rows(value: object) -> Cell:
    return cell(value) if isinstance(value, int) and not isinstance(value, bool) else Cell(shown(value))


def shown(value: object) -> str:
    """Return a parameter, or another value of a document, for people to read."""
    return "none" if value is None else str(value)
