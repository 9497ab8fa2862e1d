from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from lossd.settings import Settings
from lossd.start_checks import explain


def test_a_child_has_its_parents_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = Settings(port=81, device=("cpu",), losses=("a:b", "c:d"), timeout_seconds=3)
    for name, value in parent.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == parent


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("host", "0.0.0.0", "allow-open"),
        ("device", "gpu", "not a device"),
        ("device", "", "not a device"),
        ("device", ",", "not a device"),
        ("device", "cpu:0,cpu:00", "not a device"),
        ("device", "auto,cpu", "stands alone"),
        ("device", "cpu,cpu", "named twice"),
        ("arena_bytes", 1 << 20, "LOSSD_ARENA_BYTES"),
        ("log_level", "loud", "log_level"),
        ("admin_port", 8000, "LOSSD_PORT .* and LOSSD_ADMIN_PORT are both 8000"),
        ("quota_store", "memcached://127.0.0.1", "redis://HOST"),
        ("quota_store", "redis://", "redis://HOST"),
        ("quota_store", "redis://:a/b@h:6379/0", "write / as %2F"),
        ("usage_file", "postgresql://u:a#b@h/x", "# as %23"),
        ("usage_file", "postgresql+psycopg://127.0.0.1/x", "postgresql://USER"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(name: str, value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.model_validate({name: value})


def test_an_empty_admin_port_is_none() -> None:
    assert Settings(admin_port="").admin_port is None  # type: ignore[arg-type] # as the environment has it


def test_usage_is_kept_in_a_file_or_a_database() -> None:
    url = "postgresql://u:s3cret@127.0.0.1/x"
    assert Settings.model_validate({"usage_file": url}).usage_file == url
    assert Settings.model_validate({"usage_file": "a/b"}).usage_file == Path("a/b")
    assert Settings.model_validate({"usage_file": ""}).usage_file is None


def test_limits_are_divided_by_a_store_or_by_a_number() -> None:
    with pytest.raises(ValidationError, match="LOSSD_QUOTA_STORE counts the servers"):
        Settings(quota_store="redis://127.0.0.1", replicas=2)
    assert Settings(quota_store="redis://127.0.0.1", replicas=1).replicas == 1


def test_no_error_and_no_text_of_settings_has_a_password() -> None:
    good = Settings(quota_store="redis://:s3cret@h", usage_file="postgresql://u:s3cret@h/x")
    assert "s3cret" not in repr(good)
    with pytest.raises(ValidationError) as refused:
        Settings(quota_store="rdis://:s3cret@h", usage_file="mysql://u:s3cret@h/x")
    said = [explain(fault, ()) for fault in refused.value.errors()]
    assert {text.partition(":")[0] for text in said} >= {"LOSSD_QUOTA_STORE", "LOSSD_USAGE_FILE"}
    assert not [text for text in said if "s3cret" in text]


def test_each_front_end_has_its_part_of_the_arena() -> None:
    one, two = Settings(), Settings(front_ends=2)
    assert two.arena_bytes == 2 * one.arena_bytes
    assert two.arena_bytes_each == one.arena_bytes_each == one.arena_bytes
    with pytest.raises(ValidationError, match="in each front end"):
        Settings(front_ends=2, arena_bytes=one.arena_bytes)


@pytest.mark.parametrize("link", ["tcp://10.96.12.7:8000", "udp://10.96.12.7:53", "tcp://[fd00::7]:8000"])
def test_what_kubernetes_makes_of_a_service_is_no_port(monkeypatch: pytest.MonkeyPatch, link: str) -> None:
    monkeypatch.setenv("LOSSD_PORT", link)
    assert Settings().port == 8000
    assert Settings(port=81).port == 81


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LOSSD_PORT", "abc"),
        ("LOSSD_PORT", "10.96.12.7:8000"),
        ("LOSSD_PORT", "65536"),
        ("LOSSD_PORT", ""),
        ("LOSSD_DEVICE", "gpu"),
        ("LOSSD_ARENA_BYTES", "2GiB"),
        ("LOSSD_ARENA_BYTES", "5"),
        ("LOSSD_ALLOW_OPEN", "perhaps"),
        ("LOSSD_LOG_LEVEL", "loud"),
        ("LOSSD_KERNEL", "fast"),
        ("LOSSD_THREADS", "0"),
        ("LOSSD_INLINE_MS", "-1"),
        ("LOSSD_HOST", "0.0.0.0"),
        ("LOSSD_TLS_KEY", "key.pem"),
        ("LOSSD_TRUSTED_PROXIES", "nginx"),
        ("LOSSD_CORS_ORIGINS", "example.org"),
        ("LOSSD_CORS_ORIGINS", "https://example.org/"),
        ("LOSSD_LINGER_CONNECTIONS", "-1"),
        ("LOSSD_TIMEOUT_SECONDS", "inf"),
        ("LOSSD_TIMEOUT_SECONDS", "nan"),
        ("LOSSD_TIMEOUT_SECONDS", "1e400"),
        ("LOSSD_TIMEOUT_SECONDS", "1e300"),
        ("LOSSD_HANG_SECONDS", "Infinity"),
        ("LOSSD_CHECK_SECONDS", "-inf"),
        ("LOSSD_INLINE_MS", "nan"),
        ("LOSSD_MAX_CONNECTIONS", "inf"),
    ],
)
def test_an_error_names_the_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError) as refused:
        Settings()
    said = [explain(fault, ()) for fault in refused.value.errors()]
    assert any(variable in one for one in said), said


