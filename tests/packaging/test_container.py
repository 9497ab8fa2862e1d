"""The image and its compose files, read rather than run: no container engine is needed."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from live_server import LiveServer
from lossd.health import find_port
from lossd.settings import Settings
from lossd_client.local import free_port

ROOT = Path(__file__).resolve().parents[2]
GIB = 1 << 30


def dockerfile() -> list[str]:
    """The Dockerfile's instructions, comments dropped and continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def operands(instruction: str) -> list[str]:
    return [line.partition(" ")[2].strip() for line in dockerfile() if line.split()[0] == instruction]


def service(*names: str) -> dict[str, Any]:
    """The lossd service of the compose files, merged as compose does."""
    merged: dict[str, Any] = {}
    for name in names:
        document = yaml.safe_load((ROOT / name).read_text())
        assert [name for name, one in document["services"].items() if "profiles" not in one] == ["lossd"]
        for key, value in document["services"]["lossd"].items():
            merged[key] = merged[key] | value if isinstance(merged.get(key), dict) else value
    return merged


CPU = ("docker-compose.yml",)
GPU = ("docker-compose.yml", "docker-compose.gpu.yml")


def test_every_run_step_is_a_script_that_the_wheel_check_runs_too() -> None:
    check = (ROOT / "scripts/check_wheel.py").read_text()
    steps = operands("RUN")
    assert steps
    for step in steps:
        script = shlex.split(step)[0]
        assert not set("&|;") & set(step), f"more than a script: {step}"
        assert (ROOT / script).stat().st_mode & 0o111, f"{script} is not executable"
        assert script in check


def test_the_kernel_is_compiled_where_there_is_a_compiler_and_the_image_has_none() -> None:
    builder, image = operands("FROM")
    assert builder.split()[0] == "${BUILDER_IMAGE}"
    assert image == "${BASE_IMAGE}"
    assert {"BUILDER_IMAGE=python:3.11", "BASE_IMAGE=python:3.11-slim"} <= set(operands("ARG"))
    (only,) = [line for line in operands("COPY") if "--from" not in line]
    assert only == ". ."  # into the builder


