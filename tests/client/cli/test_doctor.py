"""`lossd doctor`: it finds nothing where nothing is wrong, and else what is wrong and what to do."""

from __future__ import annotations

import json
import socket
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from certificates import make_certificate
from client.cli.scripted import ALIVE, Answers, scripted
from command import app
from live_server import live_server

KEY = "lossd_abcd2345_" + "s" * 40


def doctor(*args: str, url: str | None) -> Result:
    return CliRunner().invoke(app, ["doctor", *args, *(["--url", url] if url else [])])


def checks(*args: str, url: str | None, code: int) -> dict[str, Mapping[str, Any]]:
    """The checks by name, in order."""
    done = doctor(*args, "--json", url=url)
    assert (done.exit_code, done.stderr) == (code, "")
    said = json.loads(done.stdout)
    assert (said["ok"], said["exit_code"]) == (code == 0, code)
    return {check["name"]: check for check in said["checks"]}


def last_failed(found: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """The last check, which alone failed, and says what to do."""
    assert [check["name"] for check in found.values() if check["state"] == "failed"] == [name]
    assert list(found)[-1] == name
    assert found[name]["remedy"]
    return found[name]


def test_nothing_is_wrong(base_url: str) -> None:
    found = checks(url=base_url, code=0)
    assert {check["state"] for check in found.values()} == {"ok"}
    assert list(found)[-11:] == [
        *("proxy", "name", "connection", "livez", "readyz", "access", "versions"),
        *("bce answer", "focal answer", "time", "limits"),
    ]
    shown = doctor(url=base_url)
    assert shown.exit_code == 0
    assert shown.stdout.endswith("all is right\n")


def test_the_address_and_the_key_come_from_the_environment(
    base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOSSD_BASE_URL", base_url)
    monkeypatch.setenv("LOSSD_API_KEY", KEY)
    done = doctor(url=None)
    assert done.exit_code == 0
    assert f"{base_url}, by LOSSD_BASE_URL" in done.stdout
    assert "given by LOSSD_API_KEY, its id is abcd2345" in done.stdout
    assert "ssss" not in done.stdout


def test_an_address_that_is_none() -> None:
    assert "http" in last_failed(checks(url="localhost:8000", code=2), "address")["remedy"]


def test_a_key_with_the_line_end_copied_along_is_taken_without_it(
    base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOSSD_API_KEY", f" {KEY}\n")
    assert "its id is abcd2345" in checks(url=base_url, code=0)["key"]["detail"]


@pytest.mark.parametrize("key", [f'"{KEY}" "', KEY.replace("s", "\n", 1), KEY + "é"])
def test_a_key_that_was_not_copied_right(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("LOSSD_API_KEY", key)
    done = doctor(url="http://127.0.0.1:1")
    assert done.exit_code == 2
    assert "copy it again" in done.stdout
    assert "ssss" not in done.stdout


def test_a_name_that_nobody_knows() -> None:
    assert "spelt" in last_failed(checks(url="http://nowhere.invalid", code=3), "name")["remedy"]


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        found = checks(url=f"http://127.0.0.1:{port}", code=3)
        assert "lossd serve" in last_failed(found, "connection")["remedy"]


def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert "timed out" in last_failed(checks("--timeout", "0.5", url=url, code=3), "livez")["detail"]


def test_https_where_there_is_none(base_url: str) -> None:
    found = checks(url=base_url.replace("http:", "https:"), code=3)
    assert "http://" in last_failed(found, "tls")["remedy"]


def test_http_where_there_is_https_and_a_certificate_that_nobody_knows(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(tmp_path, "unknown"))
    with scripted(ALIVE, context) as url:
        assert "SSL_CERT_FILE" in last_failed(checks(url=url, code=3), "tls")["remedy"]
        found = checks("--timeout", "2", url=url.replace("https:", "http:"), code=3)
        assert "https://" in last_failed(found, "livez")["remedy"]


def test_another_server() -> None:
    with scripted({}) as url:
        assert "something else" in last_failed(checks(url=url, code=1), "livez")["remedy"]


def test_a_server_that_is_not_ready() -> None:
    with scripted({**ALIVE, "/readyz": (503, {"status": "not ready"})}) as url:
        assert "log" in last_failed(checks(url=url, code=1), "readyz")["remedy"]


@pytest.mark.parametrize(
    ("status", "code", "remedy"), [(401, "unauthorized", "LOSSD_API_KEY"), (403, "forbidden", "disabled")]
)
def test_a_key_that_is_not_taken(status: int, code: str, remedy: str) -> None:
    with scripted({**ALIVE, "/info": (status, {"code": code, "detail": "no"})}) as url:
        assert remedy in last_failed(checks(url=url, code=1), "access")["remedy"]


def _limited(
    code: str, status: int = 429, detail: str = "team vision may send 2 requests a second"
) -> Answers:
    return {
        **ALIVE,
        "/bce": (status, {"code": code, "detail": detail, "retryable": True}, {"Retry-After": "90"}),
    }


@pytest.mark.parametrize(
    ("answers", "remedy"),
    [
        (_limited("rate_limited"), "the set-up is right; try again in 90 s. These are the team's limits"),
        (
            _limited("too_many_in_flight"),
            "try again in 90 s, when others are done. These are the team's limits",
        ),
        (_limited("overloaded", 503), "the server has more to do than it can; try again in 90 s"),
        (_limited("draining", 503), "about to stop; if it starts again, try again in 90 s"),
    ],
)
def test_a_limit_is_no_failure_of_unknown_kind(answers: Answers, remedy: str) -> None:
    answers = {**answers, "/info": (200, {**ALIVE["/info"][1], "limits": {"body_bytes": 1 << 30}})}
    with scripted(answers) as url:
        found = checks(url=url, code=1)
    limit = last_failed(found, "limit")
    assert remedy in limit["remedy"]
    assert "team vision may send 2 requests a second" in limit["detail"]
    assert found["limits"]["detail"] == "body 1,024 MiB"


@pytest.mark.slow
def test_a_limit_that_passes_soon_is_waited_out_and_a_time_not_told(tmp_path: Path) -> None:
    teams = tmp_path / "teams.toml"
    runner = CliRunner()
    add = ["teams", "add", "slow", "--teams", str(teams), "--requests-per-second", "1"]
    assert runner.invoke(app, add).exit_code == 0
    key = runner.invoke(app, ["keys", "new", "slow", "--teams", str(teams)]).stdout.split()[-1]
    with live_server(tmp_path, teams=teams) as server:
        found = checks("--api-key", key, url=server.url, code=0)
        assert {found[name]["state"] for name in ("bce answer", "focal answer")} == {"ok"}
        assert found["time"]["state"] == "warning"
        assert "429 rate_limited" in found["time"]["detail"]


@pytest.mark.parametrize(
    ("status", "headers", "remedy"),
    [
        (401, {}, "a proxy asks who you are, before lossd does"),
        (403, {}, "a proxy does not let you through"),
        (429, {}, "a proxy limits you"),
        (308, {"Location": "https://far.invalid/x/livez"}, "the address that it leads to"),
    ],
)
def test_something_before_the_server(status: int, headers: dict[str, str], remedy: str) -> None:
    with scripted({"/livez": (status, {}, headers)}) as url:
        found = last_failed(checks(url=url, code=1), "livez")
    assert remedy in found["remedy"]
    assert not headers or "set base_url to https://far.invalid/x" in found["detail"]


ANSWER = {"loss": 0.65, "sum": 5.2, "count": 8, "weight_sum": 8.0, "positives": 4.75}


def test_another_version_and_wrong_numbers() -> None:
    answers = {**ALIVE, "/bce": (200, ANSWER), "/focal": (200, ANSWER)}
    answers["/readyz"] = (200, {"status": "degraded", "reasons": ["usage cannot be written"]})
    with scripted(answers) as url:
        found = checks(url=url, code=1)
    assert {name: found[name]["state"] for name in ("readyz", "versions", "bce answer", "focal answer")} == {
        "readyz": "warning",
        "versions": "warning",
        "bce answer": "failed",
        "focal answer": "failed",
    }
    assert "usage cannot be written" in found["readyz"]["detail"]
    assert "lossd 0.0.1" in found["versions"]["detail"]
    assert "do not use this server" in found["bce answer"]["remedy"]


def test_a_server_that_fails_when_asked() -> None:
    with scripted({**ALIVE, "/bce": (500, {"code": "internal_error", "detail": "oh"})}) as url:
        assert "500 internal_error" in last_failed(checks(url=url, code=1), "answer")["detail"]


def test_proxies_that_interfere(base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = base_url.replace("//", "//user:secret@")  # a server takes whole URLs as a proxy does
    monkeypatch.setenv("HTTP_PROXY", proxy)
    found = checks(url="http://far.invalid", code=0)
    assert found["proxy"]["state"] == "warning"
    assert f"by way of {base_url}" in found["proxy"]["detail"]
    assert "NO_PROXY=far.invalid" in found["proxy"]["remedy"]
    assert "not used for this machine" in checks(url=base_url, code=0)["proxy"]["detail"]
    monkeypatch.setenv("NO_PROXY", "far.invalid")
    found = checks(url="http://far.invalid", code=3)
    assert "not used for far.invalid" in found["proxy"]["detail"]


@pytest.mark.parametrize("variable", ["http_proxy", "HTTPS_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    ("proxy", "detail"),
    [
        ("junk://user:secret@x", "its scheme is junk, not http, https, socks5 or socks5h"),
        ("http://user:secret@x:port", "it has no host, or a port that is no number"),
        ("socks5://user:secret@x", "it needs socksio"),
    ],
)
def test_a_proxy_that_cannot_be_used(
    base_url: str, monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str, detail: str
) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv(variable, proxy)
    found = last_failed(checks(url="http://far.invalid", code=2), "proxy")
    assert found["detail"] == f"{variable} cannot be used: {detail}"
    assert f"unset {variable if 'socks' in proxy else 'it'}" in found["remedy"]
    assert "not used for this machine" in checks(url=base_url, code=0)["proxy"]["detail"]


def test_a_proxy_without_a_scheme_hides_its_password_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "user:secret@nowhere.invalid:3128")
    found = checks(url="http://far.invalid", code=3)
    assert found["proxy"]["detail"] == "requests go by way of http://nowhere.invalid:3128"
    assert "nowhere.invalid is not known" in found["name"]["detail"]


def test_certificates_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "certificates").write_text("none")
    for path in (tmp_path / "certificates", tmp_path / "nowhere"):
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        last_failed(checks(url="http://far.invalid", code=2), "SSL_CERT_FILE")
        done = CliRunner().invoke(app, ["ping", "--url", "http://far.invalid"])
        assert done.exit_code == 2
        assert "lossd doctor may say more" in " ".join(done.stderr.split())


def test_usage_that_is_wrong(base_url: str) -> None:
    done = doctor("--timeout", "-1", url=base_url)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
