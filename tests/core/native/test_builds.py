"""Every build of the native kernel: the same bits, and no touch of memory that is not its own.

Vector widths, optimization, sanitizers, arm64, and many threads at once, over drawn requests. The numbers
themselves are the other tests' matter. LOSSD_NATIVE_CASES draws more, LOSSD_NATIVE_SEED others.
"""

from __future__ import annotations

import math
import os
import platform
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from core.native.cases import NATIVE, Case, answers_of, build_driver, cases, run_driver
from lossd.core.catalog import LOSSES
from lossd.core.exact_sum import ExactArray
from lossd.core.native.kernel import NativeKernel
from lossd.core.native.library import WIDTHS, best_width, why_missing
from lossd.core.report.spec import SECTIONS
from lossd.types import ITEMSIZE, RequestError
from scripts import build_native

COUNT = int(os.environ.get("LOSSD_NATIVE_CASES", "1200"))
SEED = int(os.environ.get("LOSSD_NATIVE_SEED", "0"))
FLAGS = build_native.WIDTHS.get(platform.machine(), {})
HERE = [] if why_missing() else [width for width in WIDTHS[WIDTHS.index(best_width()) :] if width in FLAGS]
"""The widths that this CPU has."""
COMPILER = shlex.split(os.environ.get("CC", "cc"))
ARM64 = {
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu and libc6-dev-arm64-cross",
    "qemu-aarch64": "qemu-user",
}
UNDEFINED = ("-fsanitize=undefined", "-fno-sanitize-recover=all")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HERE, reason=f"no native kernel: {why_missing()}"),
]


@pytest.fixture(scope="module")
def asked() -> list[Case]:
    return cases(COUNT, SEED)


@pytest.fixture(scope="module")
def answers(asked: list[Case]) -> list[bytes]:
    return answers_of(NativeKernel(), asked)


def test_the_cases_are_of_every_kind(asked: list[Case], answers: list[bytes]) -> None:
    works = [case.work for case in asked]
    assert {work.loss for work in works} == set(NATIVE)
    operands = [
        operand for work in works for operand in (*work.of_elements, *work.of_losses, *work.of_classes)
    ]
    assert {operand.tensor.dtype for operand in operands} == set(ITEMSIZE)
    inputs = {name for loss in LOSSES.values() for name in loss.inputs}
    others = {"targets", "weight", "pos_weight", "alpha", "class_weight", "mask", "baseline"}
    assert {operand.name for operand in operands} == inputs | others
    asked_for = [work.report.spec.sections for work in works if work.report is not None]
    assert set().union(*asked_for) == set(SECTIONS)
    assert {work.channels for work in works} == {0, 1, 2}
    assert {work.divisor for work in works} == {None, "count", "weight", "positives"}
    rules = [int.from_bytes(answer[8:12], "little") for answer in answers]
    assert set(rules) == set(range(14)) - {8}  # all but that of memory
    assert rules.count(0) > len(rules) / 2


@pytest.mark.parametrize("width", HERE)
def test_every_width_gives_the_same_bits(width: str, asked: list[Case], answers: list[bytes]) -> None:
    assert same(answers_of(NativeKernel(width=width), asked), answers)


@pytest.mark.parametrize(("width", "level"), [(HERE[0], "-O2"), (HERE[-1], "-O0")] if HERE else [])
def test_every_optimization_gives_the_same_bits(
    width: str, level: str, asked: list[Case], answers: list[bytes], tmp_path: Path
) -> None:
    need_compiler()
    build_driver(tmp_path / "driver", width, COMPILER, *FLAGS[width], level)
    assert same(run_driver([str(tmp_path / "driver")], asked, tmp_path), answers)


@pytest.mark.parametrize("width", HERE)
def test_it_reads_and_writes_nothing_but_its_own(
    width: str, asked: list[Case], answers: list[bytes], tmp_path: Path
) -> None:
    need_compiler()
    sanitizers = ("-fsanitize=address", *UNDEFINED, "-Og", "-g1")
    build_driver(tmp_path / "driver", width, COMPILER, *FLAGS[width], *sanitizers)
    assert same(run_driver([str(tmp_path / "driver")], asked, tmp_path, threads=2), answers)


def test_threads_do_not_race(asked: list[Case], answers: list[bytes], tmp_path: Path) -> None:
    need_compiler()
    build_driver(tmp_path / "driver", HERE[-1], COMPILER, "-fsanitize=thread", "-O1", "-g")
    command = [*steady(), str(tmp_path / "driver")]
    few = COUNT // 3
    assert same(run_driver(command, asked[:few], tmp_path, threads=4), answers[:few])


def test_arm64_gives_the_same_bits(asked: list[Case], answers: list[bytes], tmp_path: Path) -> None:
    for tool, package in ARM64.items():
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: {package}")
    build_driver(tmp_path / "driver", "neon", ["aarch64-linux-gnu-gcc"], "-static")
    assert same(run_driver(["qemu-aarch64", str(tmp_path / "driver")], asked, tmp_path), answers)


def test_many_callers_at_once_get_their_own_numbers(asked: list[Case], answers: list[bytes]) -> None:
    kernel = NativeKernel(threads=4)
    with ThreadPoolExecutor(8) as callers:
        found = list(callers.map(lambda _: answers_of(kernel, asked), range(8)))
    for one in found:
        assert same(one, answers)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_however_many_threads_add_up_the_sums_are_the_same(threads: int, asked: list[Case]) -> None:
    one, several = NativeKernel(), NativeKernel(threads)
    for case in asked:
        assert outcome(several, case) == outcome(one, case), case.work


def outcome(kernel: NativeKernel, case: Case) -> object:
    """What a part comes to, in a form that is equal for equal sums."""
    part = case.work.cut.part(case.index)
    memories = [np.empty(case.work.cut.most_numbers(case.index)) for _ in range(case.work.channels)]
    try:
        found = kernel.score(case.work, case.body, case.offset, case.index, memories)
    except RequestError as fault:
        return fault.code, fault.detail
    sums = []
    for planes, memory in zip(found.planes, memories, strict=True):
        exact = ExactArray()
        for plane in memory[: planes * part.outputs].reshape(planes, part.outputs):
            exact.add(plane)
        sums.append(exact.value.tobytes())
    figures = (found.loss, found.weights, found.positives)
    return (
        [[math.copysign(1, term), repr(term)] for terms in figures for term in terms or ()],
        found.count,
        sums,
    )


def same(found: list[bytes], answers: list[bytes]) -> bool:
    """Whether all are equal; says which is the first that is not."""
    wrong = [index for index, pair in enumerate(zip(found, answers, strict=True)) if pair[0] != pair[1]]
    assert not wrong, f"cases {wrong[:10]} of {len(found)}"
    return True


def need_compiler() -> None:
    if shutil.which(COMPILER[0]) is None:
        pytest.skip(f"there is no C compiler {COMPILER[0]}")


def steady() -> list[str]:
    """How a program is run whose memory lies where the thread sanitizer can have it."""
    command = ["setarch", platform.machine(), "-R"]
    works = shutil.which("setarch") and not subprocess.run([*command, "true"], capture_output=True).returncode
    return command if works else []
