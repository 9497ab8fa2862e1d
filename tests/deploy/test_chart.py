"""The Helm chart: what it renders over the variants of its values, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from pydantic import ValidationError

from deploy.rendering import (
    CHART,
    ENVIRONMENT,
    NAMESPACE,
    ROOT,
    SCRAPED,
    SECRETS,
    VARIANTS,
    Object,
    call,
    container,
    environment,
    helm,
    of_kind,
    variant,
)
from exposition import exposed
from live_server import LiveServer
from lossd import __version__
from lossd.settings import Settings

ALWAYS = ["Deployment", "Pod", "PodDisruptionBudget", "Service", "Service", "ServiceAccount"]
FURTHER = {
    "hpa": ["HorizontalPodAutoscaler"],
    "keda": ["ScaledObject", "ServiceMonitor"],
    "two gpus, keda": ["ScaledObject", "ServiceMonitor"],
    "monitored": ["PrometheusRule", "ServiceMonitor"],
    "network policy": ["NetworkPolicy"],
    "network policy with peers": ["NetworkPolicy"],
    "ingress": ["Ingress"],
    "ingress for any host": ["Ingress"],
    "gateway": ["HTTPRoute"],
}
OLDEST, NEWEST = "1.27", "1.37"
KNOWN = {f"LOSSD_{name}".upper() for name in Settings.model_fields}
NOT_HERE = {"LOSSD_HANDOVER"}
"""Settings that a pod has no use for."""
TEXT = {"type": "string"}
"""The schema of a setting whose text only the server can judge."""


def deployment(name: str) -> Object:
    return of_kind(variant(name), "Deployment")


def read(name: str) -> Settings:
    """A variant's settings, as a server reads them."""
    given = environment(container(deployment(name)))
    settings: dict[str, Any] = {
        each.removeprefix("LOSSD_").lower(): text for each, text in given.items() if each in KNOWN
    }
    return Settings(**settings)


def schema() -> Object:
    found: Object = json.loads((CHART / "values.schema.json").read_text())
    return found


def validated(objects: Iterable[Object]) -> list[str]:
    """What the oldest and the newest Kubernetes would refuse or ignore in some objects."""
    python = ENVIRONMENT / "bin/python"
    if not python.exists():
        pytest.skip("kubernetes-validate is not installed: make charts installs it")
    given = list(objects)
    assert given
    done = call(str(python), str(Path(__file__).with_name("schemas.py")), OLDEST, NEWEST, given=given)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", VARIANTS)
def test_helm_lints_it(name: str) -> None:
    done = helm("lint", VARIANTS[name], "--strict")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", VARIANTS)
def test_it_renders_what_is_asked_for(name: str) -> None:
    assert sorted(each["kind"] for each in variant(name)) == sorted([*ALWAYS, *FURTHER.get(name, [])])


def test_kubernetes_takes_every_object() -> None:
    rendered = {json.dumps(each, sort_keys=True): each for name in VARIANTS for each in variant(name)}
    found = validated(rendered.values())
    # The Gateway API is no part of Kubernetes; the one route is looked at below.
    routes = [f"HTTPRoute lossd: {version}: no schema" for version in (OLDEST, NEWEST)]
    assert [problem[: len(routes[0])] for problem in found] == routes, found
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"] == f">={OLDEST}.0-0"


