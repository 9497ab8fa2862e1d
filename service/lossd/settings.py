"""The server's settings. Each is also an environment variable ``LOSSD_…``.

The descriptions are Markdown: docs/reference/settings.md is written from them (`make reference`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lossd.machine import available_cores
from lossd.setting_types import (
    ANY_CASE,
    EMPTY_IS_NONE,
    LINK_IS_DEFAULT,
    Devices,
    Networks,
    OptionalPath,
    Origins,
    Seconds,
    StoreUrl,
    UsagePlace,
    Words,
    is_loopback,
)

MIB = 1 << 20
GIB = 1 << 30
PAGE = 1 << 12

_SUMS_BYTES: Final = 17 * MIB  # for partial sums: more than one array answer needs

PORT: Final = 8000


def default_usage_file() -> Path | None:
    """Return the usage file's path by the XDG base directory specification; None if there is no home."""
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:
        return None
    return state / "lossd" / "usage.sqlite3"


class Settings(BaseSettings):
    """The server's settings: keyword arguments first, then the environment, then these defaults."""

    model_config = SettingsConfigDict(env_prefix="LOSSD_", extra="forbid", frozen=True, allow_inf_nan=False)

    host: str = Field(
        default="127.0.0.1",
        description=(
            "Address to listen on. With 0.0.0.0 other machines can connect, for which it wants teams or "
            "`LOSSD_ALLOW_OPEN`."
        ),
    )
    port: Annotated[int, LINK_IS_DEFAULT] = Field(
        default=PORT,
        ge=0,
        le=65535,
        description=(
            "Port to listen on; 0 picks a free one, and the log says which. `tcp://...`, which Kubernetes "
            "sets for a Service named lossd, is ignored with a warning: "
            "[containers](../how-to/operating.md#containers)."
        ),
    )
    unix_socket: OptionalPath = Field(
        default=None,
        description=(
            "Path of a Unix socket to listen on as well, in plain HTTP, for callers of this machine. The "
            "server's user and group may connect (mode 0660); with teams they need a key."
        ),
    )
    admin_host: str = Field(
        default="127.0.0.1",
        description=(
            "Address of the admin listener. Anyone who can connect to it can read /metrics, with teams and "
            "totals, without a key."
        ),
    )
    admin_port: Annotated[int | None, EMPTY_IS_NONE, LINK_IS_DEFAULT] = Field(
        default=None,
        ge=0,
        le=65535,
        description=(
            "Port of the admin listener, a process of its own for /livez, /readyz and /metrics: see "
            "[health](../how-to/operating.md#health). Always plain HTTP; 0 picks a free port, and the log "
            "says which."
        ),
    )
    allow_open: bool = Field(
        default=False,
        description=(
            "Let a server without teams listen beyond this machine. Anyone who can connect can use it, so "
            "set it only where something else keeps strangers out. A server without teams in another program "
            "always wants it, since it does not see the address."
        ),
    )
    teams: OptionalPath = Field(
        default=None,
        description=(
            "The teams file: who may use the server, and how much. See [teams](../how-to/teams.md). Edits "
            "take effect within a second. Without one, everyone is team `default`."
        ),
    )
    quota_store: StoreUrl = Field(
        default=None,
        repr=False,
        description=(
            "Valkey or Redis by which several servers hold teams' limits together: "
            "`redis://:PASSWORD@HOST:6379/0`, `rediss://...` or `unix:///PATH`; needs `lossd[quota]`. See "
            "[several servers](../how-to/teams.md#several-servers)."
        ),
    )
    replicas: PositiveInt = Field(
        default=1,
        description=(
            "How many servers share the teams' limits in equal parts, without a quota store: each holds its "
            "part."
        ),
    )
    metrics_open: bool = Field(
        default=False,
        description="Answer /metrics without a key although there are teams. It has teams and totals.",
    )
    usage_file: UsagePlace = Field(
        default_factory=default_usage_file,
        repr=False,
        description=(
            "The SQLite file that keeps teams' usage over restarts (below `XDG_STATE_HOME`, if that is set). "
            "In a container it must lie in a volume. Or the database of several servers, "
            "`postgresql://USER:PASSWORD@HOST/DATABASE`, which needs `lossd[postgres]`. Empty, "
            "`LOSSD_USAGE_FILE=`, keeps none."
        ),
    )
    device: Devices = Field(
        default=("auto",),
        description=(
            "`auto` (every CUDA device, else the CPU), `cpu`, or several: `cuda:0,cuda:1`. Each has one "
            "worker. A worker on the CPU uses many cores, so one is enough. All workers share a large "
            "request, whatever their devices: every device gives the same bits."
        ),
    )
    threads: PositiveInt = Field(
        default_factory=available_cores,
        description=(
            "Threads of all workers on the CPU together. The default is the number of cores, or what the "
            "cgroup (a container's CPU limit) allows. They run at a low priority."
        ),
    )
    front_ends: int = Field(
        default=1,
        ge=1,
        le=64,
        description=(
            "Processes that receive and answer requests. One moves some hundred MB a second and is seldom "
            "the limit. More of them need more cores, and an arena each."
        ),
    )
    arena_bytes: PositiveInt = Field(
        default_factory=lambda given: 2 * GIB * given.get("front_ends", 1),
        description=(
            "Memory for bodies and array answers, shared with the workers, in equal parts for the front "
            "ends. Raise it if `lossd_memory_reserved_bytes` stays at its top and the machine has more "
            "memory; raise a container's memory limit with it."
        ),
    )
    max_body_bytes: PositiveInt = Field(
        default=GIB, description="Largest binary body. Arrow streams may be longer."
    )
    max_json_bytes: PositiveInt = Field(
        default=32 * MIB, description="Largest JSON body; it reserves five times its length."
    )
    max_chunked_bytes: PositiveInt = Field(
        default=64 * MIB,
        description="Largest body without Content-Length. This much is reserved for each such body at once.",
    )
    max_expanded_bytes: PositiveInt = Field(
        default=64 * MIB, description="Largest compressed body, expanded."
    )
    max_batch_bytes: PositiveInt = Field(
        default=32 * MIB,
        description=(
            "Largest record batch of an Arrow stream. A stream may have any number of batches and has memory "
            "for two; a bool takes a byte."
        ),
    )
    max_output_bytes: PositiveInt = Field(
        default=256 * MIB,
        description=(
            "Largest array answer, 8 bytes a number as .npy, 24 as JSON; exact sums over the rows (`axis=0`) "
            "take three to seven times as much. A part of the arena is kept for such answers."
        ),
    )
    max_report_top: PositiveInt = Field(
        default=10_000, description="Most rows, and most elements, that the section `top` of a report lists."
    )
    max_report_cells: PositiveInt = Field(
        default=1 << 18,
        description=(
            "Most figures of a kind in a section of a report: groups, times classes if the report has those, "
            "and bins of a calibration times classes."
        ),
    )
    max_row_elements: PositiveInt = Field(
        default=1 << 25,
        description=(
            "Longest row that has one loss; with a report the longest index of axis 0, times the gammas of a "
            "sweep. It is one slice, which one worker scores without a pause; requests that a front end "
            "scores itself are short enough. A sixteenth of it where torch is the kernel."
        ),
    )
    max_headers: PositiveInt = Field(default=100, description="Most headers of a request; more are 431.")
    max_header_bytes: PositiveInt = Field(
        default=32 << 10,
        description="Longest head of a request, its first line included; a longer one is 431.",
    )
    cors_origins: Origins = Field(
        default=(),
        description=(
            "Origins whose pages may call the server from a browser, separated by commas, each with scheme, "
            "host and port only: `https://dash.example.org,http://localhost:3000`. Preflights need no key; "
            "the requests after them do, in a header. `*` is every page that a browser shows: without teams, "
            "name origins instead, also on 127.0.0.1."
        ),
    )
    max_connections: PositiveInt = Field(
        default=4096,
        description=(
            "Most connections of a front end: [who gives way](../how-to/operating.md#connections). Keep the "
            "limit of open files well above it."
        ),
    )
    reserved_connections: NonNegativeInt = Field(
        default=256,
        description=(
            "How many of them busy teams may not use: they are kept for probes and for callers who have just "
            "come, half of them also for teams that hold next to none. At most a quarter of all."
        ),
    )
    header_seconds: Seconds = Field(
        default=10.0,
        description="How long a head may take to arrive, and a connection to send its first one.",
    )
    upload_bytes_per_second: PositiveInt = Field(
        default=8 << 10,
        description="Least upload rate of a body while the server reads it. A slower one is 408.",
    )
    upload_grace_seconds: Seconds = Field(
        default=5.0, description="Time after the head before the least upload rate applies."
    )
    upload_pause_seconds: Seconds = Field(
        default=60.0, description="Longest pause of a caller who has sent much faster before."
    )
    stall_seconds: Seconds = Field(
        default=60.0,
        description=(
            "How long a caller may leave an answer unread, or read less than 64 KiB of it, before its "
            "connection is closed and the memory used again."
        ),
    )
    linger_seconds: Seconds = Field(
        default=30.0,
        description=(
            "How long the server reads and drops what a refused caller still sends, so that it sees the "
            "answer: no more than was announced, and no more than `LOSSD_MAX_BODY_BYTES` or 1 GiB, whichever "
            "is more. With HTTPS it ends after a second of silence."
        ),
    )
    linger_connections: NonNegativeInt = Field(
        default=64,
        description="How many connections of a front end get that long at a time. Others get a second.",
    )
    team_share: float = Field(
        default=0.5,
        gt=0.0,
        le=1.0,
        description=(
            "The most that one team may hold of a front end's "
            "[connections](../how-to/operating.md#connections) and of each part of [its "
            "memory](../how-to/operating.md#memory-by-team), however slowly it sends and reads. More "
            "connections are refused; more bodies and answers wait. One larger than the share is taken while "
            "the team holds nothing else in that part, so others may find less than the rest. Without teams "
            "there is one share, of all."
        ),
    )
    turn_bytes: PositiveInt = Field(
        default=32 * MIB,
        description=(
            "Bodies that are received and scored at a time, for each worker and in each front end, if they "
            "arrive quickly; others wait unread. JSON counts a quarter. Bodies up to 256 KiB do not count. "
            "Raise it if a device idles between bodies; lower it if large bodies delay one another."
        ),
    )
    timeout_seconds: Seconds = Field(
        default=60.0,
        description=(
            "How long a request may wait for memory (then 503) and, once received, for its answer (then "
            "504), unless X-Timeout-Ms says otherwise."
        ),
    )
    keep_alive_seconds: PositiveInt = Field(
        default=75,
        description=(
            "How long a connection may be idle. It must be longer than callers and proxies keep theirs, or a "
            "request may be sent just as its connection closes."
        ),
    )
    lame_duck_seconds: Annotated[float, Field(ge=0.0, le=1e7)] = Field(
        default=5.0,
        description=(
            "How long new requests are still served after SIGTERM, while /readyz is 503: time for load "
            "balancers to notice. SIGINT or a second signal ends it."
        ),
    )
    drain_seconds: Seconds = Field(
        default=20.0,
        description=(
            "How long accepted requests may take after that. Whatever stops the server must wait for both, "
            "and three seconds, before it kills it: [stopping](../how-to/operating.md#stopping)."
        ),
    )
    handover: OptionalPath = Field(
        default=None,
        description=(
            "Path of a Unix socket by which a new server of the same user takes the port over from this one: "
            "[upgrading](../how-to/operating.md#upgrading)."
        ),
    )
    hang_seconds: float = Field(
        default=10.0,
        ge=1.0,
        le=1e7,
        description=(
            "How long a process may stand still before it is killed and replaced: "
            "[health](../how-to/operating.md#health)."
        ),
    )
    start_seconds: Seconds = Field(
        default=180.0,
        description=(
            "How long a process may take to start before it is started again. Raise it if torch is read "
            "from a slow disk."
        ),
    )
    check_seconds: Seconds = Field(
        default=5.0, description="How often a worker checks that it computes known answers correctly."
    )
    slice_elements: PositiveInt = Field(
        default=131072,
        description=(
            "Most elements in a slice, for each thread of a worker (a CUDA device counts as 128): about a "
            "millisecond, after which the scheduler chooses the next slice. There is seldom a reason to "
            "change it."
        ),
    )
    kernel: Annotated[Literal["auto", "native", "torch"], ANY_CASE] = Field(
        default="auto",
        description=(
            "The kernel on a CPU: `native`, compiled code in the package, or `torch`, 15 to 50 times as "
            "slow. `auto` takes the native kernel if it is there. Both give the same bits; `/info` and every "
            "answer name the kernel."
        ),
    )
    inline_ms: float = Field(
        default=0.3,
        ge=0.0,
        description=(
            "Requests whose estimated cost is at most this, in milliseconds, are scored by the front end "
            "itself with the native kernel, because asking a worker takes longer. 0 sends all to the workers."
        ),
    )
    losses: Words = Field(
        default=(),
        description=(
            "Further losses, each `module:name` of an entry, separated by commas; see "
            "[contributing](../../CONTRIBUTING.md#add-a-loss). This runs code, so only the operator should "
            "be able to set it."
        ),
    )
    ui_report: OptionalPath = Field(
        default=None,
        description=(
            "A saved report that the page at /ui opens with: a .json or .json.gz of `lossd report "
            "--out`, no larger than `LOSSD_MAX_JSON_BYTES`. Whoever may use the server sees it. It is "
            "read when it is asked for, so it may be written anew at any time."
        ),
    )
    log_level: Annotated[str, ANY_CASE] = Field(
        default="info",
        pattern="^(debug|info|warning|error|critical)$",
        description="What is logged: debug, info, warning, error, critical.",
    )
    log_format: Annotated[Literal["console", "json"], ANY_CASE] = Field(
        default="console",
        description="`console`, for people, or `json`, an object a line for log collectors.",
    )
    log_requests: Annotated[Literal["none", "failed", "all"], ANY_CASE] = Field(
        default="failed",
        description=(
            "Which requests are [logged](../how-to/operating.md#logs): `none`, `failed` (at most 10 lines a "
            "second), or `all`, which takes longer than a small request itself."
        ),
    )
    traces: bool = Field(
        default=False,
        description=(
            "Send OpenTelemetry traces as the variables `OTEL_EXPORTER_OTLP_…` say; needs `lossd[otel]`. "
            "Small requests take longer with them."
        ),
    )
    tls_certificate: OptionalPath = Field(
        default=None,
        description="The certificate chain (PEM) for HTTPS, read again when it changes; needs the key.",
    )
    tls_key: OptionalPath = Field(
        default=None, description="The certificate's private key (PEM), without a password."
    )
    trusted_proxies: Networks = Field(
        default=(),
        description=(
            "Addresses or networks of the proxies in front, separated by commas. Only their X-Forwarded-For "
            "and X-Forwarded-Proto are believed, only they may hold any number of connections, and only "
            "their refusals wait for the rest of a body. `unix:` is every caller of `LOSSD_UNIX_SOCKET`."
        ),
    )

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        if self.teams is None and not self.allow_open and not is_loopback(self.host):
            msg = (
                f"listening on {self.host} (LOSSD_HOST, --host) without teams lets anyone who can "
                "connect use this server; name a teams file (--teams), pass --allow-open "
                "(LOSSD_ALLOW_OPEN=1) to mean that, or listen on 127.0.0.1"
            )
            raise ValueError(msg)
        if self.quota_store is not None and self.replicas > 1:
            msg = (
                "LOSSD_QUOTA_STORE counts the servers, and LOSSD_REPLICAS would divide the limits once more; "
                "unset one of them"
            )
            raise ValueError(msg)
        if (self.tls_certificate is None) != (self.tls_key is None):
            msg = "a certificate and its key go together; set both LOSSD_TLS_CERTIFICATE and LOSSD_TLS_KEY"
            raise ValueError(msg)
        if self.unix_socket is not None and self.unix_socket == self.handover:
            msg = f"LOSSD_UNIX_SOCKET and LOSSD_HANDOVER are both {self.handover}; choose another for one"
            raise ValueError(msg)
        hosts = {self.host, self.admin_host}
        same = len(hosts) == 1 or hosts & {"0.0.0.0", "::"}  # noqa: S104 -- which are every address
        if self.admin_port and self.admin_port == self.port and same:
            msg = f"LOSSD_PORT (--port) and LOSSD_ADMIN_PORT are both {self.port}; choose another for one"
            raise ValueError(msg)
        least = self._largest_bytes + self.output_bytes
        if self.arena_bytes_each < least:
            needed = self.front_ends * least
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
        """Bytes that the largest array answer takes, with its partial sums."""
        return self.max_output_bytes + _SUMS_BYTES

    @property
    def _largest_bytes(self) -> int:
        """Bytes that the largest body takes."""
        # JSON's numbers take four times the text's size besides, also in the head of an inference body. A
        # stream has room for two batches, whose bools take a byte each, and for alignment.
        text_bytes = 4 * self.max_json_bytes + max(self.max_json_bytes, self.max_body_bytes)
        bodies = (text_bytes, self.max_chunked_bytes)
        return max(*bodies, self.max_expanded_bytes, 4 * self.max_batch_bytes) + MIB

    @property
    def answers_bytes(self) -> int:
        """Bytes of a front end's arena for array answers.

        They are apart from bodies, so that requests that hold their bodies never wait for each other. The
        largest answer fits, and others beside it as far as the largest body leaves room.
        """
        spare = self.arena_bytes_each - self._largest_bytes - self.output_bytes
        return self.output_bytes + min(self.output_bytes, spare // 3)

    @property
    def share(self) -> float:
        """The most of a resource that one team may hold, as a part of 1."""
        return 1.0 if self.teams is None else self.team_share

    def environment(self) -> dict[str, str]:
        """Return these settings as environment variables, for a child process."""
        values = self.model_dump(mode="json")
        given = {
            f"LOSSD_{name.upper()}": ",".join(value) if isinstance(value, list) else str(value)
            for name, value in values.items()
            if value is not None
        }
        return {"LOSSD_USAGE_FILE": "", **given}  # its default is not None
