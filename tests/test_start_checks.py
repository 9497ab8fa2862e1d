"""What is said of variables and of the machine before the server starts."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from lossd.settings import GIB, MIB, Settings
from lossd.start_checks import Resources, check_services, check_variables, fit, tell_limits, tell_usage

LINKS = {
    "LOSSD_PORT": "tcp://10.96.12.7:8000",
    "LOSSD_SERVICE_HOST": "10.96.12.7",
    "LOSSD_SERVICE_PORT": "8000",
    "LOSSD_SERVICE_PORT_HTTP": "8000",
    "LOSSD_PORT_8000_TCP": "tcp://10.96.12.7:8000",
    "LOSSD_PORT_8000_TCP_PROTO": "tcp",
    "LOSSD_PORT_8000_TCP_PORT": "8000",
    "LOSSD_PORT_8000_TCP_ADDR": "10.96.12.7",
}
ALL = Resources(64 * GIB, float("inf"), None)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("LOSSD_FRONTENDS", "LOSSD_FRONT_ENDS"),
        ("LOSSD_TIMEOUT_SECOND", "LOSSD_TIMEOUT_SECONDS"),
        ("LOSSD_TEAM", "LOSSD_TEAMS"),
        ("LOSSD_DEVICES", "LOSSD_DEVICE"),
        ("LOSSD_TLS_CERTIFICAT", "LOSSD_TLS_CERTIFICATE"),
    ],
)
def test_what_is_nearly_a_setting_is_an_error(variable: str, meant: str) -> None:
    found = check_variables({variable: "1"})
    assert not found.warnings
    (error,) = found.errors
    assert error.startswith(f"{variable} ")
    assert f"{meant}?" in error


def test_what_is_far_from_all_is_said() -> None:
    found = check_variables({"LOSSD_COLOUR": "red", "HOME": "/", "LOSSD_CACHE_DIR": "/x", "LOSSD_PORT": "80"})
    assert not found.errors
    assert [line.split()[0] for line in found.warnings] == ["LOSSD_COLOUR", "LOSSD_CACHE_DIR"]
    assert "removed" in found.warnings[1]


def test_settings_and_variables_of_others_are_no_mistake() -> None:
    mine = dict.fromkeys((f"LOSSD_{name.upper()}" for name in Settings.model_fields), "1")
    assert check_variables(mine) == ([], [])
    client = Path("client").rglob("*.py")
    read = {name for file in client for name in re.findall(r"LOSSD_[A-Z_]+[A-Z]", file.read_text())}
    assert {"LOSSD_API_KEY", "LOSSD_BASE_URL"} <= read
    assert check_variables(dict.fromkeys(read, "1")) == ([], [])


def test_variables_of_tests_and_benchmarks_end_nothing() -> None:
    files = [Path("Makefile"), *(file for room in ("tests", "bench") for file in Path(room).rglob("*.py"))]
    read: set[str] = set()
    for file in files:
        text = file.read_text()
        read.update(re.findall(r'environ(?:\.get\(|\[)"(LOSSD_[A-Z_]+)"', text))
        read.update(re.findall(r"\b(LOSSD_[A-Z_]+)=", text) if file.name == "Makefile" else ())
    assert {"LOSSD_SOAK", "LOSSD_REQUESTS"} <= read
    assert not check_variables(dict.fromkeys(read, "1")).errors


@pytest.mark.parametrize("service", ["LOSSD", "LOSSD_ADMIN", "LOSSD_SMALL"])
def test_service_links_are_one_warning(service: str) -> None:
    links = {name.replace("LOSSD", service): value for name, value in LINKS.items()}
    found = check_variables(links)
    assert not found.errors
    (warning,) = found.warnings
    for word in (f"{service}_PORT=tcp://10.96.12.7:8000", "7 others", "Kubernetes", "enableServiceLinks"):
        assert word in warning
    instead = {"LOSSD": ", so port 8000 is used", "LOSSD_ADMIN": ", so there is no admin listener"}
    assert instead.get(service, "") in warning
    assert (", so " in warning) == (service in instead)


def test_an_arena_that_fits_is_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings()
    for memory in (None, 64 * GIB, 3 * GIB):
        assert fit(settings, ALL._replace(memory=memory)) is settings
    assert not caplog.records


@pytest.mark.parametrize("front_ends", [1, 2])
@pytest.mark.parametrize("memory", [2 * GIB, GIB, 512 * MIB])
def test_the_default_arena_shrinks_to_what_there_is(
    caplog: pytest.LogCaptureFixture, memory: int, front_ends: int
) -> None:
    usual = Settings(front_ends=front_ends, max_chunked_bytes=8 * MIB)
    fitting = fit(usual, ALL._replace(memory=memory))
    assert fitting.arena_bytes == memory // 2
    assert fitting.front_ends == front_ends
    assert fitting.max_chunked_bytes == 8 * MIB  # as it was given
    share = fitting.arena_bytes / usual.arena_bytes
    assert fitting.max_body_bytes == int(usual.max_body_bytes * share)
    assert fitting.max_json_bytes == int(usual.max_json_bytes * share)
    (record,) = caplog.records
    assert f"{memory // 2 // MIB} MiB instead of {usual.arena_bytes // MIB}" in record.getMessage()
    assert f"{memory // MIB} MiB of memory" in record.getMessage()


@pytest.mark.parametrize(
    "given",
    [
        {"arena_bytes": 2 * GIB},
        {"max_body_bytes": GIB},  # which needs more than half of the memory
        {"front_ends": 12},  # of which not even the processes fit
    ],
)
def test_what_was_given_is_kept_and_doubted(caplog: pytest.LogCaptureFixture, given: dict[str, int]) -> None:
    settings = Settings(**given)  # type: ignore[arg-type] # integers only
    assert fit(settings, ALL._replace(memory=600 * MIB)) is settings
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for figure in (f"of {settings.arena_bytes // MIB} MiB", "600 MiB", "LOSSD_ARENA_BYTES"):
        assert figure in record.getMessage()


def test_less_than_a_core_and_few_processes_are_said(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(threads=4)
    assert fit(settings, Resources(64 * GIB, 0.5, 20)) is settings
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "0.5 of a core" in said[0]
    assert "pids.max" in said[1]


@pytest.mark.parametrize("passwd", [True, False])
def test_without_a_home_it_says_where_usage_is_kept(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, *, passwd: bool
) -> None:
    caplog.set_level(logging.INFO)
    for name in ("HOME", "XDG_STATE_HOME", "LOSSD_USAGE_FILE"):
        monkeypatch.delenv(name, raising=False)

    def home() -> Path:
        if passwd:
            return Path("/homes/one")
        raise RuntimeError

    monkeypatch.setattr(Path, "home", home)
    tell_usage(Settings(), {})
    (record,) = caplog.records
    assert "LOSSD_USAGE_FILE" in record.getMessage()
    assert ("kept in /homes/one/.local/state/lossd/usage.sqlite3" in record.getMessage()) == passwd
    assert ("not kept" in record.getMessage()) != passwd
    caplog.clear()
    tell_usage(Settings(), {"HOME": "/homes/one"})
    tell_usage(Settings(usage_file=None), {})
    assert not caplog.records


def test_variables_of_ray_are_checked_where_they_are_read() -> None:
    given = {"LOSSD_RAY_CORE": "4", "LOSSD_RAY_CORES": "4", "LOSSD_RAY_COLOUR": "red"}
    assert check_variables(given) == ([], [])
    found = check_variables(given, of_ray=["LOSSD_RAY_CORES", "LOSSD_RAY_GPUS"])
    assert found.errors == [
        "LOSSD_RAY_CORE is no setting; did you mean LOSSD_RAY_CORES? rename it, or unset it"
    ]
    assert found.warnings == ["LOSSD_RAY_COLOUR is ignored: there is no such setting"]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"quota_store": "redis://:secret@host:6379/0"}, "LOSSD_QUOTA_STORE is"),
        ({"replicas": 3}, "LOSSD_REPLICAS is"),
    ],
)
def test_shared_limits_without_teams_are_said_to_be_ignored(
    given: dict[str, Any], names: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tell_limits(Settings(teams=tmp_path / "teams.toml", **given))
    tell_limits(Settings())
    assert not caplog.records
    tell_limits(Settings(**given))
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{names} ignored")
    assert "secret" not in record.getMessage()


def test_services_that_cannot_be_used_are_named_without_their_passwords() -> None:
    settings = Settings(
        quota_store="redis://:secret@host:port/0", usage_file="postgresql://u:secret@h/d?colour=red"
    )
    found = check_services(settings)
    assert [line.split()[0].rstrip(":") for line in found] == ["LOSSD_QUOTA_STORE", "LOSSD_USAGE_FILE"]
    assert "secret" not in "".join(found)
    assert not check_services(Settings(usage_file="/tmp/usage.sqlite3"))