def test_no_number_is_infinite() -> None:
    for name, field in Settings.model_fields.items():
        if field.annotation is float:
            for value in ("inf", "nan"):
                with pytest.raises(ValidationError):
                    Settings.model_validate({name: value})


@pytest.mark.parametrize(
    ("variable", "value", "meant"),
    [
        ("LOSSD_LOG_LEVEL", "WARNING", "warning"),
        ("LOSSD_LOG_FORMAT", "Json", "json"),
        ("LOSSD_LOG_REQUESTS", " All ", "all"),
        ("LOSSD_KERNEL", "NATIVE", "native"),
        ("LOSSD_DEVICE", "CPU:1, cpu:0", ("cpu:1", "cpu:0")),
    ],
)
def test_words_are_read_in_any_case(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, meant: object
) -> None:
    monkeypatch.setenv(variable, value)
    assert getattr(Settings(), variable.removeprefix("LOSSD_").lower()) == meant


def test_or_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSD_DEVICE", "cpu")
    with pytest.raises(ValidationError) as refused:
        Settings(device="gpu", front_ends=65)  # type: ignore[arg-type] # as the command line gives it
    said = [explain(fault, ["device", "front_ends"]) for fault in refused.value.errors()]
    assert said[0].startswith("--device: ")
    assert said[1].startswith("--front-ends: ")


def test_what_is_dropped_is_bounded() -> None:
    assert Settings().linger_bytes == Settings().max_body_bytes == 1 << 30
    assert Settings(max_body_bytes=1).linger_bytes == 1 << 30
    assert Settings(max_body_bytes=1 << 31, arena_bytes=1 << 33).linger_bytes == 1 << 31


def test_the_largest_body_and_answer_leave_others_room() -> None:
    """By default, as one team may hold one of each beside its share; in a small arena they just fit."""
    settings = Settings(teams=Path("teams.toml"))
    bodies = settings.arena_bytes_each - settings.answers_bytes
    assert settings.share == 0.5
    assert bodies - settings.max_body_bytes > 400 << 20
    assert settings.answers_bytes - settings.output_bytes > 200 << 20
    assert Settings().share == 1.0
    mib = 1 << 20
    least = Settings(
        arena_bytes=21 * mib,
        max_body_bytes=mib,
        max_json_bytes=mib // 4,
        max_chunked_bytes=mib,
        max_expanded_bytes=mib,
        max_batch_bytes=mib // 4,
        max_output_bytes=mib,
    )
    assert least.answers_bytes == least.output_bytes
