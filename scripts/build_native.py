"""Compile the CPU kernel, once for each vector width, into one library beside its binding.

The build backend calls this for wheels and editable installs, and ``make install`` when a source has changed.
A wheel also gets the files of the client that the server's page loads: the sources have links.
$CC names the compiler (default cc). Without a compiler the install still works, and torch computes instead.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("service/lossd/core/native")
NAME = "_kernel.so"
LINKED = {
    "clients/typescript/src": "lossd/ui/client",
    "client/lossd_client/report/_drawing/report.css": "lossd/ui/report.css",
}
"""What the page links to in the sources, and where that is in a wheel."""
# Fused multiply-adds would give other bits. errno and traps would prevent vectorised sqrt and comparisons.
FLAGS = (
    *("-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
    *("-fPIC", "-fvisibility=hidden", "-pthread", "-Wall", "-Wextra", "-Werror=implicit"),
)
# By the compiler's target machine: the name and the flags of each width.
WIDTHS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {
        "sse2": (),
        "avx2": ("-mavx2",),
        "avx512": ("-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mprefer-vector-width=512"),
    },
    "aarch64": {"neon": ()},
}
_OLDEST_GLIBC = 17  # of manylinux_2_17, which all current versions of pip know


class NoCompilerError(Exception):
    """There is no compiler for the kernel. The message says why."""


def find_compiler() -> list[str]:
    """Return the command of the C compiler.

    Raises:
        NoCompilerError: There is none that works.
    """
    command = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(command[0]) is None:
        raise NoCompilerError(f"there is no C compiler {command[0]!r}")
    # Debian's gcc comes without the C library's headers, which are another package.
    tried = subprocess.run(  # noqa: S603 -- the compiler
        [*command, "-fsyntax-only", "-xc", "-"],
        input="#include <stdlib.h>\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        first = tried.stderr.partition("\n")[0]
        raise NoCompilerError(f"the C compiler {command[0]!r} does not work: {first}")
    return command


def machine_of(compiler: Sequence[str]) -> str:
    """Return the compiler's target machine.

    Raises:
        NoCompilerError: The kernel does not support it.
    """
    target = _run([*compiler, "-dumpmachine"]).strip()
    machine = target.partition("-")[0]
    # musl's threads have stacks of 128 KiB, which the kernel overflows.
    if "linux" not in target or "musl" in target or machine not in WIDTHS:
        raise NoCompilerError(f"the kernel is not made for {target}")
    return machine


def compile_library(sources: Path, library: Path, compiler: Sequence[str], extra: Sequence[str] = ()) -> None:
    """Compile a folder of sources: ``kernel.c`` once for each width, the others once.

    Args:
        sources: The folder.
        library: The library to write.
        compiler: The compiler's command.
        extra: Flags after the usual ones.
    """
    widths = WIDTHS[machine_of(compiler)]
    with tempfile.TemporaryDirectory(prefix="lossd-native-") as scratch, ThreadPoolExecutor() as threads:
        commands = [
            [*FLAGS, *flags, *extra, f"-DKERNEL_NAME=lossd_score_{width}", "-c", str(sources / "kernel.c")]
            for width, flags in widths.items()
        ]
        others = sorted(path for path in sources.glob("*.c") if path.name != "kernel.c")
        commands += [[*FLAGS, *extra, "-c", str(path)] for path in others]
        objects = [str(Path(scratch, f"{number}.o")) for number in range(len(commands))]
        done = threads.map(
            lambda pair: _run([*compiler, *pair[0], "-o", pair[1]]), zip(commands, objects, strict=True)
        )
        list(done)
        made = Path(scratch, NAME)
        _run([*compiler, "-shared", "-pthread", *extra, *objects, "-o", str(made)])
        # Processes that have mapped the old library keep it.
        new = library.with_name(f"{library.name}.new")
        shutil.copyfile(made, new)
        new.replace(library)


def platform_tag(library: Path, machine: str) -> str:
    """Return the wheel's platform: the oldest glibc with all functions that the library calls."""
    needed = [int(minor) for minor in re.findall(rb"\0GLIBC_2\.(\d+)", library.read_bytes())]
    return f"manylinux_2_{max(*needed, _OLDEST_GLIBC)}_{machine}" if needed else f"linux_{machine}"


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- the compiler
    if done.returncode or done.stderr:
        sys.stderr.write(f"{shlex.join(command)}\n{done.stderr}")
    done.check_returncode()
    return done.stdout


class NativeBuildHook(BuildHookInterface[BuilderConfig]):
    """Build hook that adds the library and the page's modules to a wheel.

    For an editable install it adds the library to the source tree.
    """

    _scratch: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel is built."""
        native = Path(self.root) / NATIVE
        if version == "editable":
            build_in_place(native)
            return
        for path, place in LINKED.items():  # also where Git has made text of the links
            build_data["force_include"][str(Path(self.root) / path)] = place
        self._scratch = tempfile.TemporaryDirectory(prefix="lossd-wheel-")
        library = Path(self._scratch.name, NAME)
        try:
            compiler = find_compiler()
            machine = machine_of(compiler)
        except NoCompilerError as why:
            _warn(why)
            return
        compile_library(native, library, compiler)
        build_data["force_include"][str(library)] = f"lossd/core/native/{NAME}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag(library, machine)}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the compiled library: the wheel has it."""
        if self._scratch is not None:
            self._scratch.cleanup()


def build_in_place(native: Path) -> None:
    """Compile into the source tree. Without a compiler, remove the library: it may be out of date."""
    try:
        compiler = find_compiler()
        machine_of(compiler)
    except NoCompilerError as why:
        (native / NAME).unlink(missing_ok=True)
        _warn(why)
        return
    compile_library(native, native / NAME, compiler)


def _warn(why: NoCompilerError) -> None:
    sys.stderr.write(f"lossd: {why}: without the kernel, CPUs compute with torch, many times slower\n")


if __name__ == "__main__":
    build_in_place(Path(__file__).resolve().parents[1] / NATIVE)
