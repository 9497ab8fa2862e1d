"""systemd's units, as systemd itself reads them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lossd.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = ("lossd.service", "lossd.socket")
SERVICE = (DEPLOY / "lossd.service").read_text()


def value(name: str, unit: str = SERVICE) -> str:
    [found] = re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)
    return str(found)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A folder with the units, for a command that is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for name in UNITS:
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/lossd/bin/lossd", f"{sys.executable} -m lossd"))
    return tmp_path


def test_systemd_takes_them(units: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(f"./{name}" for name in UNITS)],
        cwd=units,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert not re.findall(r".*(?:lossd\.(?:service|socket)).*", done.stderr), done.stderr


def test_little_is_exposed(units: Path) -> None:
    # In tenths: 9.6 without hardening.
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "./lossd.service"]
    done = subprocess.run(command, cwd=units, capture_output=True, text=True, timeout=60)
    if "not allowed in offline" in done.stderr or "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot look at a file")
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


def test_it_is_killed_only_after_it_has_had_time_to_stop() -> None:
    settings = Settings.model_fields
    waits = settings["lame_duck_seconds"].default + settings["drain_seconds"].default + 3
    assert int(value("TimeoutStopSec")) >= waits
    assert value("KillMode") == "mixed"  # the supervisor stops the rest
    assert int(value("TimeoutStartSec")) >= settings["start_seconds"].default


def test_the_memory_limit_counts_the_arena_and_the_processes() -> None:
    assert value("MemoryMax") == "6G"
    arena = Settings.model_fields["arena_bytes"].default
    if isinstance(arena, int):
        assert arena + (3 << 30) <= 6 << 30


def test_the_socket_is_the_servers_default_address() -> None:
    fields = Settings.model_fields
    address = f"{fields['host'].default}:{fields['port'].default}"
    assert value("ListenStream", (DEPLOY / "lossd.socket").read_text()) == address
