"""Requests for the native kernel, drawn from all that its binding can ask for, and what a build answers."""

from __future__ import annotations

import ctypes
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.core.catalog import LOSSES, Loss, Parameter
from lossd.core.exact_sum import ExactSum
from lossd.core.native import kernel as native
from lossd.core.native import library
from lossd.core.parameters import check_params, losses_shape, reduced_axes, spans_samples
from lossd.core.prepare import Work, prepare
from lossd.core.report.layout import Layout
from lossd.core.report.partial import Partial
from lossd.core.report.spec import SECTIONS
from lossd.types import FLOATS, INTEGERS, ITEMSIZE, TENSOR_DTYPES, Float64Array, Tensor
from scripts.build_native import FLAGS

Array = npt.NDArray[Any]

SOURCES = Path(native.__file__).parent
DRIVER = Path(__file__).with_name("driver.c")
NATIVE = [loss.name for loss in LOSSES.values() if loss.is_native]
SPECIAL = [np.inf, -np.inf, 0.0, -0.0, 1e-300, -5e-324, 745.0, -746.0, 36.0, 1e300]


@dataclass(frozen=True, slots=True)
class Case:
    """A part of a request, and where its bytes lie.

    Attributes:
        work: The request.
        index: Which part.
        body: The bytes of its tensors, and no more.
        offset: Where in these their offsets are counted from.
        threads: How many the call may use.
    """

    work: Work
    index: int
    body: bytes
    offset: int
    threads: int

    def packed(self) -> bytes:
        """As the driver reads it."""
        room = self.work.cut.most_numbers(self.index)
        numbers = (self.threads, self.offset, len(self.body), self.work.channels, room, self.report_bytes)
        job, report = native._job_of(self.work)
        part = native._part_of(self.work, self.index)
        return (
            struct.pack("=6q", *numbers)
            + bytes(job)
            + bytes(report or library.Report())
            + bytes(part)
            + self.body
        )

    @property
    def report_bytes(self) -> int:
        """The memory that its partial report may take; 0 without one."""
        if self.work.report is None:
            return 0
        part, row = self.work.cut.part(self.index), self.work.cut.row_size
        return self.work.report.most_bytes((part.stop - part.start) // row, part.stop - part.start)


class Draw:
    """Draws cases."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def one_of(self, choices: Sequence[Any]) -> Any:  # noqa: ANN401 -- one of them
        return choices[int(self.rng.integers(len(choices)))]

    def shape(self, loss: Loss) -> tuple[int, ...]:
        """The shape of the inputs."""
        dimensions = int(self.rng.integers(1, 9))
        if loss.row in ("classes", "sample"):
            dimensions = max(2, dimensions)
        most = self.one_of([300, 3000, 3000, 60_000]) ** (1 / dimensions)
        shape = tuple(
            1 if self.chance(0.15) else int(self.rng.integers(1, 2 + most)) for _ in range(dimensions)
        )
        if loss.row == "box":
            return (*shape[:7], 4)
        if loss.row and self.chance(0.2):  # a few long rows
            return (shape[0] % 5 + 1, *self.one_of([(1024,), (1025,), (5000,), (7, 700)]))
        return shape

    def case(self, name: str | None = None, *, reports: bool = True) -> Case:
        """A case, of a certain loss or of any; some with reports."""
        loss = LOSSES[name or self.one_of(NATIVE)]
        shape = self.shape(loss)
        params = self.params(loss, len(shape))
        by_index = params.get("targets_format") == "index"
        checked = check_params(loss, params)
        lost = losses_shape(loss, checked, shape)
        params |= self.reduced(loss, params, len(lost))
        if reports and self.chance(0.4) and not spans_samples(loss, checked):
            params |= self.report(loss, params, lost)
        checked = check_params(loss, params)
        arrays = self.arrays(loss, shape, checked, by_index=by_index)
        if "report" in params:
            arrays |= self.row_arrays(loss, lost, arrays)
        tensors, body, offset = self.laid(arrays)
        elements = self.one_of([64, 1000, 5000, 1 << 20])
        axes = reduced_axes(checked, lost)
        work = prepare(loss.name, checked, lost, axes, elements, tensors)
        index = int(self.rng.integers(work.cut.parts))
        return Case(work, index, body, offset, self.one_of([1, 1, 2, 4]))

    def params(self, loss: Loss, dimensions: int) -> dict[str, Any]:
        """Parameters, besides those of the reduction and of a report."""
        known = {parameter.name for parameter in loss.all_parameters}
        params: dict[str, Any] = {
            parameter.name: self.own_parameter(parameter)
            for parameter in loss.parameters
            if parameter.schema.get("type") in ("number", "string")
        }
        if loss.name == "focal":
            params["alpha"] = self.one_of([0.25, None, 0.0, 1.0, float(self.rng.random())])
        if "class_axis" in known:
            params["class_axis"] = int(self.rng.integers(1 if loss.row else 0, dimensions))
        if "targets_format" in known:
            params["targets_format"] = "index" if self.chance(0.5 if loss.row else 0.3) else "dense"
            if "background_index" in known and params["targets_format"] == "index" and self.chance(0.4):
                params["background_index"] = -2
        if "label_smoothing" in known and self.chance(0.3):
            params["label_smoothing"] = float(self.one_of([1e-6, 0.1, 0.999]))
        if "ignore_index" in known and self.chance(0.3):
            ids = loss.row == "classes"
            if not ids or params["targets_format"] == "index":
                params["ignore_index"] = self.one_of(["nan", -1, 255, 1 if ids else 0.5])
        params["allow_nan"] = self.chance(0.2)
        return params

    def own_parameter(self, parameter: Parameter) -> float | str:
        """A value of a parameter that is a number or a choice."""
        schema: Mapping[str, Any] = parameter.schema
        if "enum" in schema:
            return str(self.one_of(schema["enum"]))
        low, high = schema["minimum"], schema.get("maximum", 0.999)
        special = [value for value in (0.5, 1.0, 1.5, 2.0, 3.0) if value <= high]
        drawn = float(self.rng.uniform(low, min(high, 5.0 if self.chance(0.9) else 1000.0)))
        return float(self.one_of([parameter.default, low, drawn, drawn, *special]))

    def reduced(self, loss: Loss, params: dict[str, Any], dimensions: int) -> dict[str, Any]:
        """Parameters of the reduction."""
        reduction = self.one_of(["none", "sum", "mean"])
        found: dict[str, Any] = {"reduction": reduction}
        if reduction != "none" and self.chance(0.6):
            count = int(self.rng.integers(1, dimensions + 1))
            found["axis"] = [int(axis) for axis in self.rng.permutation(dimensions)[:count]]
        if reduction == "mean":
            normalizer = next(each for each in loss.all_parameters if each.name == "normalizer")
            choices: Any = normalizer.schema["oneOf"]
            found["normalizer"] = self.one_of(choices[0]["enum"])
        return found

    def report(self, loss: Loss, params: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
        """What is asked of a report."""
        left_out = ("classes", "sweep", *loss.without)
        sections = [name for name in SECTIONS if name not in left_out and self.chance(0.6)]
        by_class = loss.row == "classes" or (not loss.row and params["class_axis"])
        if "classes" not in loss.without and by_class and self.chance(0.7):
            sections.append("classes")
        found: dict[str, Any] = {"report": sections or ["totals"], "row": self.one_of(["sum", "mean"])}
        if "top" in sections:
            found["top"] = self.one_of([1, 7, 1000])
        if "sweep" not in loss.without and self.chance(0.4):
            general = float(self.rng.uniform(0, 5))
            found["report"].append("sweep")
            if loss.name == "focal":
                found["sweep"] = {"gamma": self.one_of([[0.0, 1.5], [2.0, general], [0.5, 1.0, 3.0]])}
        found["calibration_bins"] = self.one_of([2, 10, 64])
        return found

    def row_arrays(
        self, loss: Loss, shape: tuple[int, ...], arrays: dict[str, tuple[str, Float64Array]]
    ) -> dict[str, tuple[str, Float64Array]]:
        """The tensors that only a report has: each dtype and values."""
        name, (dtype, inputs) = next(iter(arrays.items()))
        other = np.roll(inputs, 4 if loss.row == "box" else 1)
        if self.chance(0.15):
            wrong = -1.0 if loss.row == "box" else np.nan
            other.reshape(-1)[self.place(loss, other.size)] = wrong
        found: dict[str, tuple[str, Float64Array]] = {}
        found["baseline"] = (dtype if self.chance(0.5) else self.dtype(name), other)
        found["ids"] = (
            self.one_of(["int64", "uint32", "uint64"]),
            self.rng.permutation(shape[0]).astype(np.float64),
        )
        columns = self.one_of([(), (1,), (3,)])
        groups = self.rng.integers(0, 5, (shape[0], *columns)).astype(np.float64)
        found["groups"] = (self.one_of(["int8", "uint16", "int64"]), groups)
        return found

    def arrays(
        self, loss: Loss, shape: tuple[int, ...], params: dict[str, Any], *, by_index: bool
    ) -> dict[str, tuple[str, Float64Array]]:
        """Each tensor's dtype and its values."""
        found = {}
        class_axis = params["class_axis"] % len(shape)
        lost = losses_shape(loss, params, shape)
        inputs = self.one_of([loss.inputs[0], *loss.inputs])
        found[inputs] = (self.dtype(inputs), self.inputs(inputs, shape, params))
        found["targets"] = self.targets(loss, shape, class_axis, params, by_index=by_index)
        if self.chance(0.4):
            size = self.narrowed(lost)
            weight = 10 ** self.rng.uniform(-5, 4, size) * (self.rng.random(size) > 0.1)
            found["weight"] = (self.dtype("weight"), weight)
        if "pos_weight" in loss.tensors and self.chance(0.3):
            size = self.narrowed(shape)
            if len(size) == 1:  # then it is one for every class
                size = (shape[class_axis],)
            found["pos_weight"] = (self.dtype("pos_weight"), self.rng.uniform(0, 9, size))
        if loss.name == "focal" and params["alpha"] is not None and self.chance(0.4):
            found["alpha"] = ("float64", self.rng.random(shape[class_axis]))
        for name in ("alpha", "class_weight"):
            known = loss.row == "classes" and any(each.name == name for each in loss.parameters)
            if known and self.chance(0.5):
                values = self.rng.uniform(0, 9, shape[class_axis])
                found[name] = ("float64", values * (self.rng.random(shape[class_axis]) > 0.1))
        if self.chance(0.3):
            found["mask"] = (self.dtype("mask"), (self.rng.random(self.narrowed(lost)) < 0.7).astype(float))
        if self.chance(0.35):
            self.spoil(loss, found)
        return found

    def spoil(self, loss: Loss, found: dict[str, tuple[str, Float64Array]]) -> None:
        """Put a value that may be wrong into one of the tensors."""
        names = [name for name in found if name != "alpha"]
        rare = [name for name in names if name in ("pos_weight", "class_weight")]
        if rare and self.chance(0.5):
            names = rare
        name = self.one_of(names)
        values = found[name][1].reshape(-1)
        wrong = np.nan if self.chance(0.5) else self.one_of([0.5, 0.5, 1.5, -1.0, 3e38, -3e38, np.inf])
        if loss.row == "box" and values.size % 4 == 0 and self.chance(0.5):
            wrong = -1.0  # turns a box around
        values[self.place(loss, values.size)] = wrong

    def place(self, loss: Loss, size: int) -> int:
        """Where to put a wrong value; of boxes, into what says their size."""
        place = int(self.rng.integers(size))
        return place | 2 if loss.row == "box" and size % 4 == 0 else place

    def inputs(self, name: str, shape: tuple[int, ...], params: dict[str, Any]) -> Float64Array:
        if name == "boxes":
            return self.boxes(shape, str(params["format"]))
        x: Float64Array = self.rng.normal(0, 10 ** self.rng.uniform(-3, 2.5), shape)
        if name == "probabilities":
            x = self.one_of([1 / (1 + np.exp(-x.clip(-700))), np.round(self.rng.random(shape))])
        elif self.chance(0.3):
            x = np.where(self.rng.random(shape) < 0.05, self.rng.choice(SPECIAL, shape), x)
        return x

    def boxes(self, shape: tuple[int, ...], form: str) -> Float64Array:
        """Boxes near each other; some have no size. float16 and integers leave them in order."""
        corners = np.round(self.rng.uniform(0, 60, shape), 2)
        if self.chance(0.2):
            corners = np.round(corners)
        sizes = np.round(self.rng.uniform(0, 40, shape)) * (self.rng.random(shape) > 0.1)
        if form == "xyxy":
            corners[..., 2:] = corners[..., :2] + sizes[..., 2:]
        else:
            corners[..., 2:] = sizes[..., 2:]
        return corners

    def targets(
        self, loss: Loss, shape: tuple[int, ...], class_axis: int, params: dict[str, Any], *, by_index: bool
    ) -> tuple[str, Float64Array]:
        if loss.targets == "box":
            return self.dtype("boxes"), self.boxes(shape, str(params["format"]))
        if by_index:
            own = shape[:class_axis] + shape[class_axis + 1 :]
            values = self.rng.integers(0, shape[class_axis], own).astype(float)
            small = shape[class_axis] <= 100  # else some dtypes do not hold the ids
            dtypes = INTEGERS if self.chance(0.6) else FLOATS
            dtype = self.one_of(sorted(dtypes)) if small else self.one_of(["int32", "int64", "float64"])
            if params["background_index"] is not None and not dtype.startswith("u"):
                values = np.where(self.rng.random(own) < 0.3, -2.0, values)
        else:
            dtype, size = self.dtype("targets"), shape if self.chance(0.9) else self.narrowed(shape)
            values = (self.rng.random(size) < 0.3).astype(float)
            if dtype in FLOATS and self.chance(0.5):
                values = self.rng.random(size) ** self.one_of([1, 30])
            if loss.targets == "number":
                values = self.rng.normal(0, 10 ** self.rng.uniform(-3, self.one_of([1.5, 30])), size)
        ignored = params["ignore_index"]
        if ignored is not None and (dtype in FLOATS or dtype == "uint8"):
            values = np.where(self.rng.random(values.shape) < 0.2, float(ignored), values)
        return dtype, values

    def dtype(self, name: str) -> str:
        return str(self.one_of(sorted(TENSOR_DTYPES[name])))

    def narrowed(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape that broadcasts to another."""
        kept = shape[int(self.rng.integers(len(shape))) :] if self.chance(0.3) else shape
        return tuple(1 if self.chance(0.3) else n for n in kept)

    def laid(self, arrays: dict[str, tuple[str, Float64Array]]) -> tuple[dict[str, Tensor], bytes, int]:
        """Lay tensors one behind the other in any order, at odd places; the last one ends with the body."""
        names = list(arrays)
        offset = int(self.rng.integers(0, 70))
        tensors, body = {}, b"\xff" * offset
        for place in self.rng.permutation(len(names)):
            name = names[place]
            dtype, values = arrays[name]
            body += b"\xff" * int(self.rng.integers(0, 9))
            fortran, big = self.chance(0.2), self.chance(0.2)
            tensors[name] = Tensor(dtype, values.shape, len(body) - offset, fortran=fortran, big_endian=big)
            body += encoded(values, dtype, big=big).tobytes("F" if fortran else "C")
        return tensors, body, offset


def encoded(values: Float64Array, dtype: str, *, big: bool) -> Array:
    """Values as a dtype's bytes; what it cannot hold becomes something that it can."""
    with np.errstate(all="ignore"):
        if dtype == "bfloat16":
            array: Array = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        elif dtype in FLOATS:
            array = values.astype(dtype)
        else:
            array = np.nan_to_num(values, nan=2.0, posinf=3.0, neginf=3.0).clip(-100, 100).astype("int64")
            array = array.astype("uint8" if dtype == "bool" else dtype)
    assert array.dtype.itemsize == ITEMSIZE[dtype]
    return array.astype(array.dtype.newbyteorder(">")) if big else array


def cases(count: int, seed: int = 0, loss: str | None = None, *, reports: bool = True) -> list[Case]:
    """So many of them, of a certain loss or of all."""
    draw = Draw(seed)
    return [draw.case(loss, reports=reports) for _ in range(count)]


def canonical(report: memoryview, layout: Layout) -> bytes:
    """A partial report in a form that is equal wherever its figures are: groups may come in any order."""
    partial = Partial.read(report)
    ids = [tuple(group) for group in partial.groups.tolist()]

    def named(index: int, width: int, by_group: int) -> tuple[tuple[int, ...], int]:
        if index < width:
            return (), index
        group, place = divmod(index - width, by_group)
        return ids[group], place

    sums: dict[int, ExactSum] = {}
    for index, number in zip(partial.sum_index.tolist(), partial.sums.tolist(), strict=True):
        sums.setdefault(index, ExactSum()).add(number)
    figures = {
        named(index, layout.sums.width, layout.group_sums.width): [*map(repr, each.terms)]
        for index, each in sums.items()
        if each.terms != [0.0]
    }
    counts = {
        named(index, layout.counts.width, layout.group_counts.width): count
        for index, count in zip(partial.count_index.tolist(), partial.counts.tolist(), strict=True)
    }
    lists = {name: sorted(map(repr, entries.tolist())) for name, entries in partial.lists.items()}
    return repr((sorted(ids), sorted(figures.items()), sorted(counts.items()), lists)).encode()


def answers_of(kernel: native.NativeKernel, asked: Sequence[Case]) -> list[bytes]:
    """What a build of the library says to cases, each as the driver writes it."""
    return [_answer_of(kernel, one) for one in asked]


def _answer_of(kernel: native.NativeKernel, case: Case) -> bytes:
    cut = case.work.cut
    memories = [np.empty(cut.most_numbers(case.index)) for _ in range(case.work.channels)]
    report = memoryview(bytearray(case.report_bytes)) if case.report_bytes else None
    job, figures = native._job_of(case.work)
    part = native._with_memories(native._part_of(case.work, case.index), memories, report)
    found = native._Result()
    kernel._score(job, figures, part, case.body, case.offset, case.threads, found)
    count, written, rule, nan, position, value, *numbers = native._RESULT.unpack_from(found)
    answer = struct.pack(
        "=qiiqd", 0 if rule else count, rule, nan, position if rule else 0, 0.0 if nan else value
    )
    if rule:
        return answer
    for which, terms in enumerate(numbers[2:]):
        start = native._RESULT.size + 8 * native._MOST_TERMS * which
        answer += ctypes.string_at(ctypes.addressof(found) + start, 8 * terms)
    for planes, memory in zip(numbers[:2], memories, strict=False):
        planes_written = memory[: planes * cut.part(case.index).outputs]
        if not (cut.complete or part.elementwise):
            planes_written[np.isnan(planes_written)] = np.nan
        answer += planes_written.tobytes()
    layout = case.work.report
    return answer + (canonical(report[:written], layout) if report is not None and layout else b"")


def build_driver(program: Path, width: str, compiler: Sequence[str], *extra: str) -> None:
    """Compile the kernel and the driver into a program."""
    others = (path for path in SOURCES.glob("*.c") if path.name != "kernel.c")  # which the driver includes
    sources = [str(DRIVER), *map(str, others)]
    flags = [*FLAGS, f"-I{SOURCES}", f"-DKERNEL_NAME=lossd_score_{width}", *extra]
    subprocess.run([*compiler, *flags, *sources, "-o", str(program), "-lm"], check=True, timeout=600)


def run_driver(command: Sequence[str], asked: Sequence[Case], folder: Path, threads: int = 1) -> list[bytes]:
    """What a program says to cases; it must say nothing else."""
    (folder / "cases").write_bytes(b"".join(one.packed() for one in asked))
    words = [*command, str(folder / "cases"), str(folder / "answers"), str(threads)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert not done.stderr, done.stderr[:3000]
    assert done.returncode == 0, done.stdout
    answers, data = list[bytes](), memoryview((folder / "answers").read_bytes())
    while data:
        length, written = struct.unpack_from("=qq", data)
        answer, report = bytes(data[16 : 16 + length]), data[16 + length : 16 + length + written]
        layout = asked[len(answers)].work.report
        answers.append(answer + (canonical(report, layout) if layout and written else b""))
        data = data[16 + length + written :]
    return answers
