"""Write what the clients have for each loss, from the service's catalog.

Whole files begin with a line that says so. In `batches.py` and `reports.py` of the Python client's methods
the overloads stand between ``# overloads`` and ``# end``.
"""

from __future__ import annotations

import argparse
import builtins
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from lossd.core.catalog import LOSSES, SHARED, Loss, Parameter

ROOT: Final = Path(__file__).resolve().parents[1]
CLIENT: Final = ROOT / "client/lossd_client"
TYPESCRIPT: Final = ROOT / "clients/typescript/src"
_BY_HAND: Final = ("bce", "focal")
"""The losses whose methods and metrics describe what the others refer to."""
_WRITTEN: Final = "Written by `make reference` from lossd/core/catalog.py: change that."
_TYPES: Final = {
    "reduction": "Reduction",
    "axis": "Axis",
    "normalizer": "Normalizer",
    "class_axis": "int",
    "targets_format": "TargetsFormat",
    "label_smoothing": "float",
    "ignore_index": "IgnoreIndex",
    "background_index": "int | None",
    "allow_nan": "bool",
    "pos_weight": "Array | None",
}
"""The Python types of the parameters in common."""
_TYPESCRIPT: Final = {
    "reduction": '"none" | "sum" | "mean"',
    "axis": "number | readonly number[] | null",
    "ignore_index": 'number | "nan" | null',
    "pos_weight": "number | TensorLike | null",
}
_ALIASES: Final = {'Literal["sigmoid", "exp", "quality"]': "Variant"}
_WIDTH: Final = 110


def builtin() -> list[Loss]:
    """Return the losses that every server has, without an operator's."""
    return [loss for loss in LOSSES.values() if loss.is_native]


def written() -> dict[Path, str]:
    """Return each file's text as it should be."""
    batches, reports = (CLIENT / f"_methods/{name}.py" for name in ("batches", "reports"))
    texts = {
        CLIENT / "_calls/catalog.py": _catalog(),
        CLIENT / "_methods/further_losses.py": _methods(),
        batches: _filled(batches, {name: _batch_overloads(name) for name in _BATCHES}),
        reports: _filled(reports, {"report": _report_overloads()}),
        CLIENT / "torchmetrics/_further_losses.py": _metrics(),
        CLIENT / "cli/inputs/loss_options.py": _options(),
        TYPESCRIPT / "losses.ts": _typescript_types(),
        TYPESCRIPT / "methods.js": _typescript_methods(),
    }
    return {path: _styled(path, text) for path, text in texts.items()}


def stale() -> dict[Path, str]:
    """Return the files that are not as they should be, with the text that they should have."""
    return {path: text for path, text in written().items() if not path.exists() or path.read_text() != text}


# ---- Types from schemas


def _python_type(schema: Mapping[str, object]) -> str:
    """Return the type of a value in Python."""
    if "oneOf" in schema:
        of = schema["oneOf"]
        assert isinstance(of, list)
        kinds = list(dict.fromkeys(_python_type(each) for each in of))
        if "Array" in kinds:  # which a number is, too
            kinds = [kind for kind in kinds if kind != "float"]
        return " | ".join(kinds)
    if "enum" in schema:
        words = schema["enum"]
        assert isinstance(words, list)
        found = f"Literal[{', '.join(map(_quoted, words))}]"
        return _ALIASES.get(found, found)
    return {"number": "float", "array": "Array", "null": "None"}.get(str(schema["type"]), "")


def _typescript_type(schema: Mapping[str, object]) -> str:
    """Return the type of a value in TypeScript."""
    if "oneOf" in schema:
        of = schema["oneOf"]
        assert isinstance(of, list)
        return " | ".join(dict.fromkeys(map(_typescript_type, of)))
    if "enum" in schema:
        words = schema["enum"]
        assert isinstance(words, list)
        return " | ".join(map(_quoted, words))
    if isinstance(schema["type"], list):
        return " | ".join(_typescript_type({"type": kind}) for kind in schema["type"])
    numbers = "readonly number[] | Float32Array | Float64Array"
    return {"array": numbers, "integer": "number"}.get(str(schema["type"]), str(schema["type"]))


