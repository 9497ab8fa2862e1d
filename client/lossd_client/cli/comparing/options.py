"""The options of `lossd compare`."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Final

import typer

from lossd_client.cli.inputs.arguments import STDIN
from lossd_client.cli.inputs.options import ReportOptions
from lossd_client.comparison._bound import Bound

_JUDGING: Final = "Judging"
_REPORTS: Final = (".json", ".json.gz")
_OF_BOTH: Final = {
    *("shards", "by", "clusters", "max_regression", "confidence", "strict"),
    *("as_json", "markdown", "junit", "html"),
    *("url", "api_key", "timeout", "no_progress", "loss"),  # which a script may give always
}
_CALLED: Final = {"ids": "--id", "row_ids": "--ids"}


@dataclass(frozen=True, slots=True)
class CompareOptions(ReportOptions):
    """The options of `lossd compare`: those of `lossd report`, and how the two models are judged."""

    shards: Annotated[
        list[str],
        typer.Argument(
            metavar="NEW [BASELINE] [TARGETS]",
            help="Two saved reports, or one that has a baseline's losses; or both models' files, and their "
            "targets if these are in neither. Files may be patterns in quotes, folders or URLs.",
            show_default=False,
        ),
    ]
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN|FILE|GROUP",
            help="Judge each of these groups, too, all of them at the confidence together. A column, or a "
            "file with one value a row; of reports the name of a group. May be given again.",
        ),
    ] = None
    clusters: Annotated[
        list[str] | None,
        typer.Option(
            "--cluster",
            metavar="COLUMN|FILE|GROUP",
            help="Rows of one value of this depend on each other, as frames of one video do: standard errors "
            "are by cluster. Named as in --by.",
            rich_help_panel=_JUDGING,
        ),
    ] = None
    max_regression: Annotated[
        str,
        typer.Option(
            metavar="NUMBER|PERCENT",
            help="How much the mean loss may grow: 0.002, or 0.5% of the baseline's.",
            rich_help_panel=_JUDGING,
        ),
    ] = "0"
    confidence: Annotated[
        float, typer.Option(help="The confidence of the intervals.", rich_help_panel=_JUDGING)
    ] = 0.95
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Fail where it is undecided, too.", rich_help_panel=_JUDGING),
    ] = False
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the comparison as one JSON object and nothing else.")
    ] = False
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the report of both models here: a .json or a .json.gz.",
            dir_okay=False,
        ),
    ] = None
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write that report, or two saved ones side by side, as a page, in one file, here.",
            dir_okay=False,
        ),
    ] = None
    markdown: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the comparison as Markdown here, behind what is there: $GITHUB_STEP_SUMMARY.",
            dir_okay=False,
        ),
    ] = None
    junit: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write it as JUnit's XML, which CI services show as tests.", dir_okay=False
        ),
    ] = None
    context: typer.Context = field(kw_only=True)

    def check(self) -> None:
        """Refuse options that cannot be meant together, before a file is opened.

        Raises:
            BadParameter: There are such, or the bound or the confidence is none.
        """
        ReportOptions.check(self)
        try:
            Bound.of(self.max_regression)
        except ValueError as error:
            text = str(error).replace("max_regression", "--max-regression")
            raise typer.BadParameter(text) from error
        if not 0 < self.confidence < 1:
            raise typer.BadParameter(f"--confidence {self.confidence:g} is not between 0 and 1, such as 0.95")
        clusters = self.clusters or []
        if len(set(clusters)) < len(clusters):
            raise typer.BadParameter(f"--cluster {', '.join(clusters)}: one is named twice")
        most = 3 if self.baseline is None else 2
        if len(self.shards) > most:
            which = "NEW, BASELINE and TARGETS" if most == 3 else "NEW and TARGETS beside --baseline"
            what = f"{len(self.shards)} files are named, and there are {which}: {', '.join(self.shards[:6])}"
            raise typer.BadParameter(f"{what}. Put patterns in quotes, so that the shell leaves them alone")
        if len(self.shards) == most and self.targets is not None:
            raise typer.BadParameter(f"the targets are given twice: {self.shards[-1]} and --targets")
        if STDIN in self.shards[1:]:
            raise typer.BadParameter(f"{STDIN}, standard input, can be NEW alone: save the others to files")

    @property
    def new(self) -> str:
        """The new model's report or files."""
        return self.shards[0]

    @property
    def other(self) -> str | None:
        """The baseline's report or files; None if these are a column, or are part of the new report."""
        return self.baseline or (self.shards[1] if len(self.shards) > 1 else None)

    @property
    def are_reports(self) -> bool:
        """Whether saved reports are given, by their names.

        Raises:
            BadParameter: One is, and another is not; or options of files are given.
        """
        reports = [text for text in self.shards if text.lower().endswith(_REPORTS)]
        if not reports:
            return False
        others = [text for text in (*self.shards, *filter(None, [self.baseline])) if text not in reports]
        if others:
            what = f"{reports[0]} is a saved report by its name, and {others[0]} is none"
            raise typer.BadParameter(
                f"{what}: compare two reports, or score the files of both models (JSON data with an object a "
                "line is named .jsonl)"
            )
        if len(self.shards) > 2:
            raise typer.BadParameter(f"{len(self.shards)} reports are named, and there are NEW and BASELINE")
        self._refuse_options_of_files(reports[0])
        return True

    def _refuse_options_of_files(self, report: str) -> None:
        for each in fields(self):
            if each.name not in _OF_BOTH and self._is_given(each.name):
                name = _CALLED.get(each.name, f"--{each.name.replace('_', '-')}")
                raise typer.BadParameter(
                    f"{name} is for files that are scored, and {report} is a saved report, which has its own "
                    f"loss, parameters and rows: leave {name} out"
                )

    def refuse_other_loss(self, loss_name: str) -> None:
        """Refuse --loss beside saved reports of another loss.

        Raises:
            BadParameter: It is given, and another.
        """
        if self._is_given("loss") and self.loss.value != loss_name:
            raise typer.BadParameter(
                f"--loss is for files that are scored, and the saved reports are of {loss_name}: leave it "
                f"out, or make reports of {self.loss.value} by lossd report"
            )

    def _is_given(self, name: str) -> bool:
        """Return whether the command line has an option, be it with the default."""
        source = self.context.get_parameter_source(name)
        return source is not None and source.name == "COMMANDLINE"

    def of_files(self) -> "CompareOptions":
        """Return the options of `lossd report` by which both models' files are scored in one pass."""
        is_positional = self.baseline is None and len(self.shards) > 1
        rest = self.shards[2 if is_positional else 1 :]
        return replace(
            self,
            shards=self.shards[:1],
            targets=rest[0] if rest else self.targets,
            baseline=self.shards[1] if is_positional else self.baseline,
            clusters=[each for each in self.clusters or [] if each not in (self.by or [])],
            sections=self._sections(),
        )

    def _sections(self) -> str | None:
        """Return the sections to make: what is needed, unless the report is kept."""
        if self.sections is None and (self.out or self.html):
            return None
        asked = [] if self.sections is None else [name.strip() for name in self.sections.split(",")]
        needed = ["paired", *(["groups"] if self.by or self.clusters else [])]
        return ",".join(dict.fromkeys([*asked, *needed]))
