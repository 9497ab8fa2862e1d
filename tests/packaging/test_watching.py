"""What watches the server: rules and dashboard use what it exposes, and Prometheus takes them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families

from exposition import exposed
from live_server import LiveServer, live_server
from lossd import __version__
from lossd.api.problems import KINDS
from lossd_client.local import free_port
from teams_file import make_key, team_table, write_teams

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana/dashboards/lossd.json"

# Prometheus's own, and what it adds to all that it scrapes.
OWN = {"up": set[str](), "ALERTS": {"alertname", "alertstate"}}
ADDED = {"job", "instance"}
VALUES = {
    "outcome": {"ok", "disconnected", *KINDS},
    "stage": {"read", "queue", "compute", "total"},
    "job": {"lossd"},
    "reason": {"full"},
    "team": {""},
}

# Words that name a metric: not functions, which a parenthesis follows, nor text.
_SELECTOR = re.compile(r'(?<![\w"$:.])(up|ALERTS|lossd_\w+|\w+:[\w:]+)(?:\{([^}]*)\})?')
_GROUPS = re.compile(r"\b(?:by|on|without)\s*\(([^)]*)\)")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "lossd.rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries(node: object) -> Iterator[str]:
    """All expressions of a dashboard."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "expr":
                yield value
            elif key == "query" and isinstance(value, dict):
                yield re.sub(r"label_values\((.*), (\w+)\)", r"sum by (\2) (\1)", value["query"])
            else:
                yield from queries(value)
    elif isinstance(node, list):
        for item in node:
            yield from queries(item)


def recorded() -> dict[str, set[str]]:
    """What the rules record: by custom a name begins with the labels that are left."""
    names = [rule["record"] for rule in rules() if "record" in rule]
    return {name: set(name.partition(":")[0].split("_")) for name in names}


def check(expression: str, known: dict[str, set[str]]) -> set[str]:
    """See that an expression uses what there is; the metrics that it uses."""
    grouped = {label.strip() for group in _GROUPS.findall(expression) for label in group.split(",")}
    bare = _GROUPS.sub(" ", expression)
    selectors = _SELECTOR.findall(bare)
    assert selectors, expression
    allowed: set[str] = set()
    for name, labels in selectors:
        assert name in known, f"{name} is not exposed: {expression}"
        allowed |= known[name] | ADDED
        for label, value in re.findall(r'(\w+)\s*[=!]~?\s*"([^"]*)"', labels):
            assert label in known[name] | ADDED, f"{name} has no label {label}: {expression}"
            if label in VALUES and "$" not in value:
                assert set(value.split("|")) <= VALUES[label], expression
    assert grouped <= allowed, expression
    return {name for name, _ in selectors}


@pytest.fixture(scope="module")
def known(server: LiveServer) -> dict[str, set[str]]:
    return exposed(server.url) | recorded() | OWN


def test_rules_use_what_the_server_exposes(known: dict[str, set[str]]) -> None:
    for rule in rules():
        check(rule["expr"], known)
        for text in rule.get("annotations", {}).values():
            for label in re.findall(r"\$labels\.(\w+)", text):
                used = check(rule["expr"], known)
                assert label in ADDED.union(*(known[name] for name in used)), text


def test_the_dashboard_uses_what_the_server_exposes(known: dict[str, set[str]]) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    used = set[str]().union(*(check(expression, known) for expression in queries(dashboard)))
    assert len(used) > 10
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_every_failure_of_the_servers_own_is_one_that_alerts_count() -> None:
    recordings = {rule.get("record"): rule["expr"] for rule in rules()}
    counted = [
        set(
            re.findall(
                r'outcome=~"([^"]+)"', recordings[f"job_instance_team:lossd_requests_{what}:ratio_rate5m"]
            )
        )
        for what in ("failed", "unavailable")
    ]
    failed, unavailable = (set("|".join(found).split("|")) for found in counted)
    [owed] = re.findall(
        r'outcome=~"([^"]+)"', recordings["job_instance_team_outcome:lossd_requests_owed:rate5m"]
    )
    assert set(owed.split("|")) == failed | unavailable | {"ok", "disconnected"}
    assert failed == {code for code, kind in KINDS.items() if kind.status >= 500 and kind.status != 503}
    assert unavailable == {code for code, kind in KINDS.items() if kind.status == 503}


def test_the_dashboard_is_where_grafana_looks_for_it() -> None:
    compose = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())["services"]["grafana"]
    mounts = dict(mount.split(":")[1::-1] for mount in compose["volumes"])
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/lossd.yml").read_text())[
        "providers"
    ]
    assert DEPLOY.parent / mounts[provider["options"]["path"]] == DASHBOARD.parent
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    (default,) = (
        variable["current"]["value"]
        for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]
        if variable["type"] == "datasource"
    )
    assert source["uid"] == default


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A folder with Prometheus's files."""
    for name in ("prometheus.yml", "lossd.rules.yml", "lossd.rules.test.yml"):
        shutil.copy(DEPLOY / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "lossd.rules.yml"),
        ("test", "rules", "lossd.rules.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool(words: tuple[str, ...], config: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run(["promtool", *words], cwd=config, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    groups = yaml.safe_load((DEPLOY / "lossd.rules.test.yml").read_text())["tests"]
    cases = [
        (case["alertname"], bool(case["exp_alerts"])) for group in groups for case in group["alert_rule_test"]
    ]
    names = {rule["alert"] for rule in rules() if "alert" in rule}
    assert set(cases) == {(name, fires) for name in names for fires in (True, False)}


class Watched(NamedTuple):
    """A Prometheus, and the server that it watches.

    Attributes:
        url: Where Prometheus is.
        server: The server.
        keys: The keys of its teams.
    """

    url: str
    server: LiveServer
    keys: dict[str, str]

    def query(self, query: str) -> list[dict[str, Any]]:
        """The series that a query finds; none while Prometheus starts."""
        try:
            answer = httpx.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=10).json()
        except (httpx.TransportError, ValueError):
            return []
        found: list[dict[str, Any]] = answer.get("data", {}).get("result", [])
        return found