def _kind(parameter: Parameter) -> str:
    """Return what a loss's own parameter holds; see `lossd_client._calls.loss.Kind`."""
    if parameter.name in _TYPES:
        return "shared"
    kinds = _python_type(parameter.schema).removesuffix(" | None")
    if kinds in ("float", "Array"):
        return {"float": "number", "Array": "numbers"}[kinds]
    if "enum" in parameter.schema:
        return "word"
    raise ValueError(f"the clients know no parameter like {parameter.name}: say in {__file__} what it holds")


def _words(parameter: Parameter) -> tuple[str, ...]:
    words = parameter.schema.get("enum", ())
    assert isinstance(words, list | tuple)
    return tuple(map(str, words))


def _has_none(parameter: Parameter) -> bool:
    return "None" in _python_type(parameter.schema)


def _typed(loss: Loss, parameter: Parameter) -> tuple[str, str]:
    """Return a parameter's type and default in a signature; the default of its own ones is the server's."""
    if parameter not in loss.parameters:
        return _TYPES[parameter.name], _literal(parameter.default)
    found = _python_type(parameter.schema)
    if parameter.default is not None and parameter.name not in _TYPES:
        sent = found.removesuffix(" | None")
        return f"{sent} | Default{' | None' * (sent != found)}", "DEFAULT"
    return found, _literal(parameter.default)


def _in_signature(name: str, kind: str, default: str) -> str:
    comment = "  # noqa: A002 - the API's name\n" if hasattr(builtins, name) else ""
    return f"{name}: {kind} = {default}, {comment}"


def _literal(value: object) -> str:
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: object) -> str:
    return f'"{text}"'


def _camel(name: str) -> str:
    return "".join(word.title() for word in name.split("_"))


def _others() -> list[Loss]:
    return [loss for loss in builtin() if loss.name not in _BY_HAND]


def _listed(names: Iterable[str]) -> str:
    """Return Python's tuple of some names."""
    quoted = [f"{_quoted(name)}," for name in names]
    return f"({' '.join(quoted)})"


# ---- The Python client


def _catalog() -> str:
    """Return the table of the losses, and the types of their parameters."""
    names = ", ".join(_quoted(loss.name) for loss in builtin())
    shared = "".join(f"{_quoted(each.name)}: {_literal(each.default)}," for each in SHARED)
    entries = "".join(f"{_entry(loss)}," for loss in builtin())
    types = "\n\n".join(text for loss in builtin() for text in _typed_dicts(loss))
    return f'''# {_WRITTEN}
"""The losses, and the types of their parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, TypedDict

from lossd_client._calls.arrays import Array
from lossd_client._calls.labels import Column, Groups
from lossd_client._calls.loss import Loss, Parameter
from lossd_client._calls.values import Axis, Bins, Default, IgnoreIndex, Normalizer, Reduction, RowLoss
from lossd_client._calls.values import Sections, Sweep, TargetsFormat, Variant

LossName: TypeAlias = Literal[{names}]
"""The losses that have methods of their own."""
SHARED: Final[Mapping[str, Any]] = {{{shared}}}
"""The parameters that losses have in common, and their defaults."""
LOSSES: Final[Mapping[str, Loss]] = {{each.name: each for each in ({entries})}}


class BatchParams(TypedDict, total=False):
    """The parameters of every loss for batches, and of their report; see `LossClient.report`."""

    reduction: Reduction
    axis: Axis
    sections: Sections | None
    top: int
    row: RowLoss
    first_row: int
    calibration_bins: Bins
    sweep: Sweep | None


class ReportArguments(TypedDict, total=False):
    """The arguments of `LossClient.report` for every loss."""

    weight: Array | None
    mask: Array | None
    groups: Groups | None
    ids: Column | None
    baseline: Array | None
    sections: Sections | None
    top: int
    row: RowLoss
    first_row: int
    calibration_bins: Bins
    sweep: Sweep | None


{types}
'''


def _entry(loss: Loss) -> str:
    """Return a loss as the client's table has it."""
    own = "".join(
        f"{_quoted(each.name)}: Parameter({_quoted(_kind(each))}, {_literal(each.default)}"
        + (f", words={_listed(_words(each))}" if _words(each) else "")
        + (", has_none=True" if _has_none(each) else "")
        + "),"
        for each in loss.parameters
    )
    shared = [each.name for each in loss.all_parameters if each not in loss.parameters]
    return (
        f"Loss(name={_quoted(loss.name)}, inputs={_listed(loss.inputs)}, "
        f"row={_quoted(loss.row)}, targets={_quoted(loss.targets)}, without={_listed(loss.without)}, "
        f"shared={_listed(shared)}, own={{{own}}},)"
    )


