"""Reports of two models' losses of some rows."""

from dataclasses import replace

from client.report.arrays import Case, Value
from client.report.documents import document
from lossd_client import Report


def light(case: Case, **more: Value) -> Case:
    """A case without what comparisons do not read."""
    return replace(case, calibrated=False, by_class=False, **more)


def paired(case: Case) -> Report:
    """The report of both models in one request."""
    return Report(document(light(case)))


def apart(case: Case) -> tuple[Report, Report]:
    """The reports of each."""
    assert case.base is not None
    alone = light(case, base=None)
    return Report(document(alone)), Report(document(replace(alone, v=case.base, first=10_000)))
