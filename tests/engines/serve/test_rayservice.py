"""The RayService manifest: Serve takes its configuration, and its variables are the application's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

schema = pytest.importorskip("ray.serve.schema")
application = pytest.importorskip("lossd.ray_serve")

MANIFEST = Path(__file__).resolve().parents[3] / "deploy/kubernetes/rayservice.yaml"
SPEC: dict[str, Any] = yaml.safe_load(MANIFEST.read_text())["spec"]


def test_serve_takes_the_configuration() -> None:
    config = schema.ServeDeploySchema.model_validate(yaml.safe_load(SPEC["serveConfigV2"]))
    [found] = config.applications
    module, _, name = found.import_path.partition(":")
    assert module == application.__name__
    assert hasattr(application, name)


def test_its_variables_are_options() -> None:
    head = SPEC["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    given = {each["name"] for each in head["env"] if each["name"].startswith("LOSSD_RAY_")}
    assert given
    assert given <= {f"LOSSD_RAY_{name}".upper() for name in application.RayOptions.model_fields}