def _typed_dicts(loss: Loss) -> Iterator[str]:
    """Yield the types of a loss's parameters of reports and of batches, and of a report's arguments."""
    name, see = _camel(loss.name), f"see `LossClient.{loss.name}`"
    fields = [
        f"    {each.name}: {_typed(loss, each)[0]}\n"
        for each in loss.all_parameters
        if each.name not in ("reduction", "axis")
    ]
    first, *rest = loss.inputs
    named = "".join(f"    {each}: Array | None\n" for each in (rest if first == "logits" else loss.inputs))
    yield f'''class {name}ReportParams(TypedDict, total=False):
    """The parameters of {loss.name} for a report; {see}."""

{"".join(fields)}'''
    yield f'''class {name}Params({name}ReportParams, BatchParams, total=False):
    """The parameters of {loss.name} for batches; {see} and `LossClient.report`."""
'''
    yield f'''class {name}Report({name}ReportParams, ReportArguments, total=False):
    """The arguments of a report of {loss.name}; {see} and `LossClient.report`."""

{named}'''


_ANSWERS: Final = {"score_batches": "AnswerT", "iter_batches": "AnswersT", "score_stream": "AnswerT"}
_BATCHES: Final = tuple(_ANSWERS)


def _batch_overloads(method: str) -> str:
    """Return the overloads of a method that scores batches."""
    return "\n".join(
        f"""    @overload
    def {method}(
        self, loss: Literal[{_quoted(loss.name)}], batches: BatchesT, /,
        **params: Unpack[{_camel(loss.name)}Params],
    ) -> {_ANSWERS[method]}: ..."""
        for loss in builtin()
    )


def _report_overloads() -> str:
    return "\n".join(
        f"""    @overload
    def report(
        self, {_first(loss)}targets: Array | None = None, **given: Unpack[{_camel(loss.name)}Report],
    ) -> ReportT: ..."""
        for loss in builtin()
    )


def _first(loss: Loss) -> str:
    """Return the loss and its inputs in the signature of `report`, which calls its first inputs logits."""
    first, name = loss.inputs[0], f"loss: Literal[{_quoted(loss.name)}]"
    inputs = f"{first}: Array | None = None, "
    return f"{name}, /, {inputs}" if first == "logits" else f"{name}, {inputs}/, "


def _filled(path: Path, overloads: Mapping[str, str]) -> str:
    """Return a file's text with its overloads, and the imports of their types, as they should be."""
    text = path.read_text()
    suffix = "Report" if "report" in overloads else "Params"
    names = ", ".join(sorted(f"{_camel(loss.name)}{suffix}" for loss in builtin()))
    text, found = re.subn(
        r"from lossd_client\._calls\.catalog import (\(.*?\)|[^\n(]+)\n",
        f"from lossd_client._calls.catalog import {names}\n",
        text,
        count=1,
        flags=re.DOTALL,
    )
    for method, lines in overloads.items():
        place = rf"(    # overloads of {method}: {re.escape(_WRITTEN)}\n).*?(    # end\n)"
        parts = re.split(place, text, flags=re.DOTALL)
        found += len(parts) == 4  # before, the two marks, and after
        text = f"{lines}\n".join(["".join(parts[:2]), "".join(parts[2:])])
    if found != 1 + len(overloads):
        raise ValueError(f"{path} lacks a place for its overloads or their imports")
    return text


def _methods() -> str:
    """Return the methods of the losses that are not written by hand."""
    methods = "\n".join(map(_method, _others()))
    return f'''# {_WRITTEN}
"""The further losses as methods of both clients."""

from __future__ import annotations

from typing import Generic, Literal

from lossd_client._calls.arrays import Array
from lossd_client._calls.calls import method_call
from lossd_client._calls.parameters import DEFAULT, Axis, Default, IgnoreIndex, Normalizer, Reduction
from lossd_client._calls.parameters import TargetsFormat
from lossd_client._methods.losses import AnswerT, Losses


class FurtherLosses(Losses[AnswerT], Generic[AnswerT]):
    """A method for each loss; what is not described here is as in `Losses.bce`."""

{methods}
'''


