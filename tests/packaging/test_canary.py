"""A key is nowhere but in the requests that present it: not in the log, nor in answers, nor in processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.memory import family
from faults.asked import pair_body
from faults.raw import talk
from live_server import LiveServer, live_server
from teams_file import make_key, team_table, write_teams

NPY = "application/x-npy"
READ = ("/metrics", "/usage", "/info", "/openapi.json", "/v2", "/v2/models/stats", "/docs", "/readyz")


def secret_of(key: str) -> str:
    return key.split("_")[2]


def answers(server: LiveServer, key: str, stranger: str) -> Iterator[httpx.Response]:
    """What is said to callers who show keys, also where they do not belong."""
    with httpx.Client(base_url=server.url, headers={"content-type": NPY}, timeout=60) as client:
        for shown in (key, stranger, stranger[:-1], f"{stranger}x", f"a {stranger}"):
            for headers in ({"authorization": f"Bearer {shown}"}, {"x-api-key": shown}):
                for path in (*READ, "/nowhere"):
                    yield client.get(path, headers=headers)
                for query in ("", "?gamma=2", "?reduction=none", f"?{shown}=1", f"?axis={shown}"):
                    yield client.post(f"/bce{query}", content=pair_body(4), headers=headers)
                yield client.post(f"/bce/{shown}", content=pair_body(4), headers=headers)
                yield client.get(f"/{shown}", headers=headers)
                yield client.get(f"/docs/assets/{shown}", headers=headers)
                yield client.get(f"/v2/models/{shown}", headers=headers)
                yield client.post("/bce", content=pair_body(4)[:-9], headers=headers)
                yield client.post(
                    "/bce", content=b"{", headers={**headers, "content-type": "application/json"}
                )
        valid = {"x-api-key": key}
        for name in ("x-timeout-ms", "content-type", "accept", "content-encoding"):
            yield client.post("/bce", content=pair_body(4), headers={**valid, name: stranger})
        for document in (
            f'{{"{stranger}": 1}}',
            f'{{"logits": "{stranger}"}}',
            f'{{"reduction": "{stranger}"}}',
        ):
            yield client.post("/bce", content=document, headers={**valid, "content-type": "application/json"})
        yield client.get("/info", headers={"authorization": f"Basic {stranger}"})
        yield client.get("/info", headers={"authorization": f"Bearer {stranger}", "x-api-key": key})


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_keys_secret_is_nowhere(tmp_path: Path, form: str) -> None:
    path, key, stranger = tmp_path / "teams.toml", make_key(), make_key()
    secrets = [secret_of(key)[:20], secret_of(stranger)[:20]]
    write_teams(path, team_table("vision", key))
    settings: dict[str, Any] = {
        "teams": path,
        "log_level": "debug",
        "log_requests": "all",
        "log_format": form,
    }
    with live_server(tmp_path, metrics_open=1, **settings) as server:
        server.key = key
        said = [answer.text + str(answer.headers) for answer in answers(server, key, stranger)]
        said.append(
            talk(server, f"GET /{key} HTTP/1.1\r\n{key}\r\nHost: {stranger}\r\n\r\n".encode()).raw.decode()
        )
        said.append(talk(server, f"{stranger} / HTTP/1.1\r\nHost: a\r\n\r\n".encode()).raw.decode())
        pids = family(server.process.pid)
        assert len(pids) >= 3
        for pid in pids:
            said += [Path(f"/proc/{pid}/{name}").read_text() for name in ("environ", "cmdline")]
    said.append(server.log.read_text())
    assert server.log.read_text().count("vision") > 20  # it does log them
    assert os.environ.get("LOSSD_KEY") is None
    for secret in secrets:
        assert not [text for text in said if secret in text]
