"""`lossd openapi`, as it is typed."""

from __future__ import annotations

import json
from typing import Any

import httpx
from typer.testing import CliRunner, Result

from command import app
from lossd.core.catalog import LOSSES


def lossd(*args: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["openapi", *args], env={"COLUMNS": "100", **environment})


def bodies(document: dict[str, Any], path: str) -> list[str]:
    return list(document["paths"][path]["post"]["requestBody"]["content"])


def test_it_is_what_a_server_serves(base_url: str) -> None:
    printed = json.loads(lossd().stdout)
    assert printed == httpx.get(f"{base_url}/openapi.json").json()
    assert {f"/{loss}" for loss in LOSSES} <= set(printed["paths"])


def test_one_request_body_is_kept() -> None:
    whole, one = json.loads(lossd().stdout), json.loads(lossd("--body", "application/x-npy").stdout)
    assert bodies(one, "/focal") == ["application/x-npy"]
    assert bodies(one, "/v2/models/focal/infer") == bodies(whole, "/v2/models/focal/infer")
    assert one["components"] == whole["components"]
    some = ("--body", "multipart/form-data", "--body", "application/json")
    assert bodies(json.loads(lossd(*some).stdout), "/bce") == ["multipart/form-data", "application/json"]


def test_a_body_that_there_is_not_is_refused() -> None:
    done = lossd("--body", "text/csv")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--body text/csv: there are application/json, application/x-npy, " in done.stderr


def test_wrong_settings_are_named() -> None:
    done = lossd(LOSSD_MAX_BODY_BYTES="much")
    assert done.exit_code == 2
    assert "LOSSD_MAX_BODY_BYTES=much" in done.stderr
    done = lossd(LOSSD_LOSSES="nothing:here")
    assert done.exit_code == 2
    assert "LOSSD_LOSSES: there is no loss at 'nothing:here'" in done.stderr
