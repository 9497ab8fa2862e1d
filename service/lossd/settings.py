"""The server's settings. Each is also an environment variable ``LOSSD_…``."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from lossd.machine import available_cores

MIB = 1 << 20
GIB = 1 << 30
PAGE = 1 << 12

_SUMS_BYTES: Final = 17 * MIB  # for partial sums: more than one array answer needs

PORT: Final = 8000
_service_link: Final = re.compile(r"[a-z]+://.*", re.DOTALL)
_origin: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+")


def default_usage_file() -> Path | None:
    """Return the usage file's path by the XDG base directory specification; None if there is no home."""
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:
        return None
    return state / "lossd" / "usage.sqlite3"


class Settings(BaseSettings):
    """The server's settings: keyword arguments first, then the environment, then these defaults."""

    model_config = SettingsConfigDict(env_prefix="LOSSD_", extra="forbid", frozen=True)

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=PORT, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    allow_open: bool = Field(
        default=False, description="Serve anyone who can connect, also when the host is not loopback."
    )
    teams: Path | None = Field(
        default=None,
        description="The teams file (TOML), read again whenever it changes. Without one the server is open, "
        "and every request belongs to the team `default`.",
    )
    metrics_open: bool = Field(
        default=False, description="Answer /metrics without a key, also where there are teams."
    )
    usage_file: Path | None = Field(
        default_factory=default_usage_file,
        description="The SQLite file that keeps teams' usage over restarts; empty keeps none.",
    )
    device: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("auto",),
        description="Devices, one worker each, separated by commas: auto, cpu, cuda:0,cuda:1. "
        "auto takes every CUDA device, or the CPU if there is none.",
    )
    threads: PositiveInt = Field(
        default_factory=available_cores,
        description="Threads of all workers on a CPU together. By default the number of cores, or of those "
        "that this process's cgroup may use.",
    )
    front_ends: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that receive and answer requests; they share the workers.",
    )
    arena_bytes: PositiveInt = Field(
        default_factory=lambda given: 2 * GIB * given.get("front_ends", 1),
        description="Memory for bodies and array answers, shared with the workers and divided equally among "
        "the front ends. By default 2 GiB for each.",
    )
    max_body_bytes: PositiveInt = Field(default=GIB, description="Largest binary body.")
    max_json_bytes: PositiveInt = Field(default=32 * MIB, description="Largest JSON body.")
    max_chunked_bytes: PositiveInt = Field(
        default=64 * MIB,
        description="Largest body without Content-Length. So much memory is reserved for each.",
    )
    max_expanded_bytes: PositiveInt = Field(
        default=64 * MIB, description="Largest compressed body, after decompression."
    )
    max_batch_bytes: PositiveInt = Field(
        default=32 * MIB,
        description="Largest record batch of an Arrow stream. The number of batches is not limited.",
    )
    max_output_bytes: PositiveInt = Field(default=256 * MIB, description="Largest array answer, as float64.")
    max_headers: PositiveInt = Field(default=100, description="Most headers of a request.")
    max_header_bytes: PositiveInt = Field(
        default=32 << 10, description="Longest head of a request: its first line and its headers."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Origins whose pages may call the server from a browser, separated by commas: "
        "https://example.org. `*` is all of them.",
    )
    max_connections: PositiveInt = Field(
        default=4096,
        description="Most connections of a front end. A new one replaces the one that has been idle longest; "
        "if none is idle, it is refused.",
    )
    header_seconds: PositiveFloat = Field(
        default=10.0,
        description="Most seconds for a request's head to arrive; on a new connection they run from its "
        "start.",
    )
    upload_bytes_per_second: PositiveInt = Field(
        default=8 << 10, description="Minimum upload rate of a body, while the server reads it."
    )
    upload_grace_seconds: PositiveFloat = Field(
        default=5.0, description="Grace period before the minimum upload rate applies."
    )
    upload_pause_seconds: PositiveFloat = Field(
        default=60.0, description="Longest pause of a caller who has sent much faster before."
    )
    stall_seconds: PositiveFloat = Field(
        default=60.0,
        description="Most seconds in which a caller reads less than 64 KiB of its answer.",
    )
    linger_seconds: PositiveFloat = Field(
        default=30.0,
        description="Most seconds for which the rest of a refused body is read and dropped, so that the "
        "caller "
        "gets the answer.",
    )
    linger_connections: NonNegativeInt = Field(
        default=64,
        description="Most connections of a front end that get this time; others get a second.",
    )
    turn_bytes: PositiveInt = Field(
        default=32 * MIB,
        description="Bytes of bodies that are received and scored at a time, for each worker; other requests "
        "wait unread. A longer body is admitted alone. Slow uploads and small bodies do not count.",
    )
    timeout_seconds: PositiveFloat = Field(
        default=60.0,
        description="Most seconds that a request waits for memory and, once its body is received, for "
        "its answer.",
    )
    keep_alive_seconds: PositiveInt = Field(
        default=75,
        description="Most seconds that a connection is idle. Should be longer than callers keep theirs, or "
        "a request may be sent just as its connection is closed.",
    )
    drain_seconds: PositiveFloat = Field(
        default=30.0, description="Most seconds that accepted requests may still take after SIGTERM."
    )
    hang_seconds: float = Field(
        default=10.0,
        ge=1.0,
        description="Seconds without a heartbeat after which a worker is replaced.",
    )
    start_seconds: PositiveFloat = Field(
        default=180.0, description="Most seconds for a worker to get ready; then it is replaced."
    )
    check_seconds: PositiveFloat = Field(
        default=5.0, description="Seconds between two known-answer checks of a worker."
    )
    slice_elements: PositiveInt = Field(
        default=131072,
        description="Most elements of a slice, for each thread of a worker. A slice takes about a "
        "millisecond; "
        "after it the worker chooses the next request.",
    )
    kernel: Literal["auto", "native", "torch"] = Field(
        default="auto",
        description="The kernel on a CPU: native, or torch, which is about 20 times slower and gives the "
        "same "
        "bits. auto takes the native one if it was built.",
    )
    inline_ms: float = Field(
        default=0.3,
        ge=0.0,
        allow_inf_nan=False,
        description="A front end scores a request itself, with the native kernel, if it predicts at most so "
        "many milliseconds; 0 leaves all requests to the workers.",
    )
    losses: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Further losses, each the module:name of its entry, separated by commas."
    )
    log_level: str = Field(
        default="info",
        pattern="^(debug|info|warning|error|critical)$",
        description="The least level that is logged.",
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="Lines to read, or a JSON object for each."
    )
    log_requests: Literal["none", "failed", "all"] = Field(
        default="failed",
        description="The requests that are logged: none, those that were refused or failed (a limited number "
        "a second), or all, which takes more time than a small request.",
    )
    traces: bool = Field(
        default=False,
        description="Send OpenTelemetry traces, as the variables OTEL_EXPORTER_OTLP_… configure; needs "
        "lossd[otel]. Small requests take longer.",
    )
    tls_certificate: Path | None = Field(
        default=None, description="The certificate chain (PEM) for HTTPS; read again when it changes."
    )
    tls_key: Path | None = Field(default=None, description="Its private key (PEM).")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are "
        "believed, separated by commas.",
    )

    @field_validator("port", mode="before")
    @classmethod
    def _pass_over_link(cls, value: object) -> object:
        return PORT if isinstance(value, str) and is_service_link(value) else value

    @field_validator("device", "losses", "trusted_proxies", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part) if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            try:
                ipaddress.ip_network(address)
            except ValueError as error:
                msg = f"{address!r} is no address or network of a proxy ({error})"
                raise ValueError(msg) from None
        return value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and not _origin.fullmatch(origin):
                msg = f"{origin!r} is no origin; give scheme, host and port alone, as in https://example.org"
                raise ValueError(msg)
        return value

    @field_validator("usage_file", "teams", "tls_certificate", "tls_key", mode="before")
    @classmethod
    def _read_path(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("device")
    @classmethod
    def _check_devices(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value or ("",):
            kind, _, index = name.partition(":")
            numbered = kind in ("cpu", "cuda") and index.isdecimal() and index == str(int(index))
            if name not in ("auto", "cpu") and not numbered:
                msg = f"{name!r} is not a device; use auto, cpu, cpu:N or cuda:N, several separated by commas"
                raise ValueError(msg)
        if "auto" in value and len(value) > 1:
            msg = "auto stands alone; name the devices, or leave them to auto"
            raise ValueError(msg)
        if len(set(value)) < len(value):
            msg = "a device is named twice; one worker serves a device"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        if self.teams is None and not self.allow_open and not is_loopback(self.host):
            msg = (
                f"listening on {self.host} (LOSSD_HOST, --host) without teams lets anyone who can "
                "connect use this server; name a teams file (--teams), pass --allow-open "
                "(LOSSD_ALLOW_OPEN=1) to mean that, or listen on 127.0.0.1"
            )
            raise ValueError(msg)
        if (self.tls_certificate is None) != (self.tls_key is None):
            msg = "a certificate and its key go together; set both LOSSD_TLS_CERTIFICATE and LOSSD_TLS_KEY"
            raise ValueError(msg)
        # JSON's numbers take four times the text's size besides, also in the head of an inference body. A
        # stream has room for two batches, whose bools take a byte each, and for alignment.
        text_bytes = 4 * self.max_json_bytes + max(self.max_json_bytes, self.max_body_bytes)
        bodies = (text_bytes, self.max_chunked_bytes)
        largest = max(*bodies, self.max_expanded_bytes, 4 * self.max_batch_bytes) + MIB
        if self.arena_bytes_each < largest + self.output_bytes:
            needed = self.front_ends * (largest + self.output_bytes)
            msg = (
                f"LOSSD_ARENA_BYTES is {self.arena_bytes}, less than the largest body and the largest answer "
                f"need, in each front end ({needed}); raise LOSSD_ARENA_BYTES or lower LOSSD_MAX_BODY_BYTES, "
                "LOSSD_MAX_JSON_BYTES (which takes four times its size besides), LOSSD_MAX_CHUNKED_BYTES, "
                "LOSSD_MAX_EXPANDED_BYTES, LOSSD_MAX_BATCH_BYTES (four times) or LOSSD_MAX_OUTPUT_BYTES"
            )
            raise ValueError(msg)
        return self

    @property
    def arena_bytes_each(self) -> int:
        """Bytes of a front end's part of the arena."""
        return self.arena_bytes // self.front_ends // PAGE * PAGE

    @property
    def linger_bytes(self) -> int:
        """Most bytes of a refused body that are read and dropped."""
        return max(self.max_body_bytes, GIB)

    @property
    def output_bytes(self) -> int:
        """Bytes of the arena for array answers and their partial sums.

        They are apart from bodies, so that requests that hold their bodies never wait for each other.
        """
        return self.max_output_bytes + _SUMS_BYTES

    def environment(self) -> dict[str, str]:
        """Return these settings as environment variables, for a child process."""
        values = self.model_dump(mode="json")
        given = {
            f"LOSSD_{name.upper()}": ",".join(value) if isinstance(value, list) else str(value)
            for name, value in values.items()
            if value is not None
        }
        return {"LOSSD_USAGE_FILE": "", **given}  # its default is not None


def unknown_variables(environment: Iterable[str]) -> dict[str, str | None]:
    """Return variables that look like settings but are not, with the nearest setting's name, if any."""
    known = {f"LOSSD_{name.upper()}" for name in Settings.model_fields}
    strange = [name for name in environment if name.startswith("LOSSD_") and name not in known]
    return {name: next(iter(get_close_matches(name, known, 1, 0.85)), None) for name in strange}


def is_service_link(value: str) -> bool:
    """Return whether LOSSD_PORT is set by Kubernetes for a Service named lossd: ``tcp://10.96.12.7:8000``."""
    return _service_link.fullmatch(value) is not None


def explain(fault: Mapping[str, Any], options: Iterable[str]) -> str:
    """Return what is wrong with a setting, under the name by which it was set.

    Args:
        fault: One of pydantic's errors.
        options: The settings that were given as options.
    """
    what = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"]:
        return str(what)
    name = str(fault["loc"][0])
    if name in options:
        return f"--{name.replace('_', '-')}: {what}"
    given = fault.get("input")
    shown = f"={given}" if isinstance(given, str) and len(given) <= 100 else ""
    return f"LOSSD_{name.upper()}{shown}: {what}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
