"""The Makefile and the scripts behind it."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from scripts.build_native import (
    NAME,
    NATIVE,
    NoCompilerError,
    build_in_place,
    find_compiler,
    machine_of,
    platform_tag,
)

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [ROOT / ".ci/run", ROOT / ".ci/tools", *sorted((ROOT / "scripts").glob("*.sh"))]


def run(
    *command: str, directory: Path = ROOT, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "TORCH"))
    }
    return subprocess.run(
        command,
        cwd=directory,
        env=kept | dict(environment or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def make(*words: str, directory: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return run("make", "--no-print-directory", *words, directory=directory)


def test_test_runs_every_check_in_order() -> None:
    done = make("-n", "test")
    assert done.returncode == 0
    checks = ["ruff format --check", "ruff check", "lint-imports", "/mypy ", "scripts.check_wheel", "pytest"]
    places = [done.stdout.index(check) for check in checks]
    places[3:5] = sorted(places[3:5])  # these two run side by side
    assert places == sorted(places)


def test_quick_runs_the_checks_without_a_server() -> None:
    done = make("-n", "quick")
    assert done.returncode == 0
    checks = ["ruff format --check", "ruff check", "mypy", "lint-imports", "not alone and not slow"]
    places = [done.stdout.index(check) for check in checks]
    assert places == sorted(places)
    assert "check_wheel" not in done.stdout


def test_ci_runs_make_test_and_then_the_rest() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    targets = [name for line in lines if line[:1] != "#" for name in re.findall(r"\bmake (\w+)", line)]
    assert targets == ["test", "engines", "browser", "charts", "generators", "trackers", "typescript", "docs"]


def test_make_alone_lists_the_verbs() -> None:
    listed = make().stdout
    for verb in ("install", "format", "lint", "quick", "tests", "coverage", "wheel", "test", "serve", "demo"):
        assert f"make {verb} " in listed


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A checkout as far as `make install` can tell, with a python3 that only writes down what it is asked."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        'echo "$@" >>calls\n'
        'case "$*" in *"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;; esac\n'
        'case "$*" in *"$FAIL_AT"*) exit "${FAIL_WITH:-0}" ;; esac\n'
    )
    python.chmod(0o755)
    return tmp_path


def install(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return run("make", "install", "PYTHON=./python", directory=directory, environment=environment)


def calls(directory: Path) -> int:
    return len((directory / "calls").read_text().splitlines())


def test_a_second_run_installs_nothing(fresh: Path) -> None:
    assert install(fresh).returncode == 0
    before = calls(fresh)
    assert install(fresh).returncode == 0
    assert calls(fresh) == before


def test_a_failed_install_is_tried_again(fresh: Path) -> None:
    assert install(fresh, FAIL_AT="--group dev", FAIL_WITH="1").returncode != 0
    before = calls(fresh)
    assert install(fresh).returncode == 0
    assert calls(fresh) > before


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_change_of_the_requirements_installs_again(fresh: Path, name: str) -> None:
    assert install(fresh).returncode == 0
    before = calls(fresh)
    later = (fresh / ".venv/.installed").stat().st_mtime + 10
    os.utime(fresh / name, (later, later))
    assert install(fresh).returncode == 0
    assert calls(fresh) > before


@pytest.mark.parametrize("change", ["kernel.c", "elements.h", "dispatch.c"])
def test_a_change_of_the_kernels_sources_compiles_it_again_and_installs_nothing(
    fresh: Path, change: str
) -> None:
    native = fresh / NATIVE
    native.mkdir(parents=True)
    (native / change).touch()
    assert install(fresh).returncode == 0
    before = calls(fresh)
    later = (fresh / ".venv/.installed").stat().st_mtime + 10
    os.utime(native / change, (later, later))
    assert install(fresh).returncode == 0
    assert (fresh / "calls").read_text().splitlines()[before:] == ["-m scripts.build_native"]


def test_a_compiler_that_cannot_compile_counts_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'stdlib.h: No such file' >&2; exit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(NoCompilerError, match=r"cc' does not work: stdlib\.h: No such file$"):
        find_compiler()


@pytest.mark.parametrize("target", ["x86_64-alpine-linux-musl", "arm64-apple-darwin24", "riscv64-linux-gnu"])
def test_the_kernel_is_not_built_where_it_would_not_run(tmp_path: Path, target: str) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text(f"#!/bin/sh\necho {target}\n")
    compiler.chmod(0o755)
    with pytest.raises(NoCompilerError, match=f"not made for {target}"):
        machine_of([str(compiler)])


def test_without_a_compiler_no_library_is_left_that_is_not_the_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / NAME).touch()
    monkeypatch.setenv("CC", "no-such-compiler")
    build_in_place(tmp_path)
    assert not (tmp_path / NAME).exists()
    assert "no C compiler 'no-such-compiler'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("symbols", "tag"),
    [
        ("GLIBC_2.2.5 GLIBC_2.14", "manylinux_2_17_x86_64"),
        ("GLIBC_2.2.5 GLIBC_2.34 GLIBC_2.4", "manylinux_2_34_x86_64"),
        ("", "linux_x86_64"),
    ],
)
def test_a_wheel_says_which_glibc_its_library_calls(tmp_path: Path, symbols: str, tag: str) -> None:
    library = tmp_path / NAME
    library.write_bytes(b"".join(b"\0" + symbol.encode() + b"\0" for symbol in symbols.split()))
    assert platform_tag(library, "x86_64") == tag


def test_an_old_python_is_named_as_the_reason(fresh: Path) -> None:
    done = install(fresh, FAIL_AT="version_info", FAIL_WITH="1")
    assert done.returncode != 0
    assert "lossd needs Python 3.11 or newer" in done.stderr
    assert not (fresh / ".venv").exists()


@pytest.mark.parametrize(
    ("torch", "complaint"), [("cpu", "TORCH_INDEX_URL"), ("gpu", "TORCH=gpu is not one of")]
)
def test_a_torch_that_cannot_be_had_is_refused_before_anything_is_made(
    tmp_path: Path, torch: str, complaint: str
) -> None:
    wheel = tmp_path / "lossd.whl"
    wheel.touch()
    done = run(
        str(ROOT / "scripts/install_runtime.sh"),
        str(tmp_path / "venv"),
        str(wheel),
        environment={"TORCH": torch},
    )
    assert done.returncode == 2
    assert complaint in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    done = run("shellcheck", str(script))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_can_be_run_and_stop_at_the_first_error(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    assert "set -euo pipefail" in script.read_text()