def _method(loss: Loss) -> str:
    first, *rest = loss.inputs
    beside = "".join(f"{name}: Array | None = None, " for name in (*rest, "weight", "mask"))
    params = "".join(_in_signature(each.name, *_typed(loss, each)) for each in _in_order(loss))
    described = [(first, _OF_INPUTS[loss.row]), ("targets", _OF_TARGETS[loss.row, loss.targets])]
    described += [(name, f"Instead of {first}: each in [0, 1].") for name in rest]
    described += [(name, _beside(loss, name)) for name in ("weight", "mask")]
    described += [(each.name, _summary(loss, each)) for each in _in_order(loss)]
    arguments = "\n".join(_argument(*each) for each in described)
    summary = "\n".join(
        f"        {line}" for line in textwrap.wrap(_capital(_python_words(loss.summary)), _WIDTH - 8)
    )
    return f'''    def {loss.name}(
        self, {first}: Array | None = None, targets: Array | None = None, *, {beside}{params}
    ) -> AnswerT:
        """{loss.title}.

{summary}

        Args:
{arguments}

        Returns:
            As `bce`.

        Raises:
            TypeError: As `bce`.
            ValueError: As `bce`.
            LossdError: As `bce`.
        """
        return self._score(method_call({_quoted(loss.name)}, locals()))
'''


_OF_INPUTS: Final = {
    "": "As in `bce`.",
    "classes": "The raw outputs, [N, C] or of more dimensions, with the classes along `class_axis`. Each row "
    "of C has one loss.",
    "sample": "As in `bce`, [N, ...]: each of the N samples has one loss, or what `per` says.",
    "box": "The predicted boxes, [N, 4] or [..., 4]: floats.",
}
_OF_TARGETS: Final = {
    ("", "probability"): "As in `bce`.",
    ("", "number"): "As in `bce`, but any finite numbers.",
    ("classes", "probability"): "The class id of each row, or a probability of each class; see "
    "`targets_format`.",
    ("sample", "probability"): "As in `bce`.",
    ("box", "box"): "The box of each prediction, in the same shape and format; corners in order.",
}


def _beside(loss: Loss, name: str) -> str:
    what = {"weight": "A factor for each loss, >= 0", "mask": "Which losses count"}[name]
    return f"{what}: broadcasts to the losses' shape." if loss.row else "As in `bce`."


def _in_order(loss: Loss) -> list[Parameter]:
    """Return a loss's parameters as signatures have them: its own first."""
    shared = [each for each in loss.all_parameters if each not in loss.parameters]
    return [*loss.parameters, *shared]


def _summary(loss: Loss, parameter: Parameter) -> str:
    if parameter not in loss.parameters:
        return f"As in `bce`{', of the losses' if loss.row and parameter.name == 'axis' else ''}."
    summary = _python_words(parameter.summary)
    if parameter.default is None or parameter.name in _TYPES:
        return summary
    default = _quoted(parameter.default) if _words(parameter) else f"{parameter.default:g}"
    return f"{summary} The server's default is {default}."


def _python_words(text: str) -> str:
    return re.sub(r"\bnull\b", "None", text)


def _argument(name: str, text: str) -> str:
    first, *rest = textwrap.wrap(f"{name}: {text}", _WIDTH - 16, break_on_hyphens=False)
    return "\n".join([f"            {first}", *(f"                {line}" for line in rest)])


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _metrics() -> str:
    """Return the metrics of the losses that are not written by hand."""
    classes = "\n\n".join(map(_metric, _others()))
    names = ", ".join(sorted(_quoted(f"Remote{_camel(loss.name)}") for loss in _others()))
    return f'''# {_WRITTEN}
"""The means of the further losses as metrics."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from lossd_client._calls.arrays import Array
from lossd_client._calls.parameters import DEFAULT, Default, IgnoreIndex, TargetsFormat
from lossd_client._deferred import KEEP_BYTES, OnError
from lossd_client.client import LossClient
from lossd_client.torchmetrics._means import Normalizer, RemoteMean
from lossd_client.torchmetrics._remote import parameters

__all__ = [{names}]


{classes}
'''


