"""What must not be in the repository: where packages come from, and where this or that checkout lies."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Put together here, so that this file does not hold what it looks for.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("download", "pytorch", "org"),
        ("registry", "npmjs", "org"),
        ("docker", "io"),
        ("ghcr", "io"),
        ("quay", "io"),
        ("nvcr", "io"),
        ("deb", "debian", "org"),
    ]
]
MACHINE_PATHS = re.compile(r"(?<![\w./:])/" + r"(?:root|work|home/[a-z]\w*|Users/\w+|opt/wheels)/")


def tracked() -> list[Path]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def texts() -> list[tuple[str, str]]:
    read = [(str(path.relative_to(ROOT)), path.read_bytes()) for path in tracked()]
    return [(name, data.decode(errors="replace")) for name, data in read if b"\0" not in data]


def test_no_registry_is_named() -> None:
    found = [(name, host) for name, text in texts() for host in REGISTRY_HOSTS if host in text]
    assert found == []


def test_no_path_of_one_machine_is_named() -> None:
    found = [(name, match.group()) for name, text in texts() for match in MACHINE_PATHS.finditer(text)]
    assert found == []
