"""A comparison as JUnit's XML, which CI services show as tests."""

from typing import Final

from lossd_client.comparison._change import Change
from lossd_client.comparison._output.sentences import name_of, sentence
from lossd_client.comparison._view import ComparisonView
from lossd_client.report._drawing.markup import escaped, tag

_SUITE: Final = "lossd compare"


def junit(comparison: ComparisonView, *, strict: bool) -> str:
    """Return a comparison as a test suite."""
    cases = [
        _case(name_of(comparison, id, in_full=True), change, comparison, strict=strict)
        for id, change in comparison.changes()  # noqa: A001
    ]
    failures = sum(_fails(change, strict=strict) for _, change in comparison.changes())
    skipped = 0 if strict else sum(change.verdict == "undecided" for _, change in comparison.changes())
    counts = {"tests": len(cases), "failures": failures, "errors": 0, "skipped": skipped}
    notes = tag("system-out", escaped("\n".join(comparison.notes))) if comparison.notes else ""
    suite = tag("testsuite", *cases, notes, name=_SUITE, **counts)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tag("testsuites", suite)}\n'


def _fails(change: Change, *, strict: bool) -> bool:
    return change.verdict == "regressed" or (strict and change.verdict == "undecided")


def _case(name: str, change: Change, comparison: ComparisonView, *, strict: bool) -> str:
    said = sentence(change, comparison)
    if _fails(change, strict=strict):
        inside = tag("failure", escaped(said), message=said, type=change.verdict)
    elif change.verdict == "undecided":
        inside = tag("skipped", message=said)
    else:
        inside = tag("system-out", escaped(said))
    return tag("testcase", inside, name=name, classname=f"lossd.{comparison.loss_name}", time=0)