def _metric(loss: Loss) -> str:
    takes_probabilities = "probabilities" in loss.inputs
    params = "".join(
        _in_signature(each.name, *_metric_type(loss, each))
        for each in _in_order(loss)
        if each.name not in ("reduction", "axis", "per")
    )
    probabilities = "probabilities: bool = False, " if takes_probabilities else ""
    given = "probabilities" if takes_probabilities else "False"
    but = " but `per`" if loss.row == "sample" else ""
    return f'''class Remote{_camel(loss.name)}(RemoteMean):
    """Mean of {loss.name} over batches and ranks, computed by a server: one request an update.

    Its own arguments are those of `LossClient.{loss.name}`{but}, and all others those of `RemoteBCE`, as are
    states and errors.
    """

    _loss = {_quoted(loss.name)}
    {loss.name}_sum_digits: Tensor
    {loss.name}_weight_digits: Tensor

    def __init__(
        self, client: LossClient | None = None, *, base_url: str | None = None, api_key: str | None = None,
        {probabilities}{params}on_error: OnError = "raise", keep_bytes: int = KEEP_BYTES,
        **options: Any,  # noqa: ANN401 - torchmetrics'
    ) -> None:
        params = parameters(locals())
        super().__init__(client, base_url, api_key, {given}, on_error, keep_bytes, params, options)

    @property
    def {loss.name}_sum(self) -> Tensor:
        """The weighted losses of all batches, summed, as a float64 scalar."""
        return self._value("sum")

    @property
    def {loss.name}_weight(self) -> Tensor:
        """What the mean divides `{loss.name}_sum` by."""
        return self._value("weight")
'''


def _metric_type(loss: Loss, parameter: Parameter) -> tuple[str, str]:
    kind, default = _typed(loss, parameter)
    if parameter.name == "normalizer":
        kind = "Normalizer" if parameter not in loss.parameters else 'Literal["count", "weight"]'
    return kind, default


def _options() -> str:
    """Return the losses and their own parameters as options of the command."""
    names = "\n".join(f"    {loss.name.upper()} = {_quoted(loss.name)}" for loss in builtin())
    own: dict[str, dict[str, Parameter]] = {}
    for loss in builtin():
        for parameter in loss.parameters:
            if parameter.name not in _TYPES:
                own.setdefault(parameter.name, {})[loss.name] = parameter
    fields = "\n".join(_option(name, of) for name, of in own.items())
    return f'''# {_WRITTEN}
"""The losses, and their own parameters, on the command line."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import typer

_PANEL: Final = "Parameters of some losses"


class LossName(StrEnum):
    """The losses."""

{names}


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOptions:
    """The losses' own parameters as text, which `parameters.py` reads as the loss has it."""

{fields}
'''


def _option(name: str, of: Mapping[str, Parameter]) -> str:
    """Return the option for a parameter of some losses."""
    helps: dict[str, list[str]] = {}
    for loss, parameter in of.items():
        default = parameter.default
        shown = ""
        if default is not None:
            shown = f" By default {default if isinstance(default, str) else f'{default:g}'}."
        summary = re.sub(r"\bnull\b", "none", parameter.summary).replace("`", "").split(". ")[0].rstrip(".")
        helps.setdefault(f"{summary}.{shown}", []).append(loss)
    text = " ".join(f"{_and(losses)}: {text}" for text, losses in helps.items())
    kinds = {_kind(parameter): parameter for parameter in of.values()}
    metavars = []
    for kind, parameter in kinds.items():
        metavars += {"number": ["NUMBER"], "numbers": ["NUMBERS", "FILE"]}.get(kind, [])
        metavars += ["none"] * (_has_none(parameter) and kind != "word")
    metavars += [word for parameter in of.values() for word in _words(parameter)]
    metavar = "|".join(sorted(dict.fromkeys(metavars), key=lambda word: word.islower()))
    help_text = "\n".join(
        f"            {_quoted(line.replace(chr(34), chr(39)))}" for line in _pieces(text, _WIDTH - 20)
    )
    return f"""    {name}: Annotated[
        str | None,
        typer.Option(
            metavar={_quoted(metavar)},
            help={help_text.strip()},
            rich_help_panel=_PANEL,
        ),
    ] = None"""


def _pieces(text: str, width: int) -> list[str]:
    lines = textwrap.wrap(text, width)
    return [f"{line} " for line in lines[:-1]] + lines[-1:]


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# ---- The TypeScript client