def test_the_image_runs_without_root() -> None:
    user = operands("USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_the_health_check_is_the_servers_own() -> None:
    (check,) = operands("HEALTHCHECK")
    assert check.endswith('CMD ["python", "-m", "lossd.health"]')


@pytest.mark.parametrize(
    ("command", "variable", "port"),
    [
        ("lossd serve --host 0.0.0.0", None, 8000),
        ("lossd serve --host 0.0.0.0", "8080", 8080),
        ("lossd serve --host 0.0.0.0", "tcp://10.96.12.7:8000", 8000),
        ("lossd serve --host 0.0.0.0", "tcp://10.96.12.7:9000", 8000),
        ("lossd serve --host 0.0.0.0 --port 9000", "tcp://10.96.12.7:8000", 9000),
        ("/sbin/docker-init -- lossd serve --port=9000 --host 0.0.0.0", "8080", 9000),
        ("sh -c lossd serve --port 9000", None, 9000),
    ],
)
def test_it_is_asked_where_it_listens(command: str, variable: str | None, port: int) -> None:
    environment = {} if variable is None else {"LOSSD_PORT": variable}
    assert find_port(command, environment) == (port, True)
    for nothing in ("", "0", "tcp://10.96.12.7:8001"):
        assert find_port(command, {**environment, "LOSSD_ADMIN_PORT": nothing}) == (port, True)
    assert find_port(command, {**environment, "LOSSD_ADMIN_PORT": "8001"}) == (8001, False)


@pytest.mark.parametrize("variable", ["LOSSD_PORT", "LOSSD_ADMIN_PORT"])
def test_the_health_check_tells_a_server_that_is_alive(server: LiveServer, variable: str) -> None:
    if "--port" in Path("/proc/1/cmdline").read_text() and variable == "LOSSD_PORT":
        pytest.skip("the first process here says another port")
    for port, status in ((server.url.rpartition(":")[2], 0), (str(free_port()), 1)):
        environment = {**os.environ, variable: port}
        done = subprocess.run(
            [sys.executable, "-m", "lossd.health"], env=environment, capture_output=True, timeout=60
        )
        assert done.returncode == status
        assert (port.encode() in done.stderr) == bool(status)
        assert b"Traceback" not in done.stderr


def test_the_image_alone_does_not_open_the_server_to_everyone() -> None:
    text = " ".join([*operands("CMD"), *operands("ENTRYPOINT"), *operands("ENV")]).lower()
    assert "allow-open" not in text
    assert "allow_open" not in text


def test_the_image_has_cuda_unless_asked_otherwise() -> None:
    assert "TORCH=cuda" in operands("ARG")


def test_the_build_context_holds_what_the_build_reads() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines, "everything is left out, but for what is named"
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert kept >= {
        "pyproject.toml",
        "constraints.txt",
        "requirements.lock",
        "README.md",
        "LICENSE",
        "service",
        "client",
        "clients/typescript/src",
    }
    assert {"scripts/*.sh", "scripts/build_native.py"} <= kept
    assert "**/*.so" in lines, "nothing that was compiled elsewhere"


def compose() -> list[str] | None:
    """The command that reads compose files, where this machine has one; it needs no engine for that."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    plugin = ["docker", "compose"]
    if shutil.which("docker") and subprocess.run([*plugin, "version"], capture_output=True).returncode == 0:
        return plugin
    return None


@pytest.mark.parametrize("files", [CPU, GPU], ids=["cpu", "gpu"])
def test_compose_takes_the_files(files: tuple[str, ...]) -> None:
    command = compose()
    if command is None:
        pytest.skip("docker compose is not installed")
    named = [word for name in files for word in ("-f", name)]
    done = subprocess.run(
        [*command, *named, "--profile", "observability", "config", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("files", [CPU, GPU], ids=["cpu", "gpu"])
def test_it_is_published_on_loopback_only(files: tuple[str, ...]) -> None:
    lossd = service(*files)
    assert lossd["ports"]
    assert all(port.startswith("127.0.0.1:") for port in lossd["ports"])
    assert lossd.get("network_mode") != "host"


@pytest.mark.parametrize("files", [CPU, GPU], ids=["cpu", "gpu"])
def test_the_memory_limit_counts_the_arena_and_the_processes(files: tuple[str, ...]) -> None:
    lossd = service(*files)
    limit = lossd["mem_limit"]
    assert limit.endswith("g")
    arena = int(lossd["environment"]["LOSSD_ARENA_BYTES"])
    assert int(limit[:-1]) * GIB >= arena + 3 * GIB
    assert lossd["memswap_limit"] == limit


def test_it_has_limits_of_its_own_and_its_log_is_rotated() -> None:
    for name, one in yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].items():
        assert one["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert {"cpus", "mem_limit", "pids_limit"} <= one.keys(), name


def test_it_is_killed_only_after_it_has_had_time_to_stop() -> None:
    settings = Settings.model_fields
    waits = settings["lame_duck_seconds"].default + settings["drain_seconds"].default + 3
    assert int(service(*CPU)["stop_grace_period"].removesuffix("s")) >= waits


def test_nothing_in_the_container_can_be_changed_or_gained() -> None:
    lossd = service(*CPU)
    assert lossd["read_only"] is True
    assert lossd["cap_drop"] == ["ALL"]
    assert lossd["security_opt"] == ["no-new-privileges:true"]
    assert lossd["tmpfs"] == ["/tmp"]


def test_usage_is_kept_in_a_volume_that_the_images_user_may_write() -> None:
    (folder,) = operands("VOLUME")
    settings = dict(pair.split("=", 1) for pair in operands("ENV")[-1].split())
    assert Path(settings["LOSSD_USAGE_FILE"]).parent == Path(folder)
    user = operands("USER")[-1]
    assert f"--from=builder --chown={user} {folder} {folder}" in operands("COPY")
    assert folder in operands("WORKDIR")  # the builder makes it
    (volume,) = service(*CPU)["volumes"]
    name, _, where = volume.partition(":")
    assert where == folder
    assert name in yaml.safe_load((ROOT / "docker-compose.yml").read_text())["volumes"]


def test_the_gpu_file_reserves_one_and_uses_it() -> None:
    lossd = service(*GPU)
    (device,) = lossd["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert lossd["environment"]["LOSSD_DEVICE"].startswith("cuda")
    assert service(*CPU)["environment"]["LOSSD_DEVICE"] == "cpu"


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_what_watches_the_server_starts_when_asked_for_and_is_as_closed(name: str) -> None:
    watcher = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"][name]
    assert watcher["profiles"] == ["observability"]
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", watcher["image"])
    assert all(port.startswith("127.0.0.1:") for port in watcher["ports"])
    for key in ("read_only", "cap_drop", "security_opt"):
        assert watcher[key] == service(*CPU)[key]
    for source, target, *mode in (mount.rsplit(":", 2) for mount in watcher["volumes"] if "./" in mount):
        assert mode == ["ro"], f"{target} can be written"
        path = re.sub(r"\$\{\w+:-(.+)\}", r"\1", source)
        assert (ROOT / path).exists()


def test_the_settings_named_for_the_container_exist() -> None:
    known = {f"LOSSD_{name}".upper() for name in Settings.model_fields}
    assert set(service(*GPU)["environment"]) <= known
