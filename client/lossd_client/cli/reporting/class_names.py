"""The file of --class-names."""

from pathlib import Path

from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.location import reason
from lossd_client.report import Report


def read_class_names(path: Path | None) -> list[str] | None:
    """Return the names in a file, one a line; those at its end that are blank are none.

    Raises:
        BadFile: It cannot be read, or has no names.
    """
    if path is None:
        return None
    try:
        names = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except OSError as error:
        raise BadFile(f"--class-names {path} cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise BadFile(f"--class-names {path} is no text in UTF-8: write a name a line") from error
    if not names:
        raise BadFile(f"--class-names {path} is empty: write a name a line, in the order of the classes")
    return [name.strip() for name in names]


def named(report: Report, names: list[str] | None, path: Path | None) -> tuple[Report, list[str]]:
    """Return a report with names for its classes, or a note that they are not as many.

    What was scored is kept, whatever the classes are called.
    """
    if names is None:
        return report, []
    try:
        return report.with_class_names(names), []
    except ValueError as error:
        return report, [f"--class-names {path}: {error}; the classes have their numbers"]
