"""The proxies' configurations: they send the models of all losses to lossd."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lossd.core.catalog import LOSSES

PROXIES = Path(__file__).resolve().parents[2] / "deploy/proxies"


@pytest.mark.parametrize("name", ["nginx.conf", "haproxy.cfg", "envoy.yaml"])
def test_every_loss_is_lossds(name: str) -> None:
    [names] = re.findall(r"/v2/models/\(([\w|]+)\)", (PROXIES / name).read_text())
    assert set(LOSSES) - set(names.split("|")) == set(), "losses that the proxy sends to another engine"
