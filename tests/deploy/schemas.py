"""Print what Kubernetes would refuse or ignore of some objects: ``schemas.py VERSION... <objects.json``.

It runs in the environment that ``make charts`` installs. Kubernetes's own kinds are validated strictly by its
schemas, others by models of their operators' definitions: a field that a model does not know is lost when it
is written again.
"""

import json
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

import kubernetes_validate
from kubernetes_validate import utils

MODELS = {
    "keda.sh/v1alpha1": "cloudcoil.models.keda.v1alpha1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}
NEWER = {("ScaledObject", "spec", "fallback", "behavior")}
"""What the operators know and the models, which are older, do not."""
utils.schema_contents = cache(utils.schema_contents)


def problems(found: dict[str, Any], versions: list[str]) -> Iterator[str]:
    if found["apiVersion"] in MODELS:
        model = getattr(import_module(MODELS[found["apiVersion"]]), found["kind"])
        try:
            written = model.model_validate(found).model_dump(mode="json", by_alias=True, exclude_unset=True)
        except ValueError as error:
            yield str(error)
        else:
            yield from lost(found, written, (found["kind"],))
        return
    for version in versions:
        try:
            kubernetes_validate.validate(found, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{version}: {'.'.join(map(str, error.path))}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{version}: no schema: {error.message}"


def lost(before: object, after: object, path: tuple[object, ...]) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key in after:
                yield from lost(value, after[key], (*path, key))
            elif (*path, key) not in NEWER:
                yield f"{'.'.join(map(str, path))}: there is no {key}"
    elif isinstance(before, list) and isinstance(after, list):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from lost(one, other, (*path, index))
    elif before != after:
        yield f"{'.'.join(map(str, path))}: {before!r} becomes {after!r}"


if __name__ == "__main__":
    for each in json.load(sys.stdin):
        for problem in problems(each, sys.argv[1:]):
            sys.stdout.write(f"{each['kind']} {each['metadata']['name']}: {problem}\n")
