"""`lossd report`: what the loss of the rows of files is made of.

Its first stages are those of `lossd score`, whose module lists them. Then `reporting/labels.py` makes groups
and ids of labels, `reporting/asking.py` sends blocks of rows as requests and merges their reports, and
`reporting/inputs_read.py` names the files by their digests; `files_scored.py` holds these together.
`reporting/output.py` and `reporting/summary.py` write and print.
"""

from pathlib import Path

from lossd_client.cli.files_scored import files_scored
from lossd_client.cli.inputs.arguments import read_shards
from lossd_client.cli.inputs.options import ReportOptions
from lossd_client.cli.inputs.selection import Selection
from lossd_client.cli.options import takes
from lossd_client.cli.reporting.output import check_outputs, write
from lossd_client.cli.reporting.summary import show


@takes(ReportOptions)
def report(options: ReportOptions) -> None:
    """Report what the loss of files is made of: by class and group, the worst rows, calibration, and more.

    Takes files as `lossd score` does, and reads and sends them once. Without --out and --html it prints
    the report as JSON, on a terminal a summary. Figures are exact, and reports of parts add up by
    `lossd merge`.
    """
    options.check()
    check_outputs(options.out, options.html)

    def select(spool: Path | None) -> Selection:
        return Selection.of_report(options, read_shards(options.shards, options.targets, spool))

    with files_scored(options, select, {"--out": options.out, "--html": options.html}) as made:
        out, html = made.parts
        write(made.report, out, html)
        show(made.report, made.notes, as_json=options.as_json, is_written=bool(out or html))