def test_the_validation_sees_a_misspelt_field() -> None:
    places: list[tuple[str, str, list[str | int], str]] = [
        ("keda", "Deployment", ["spec", "template", "spec", "containers", 0], "livenessprobe"),
        ("keda", "ServiceMonitor", ["spec", "endpoints", 0], "intervall"),
        ("keda", "ScaledObject", ["spec"], "minReplicas"),
        ("monitored", "PrometheusRule", ["spec", "groups", 0, "rules", 0], "expression"),
    ]
    broken = []
    for name, kind, path, wrong in places:
        broken.append(json.loads(json.dumps(of_kind(variant(name), kind))))
        place = broken[-1]
        for step in path:
            place = place[step]
        place[wrong] = "5s"
    found = validated(broken)
    for _, kind, _, wrong in places:
        assert [problem for problem in found if problem.startswith(kind) and wrong in problem], found


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"imge": {}}, "additional properties 'imge' not allowed"),
        ({"image": {"tagg": "1"}}, "at '/image': additional properties 'tagg' not allowed"),
        (
            {"settings": {"LOSSD_MAX_BODY_BYTS": 1}},
            "at '/settings': additional properties 'LOSSD_MAX_BODY_BYTS' not allowed",
        ),
        ({"settings": {"LOSSD_PORT": 1}}, "at '/settings': additional properties 'LOSSD_PORT' not allowed"),
        ({"replicas": "two"}, "at '/replicas': got string, want integer"),
        (
            {"autoscaling": {"kind": "vpa"}},
            "at '/autoscaling/kind': value must be one of 'none', 'hpa', 'keda'",
        ),
        ({"teams": {"secret": ""}}, "name a Secret with teams.toml, or set allowOpen to true"),
        ({"autoscaling": {"kind": "keda"}}, "name its address in autoscaling.prometheus"),
        (
            {"autoscaling": {"kind": "keda", "prometheus": "http://prometheus:9090"}},
            "set monitoring.serviceMonitor.enabled to true",
        ),
        ({"autoscaling": {"kind": "hpa"}, "gpus": 1}, "take keda"),
        ({"quota": {"divide": True, "storeSecret": "x"}}, "divided twice: unset one of them"),
        ({"quota": {"divide": True}, "autoscaling": {"kind": "hpa"}}, "name a quota.storeSecret"),
        (
            {"quota": {"storeSecret": "x"}, "networkPolicy": {"enabled": True}},
            "networkPolicy.egress is empty",
        ),
        (
            {"monitoring": SCRAPED, "networkPolicy": {"enabled": True}},
            "networkPolicy.monitoring is empty",
        ),
        ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs is empty"),
        ({"rollingUpdate": {"maxSurge": 0}}, "rollingUpdate.maxSurge are both 0"),
        ({"rollingUpdate": {"maxSurge": "0%"}}, "no pod could be replaced"),
        ({"resources": {"limits": {"memory": "6GB"}}}, "at '/resources/limits/memory': '6GB' does not match"),
        (
            {"resources": {"limits": {"memory": "6G"}}},
            "resources.limits.memory (6G) is less than resources.requests.memory (6Gi)",
        ),
        ({"resources": {"limits": {"cpu": "1900m"}}}, "resources.limits.cpu (1900m) is less than"),
        (
            {"settings": {"LOSSD_ARENA_BYTES": (6 << 30) + 1}},
            "settings.LOSSD_ARENA_BYTES (6442450945) is more than resources.limits.memory (6Gi)",
        ),
        ({"autoscaling": {"minReplicas": 11}}, "autoscaling.minReplicas (11) is more than"),
        ({"env": [{"name": "LOSSD_THREADS", "value": "2"}]}, "env: LOSSD_THREADS is a setting"),
    ],
    ids=lambda given: None if isinstance(given, dict) else given,
)
def test_a_wrong_value_is_refused_by_name(values: Mapping[str, Any], message: str) -> None:
    done = helm("template", values)
    assert done.returncode != 0
    assert message in done.stderr
    assert "\n" not in message


@pytest.mark.parametrize("value", ["1gb", "60", -1, 0, 0.5, 1, 65, 2e7, True, "json", "torch"], ids=repr)
def test_a_setting_that_the_server_would_refuse_is_refused(value: str | float) -> None:
    names = [name for name, part in schema()["properties"]["settings"]["properties"].items() if part != TEXT]
    text = json.dumps(value).strip('"').removesuffix(".0")
    expected = {name for name in names if refuses(name, text)}
    done = helm("template", {"settings": dict.fromkeys(names, value)})
    assert set(re.findall(r"at '/settings/(\w+)'", done.stderr)) == expected