@pytest.fixture
def prometheus(config: Path, tmp_path: Path) -> Iterator[Watched]:
    """A Prometheus that watches a server with teams by the files of `deploy`, but faster."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    keys = {name: make_key() for name in ("large", "small")}
    write_teams(tmp_path / "teams.toml", *(team_table(name, key) for name, key in keys.items()))
    target = f"127.0.0.1:{free_port()}"
    with live_server(tmp_path, teams=tmp_path / "teams.toml", admin_port=target.partition(":")[2]) as server:
        written = (config / "prometheus.yml").read_text().replace("15s", "1s")
        (config / "prometheus.yml").write_text(re.sub(r"lossd:\d+", target, written))
        # Alerts fire after seconds rather than minutes, and look as far back.
        alerts = (config / "lossd.rules.yml").read_text()
        alerts = re.sub(r"for: \d+m", "for: 1s", alerts).replace("[5m]", "[10s]")
        (config / "lossd.rules.yml").write_text(alerts)
        address = f"127.0.0.1:{free_port()}"
        words = ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address={address}"]
        with (tmp_path / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(
                [*words, f"--storage.tsdb.path={tmp_path / 'data'}"], cwd=config, stdout=log, stderr=log
            )
        try:
            yield Watched(f"http://{address}", server, keys)
        finally:
            process.terminate()
            process.wait(30)


def test_prometheus_scrapes_the_admin_listener_and_runs_the_rules(prometheus: Watched) -> None:
    ends = time.monotonic() + 60
    while True:
        up = prometheus.query("up == 1")
        try:
            groups = httpx.get(f"{prometheus.url}/api/v1/rules", timeout=10).json()["data"]["groups"]
            health = {rule["health"] for group in groups for rule in group["rules"]}
        except (httpx.TransportError, KeyError, ValueError):
            health = set()
        if up and health == {"ok"}:
            return
        assert time.monotonic() < ends, f"{up}, {health}"
        time.sleep(0.2)


def test_a_small_teams_failures_fire_beside_a_large_healthy_team_and_strangers(prometheus: Watched) -> None:
    body = {"logits": [0.5, -1.0], "targets": [1, 0]}
    ends = time.monotonic() + 90
    firing: list[dict[str, Any]] = []
    with httpx.Client(base_url=prometheus.server.url, timeout=30) as client:

        def post(team: str, times: int, **headers: str) -> set[int]:
            key = {"x-api-key": prometheus.keys[team]} if team else {}
            return {
                client.post("/bce", json=body, headers={**key, **headers}).status_code for _ in range(times)
            }

        while not firing:
            assert post("large", 100) == {200}
            assert post("", 100) == {401}
            assert late(prometheus) == 504
            firing = prometheus.query('ALERTS{alertname="LossdFailing", alertstate="firing"}')
            assert time.monotonic() < ends
    assert [alert["metric"]["team"] for alert in firing] == ["small"]


def late(prometheus: Watched) -> int:
    """The status of a request of the small team whose deadline has passed when its body comes."""

    def body() -> Iterator[bytes]:
        yield b'{"logits": [0.5], '
        time.sleep(0.1)
        yield b'"targets": [1]}'

    headers = {
        "x-api-key": prometheus.keys["small"],
        "x-timeout-ms": "1",
        "content-type": "application/json",
    }
    url = f"{prometheus.server.url}/bce"
    return httpx.post(url, content=body(), headers=headers, timeout=30).status_code


def test_each_process_has_its_figures(server: LiveServer) -> None:
    # A body that a helper parses, so that there is one.
    large = {"logits": [0.5] * 100_000, "targets": [1] * 100_000}
    httpx.post(f"{server.url}/bce", json=large, timeout=30).raise_for_status()
    text = httpx.get(f"{server.url}/metrics", timeout=30).text
    samples = {
        (sample.name, sample.labels["process"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("lossd_process_") and "number" in sample.labels
    }
    for process in ("supervisor", "front-end", "worker", "helper"):
        assert samples["lossd_process_cpu_seconds_total", process] > 0
        assert 1 << 20 < samples["lossd_process_resident_memory_bytes", process] < 8 << 30
        assert 3 < samples["lossd_process_open_fds", process] < samples["lossd_process_max_fds", process]
        assert abs(samples["lossd_process_start_time_seconds", process] - time.time()) < 3600
    assert f'version="{__version__}"' in text
