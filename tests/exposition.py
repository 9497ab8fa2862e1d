"""What a server exposes at /metrics."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

_LITTLE = {"logits": [0.5, -1.0], "targets": [1, 0]}


def exposed(url: str) -> dict[str, set[str]]:
    """Every metric that a server has after some requests, as Prometheus stores it, with its labels' names.

    A histogram is there by its own name and by those of its series.
    """
    for loss in ("bce", "focal"):
        httpx.post(f"{url}/{loss}", json=_LITTLE, timeout=30).raise_for_status()
    assert httpx.post(f"{url}/bce", json={}, timeout=30).status_code == 422
    assert httpx.post(f"{url}/ui/view", json={}, timeout=30).status_code == 422
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=30).text):
        assert family.samples, f"{family.name} has no series; ask for something that it counts"
        for sample in family.samples:
            if sample.name.endswith("_created"):
                continue
            found.setdefault(sample.name, set()).update(sample.labels)
            if family.type == "histogram":
                found.setdefault(family.name, set()).update(set(sample.labels) - {"le"})
    return found