def refuses(name: str, text: str) -> bool:
    """Whether the server refuses a setting by itself, whatever the others are."""
    field = name.removeprefix("LOSSD_").lower()
    given: dict[str, Any] = {field: text}
    try:
        Settings(**given)
    except ValidationError as error:
        return any(each["loc"] == (field,) for each in error.errors())
    return False


def test_every_value_has_its_place_in_the_schema() -> None:
    def compare(values: object, part: Mapping[str, Any], path: str) -> None:
        if isinstance(values, dict) and "properties" in part:
            assert part["additionalProperties"] is False, path
            missing = set(values) - set(part["properties"])
            assert not missing, path
            if path != "/settings":
                assert set(part["properties"]) - set(values) <= {"global"}, f"{path}: not in values.yaml"
            for key, value in values.items():
                compare(value, part["properties"][key], f"{path}/{key}")

    assert schema()["$schema"] == "http://json-schema.org/draft-07/schema#"
    compare(yaml.safe_load((CHART / "values.yaml").read_text()), schema(), "")


def test_every_setting_can_be_given_once() -> None:
    written = {name for name in VARIANTS if name != "settings"}
    own = {name for one in written for name in environment(container(deployment(one)))}
    comments = (CHART / "values.yaml").read_text()
    own -= {"LOSSD_LOG_FORMAT", "LOSSD_THREADS"}  # which can be given too
    given = set(schema()["properties"]["settings"]["properties"])
    assert own <= KNOWN
    assert {
        name for name in own if not re.search(rf"^#   (LOSSD_\w+, )*{name}\b", comments, re.MULTILINE)
    } == set()
    assert given == KNOWN - own - NOT_HERE, (
        "put new settings into settings of deploy/chart/values.schema.json"
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_no_variable_is_set_twice(name: str) -> None:
    names = [each["name"] for each in container(deployment(name))["env"]]
    assert len(names) == len(set(names))


def test_settings_are_written_as_the_server_reads_them() -> None:
    found = read("settings")
    assert found.trusted_proxies == ("10.0.0.0/8",)
    assert found.max_body_bytes == 536870912
    assert found.team_share == 0.25
    assert found.metrics_open is True
    assert (found.lame_duck_seconds, found.drain_seconds, found.start_seconds) == (12.5, 60, 601)
    given = environment(container(deployment("settings")))
    assert given["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://otel:4318"


def test_limits_are_shared_by_a_store_or_divided() -> None:
    assert (read("default").quota_store, read("default").replicas) == (None, 1)
    assert read("quota store and database").quota_store == SECRETS["lossd-quota"]
    assert read("quota store and database").usage_file == SECRETS["lossd-usage"]
    assert read("divided limits").replicas == deployment("divided limits")["spec"]["replicas"]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_pod_is_killed_only_after_it_has_had_time_to_stop_and_to_start(name: str) -> None:
    pod, given = deployment(name)["spec"]["template"]["spec"], environment(container(deployment(name)))
    stops = float(given["LOSSD_LAME_DUCK_SECONDS"]) + float(given["LOSSD_DRAIN_SECONDS"]) + 3
    assert pod["terminationGracePeriodSeconds"] >= stops
    startup = container(deployment(name))["startupProbe"]
    assert startup["failureThreshold"] * startup["periodSeconds"] >= float(given["LOSSD_START_SECONDS"])
    liveness = container(deployment(name))["livenessProbe"]
    hang = Settings.model_fields["hang_seconds"].default
    assert (liveness["failureThreshold"] - 1) * liveness["periodSeconds"] > hang


def test_the_defaults_are_the_servers() -> None:
    given = environment(container(deployment("default")))
    for name in ("lame_duck_seconds", "drain_seconds", "start_seconds"):
        assert float(given[f"LOSSD_{name.upper()}"]) == Settings.model_fields[name].default
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == __version__


@pytest.mark.parametrize("kind", ["Deployment", "Pod"])
def test_pods_are_as_the_restricted_standard_has_them(kind: str) -> None:
    found = of_kind(variant("default"), kind)
    pod = found["spec"]["template"]["spec"] if kind == "Deployment" else found["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    security = pod["securityContext"]
    user = re.findall(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[-1]
    assert (security["runAsUser"], security["runAsGroup"]) == tuple(map(int, user))
    assert security["runAsNonRoot"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_test_pod_is_no_server_and_the_services_lead_to_servers() -> None:
    rendered = variant("default")
    servers = deployment("default")["spec"]["template"]["metadata"]["labels"]
    for service in ("lossd", "lossd-admin"):
        selector = of_kind(rendered, "Service", service)["spec"]["selector"]
        assert selector.items() <= servers.items()
        assert not selector.items() <= of_kind(rendered, "Pod")["metadata"]["labels"].items()


@pytest.mark.parametrize(
    ("name", "devices"), [("default", "cpu"), ("gpu", "cuda:0"), ("two gpus, keda", "cuda:0,cuda:1")]
)
def test_a_pod_computes_on_what_it_is_given(name: str, devices: str) -> None:
    found = container(deployment(name))
    assert environment(found)["LOSSD_DEVICE"] == devices
    assert found["resources"]["limits"].get("nvidia.com/gpu", 0) == devices.count("cuda")


def test_threads_follow_the_limit_of_processors_or_else_what_is_requested() -> None:
    assert "LOSSD_THREADS" not in environment(container(deployment("default")))  # the server sees the limit
    assert environment(container(deployment("no limit of processors")))["LOSSD_THREADS"] == "2"


@pytest.mark.parametrize(("name", "each"), [("default", 0), ("gpu", 1)])
def test_the_memory_limit_counts_the_arena_and_the_processes(name: str, each: int) -> None:
    limit = container(deployment(name))["resources"]["limits"]["memory"]
    assert int(limit.removesuffix("Gi")) >= 1.5 * (2 + 1 + max(1, 2 * each))


def test_autoscaling_alone_decides_how_many_pods_there_are() -> None:
    assert deployment("default")["spec"]["replicas"] == 2
    for name in ("hpa", "keda"):
        assert "replicas" not in deployment(name)["spec"]


def test_the_rules_are_one_text() -> None:
    rules = ROOT / "deploy/lossd.rules.yml"
    assert rules.samefile(CHART / "files/lossd.rules.yml")
    assert of_kind(variant("monitored"), "PrometheusRule")["spec"] == yaml.safe_load(rules.read_text())
    named = {"monitoring": {"rules": {"enabled": True, "runbook": "https://runbooks.example.org/lossd"}}}
    done = helm("template", named, "--show-only", "templates/monitoring.yaml")
    assert "runbook_url: https://runbooks.example.org/lossd#lossddown" in done.stdout
    assert "docs/reference/metrics.md#" not in done.stdout


def test_prometheus_finds_the_admin_listener_under_the_rules_job() -> None:
    monitor, admin = (
        of_kind(variant("monitored"), "ServiceMonitor"),
        of_kind(variant("default"), "Service", "lossd-admin"),
    )
    assert monitor["spec"]["selector"]["matchLabels"].items() <= admin["metadata"]["labels"].items()
    main = of_kind(variant("default"), "Service", "lossd")["metadata"]["labels"]
    assert not monitor["spec"]["selector"]["matchLabels"].items() <= main.items()
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in admin["spec"]["ports"]}
    assert endpoint["relabelings"] == [{"action": "replace", "targetLabel": "job", "replacement": "lossd"}]


def triggers(name: str) -> dict[str, dict[str, str]]:
    spec = of_kind(variant(name), "ScaledObject")["spec"]
    return {each["name"]: each["metadata"] for each in spec["triggers"]}


def test_keda_asks_for_what_the_server_exposes(server: LiveServer) -> None:
    known = exposed(server.url)
    for trigger in triggers("keda").values():
        names = set(re.findall(r"lossd_\w+", trigger["query"]))
        assert names
        assert names <= set(known), trigger["query"]


LABELS = f'job="lossd", namespace="{NAMESPACE}", service="lossd-admin"'
OTHER = LABELS.replace(NAMESPACE, "elsewhere")
LOAD = [  # two pods with 1.5 and 0.5 waiting for a worker, 3 unread, 1.8 workers busy
    (f'lossd_request_seconds_sum{{stage="queue", pod="a", {LABELS}}}', "0+45x20"),
    (f'lossd_request_seconds_sum{{stage="queue", pod="b", {LABELS}}}', "0+15x20"),
    (f'lossd_request_seconds_sum{{stage="compute", pod="a", {LABELS}}}', "0+99x20"),
    (f'lossd_request_seconds_sum{{stage="queue", pod="c", {OTHER}}}', "0+99x20"),
    (f'lossd_requests_waiting{{pod="a", {LABELS}}}', "3x20"),
    (f'lossd_requests_waiting{{pod="b", {LABELS}}}', "0x20"),
    (f'lossd_device_seconds_total{{team="x", device="cpu", pod="a", {LABELS}}}', "0+30x20"),
    (f'lossd_device_seconds_total{{team="y", device="cpu", pod="b", {LABELS}}}', "0+24x20"),
    (f'lossd_worker_ready{{device="cpu", pod="a", {LABELS}}}', "1x20"),
]


@pytest.mark.parametrize(
    ("series", "waiting", "busy"),
    [(LOAD, [5.0], [1.8]), ([LOAD[-1]], [], [0.0]), ([], [], [])],
    ids=["under load", "no request yet", "no target"],
)
def test_keda_gets_the_requests_that_wait_and_the_workers_that_compute(
    series: list[tuple[str, str]], waiting: list[float], busy: list[float], tmp_path: Path
) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    wanted = [
        {
            "expr": triggers("keda")[name]["query"],
            "eval_time": "5m",
            "exp_samples": [{"labels": "{}", "value": value} for value in values],
        }
        for name, values in (("waiting", waiting), ("busy", busy))
    ]
    case = {
        "interval": "30s",
        "input_series": [{"series": name, "values": values} for name, values in series],
        "promql_expr_test": wanted,
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"tests": [case]}))
    done = call("promtool", "test", "rules", str(tmp_path / "test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_keda_counts_workers_by_gpus() -> None:
    assert float(triggers("keda")["busy"]["threshold"]) == 0.7
    assert float(triggers("two gpus, keda")["busy"]["threshold"]) == 1.4


def test_a_network_policy_without_peers_lets_callers_in_and_nobody_else() -> None:
    spec = of_kind(variant("network policy"), "NetworkPolicy")["spec"]
    assert spec["ingress"] == [{"ports": [{"protocol": "TCP", "port": "http"}]}]
    assert spec["egress"] == []
    assert spec["policyTypes"] == ["Ingress", "Egress"]


def test_a_network_policy_lets_in_its_peers_and_helms_test() -> None:
    rendered = variant("network policy with peers")
    callers, monitoring = of_kind(rendered, "NetworkPolicy")["spec"]["ingress"]
    assert monitoring["ports"] == [{"protocol": "TCP", "port": "admin"}]
    assert len(monitoring["from"]) == 1
    peer, test = callers["from"]
    assert "namespaceSelector" in peer
    assert (
        test["podSelector"]["matchLabels"].items() <= of_kind(rendered, "Pod")["metadata"]["labels"].items()
    )


def test_a_route_leads_to_the_service_without_a_time_limit() -> None:
    spec = of_kind(variant("gateway"), "HTTPRoute")["spec"]
    assert set(spec) == {"parentRefs", "hostnames", "rules"}
    [rule] = spec["rules"]
    assert rule == {"backendRefs": [{"name": "lossd", "port": 8000}], "timeouts": {"request": "0s"}}


def test_the_notes_say_how_to_make_the_secret() -> None:
    done = helm("install", {}, "--dry-run=client", "--generate-name")
    if done.returncode and "cluster" in done.stderr:
        pytest.skip("this helm renders notes with a cluster only")
    assert "create secret generic lossd-teams --from-file=teams.toml" in done.stdout
