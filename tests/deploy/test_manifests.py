"""The manifests without Helm: kustomize builds what the chart renders, KServe's and Ray's have sound pods."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from deploy.rendering import MANIFESTS, ROOT, Object, built, container, environment, of_kind, variant
from deploy.test_chart import KNOWN, validated
from lossd import __version__

HELMS = ("app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart")
PREDICTORS = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "timeout", "deploymentStrategy"}
"""What a predictor of KServe has beside a pod's fields."""


def manifest(name: str) -> Object:
    found: Object = yaml.safe_load((MANIFESTS / name).read_text())
    return found


def plain(objects: Sequence[Object]) -> dict[tuple[str, str], Object]:
    """Objects by kind and name, without what Helm alone writes, variables in alphabetical order."""
    found = {}
    for each in json.loads(json.dumps(objects)):
        for label in HELMS:
            each["metadata"]["labels"].pop(label, None)
        if each["kind"] == "Deployment":
            [of] = each["spec"]["template"]["spec"]["containers"]
            of["env"].sort(key=lambda variable: variable["name"])
        if each["kind"] != "Pod":  # Helm's test
            found[each["kind"], each["metadata"]["name"]] = each
    return found


@pytest.mark.parametrize(("folder", "name"), [("base", "default"), ("gpu", "gpu")])
def test_kustomize_builds_what_the_chart_renders(folder: str, name: str) -> None:
    assert plain(built(folder)) == plain(variant(name))


@pytest.mark.parametrize("folder", ["base", "gpu"])
def test_kubernetes_takes_every_object(folder: str) -> None:
    assert validated(built(folder)) == []


def kserve_pod() -> Object:
    predictor = manifest("kserve.yaml")["spec"]["predictor"]
    return {name: value for name, value in predictor.items() if name not in PREDICTORS}


def ray_pods() -> dict[str, Object]:
    cluster = manifest("rayservice.yaml")["spec"]["rayClusterConfig"]
    groups = [{"groupName": "head", **cluster["headGroupSpec"]}, *cluster["workerGroupSpecs"]]
    return {group["groupName"]: group["template"]["spec"] for group in groups}


def pod(spec: Object) -> Object:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}


@pytest.mark.parametrize("spec", [kserve_pod(), *ray_pods().values()], ids=["kserve", *ray_pods()])
def test_the_pods_in_other_objects_are_pods(spec: Object) -> None:
    assert validated([pod(spec)]) == []
    assert spec["enableServiceLinks"] is False


def test_kserves_container_is_the_deployments() -> None:
    found = manifest("kserve.yaml")
    assert (found["apiVersion"], found["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert set(found["spec"]) == {"predictor"}
    assert set(found["spec"]["predictor"]) >= PREDICTORS
    base = of_kind(list(yaml.safe_load_all((MANIFESTS / "base/lossd.yaml").read_text())), "Deployment")
    ours, theirs = container(base), kserve_pod()["containers"][0]
    assert environment(theirs).items() <= environment(ours).items()
    assert found["spec"]["predictor"]["deploymentStrategy"] == base["spec"]["strategy"]
    assert theirs["name"] == "kserve-container"
    ports = {port["name"]: port["containerPort"] for port in ours["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        named = json.loads(json.dumps(ours[probe]))
        named["httpGet"]["port"] = ports[named["httpGet"]["port"]]
        assert theirs[probe] == named
    for key in ("args", "resources", "securityContext", "volumeMounts"):
        assert theirs[key] == ours[key]
    for key in ("volumes", "terminationGracePeriodSeconds", "automountServiceAccountToken"):
        assert kserve_pod()[key] == base["spec"]["template"]["spec"][key]


def test_the_ray_service_serves_lossds_app_by_the_fast_ingress() -> None:
    found = manifest("rayservice.yaml")
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayService")
    config: dict[str, Any] = yaml.safe_load(found["spec"]["serveConfigV2"])
    assert [(app["import_path"], app["route_prefix"]) for app in config["applications"]] == [
        ("lossd.ray_serve:app", "/")
    ]
    for spec in ray_pods().values():
        [of] = spec["containers"]
        given = environment(of)
        assert given["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
        own = {name for name in given if name.startswith("LOSSD_") and not name.startswith("LOSSD_RAY_")}
        assert own <= KNOWN
        assert spec["volumes"][0]["secret"]["secretName"] == "lossd-teams"
    [group] = found["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert given["LOSSD_RAY_CORES"] == str(of["resources"]["limits"]["cpu"])
    assert given["LOSSD_RAY_MIN_REPLICAS"] == str(group["minReplicas"]) == str(group["replicas"])
    assert given["LOSSD_RAY_MAX_REPLICAS"] == str(group["maxReplicas"])
    version = found["spec"]["rayClusterConfig"]["rayVersion"]
    text = (MANIFESTS / "rayservice.yaml").read_text()
    [python] = re.findall(rf"^#   FROM rayproject/ray:{re.escape(version)}-py3(\d+)$", text, re.MULTILINE)
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert (3, int(python)) >= tuple(map(int, needed.removeprefix(">=").split(".")))


@pytest.mark.parametrize("name", ["base/lossd.yaml", "kserve.yaml", "rayservice.yaml"])
def test_a_comment_has_what_shares_limits_and_usage(name: str) -> None:
    text = "\n".join(re.findall(r"^ *#   (- .*LOSSD_.*)$", (MANIFESTS / name).read_text(), re.MULTILINE))
    found = environment({"env": yaml.safe_load(text)})
    chart = environment(container(of_kind(variant("quota store and database"), "Deployment")))
    assert found == {each: chart[each] for each in ("LOSSD_QUOTA_STORE", "LOSSD_USAGE_FILE")}


def test_an_image_elsewhere_is_built_in_where_the_comment_says(tmp_path: Path) -> None:
    shutil.copytree(MANIFESTS / "base", tmp_path / "base")
    file = tmp_path / "base/kustomization.yaml"
    file.write_text(file.read_text().replace("# newName:", "newName:"))
    of = container(of_kind(built(str(tmp_path / "base")), "Deployment"))
    assert of["image"] == f"registry.example.org/lossd:{__version__}"
