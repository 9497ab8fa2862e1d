"""The loss at other parameters."""

import math

from lossd_client.report._drawing.markup import figure, number, tag
from lossd_client.report._drawing.pictures import Axis, Curve, diagram
from lossd_client.report._drawing.section import Section
from lossd_client.report._drawing.tables import figure as cell
from lossd_client.report._drawing.tables import scrolled, table
from lossd_client.report._view import ReportView


def sweep(report: ReportView, _: int) -> Section | None:
    """Return the mean by gamma, or that there is none to be drawn."""
    if "sweep" not in report.sections:
        return None
    title = "Other parameters"
    try:
        points = [(gamma, report.at(gamma=gamma)) for gamma in sorted(report.sweep.gammas)]
    except ValueError:  # its alpha or pos_weight is a tensor, which the report does not hold
        points = []
    finite = [mean for _, mean in points if math.isfinite(mean)]
    if not finite:
        return Section(title, tag("p", "The report has the sums for other values of its parameters."))
    across = Axis("gamma", points[0][0], points[-1][0])
    curve = Curve("mean loss", points, [0.1] * len(points))
    picture = diagram("Mean loss by gamma", across, Axis("mean loss", 0.0, max(finite)), [curve])
    said = "; ".join(f"{number(gamma, 4)}: {number(mean)}" for gamma, mean in points)
    rows = [(number(gamma, 4), cell(mean)) for gamma, mean in points]
    listed = table(("gamma", "mean"), rows, caption="Mean loss by gamma")
    return Section(title, figure(picture, f"By gamma, {said}."), scrolled(listed, "Mean loss by gamma"))
