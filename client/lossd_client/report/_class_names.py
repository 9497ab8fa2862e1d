"""How many classes a report has, and the names that its run gives them."""

from collections.abc import Mapping

from lossd_client.report._json import Json
from lossd_client.report._merging.layout import BadField


def class_count(document: Mapping[str, Json]) -> int | None:
    """Return the number of classes of a sound document; None if it does not say."""
    if "classes" in document:
        return len(document["classes"]["count"])
    for section in ("calibration", "paired"):
        within = document.get(section, {})
        if "classes" in within:
            return len(within["classes"]["count" if section == "calibration" else "better"])
    totals = document["totals"]
    shape = totals.get("row_shape")
    if not shape or "loss_of" in totals:
        return None
    place = totals["params"].get("class_axis", -1) % (len(shape) + 1) - 1
    return int(shape[place]) if place >= 0 else None


def refuse_other_names(document: Mapping[str, Json]) -> None:
    """Refuse names of classes that cannot be those of a document.

    Raises:
        BadField: They are no texts, or not as many as there are classes.
    """
    names = (document.get("run") or {}).get("class_names")
    if names is None:
        return
    path = ("run", "class_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadField(path, "class_names must be a list of texts, a name for each class")
    count = class_count(document)
    if count is not None and len(names) != count:
        raise BadField(path, f"there are {len(names)} names of classes, and {count} classes")
