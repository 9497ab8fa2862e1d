"""What the chart renders for some values, and what kustomize builds: by the programs from ``make charts``."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped]

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "deploy/chart"
MANIFESTS: Final = ROOT / "deploy/kubernetes"
ENVIRONMENT: Final = ROOT / ".charts"
NAMESPACE: Final = "scoring"

Object = dict[str, Any]

_GPU: Final[dict[str, Any]] = yaml.safe_load((CHART / "values-gpu.yaml").read_text())
SCRAPED: Final = {"serviceMonitor": {"enabled": True}}
_PEER: Final = {"namespaceSelector": {"matchLabels": {"team": "vision"}}}
VARIANTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "default": {},
    "open": {"teams": {"secret": ""}, "allowOpen": True},
    "gpu": _GPU,
    "two gpus, keda": {
        **_GPU,
        "gpus": 2,
        "autoscaling": {"kind": "keda", "prometheus": "http://prometheus:9090"},
        "monitoring": SCRAPED,
    },
    "hpa": {"autoscaling": {"kind": "hpa", "minReplicas": 3}},
    "keda": {
        "autoscaling": {"kind": "keda", "prometheus": "http://prometheus:9090"},
        "monitoring": SCRAPED,
    },
    "monitored": {
        "monitoring": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "rules": {"enabled": True, "labels": {"release": "prometheus"}},
        }
    },
    "network policy": {"networkPolicy": {"enabled": True}},
    "network policy with peers": {
        "networkPolicy": {
            "enabled": True,
            "callers": [_PEER],
            "monitoring": [_PEER],
            "egress": [{"to": [_PEER], "ports": [{"port": 4318}]}],
        }
    },
    "ingress": {
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "host": "loss.example.org",
            "tlsSecret": "loss-tls",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "1g"},
        }
    },
    "ingress for any host": {"ingress": {"enabled": True}},
    "gateway": {
        "httpRoute": {
            "enabled": True,
            "parentRefs": [{"name": "gateway"}],
            "hostnames": ["loss.example.org"],
        }
    },
    "https": {"tls": {"secret": "lossd-tls"}},
    "quota store and database": {
        "quota": {"storeSecret": "lossd-quota"},
        "usage": {"databaseSecret": "lossd-usage"},
    },
    "divided limits": {"quota": {"divide": True}, "replicas": 3},
    "no limit of processors": {"resources": {"limits": {"cpu": None}, "requests": {"cpu": "1500m"}}},
    "quantities in other units": {
        "resources": {
            "requests": {"cpu": "1500m", "memory": "3e9"},
            "limits": {"cpu": 1.5, "memory": "3000M", "ephemeral-storage": "1.5Gi"},
        }
    },
    "settings": {
        "settings": {
            "LOSSD_ARENA_BYTES": 6 << 30,
            "LOSSD_MAX_BODY_BYTES": 536870912,
            "LOSSD_TEAM_SHARE": 0.25,
            "LOSSD_METRICS_OPEN": True,
            "LOSSD_TRUSTED_PROXIES": "10.0.0.0/8",
        },
        "env": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://otel:4318"}],
        "stopping": {"lameDuckSeconds": 12.5, "drainSeconds": 60},
        "startSeconds": 601,
    },
    "elsewhere": {
        "fullnameOverride": "losses",
        "image": {"repository": "registry.example.org/lossd", "tag": "1", "pullSecrets": ["registry"]},
        "service": {"type": "LoadBalancer", "port": 80, "annotations": {"a": "b"}},
        "nodeSelector": {"pool": "batch"},
        "tolerations": [{"key": "batch", "operator": "Exists"}],
        "affinity": {"podAffinity": {}},
        "priorityClassName": "high",
        "runtimeClassName": "gvisor",
        "podAnnotations": {"a": "b"},
        "podLabels": {"a": "b"},
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": 0},
    },
}


def tool(name: str) -> str:
    """The path of a program that `make charts` installs, or of the system's own."""
    found = shutil.which(name, path=str(ENVIRONMENT / "bin")) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: make charts installs it")
    return found


def call(*command: str, given: object = None, reads: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program without a home, given some values or a text to read."""
    text = reads if given is None else json.dumps(given)
    with tempfile.TemporaryDirectory() as home:
        return subprocess.run(
            command,
            env={"HOME": home, "PATH": "/usr/bin:/bin"},
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
        )


def helm(verb: str, values: Mapping[str, Any], *words: str) -> subprocess.CompletedProcess[str]:
    """Run helm over the chart with some values."""
    name = ["lossd"] if verb == "template" else []
    chart = [*name, str(CHART), "--namespace", NAMESPACE, "--values", "-"]
    return call(tool("helm"), verb, *chart, *words, given=values)


@cache
def variant(name: str) -> Sequence[Object]:
    """The objects that the chart renders for a variant."""
    return parsed(helm("template", VARIANTS[name]))


@cache
def built(folder: str) -> Sequence[Object]:
    """The objects that kustomize builds from a folder of the manifests."""
    return parsed(call(tool("kubectl"), "kustomize", str(MANIFESTS / folder)))


def parsed(done: subprocess.CompletedProcess[str]) -> list[Object]:
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def of_kind(objects: Sequence[Object], kind: str, name: str | None = None) -> Object:
    """The one object of a kind, and of a name if that is given."""
    [found] = [each for each in objects if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    return found


def container(deployment: Object) -> Object:
    """The one container of a Deployment."""
    [found] = deployment["spec"]["template"]["spec"]["containers"]
    return dict(found)


SECRETS: Final = {
    "lossd-quota": "redis://:word@valkey:6379/0",
    "lossd-usage": "postgresql://lossd:word@postgres/lossd",
}
"""What stands in the Secrets of the variants, under the key url."""


def environment(of: Object) -> dict[str, str]:
    """A container's variables, with what the kubelet would write for its resources and from Secrets."""
    return {
        each["name"]: each["value"] if "value" in each else _found(of, each["valueFrom"])
        for each in of["env"]
    }


def _found(of: Object, source: Object) -> str:
    if "secretKeyRef" in source:
        assert source["secretKeyRef"]["key"] == "url"
        return SECRETS[source["secretKeyRef"]["name"]]
    kind, _, name = source["resourceFieldRef"]["resource"].partition(".")
    assert source["resourceFieldRef"]["divisor"] == "1"
    quantity = str(of["resources"][kind][name])
    whole = -(-int(quantity[:-1]) // 1000) if quantity.endswith("m") else int(quantity)
    return str(whole)  # it rounds up
