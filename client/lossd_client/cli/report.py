"""`lossd report`: what the loss of the rows of files is made of.

Its first stages are those of `lossd score`, whose module lists them. Then `reporting/labels.py` makes groups
and ids of labels, `reporting/asking.py` sends blocks of rows as requests and merges their reports,
`reporting/inputs_read.py` names the files by their digests, and `reporting/output.py` and
`reporting/summary.py` write and print.
"""

from pathlib import Path

from lossd_client import LossClient
from lossd_client.cli.engines.engine import load_here
from lossd_client.cli.engines.opening import open_engine
from lossd_client.cli.engines.refusals import refuse_inputs, refuse_options
from lossd_client.cli.engines.sharded import Sharded
from lossd_client.cli.exits import client_errors, leave_at_signals
from lossd_client.cli.inputs.arguments import fill, read_shards, spool_for, with_stdin
from lossd_client.cli.inputs.blocks import Inputs
from lossd_client.cli.inputs.options import ReportOptions
from lossd_client.cli.inputs.selection import Selection
from lossd_client.cli.options import QUICK, takes
from lossd_client.cli.part_file import open_parts, part_of
from lossd_client.cli.reporting.asking import ask, refuse_no_rows, report_request
from lossd_client.cli.reporting.inputs_read import ShardsRead
from lossd_client.cli.reporting.labels import Labels
from lossd_client.cli.reporting.output import check_outputs, write
from lossd_client.cli.reporting.summary import show
from lossd_client.cli.scoring.checks import refuse_impossible, refuse_overwriting
from lossd_client.cli.scoring.one_input import Rows
from lossd_client.cli.scoring.progress import progress_shown
from lossd_client.cli.scoring.request import ScoreRequest
from lossd_client.report import Report


@takes(ReportOptions)
def report(options: ReportOptions) -> None:
    """Report what the loss of files is made of: by class and group, the worst rows, calibration, and more.

    Takes files as `lossd score` does, and reads and sends them once. Without --out it prints the report as
    JSON, on a terminal a summary. Figures are exact, and reports of parts add up by `lossd merge`.
    """
    options.check()
    check_outputs(options.out, options.html)
    if options.engine is not None:
        refuse_options(options.engine, options)
    outputs = [path for path in (options.out, options.html) if path is not None]
    with (
        client_errors(),
        LossClient(options.url, api_key=options.api_key, timeout=options.timeout, retry=QUICK) as client,
        spool_for(options.shards) as spool,
        leave_at_signals(*filter(None, [spool, *map(part_of, outputs)])),
    ):
        request = report_request(options)
        if spool is not None:
            fill(spool)
        selection = Selection.of_report(options, read_shards(options.shards, options.targets, spool))
        inputs = selection.inputs()
        refuse_impossible(request, inputs)
        refuse_no_rows(request, inputs)
        for option, path in (("--out", options.out), ("--html", options.html)):
            if path is not None:
                refuse_overwriting(option, path, inputs, options.pos_weight)
        if options.engine is not None:
            refuse_inputs(request, inputs)
        _report(client, options, request, selection, inputs, spool)


def _report(
    client: LossClient,
    options: ReportOptions,
    request: ScoreRequest,
    selection: Selection,
    inputs: Inputs,
    spool: Path | None,
) -> None:
    """Make the report, write the files, and print it."""
    labels = Labels(inputs, has_ids=options.row_ids is not None)
    read = ShardsRead(inputs, labels.names, spool)
    with open_parts(options.out, options.html) as (out, html):
        shows = not options.no_progress
        if options.engine is not None:
            here = load_here()
            with open_engine(options.engine, here) as engine:
                result = Sharded(engine, here, selection, inputs, request, shows=shows).report(labels, read)
        else:
            rows = Rows(inputs, request)
            with progress_shown(client, inputs.rows, shows) as asking:
                result = rows.noted(ask(asking, request, inputs, labels, read, rows))
        assert result.report is not None
        document = result.report.to_dict()
        document["run"] = {**document.get("run", {}), "inputs": read.described()}
        made = Report(document)
        write(made, out, html)
    notes = dict.fromkeys(with_stdin(note, spool) for note in (*inputs.notes(), *result.notes))
    show(made, list(notes), as_json=options.as_json, is_written=out is not None)
