"""Logging: which tracker it is, and what it is given."""

from importlib import import_module
from types import ModuleType
from typing import Any, Final

from lossd_client._warning import warn
from lossd_client.loggers._contents import contents_of

_TRACKERS: Final = ("mlflow", "wandb")
_WRITERS: Final = ("torch.utils.tensorboard.", "tensorboardX.")
_LIGHTNING: Final = ("lightning.pytorch.loggers.", "pytorch_lightning.loggers.")


def log(what: object, to: object, step: int | None = None, prefix: str = "lossd") -> None:
    """Log a report, a comparison or a result to a tracker.

    These are logged under `prefix`: the mean, its interval of 95 % and standard error, the mean of each class
    and group (of 1,000 a kind at most), quantiles, figures of calibration, the difference from a baseline, a
    comparison's verdict, the parameters, tables of the worst rows, histograms where the tracker draws them;
    and as files report.json, which `Report.load` reads, report.html, and all tables as CSV.

    Args:
        what: A `Report`, a `Comparison`, or a `LossResult`.
        to: "mlflow" or "wandb", whose active run is meant; or one of these modules, a run of one of them, a
            SummaryWriter of torch.utils.tensorboard or tensorboardX, or a logger of Lightning that has one of
            these. An mlflow run is looked up where mlflow's tracking URI points.
        step: The step, such as the epoch. Without one it is 0 in mlflow and TensorBoard, and the next in
            Weights & Biases.
        prefix: What all names begin with. A run of mlflow keeps the parameters that it was given first, so
            another loss needs another prefix.

    Raises:
        TypeError: `what` or `to` is nothing of these.
        ImportError: The tracker is not installed.
        RuntimeError: The tracker has no active run.

    Warns:
        UserWarning: There are more than 1,000 classes or groups.
    """
    tracker, target = _target(to)
    contents = contents_of(what)
    for note in contents.notes:
        warn(note)
    if tracker == "mlflow":
        from lossd_client.loggers import _mlflow

        _mlflow.write(contents, target, step, prefix)
    elif tracker == "wandb":
        from lossd_client.loggers import _wandb

        _wandb.write(contents, target, step, prefix)
    else:
        from lossd_client.loggers import _tensorboard

        _tensorboard.write(contents, target, step, prefix)


def _target(to: object) -> tuple[str, Any]:
    """Return the tracker's name, and its module, run or writer; with Lightning's for mlflow a pair."""
    if isinstance(to, str) and to in _TRACKERS:
        return to, _imported(to)
    if isinstance(to, ModuleType) and to.__name__ in _TRACKERS:
        return to.__name__, to
    origins = [f"{each.__module__}." for each in type(to).__mro__]
    is_lightning = any(origin.startswith(_LIGHTNING) for origin in origins)
    if is_lightning and (experiment := getattr(to, "experiment", None)) is not None:
        return ("mlflow", (experiment, to.run_id)) if hasattr(to, "run_id") else _target(experiment)
    for tracker in _TRACKERS:
        if any(origin.startswith(f"{tracker}.") for origin in origins):
            return tracker, to
    if any(origin.startswith(_WRITERS) for origin in origins):
        return "tensorboard", to
    raise TypeError(
        'log() writes to "mlflow", "wandb", a run of either, or a SummaryWriter of TensorBoard, and got '
        f"{to!r}"
    )


def _imported(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"log(to={name!r}) needs {error.name}, which is not installed: pip install 'lossd[{name}]'"
        ) from error