def _typescript_types() -> str:
    """Return the types of the losses' parameters and inputs."""
    params = "\n".join(map(_typescript_params, builtin()))
    by_name = "\n".join(f"  readonly {loss.name}: {_camel(loss.name)}Params;" for loss in builtin())
    inputs = "\n".join(
        f"  readonly {loss.name}: {' | '.join(map(_quoted, loss.inputs))};" for loss in builtin()
    )
    return f"""// {_WRITTEN}

import type {{ TensorLike }} from "./types.js";

{params}
/** The parameters of each loss. */
export interface LossParams {{
{by_name}
}}

/** The names that the inputs of each loss may have. */
export interface LossInputs {{
{inputs}
}}
"""


def _typescript_params(loss: Loss) -> str:
    fields = []
    for each in _in_order(loss):
        if each.name in ("reduction", "axis"):
            continue
        kind = _TYPESCRIPT.get(each.name) or _typescript_type(each.schema)
        fields.append(f"{_comment(each.summary)}  readonly {each.name}?: {kind};")
    return f"""/** {loss.title}. The server checks the values. */
export interface {_camel(loss.name)}Params {{
{chr(10).join(fields)}
}}
"""


def _comment(text: str) -> str:
    lines = textwrap.wrap(text, _WIDTH - 10)
    if len(lines) == 1:
        return f"  /** {lines[0]} */\n"
    return "  /**\n" + "".join(f"   * {line}\n" for line in lines) + "   */\n"


def _answered(loss: Loss) -> list[str]:
    """Return the names of the parameters in an answer's `params`."""
    shared = {parameter.name for parameter in SHARED}
    return [parameter.name for parameter in loss.parameters if parameter.name not in shared]


def _typescript_methods() -> str:
    """Return the methods of the losses, and the tables that requests and results are read by."""
    names = list(dict.fromkeys(name for loss in builtin() for name in loss.inputs))
    own = "".join(
        f"  {loss.name}: {{ own: {_strings(_answered(loss))}, row: {_quoted(loss.row)} }},\n"
        for loss in builtin()
    )
    methods = "\n".join(map(_typescript_method, builtin()))
    return f"""// {_WRITTEN}

/** @import * as Types from "./types.js" */

/** The names that inputs may have. */
export const INPUTS = {_strings(names)};

/**
 * The parameters in the `params` of each loss's results, and what one loss value belongs to.
 * @type {{Readonly<Record<Types.LossName, Types.LossFacts>>}}
 */
export const LOSSES = {{
{own}}};

/** A method for each loss. */
export class LossMethods {{
  #score;

  /**
   * @param {{Types.Score}} score
   */
  constructor(score) {{
    this.#score = score;
  }}

{methods}}}
"""


def _typescript_method(loss: Loss) -> str:
    request = f"Types.LossRequests[{_quoted(loss.name)}]"
    about = "\n".join(f"   * {line}" for line in textwrap.wrap(f"{loss.title}: {loss.summary}", _WIDTH - 5))
    return f"""  /**
{about}
   * @type {{Types.LossMethod<{request}>}}
   */
  {loss.name} = (
    /** @type {{{request}}} */ request,
    /** @type {{Types.CallOptions | undefined}} */ options,
  ) => this.#score({_quoted(loss.name)}, request, options);
"""


def _strings(names: Iterable[str]) -> str:
    return f"[{', '.join(map(_quoted, names))}]"


# ---- Files


def _styled(path: Path, text: str) -> str:
    """Return a file's text as the formatter has it."""
    if path.suffix != ".py":
        return text
    for command in (["check", "--select", "I,F401", "--fix-only", "--quiet"], ["format"]):
        text = subprocess.run(  # noqa: S603 - the formatter of this environment
            [_ruff(), *command, "--stdin-filename", str(path), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return text


def _ruff() -> str:
    found = shutil.which("ruff", path=Path(sys.executable).parent) or shutil.which("ruff")
    if found is None:
        raise FileNotFoundError("ruff, which formats what is written, is not installed: make install")
    return found


def main() -> None:
    """Write the files, or compare them with ``--check``."""
    parser = argparse.ArgumentParser(prog="python -m scripts.client_losses", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is stale")
    check = parser.parse_args().check
    files = stale()
    for path, text in files.items():
        print(f"{path}: {'stale; run make reference' if check else 'written'}")
        if not check:
            path.write_text(text)
    sys.exit(check and bool(files))


if __name__ == "__main__":
    main()
