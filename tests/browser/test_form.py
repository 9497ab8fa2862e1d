"""The form: files in their places, parameters, the request, its errors, and the same request as a command."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Page, Response, Route, expect

from browser.arrays import CLASSES, Arrays, save_report
from browser.conftest import TeamServer
from browser.visits import Visit, Watch, drop, throttled, until
from live_server import LiveServer, live_server
from lossd_client import LossClient, Report
from teams_file import make_key, team_table, write_teams

_GO: Final = "Show the loss"
_SECTIONS: Final = ("totals", "classes", "groups", "top", "histogram", "calibration", "sweep", "paired")


@pytest.fixture
def files(tmp_path: Path, arrays: Arrays) -> Path:
    """A folder for a test's own files."""
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


def _choose(page: Page, *paths: Path) -> None:
    page.get_by_label("Choose files").set_input_files(list(paths))


def _place(page: Page, name: str) -> str:
    return str(page.get_by_label(f"What {name} is", exact=True).input_value())


def _run(page: Page, loss: str = "bce") -> tuple[dict[str, Any], Response]:
    """Press the button; the document that the server makes, and its answer."""
    with page.expect_response(lambda each: urlsplit(each.url).path == f"/{loss}") as asked:
        page.get_by_role("button", name=_GO).click()
    answer = asked.value
    assert answer.status == 200, answer.text()
    report: dict[str, Any] = answer.json()["report"]
    return report, answer


def _query(answer: Response) -> dict[str, list[str]]:
    return parse_qs(urlsplit(answer.url).query)


def _mean(report: dict[str, Any]) -> float:
    return float(report["totals"]["sum"] / report["totals"]["count"])


def _commands(page: Page) -> dict[str, str]:
    if page.locator("#commands").get_attribute("open") is None:
        page.get_by_text("Copy this as curl").click()
    return {
        name: page.locator(f"[data-command='{name}'] code").inner_text()
        for name in ("curl", "Python", "lossd report")
    }


def _shell(text: str, folder: Path, **environment: str) -> str:
    """What a command prints in a shell, in a folder."""
    tools = Path(sys.executable).parent
    paths = os.pathsep.join([str(tools), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-c", text],
        cwd=folder,
        env={**os.environ, "PATH": paths, **environment},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stderr}{done.stdout}"
    return done.stdout


def _sections(report: dict[str, Any], *left: str) -> dict[str, Any]:
    return {name: report.get(name) for name in _SECTIONS if name not in left}


def _run_all(page: Page, folder: Path, **environment: str) -> dict[str, dict[str, Any]]:
    """The report that each command makes, in the folder of the files."""
    commands = _commands(page)
    reports = {"curl": json.loads(_shell(commands["curl"], folder, **environment))["report"]}
    (folder / "command.py").write_text(commands["Python"])
    for name, text in (("Python", "python command.py"), ("lossd report", commands["lossd report"])):
        _shell(text, folder, **environment)
        reports[name] = json.loads((folder / "report.json").read_text())
        (folder / "report.json").unlink()
    return reports


# ---- Files


def test_the_first_screen_says_what_to_do(page: Page) -> None:
    expect(page.get_by_role("heading", level=2)).to_have_text(
        "Drop your model's outputs and the targets here"
    )
    expect(page.get_by_role("button", name="Try an example")).to_be_in_viewport()
    expect(page.get_by_role("button", name=_GO)).to_be_hidden()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_dropped_files_take_the_places_that_their_names_say(page: Page, arrays: Arrays) -> None:
    drop(page, ".drop", arrays.path("targets.npy"), arrays.path("logits.npy"), arrays.path("classes.txt"))
    expect(page.get_by_role("listitem").filter(has_text="logits.npy")).to_contain_text("float32 [400, 6]")
    assert _place(page, "logits.npy") == "logits"
    assert _place(page, "targets.npy") == "targets"
    assert _place(page, "classes.txt") == "classes"
    report, _ = _run(page)
    assert _mean(report) == pytest.approx(arrays.losses().mean(), rel=1e-12)


def test_files_are_dropped_anywhere(page: Page, arrays: Arrays) -> None:
    drop(page, "h1", arrays.path("logits.npy"))
    expect(page.get_by_label("What logits.npy is")).to_be_visible()


def test_names_that_say_nothing_are_asked_about(page: Page, arrays: Arrays) -> None:
    _choose(page, arrays.path("run7_out.npy"), arrays.path("val_2024.npy"))
    button = page.get_by_role("button", name=_GO)
    expect(page.get_by_text("Say what run7_out.npy is.")).to_be_visible()
    expect(button).to_be_disabled()
    page.get_by_label("What run7_out.npy is").select_option("logits")
    expect(page.get_by_text("run7_out.npy is taken as logits")).to_be_visible()
    page.get_by_label("What val_2024.npy is").select_option("targets")
    expect(button).to_be_enabled()
    report, _ = _run(page)
    assert _mean(report) == pytest.approx(arrays.losses().mean(), rel=1e-12)


_SIGMOID: Final = "as a model gives them before the sigmoid. If it has probabilities, choose so"
_SOFTMAX: Final = "as a model gives them before the softmax. If it has probabilities, save their logarithms"


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ("focal", _SIGMOID),
        ("dice", _SIGMOID),
        ("cross_entropy", _SOFTMAX),
        ("softmax_focal", _SOFTMAX),
        ("squared", "which squared takes as they are."),
        ("hinge", "which hinge takes as they are."),
    ],
)
def test_logits_are_what_the_loss_makes_of_them(page: Page, arrays: Arrays, loss: str, said: str) -> None:
    _choose(page, arrays.path("run7_out.npy"))
    page.get_by_label("What run7_out.npy is").select_option("logits")
    page.get_by_label("loss", exact=True).select_option(loss)
    expect(page.get_by_text("run7_out.npy is taken as logits")).to_contain_text(said)


@pytest.mark.parametrize(("loss", "has_bins"), [("bce", True), ("softmax_focal", True), ("dice", False)])
def test_parameters_of_sections_that_a_loss_lacks_are_not_asked(
    page: Page, arrays: Arrays, loss: str, *, has_bins: bool
) -> None:
    _choose(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
    page.get_by_text("More parameters").click()
    bins = page.get_by_label("calibration_bins")
    bins.fill("10")
    page.get_by_label("loss", exact=True).select_option(loss)
    expect(bins).to_have_count(int(has_bins))
    _, answer = _run(page, loss)  # what was filled in is not sent either
    assert _query(answer).get("calibration_bins") == (["10"] if has_bins else None)


def test_what_a_report_refuses_is_not_asked(page: Page, arrays: Arrays) -> None:
    _choose(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
    page.get_by_label("loss", exact=True).select_option("dice")
    expect(page.get_by_label("smooth", exact=True)).to_be_visible()
    expect(page.get_by_label("per", exact=True)).to_have_count(0)


@pytest.mark.parametrize(
    ("name", "dtype", "place"),
    [
        ("mask_logits", np.float32, "logits"),
        ("logits_mask", np.float32, "logits"),
        ("logits_mask", np.bool_, "mask"),
        ("mask_targets", np.uint8, "targets"),
        ("targets_mask", np.bool_, "mask"),
        ("mask", np.float32, "mask"),  # the server says which types it takes
    ],
)
def test_arrays_of_segmentation_have_their_places(
    page: Page, files: Path, name: str, dtype: type[np.generic], place: str
) -> None:
    np.save(files / f"{name}.npy", np.zeros((4, 1, 8, 8), dtype))
    _choose(page, files / f"{name}.npy")
    assert _place(page, f"{name}.npy") == place


def test_ids_are_of_classes_while_there_are_no_other_targets(page: Page, arrays: Arrays, files: Path) -> None:
    np.save(files / "ce_ids.npy", np.arange(400) % len(CLASSES))
    _choose(page, arrays.path("logits.npy"), files / "ce_ids.npy")
    assert _place(page, "ce_ids.npy") == "targets"
    expect(page.get_by_label("The targets are class ids")).to_be_checked()
    _choose(page, arrays.path("targets.npy"))
    assert _place(page, "targets.npy") == "targets"
    assert _place(page, "ce_ids.npy") == "ids"


def test_a_place_has_one_file(page: Page, arrays: Arrays) -> None:
    _choose(page, arrays.path("logits.npy"), arrays.path("better.npy"))
    page.get_by_label("What better.npy is").select_option("probabilities")
    assert _place(page, "logits.npy") == ""
    page.get_by_role("button", name="Remove logits.npy").click()
    expect(page.get_by_text("Add the targets.")).to_be_visible()


def test_probabilities_are_sent_as_such(page: Page, arrays: Arrays, files: Path) -> None:
    np.save(files / "probs.npy", 1 / (1 + np.exp(-arrays.logits.astype(np.float64))))
    _choose(page, files / "probs.npy", arrays.path("targets.npy"))
    report, _ = _run(page)
    assert report["totals"]["inputs"] == "probabilities"
    assert _mean(report) == pytest.approx(arrays.losses().mean(), rel=1e-9)


@pytest.mark.parametrize("name", ["both.npz", "run.arrows"])
def test_one_file_has_all(page: Page, arrays: Arrays, name: str) -> None:
    _choose(page, arrays.path(name))
    expect(page.get_by_role("listitem").filter(has_text=name)).to_contain_text("logits")
    report, _ = _run(page)
    assert _mean(report) == pytest.approx(arrays.losses().mean(), rel=1e-12)


def test_one_file_that_has_all_goes_alone(page: Page, arrays: Arrays) -> None:
    _choose(page, arrays.path("both.npz"), arrays.path("targets.npy"))
    expect(page.get_by_text("both.npz holds all arrays and goes alone.")).to_be_visible()
    expect(page.get_by_role("button", name=_GO)).to_be_disabled()
    page.get_by_role("button", name="Remove targets.npy").click()
    expect(page.get_by_role("button", name=_GO)).to_be_enabled()


def test_compressed_members_are_read(page: Page, arrays: Arrays, files: Path) -> None:
    np.savez_compressed(files / "packed.npz", logits=arrays.logits, targets=arrays.targets)
    _choose(page, files / "packed.npz")
    expect(page.get_by_text("logits [400, 6], targets [400, 6]")).to_be_visible()


@pytest.mark.parametrize("place", [0, 1], ids=["json", "json.gz"])
def test_a_saved_report_is_shown_without_a_request_for_a_loss(
    page: Page, server: LiveServer, arrays: Arrays, files: Path, watch: Watch, place: int
) -> None:
    with LossClient(server.url) as client:
        report = client.report("bce", arrays.logits, arrays.targets)
    path = save_report(files, "night", json.dumps(report.to_dict()).encode())[place]
    _choose(page, path)
    expect(page.locator("#results")).to_contain_text("night")
    assert not [each for each in watch.requests if each.startswith("POST /bce")]


def _arrow_file(path: Path) -> None:
    table = pa.table({"logits": [0.5, 1.0], "targets": [0, 1]})
    with pa.ipc.new_file(str(path), table.schema) as sink:
        sink.write_table(table)


def _cut(path: Path) -> None:
    np.save(path, np.zeros((100, 3)))
    path.write_bytes(path.read_bytes()[:-8])


_UNUSABLE: Final[dict[str, tuple[Callable[[Path], object], str]]] = {
    "model.pt": (lambda path: path.write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."), "torch.load"),
    "preds.pkl": (lambda path: path.write_bytes(b"\x80\x04\x95\x0c\0\0\0\0\0\0\0."), "pickle"),
    "preds.csv": (lambda path: path.write_text("a,b\n1,2\n"), "lossd report preds.csv"),
    "preds.txt": (lambda path: path.write_text("0.5 1.25\n1.5 2.5\n"), 'np.loadtxt("preds.txt")'),
    "preds.parquet": (lambda path: path.write_bytes(b"PAR1\x15\x04"), "lossd report preds.parquet"),
    "preds.arrow": (_arrow_file, "pa.ipc.new_stream"),
    "preds.npy.gz": (lambda path: path.write_bytes(gzip.compress(b"\x93NUMPY")), "gunzip -k preds.npy.gz"),
    "objects.npy": (lambda path: np.save(path, np.array([None, {}]), allow_pickle=True), "np.stack"),
    "text.npy": (lambda path: np.save(path, np.array(["a", "b"])), "one a line"),
    "complex.npy": (lambda path: np.save(path, np.zeros(3, complex)), "complex128"),
    "cut.npy": (_cut, "damaged"),
    "empty.npy": (lambda path: path.write_bytes(b""), "is empty"),
    "other.json": (lambda path: path.write_text('{"a": 1}'), "Reports are written by lossd report"),
    "image.png": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\r"), "not known"),
}


@pytest.mark.parametrize("name", _UNUSABLE)
def test_a_file_that_cannot_be_used_is_said_to_be_so_with_a_remedy(
    page: Page, files: Path, name: str
) -> None:
    make, remedy = _UNUSABLE[name]
    make(files / name)
    _choose(page, files / name)
    expect(page.get_by_role("alert")).to_contain_text(name)
    expect(page.get_by_role("alert")).to_contain_text(remedy)
    expect(page.get_by_role("listitem")).to_have_count(0)


def test_the_remedy_for_an_arrow_file_makes_a_stream(page: Page, files: Path) -> None:
    _arrow_file(files / "preds.arrow")
    _choose(page, files / "preds.arrow")
    text = page.get_by_role("alert").inner_text()
    remedy = text.split("In Python: ")[1].splitlines()[0]
    (files / "remedy.py").write_text(f"import pyarrow as pa\n{remedy}\n")
    _shell("python remedy.py", files)
    _choose(page, files / "stream.arrow")
    report, _ = _run(page)
    assert report["totals"]["rows"] == 2


@pytest.mark.parametrize("totals", [None, {}, {"params": {}, "loss": "bce"}])
def test_a_damaged_report_is_said_to_be_so_and_is_no_run(
    page: Page, files: Path, totals: dict[str, Any] | None
) -> None:
    document = {"schema": "lossd.report/1", **({} if totals is None else {"totals": totals})}
    (files / "night.json").write_text(json.dumps(document))
    _choose(page, files / "night.json")
    expect(page.get_by_role("alert")).to_contain_text("night.json is a damaged report")
    expect(page.locator("#results .runs li")).to_have_count(0)
    expect(page.locator("#problems")).to_be_empty()


# ---- Shapes


def test_shapes_that_cannot_fit_are_told_before_anything_is_sent(page: Page, arrays: Arrays) -> None:
    _choose(page, arrays.path("logits.npy"), arrays.path("short_targets.npy"))
    expect(page.locator("#misfits")).to_contain_text("[399, 6] does not fit the inputs' [400, 6]")


def test_names_of_other_lengths_are_told(page: Page, arrays: Arrays, files: Path) -> None:
    (files / "classes.txt").write_text("a\nb\n")
    (files / "ids.txt").write_text("a\nb\nc\n")
    _choose(page, arrays.path("logits.npy"), files / "classes.txt", files / "ids.txt")
    expect(page.locator("#misfits")).to_contain_text("classes.txt has 2 names, and the inputs have 6 classes")
    expect(page.locator("#misfits")).to_contain_text("ids.txt has 3 entries, and the inputs have 400 rows")


def test_class_ids_are_offered_where_shapes_allow_nothing_else(
    page: Page, arrays: Arrays, files: Path
) -> None:
    ids = np.arange(400) % len(CLASSES)
    np.save(files / "labels.npy", ids)
    _choose(page, arrays.path("logits.npy"), files / "labels.npy")
    choice = page.get_by_label("The targets are class ids (targets_format=index): integers from 0 to 5")
    expect(choice).to_be_checked()
    x, y = arrays.logits.astype(np.float64), np.eye(len(CLASSES))[ids]
    report, answer = _run(page)
    assert _mean(report) == pytest.approx(float(np.mean(np.logaddexp(0, x) - x * y)), rel=1e-12)
    assert _query(answer)["targets_format"] == ["index"]
    choice.uncheck()
    expect(page.locator("#misfits")).to_contain_text("[400] does not fit")


def test_class_ids_of_a_classifier_are_told_by_their_shape(page: Page, arrays: Arrays, files: Path) -> None:
    ids = np.arange(400) % len(CLASSES)
    np.save(files / "labels.npy", ids)
    _choose(page, arrays.path("logits.npy"), files / "labels.npy")
    choice = page.get_by_label("The targets are class ids")
    expect(choice).to_be_checked()
    page.get_by_label("loss", exact=True).select_option("cross_entropy")
    expect(choice).to_be_hidden()
    expect(page.locator("#misfits")).to_be_empty()
    x = arrays.logits.astype(np.float64)
    report, answer = _run(page, "cross_entropy")
    costs = np.logaddexp.reduce(x, axis=1) - x[np.arange(400), ids]
    assert _mean(report) == pytest.approx(costs.mean(), rel=1e-12)
    assert "targets_format" not in _query(answer)
    expect(page.get_by_text("share that is right").first).to_be_visible()
    page.get_by_label("loss", exact=True).select_option("bce")
    expect(choice).to_be_checked()


def test_class_ids_of_images_are_along_another_axis(page: Page, files: Path) -> None:
    np.save(files / "logits.npy", np.zeros((6, 3, 8, 8), np.float32))
    np.save(files / "labels.npy", np.zeros((6, 8, 8), np.int64))
    _choose(page, files / "logits.npy", files / "labels.npy")
    page.get_by_label("loss", exact=True).select_option("cross_entropy")
    remedy = "If the classes are along axis 1, set class_axis to 1"
    expect(page.locator("#misfits")).to_contain_text(remedy)
    page.get_by_text("More parameters", exact=True).click()
    page.get_by_label("class_axis", exact=True).fill("1")
    expect(page.locator("#misfits")).to_be_empty()
    page.get_by_label("targets_format", exact=True).select_option("dense")
    expect(page.locator("#misfits")).to_contain_text("[6, 8, 8] does not fit")
    page.get_by_label("targets_format", exact=True).select_option("by default")
    report, answer = _run(page, "cross_entropy")
    assert report["totals"]["count"] == 6 * 8 * 8
    assert "targets_format" not in _query(answer)


def test_integers_are_not_said_to_be_none(page: Page, arrays: Arrays, files: Path) -> None:
    np.save(files / "labels.npy", np.zeros(400, np.int64))
    _choose(page, arrays.path("logits.npy"), files / "labels.npy")
    page.get_by_label("loss", exact=True).select_option("box")
    expect(page.locator("#misfits")).to_contain_text("Both must have the same shape")
    expect(page.locator("#misfits")).not_to_contain_text("integers")


def test_boxes_are_told_by_their_names(page: Page, files: Path) -> None:
    corners = np.sort(np.random.default_rng(4).random((2, 9, 2, 2)), axis=2).reshape(2, 9, 4)
    for name, boxes in zip(("pred_boxes", "gt_boxes"), corners, strict=True):
        np.save(files / f"{name}.npy", boxes)
    _choose(page, files / "pred_boxes.npy", files / "gt_boxes.npy")
    assert [_place(page, f"{name}.npy") for name in ("pred_boxes", "gt_boxes")] == ["boxes", "targets"]
    expect(page.get_by_text("Choose the loss box for these boxes.")).to_be_visible()
    page.get_by_label("loss", exact=True).select_option("box")
    report, _ = _run(page, "box")
    low, high = np.maximum(*corners[:, :, :2]), np.minimum(*corners[:, :, 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=1)
    areas = (corners[:, :, 2:] - corners[:, :, :2]).prod(axis=2).sum(axis=0)
    assert _mean(report) == pytest.approx((1.0 - shared / (areas - shared)).mean(), rel=1e-12)


# ---- Places by type


def test_types_say_what_names_do_not(page: Page, arrays: Arrays, files: Path) -> None:
    np.save(files / "val_2024.npy", arrays.targets)
    _choose(page, files / "val_2024.npy", arrays.path("run7_out.npy"))
    expect(page.get_by_text("run7_out.npy is taken as logits")).to_be_visible()
    assert _place(page, "run7_out.npy") == "logits"
    assert _place(page, "val_2024.npy") == "targets"
    report, _ = _run(page)
    assert _mean(report) == pytest.approx(arrays.losses().mean(), rel=1e-12)


def test_types_say_that_integers_of_one_axis_less_are_class_ids(
    page: Page, arrays: Arrays, files: Path
) -> None:
    ids = np.arange(400) % len(CLASSES)
    np.save(files / "val_2024.npy", ids)
    _choose(page, arrays.path("run7_out.npy"))
    expect(page.get_by_text("Say what run7_out.npy is.")).to_be_visible()  # one alone may be either
    _choose(page, files / "val_2024.npy")
    expect(page.get_by_label("The targets are class ids")).to_be_checked()
    x, y = arrays.logits.astype(np.float64), np.eye(len(CLASSES))[ids]
    report, _ = _run(page)
    assert _mean(report) == pytest.approx(float(np.mean(np.logaddexp(0, x) - x * y)), rel=1e-12)


def test_a_name_says_more_than_a_type(page: Page, arrays: Arrays, files: Path) -> None:
    np.save(files / "val_2024.npy", arrays.targets)
    _choose(page, arrays.path("logits.npy"), files / "val_2024.npy")
    expect(page.get_by_label("What val_2024.npy is")).to_have_value("targets")
    _choose(page, arrays.path("targets.npy"))
    expect(page.get_by_label("What targets.npy is")).to_have_value("targets")
    assert _place(page, "val_2024.npy") == ""
    expect(page.get_by_role("button", name=_GO)).to_be_disabled()


@pytest.mark.parametrize("shape", [(400,), (399, 6), (6,)])
def test_integers_that_cannot_be_targets_are_asked_about(
    page: Page, arrays: Arrays, files: Path, shape: tuple[int, ...]
) -> None:
    np.save(files / "val_2024.npy", np.zeros(shape, bool))  # class ids are integers
    _choose(page, arrays.path("logits.npy"), files / "val_2024.npy")
    expect(page.get_by_text("Say what val_2024.npy is.")).to_be_visible()
    assert _place(page, "val_2024.npy") == ""


def test_one_class_has_no_class_ids(page: Page, arrays: Arrays, files: Path, watch: Watch) -> None:
    watch.allow("status of 422")
    labels = arrays.targets[:, 0].astype(np.int64)
    np.save(files / "logits.npy", arrays.logits[:, :1])
    np.save(files / "labels.npy", labels)
    _choose(page, files / "logits.npy", files / "labels.npy")
    expect(page.locator("#misfits")).to_contain_text("[400] does not fit the inputs' [400, 1]")
    expect(page.locator("#misfits")).to_contain_text("targets[:, None]")
    expect(page.get_by_label("The targets are class ids")).to_be_hidden()
    np.save(files / "labels.npy", labels[:, None])
    _choose(page, files / "labels.npy")
    report, _ = _run(page)
    assert _mean(report) == pytest.approx(arrays.losses()[:, 0].mean(), rel=1e-12)


# ---- Another model


def _is_shown(page: Page, title: str) -> None:
    expect(page.locator(".result-title")).to_have_text(title)
    expect(page.locator(".result")).not_to_have_attribute("aria-busy", "true")


@pytest.mark.parametrize("name", ["retrained-logits.npy", "epoch9.npy"])
def test_after_a_run_the_next_model_takes_the_former_ones_place(
    page: Page, arrays: Arrays, files: Path, watch: Watch, name: str
) -> None:
    np.save(files / name, arrays.better)
    _choose(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
    _run(page)
    _is_shown(page, "logits.npy")
    _choose(page, files / name)
    expect(page.get_by_text(f"{name} takes the place of logits.npy")).to_be_visible()
    expect(page.get_by_role("list", name="Files").get_by_role("listitem")).to_have_count(2)
    report, _ = _run(page)
    assert _mean(report) == pytest.approx(arrays.losses(arrays.better).mean(), rel=1e-12)
    _is_shown(page, name)
    with page.expect_request(lambda each: "paired" in each.url) as asked:  # with both models' bytes
        page.get_by_role("button", name="Compare", exact=True).click()
    answer = asked.value.response()
    assert answer is not None
    difference = arrays.losses(arrays.better).mean() - arrays.losses().mean()
    assert Report(answer.json()["report"]).paired.mean == pytest.approx(difference, rel=1e-9)
    _is_shown(page, f"{name} against logits.npy")


def test_after_a_run_the_next_model_can_be_its_baseline(page: Page, arrays: Arrays, files: Path) -> None:
    np.save(files / "retrained-logits.npy", arrays.better)
    _choose(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
    _run(page)
    _is_shown(page, "logits.npy")
    _choose(page, files / "retrained-logits.npy")
    page.get_by_role("button", name="Score logits.npy against retrained-logits.npy instead").click()
    assert _place(page, "logits.npy") == "logits"
    assert _place(page, "retrained-logits.npy") == "baseline"
    report, answer = _run(page)
    assert _query(answer)["tensors"] == ["targets,baseline,logits"]
    assert _mean(report) == pytest.approx(arrays.losses().mean(), rel=1e-12)


@pytest.mark.parametrize("name", ["retrained-logits.npy", "epoch9.npy"])
@pytest.mark.parametrize("is_instead", [False, True])
def test_before_a_run_a_second_model_is_what_is_compared_with(
    page: Page, arrays: Arrays, files: Path, name: str, *, is_instead: bool
) -> None:
    np.save(files / name, arrays.better)
    _choose(page, arrays.path("logits.npy"), files / name, arrays.path("targets.npy"))
    expect(page.get_by_text(f"{name} is taken as another model's outputs")).to_be_visible()
    assert _place(page, name) == "baseline"
    expect(page.get_by_role("button", name=_GO)).to_be_enabled()
    if is_instead:
        page.get_by_role("button", name=f"Score {name} alone, without logits.npy").click()
        assert _place(page, name) == "logits"
        expect(page.get_by_role("list", name="Files").get_by_role("listitem")).to_have_count(2)
    report, _ = _run(page)
    wanted = arrays.losses(arrays.better if is_instead else None).mean()
    assert _mean(report) == pytest.approx(wanted, rel=1e-12)
    assert ("paired" in report) is not is_instead


def test_after_a_run_other_files_follow_those_of_their_places(
    page: Page, arrays: Arrays, files: Path
) -> None:
    np.save(files / "clean_labels.npy", 1 - arrays.targets)
    _choose(page, arrays.path("both.npz"))
    _run(page)
    _is_shown(page, "both.npz")
    _choose(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
    expect(page.get_by_role("list", name="Files").get_by_role("listitem")).to_have_count(2)
    _run(page)
    _is_shown(page, "logits.npy")
    _choose(page, files / "clean_labels.npy")
    report, _ = _run(page)
    x = arrays.logits.astype(np.float64)
    flipped = float(np.mean(np.logaddexp(0, x) - x * (1 - arrays.targets)))
    assert _mean(report) == pytest.approx(flipped, rel=1e-12)
    _is_shown(page, "logits.npy (2)")


def test_before_a_run_a_second_file_of_targets_is_asked_about(
    page: Page, arrays: Arrays, files: Path
) -> None:
    np.save(files / "clean_labels.npy", 1 - arrays.targets)
    _choose(page, arrays.path("logits.npy"), arrays.path("targets.npy"), files / "clean_labels.npy")
    expect(page.get_by_text("Say what clean_labels.npy is. If it is not needed, remove it")).to_be_visible()
    page.get_by_role("button", name="Remove clean_labels.npy").click()
    expect(page.get_by_role("button", name=_GO)).to_be_enabled()


def test_a_run_is_called_as_its_file(page: Page, arrays: Arrays) -> None:
    _choose(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
    page.get_by_label("loss", exact=True).select_option("focal")
    page.get_by_label("gamma", exact=True).fill("2.5")
    _run(page, "focal")
    _is_shown(page, "logits.npy")
    expect(page.locator("#results .runs li")).to_contain_text("focal, gamma 2.5, alpha 0.25")


def test_the_example_waits_for_the_losses(visit: Visit, server: LiveServer) -> None:
    page = visit("about:blank")
    waiting: list[Route] = []
    page.route("**/info", lambda route: waiting.append(route))
    page.goto(f"{server.url}/ui")
    page.get_by_role("button", name="Try an example").click()
    expect(page.get_by_role("list", name="Files").get_by_role("listitem")).to_have_count(6)
    with page.expect_response(lambda each: urlsplit(each.url).path == "/focal"):
        until(page, lambda: len(waiting) == 1)
        waiting[0].continue_()


def test_own_files_take_the_place_of_the_examples(page: Page, arrays: Arrays) -> None:
    page.get_by_role("button", name="Try an example").click()
    expect(page.get_by_role("list", name="Files").get_by_role("listitem")).to_have_count(6)
    expect(page.locator('[data-section="totals"]')).to_be_visible()
    _choose(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
    expect(page.get_by_role("list", name="Files").get_by_role("listitem")).to_have_count(2)
    expect(page.locator("#example-files")).to_be_hidden()
    report, _ = _run(page)  # of the first loss, as at the start
    assert _mean(report) == pytest.approx(arrays.losses().mean(), rel=1e-12)
    page.get_by_role("button", name="Remove all files").click()
    expect(page.get_by_role("list", name="Files").get_by_role("listitem")).to_have_count(0)
    expect(page.get_by_role("button", name="Remove all files")).to_be_hidden()


@pytest.mark.parametrize(
    ("name", "wrong", "said", "right"),
    [
        ("class_weight", "abc", "Write numbers with commas between them.", "1, 2, 1, 1, 1, 1"),
        ("pos_weight", "abc", "Write a number, or numbers with commas between them.", "2"),
        ("normalizer", "colour", "Write count, or weight, or positives, or a number.", "positives"),
        ("ignore_index", "none", "Write nan, or a number.", "nan"),
    ],
)
def test_what_is_no_number_is_said_at_its_place(
    page: Page, arrays: Arrays, watch: Watch, name: str, wrong: str, said: str, right: str
) -> None:
    _choose(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
    loss = "cross_entropy" if name == "class_weight" else "bce"
    page.get_by_label("loss", exact=True).select_option(loss)
    page.get_by_text("More parameters").click()
    field = page.get_by_label(name, exact=True)
    field.fill(wrong)
    page.get_by_text("More parameters").click()
    page.get_by_role("button", name=_GO).click()
    expect(field).to_be_focused()
    assert field.evaluate("(each) => each.validationMessage") == said
    assert not [each for each in watch.requests if each.startswith("POST")]
    field.fill(right)
    with page.expect_response(lambda each: urlsplit(each.url).path == f"/{loss}") as asked:
        page.get_by_role("button", name=_GO).click()
    assert name in _query(asked.value)


# ---- Keys


def test_without_a_key_the_page_says_what_can_be_done(
    visit: Visit, team_server: TeamServer, arrays: Arrays, watch: Watch
) -> None:
    watch.allow("status of 401")
    page = visit(f"{team_server.url}/ui")
    dialog = page.get_by_role("dialog", name="This server asks for a key")
    expect(dialog).to_contain_text("Ask whoever runs the server")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    expect(page.locator("#problems")).to_contain_text("Without a key you can look around")
    expect(page.get_by_role("alert")).to_have_count(0)
    _choose(page, arrays.path("logits.npy"), arrays.path("short_targets.npy"))
    expect(page.locator("#misfits")).to_contain_text("does not fit")
    expect(dialog).to_have_count(0)
    page.locator("#problems").get_by_role("button", name="Give a key").click()
    dialog.get_by_label("Key", exact=True).fill(team_server.vision)
    dialog.get_by_role("button", name="Use this key").click()
    expect(page.locator("#problems")).to_be_empty()
    expect(page.get_by_label("loss", exact=True)).to_be_visible()


def test_a_forgotten_key_takes_its_runs_along(
    visit: Visit, team_server: TeamServer, arrays: Arrays, watch: Watch
) -> None:
    watch.allow("status of 401")
    page = visit(f"{team_server.url}/ui")
    page.get_by_label("Key", exact=True).fill(team_server.vision)
    page.get_by_role("button", name="Use this key").click()
    _choose(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
    _run(page)
    _is_shown(page, "logits.npy")
    page.get_by_role("button", name="Forget key").click()
    expect(page.locator("#results .runs li")).to_have_count(0)
    expect(page.locator("#results .result")).to_be_empty()


def test_a_view_waits_for_the_teams_rate(visit: Visit, tmp_path: Path, arrays: Arrays, watch: Watch) -> None:
    watch.allow("status of 401")
    watch.allow("status of 429")
    key = make_key()
    write_teams(tmp_path / "teams.toml", team_table("slow", key, limits={"requests_per_second": 0.2}))
    with live_server(tmp_path, teams=tmp_path / "teams.toml") as server:
        page = visit(f"{server.url}/ui")
        page.get_by_label("Key", exact=True).fill(key)
        page.get_by_role("button", name="Use this key").click()
        _choose(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
        page.get_by_role("button", name=_GO).click()
        waits = page.locator(".result-wait")
        expect(waits).to_contain_text("Your team's limit is reached: it is sent again in")
        before = waits.inner_text()
        expect(waits).not_to_have_text(before)  # it counts down
        expect(page.locator('[data-section="totals"]')).to_be_visible(timeout=60_000)
        expect(page.get_by_role("alert")).to_have_count(0)


# ---- Parameters


def test_parameters_reach_the_server(page: Page, arrays: Arrays) -> None:
    _choose(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
    page.get_by_label("loss", exact=True).select_option("focal")
    page.get_by_label("gamma", exact=True).fill("2.5")
    page.get_by_label("alpha off").check()
    page.get_by_label("pos_weight").fill("1, 2, 3, 4, 5, 6")
    page.get_by_text("More parameters").click()
    expect(page.get_by_label("gammas to compare")).to_have_value("0, 0.5, 1, 1.5, 2, 2.5, 3")
    page.get_by_label("label_smoothing").fill("0.1")
    page.get_by_label("top", exact=True).fill("7")
    page.get_by_label("row", exact=True).select_option("mean")
    report, answer = _run(page, "focal")
    asked = {name: values[0] for name, values in _query(answer).items()}
    assert asked == {
        "report": "all",
        "tensors": "pos_weight,logits,targets",
        "gamma": "2.5",
        "alpha": "null",
        "label_smoothing": "0.1",
        "top": "7",
        "row": "mean",
        "sweep": "gamma:0,0.5,1,1.5,2,2.5,3",
    }
    assert report["totals"]["params"]["gamma"] == 2.5
    for command, found in _run_all(page, arrays.folder).items():
        assert _sections(found) == _sections(report), command
    assert len(report["top"]["rows"]) == 7


def test_defaults_are_the_servers_and_are_not_sent(page: Page, arrays: Arrays) -> None:
    _choose(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
    _, answer = _run(page)
    # A report of all has the sums for other weights only if they are asked for.
    assert _query(answer) == {
        "report": ['["totals","classes","top","histogram","calibration","sweep"]'],
        "tensors": ["logits,targets"],
    }


def test_a_report_of_cross_entropy_has_all_sections_and_the_sums(
    page: Page, server: LiveServer, arrays: Arrays, files: Path
) -> None:
    x, y = arrays.logits, arrays.targets
    np.save(files / "logits.npy", x[:, 0])
    np.save(files / "targets.npy", y[:, 0])
    _choose(page, files / "logits.npy", files / "targets.npy")  # without classes
    report, _ = _run(page)
    with LossClient(server.url) as client:
        wanted = client.report("bce", x[:, 0], y[:, 0]).to_dict()
    assert _sections(report, "sweep") == _sections(wanted, "sweep")
    assert "sweep" in report


def test_the_weight_of_positives_is_a_slider_of_cross_entropy(
    page: Page, server: LiveServer, arrays: Arrays, watch: Watch
) -> None:
    _choose(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
    report, _ = _run(page)
    field = page.get_by_role("spinbutton", name="pos_weight, exactly")
    mean = page.locator(".sliders-mean")
    expect(mean).to_have_attribute("data-value", str(_mean(report)))
    before = list(watch.requests)
    with LossClient(server.url) as client:
        for weight in (0.0, 0.3, 17.5):
            field.fill(str(weight))
            wanted = client.bce(arrays.logits, arrays.targets, pos_weight=weight)
            page.wait_for_timeout(100)
            assert float(mean.get_attribute("data-value") or "nan") == pytest.approx(wanted.loss, rel=1e-12)
    assert watch.requests == before
    for command, found in _run_all(page, arrays.folder).items():
        assert _sections(found) == _sections(report), command


def test_a_loss_that_an_operator_added_has_its_fields(visit: Visit, tmp_path: Path, arrays: Arrays) -> None:
    modules = Path(__file__).parents[1] / "faults"
    with live_server(tmp_path, kernel="torch", modules=modules, losses="extra_loss:BRIER") as server:
        page = visit(f"{server.url}/ui")
        _choose(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
        page.get_by_label("loss", exact=True).select_option("brier")
        page.get_by_label("scale").fill("3")
        report, _ = _run(page, "brier")
        assert report["totals"]["params"]["scale"] == 3
        page.get_by_text("Copy this as curl").click()
        assert "no method for brier" in _commands(page)["Python"]
        assert _mean(json.loads(_shell(_commands(page)["curl"], arrays.folder))["report"]) == _mean(report)


# ---- The request


def test_an_error_names_the_place_and_the_remedy(page: Page, arrays: Arrays, watch: Watch) -> None:
    watch.allow("status of 422")
    _choose(page, arrays.path("logits.npy"), arrays.path("wrong_targets.npy"))
    page.get_by_label("What wrong_targets.npy is").select_option("targets")
    page.get_by_role("button", name=_GO).click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("targets, row 17, class 3")
    expect(alert).to_contain_text("target_out_of_range")
    expect(alert).to_be_in_viewport()
    expect(page.locator("#said")).to_be_empty()


@pytest.mark.parametrize("wrong", ["pred_boxes", "gt_boxes"])
def test_an_error_in_a_box_names_its_coordinate(page: Page, files: Path, watch: Watch, wrong: str) -> None:
    watch.allow("status of 422")
    for name in ("pred_boxes", "gt_boxes"):
        boxes = np.tile([0.0, 0.0, 2.0, 2.0], (9, 1))
        boxes[7, 2] = -5.0 if name == wrong else 2.0
        np.save(files / f"{name}.npy", boxes)
    _choose(page, files / "pred_boxes.npy", files / "gt_boxes.npy")
    page.get_by_label("loss", exact=True).select_option("box")
    page.get_by_role("button", name=_GO).click()
    expect(page.get_by_role("alert")).to_contain_text("row 7, coordinate 2: -5 is less than the box's x1")


def test_an_upload_tells_its_progress_and_is_cancelled(page: Page, files: Path) -> None:
    np.save(files / "logits.npy", np.zeros((10_000, 100), np.float32))
    np.save(files / "targets.npy", np.zeros((10_000, 100), np.uint8))
    _choose(page, files / "logits.npy", files / "targets.npy")
    with throttled(page, 1e6):
        page.get_by_role("button", name=_GO).click()
        expect(page.locator("#progress-text")).to_contain_text("% of 5.00 MB")
        bar = page.get_by_role("progressbar")
        page.wait_for_timeout(1000)
        assert 0 < float(bar.get_attribute("value") or 0) < 1
        page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#said")).to_have_text("Cancelled.")
    expect(bar).to_be_hidden()
    report, _ = _run(page)
    assert report["totals"]["rows"] == 10_000


def test_it_works_with_the_keyboard_alone(page: Page, arrays: Arrays) -> None:
    page.on("filechooser", lambda _: None)  # Chromium is told now: together with the key it may be too late
    expect(page.get_by_role("button", name="Try an example")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # to the form, past tabs and links
    expect(page.locator("#score")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Choose files")).to_be_focused()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([arrays.path("logits.npy"), arrays.path("val_2024.npy")])
    place = page.get_by_label("What val_2024.npy is")
    expect(place).to_be_visible()
    for _ in range(20):
        page.keyboard.press("Tab")
        if place.evaluate("(each) => each === document.activeElement"):
            break
    page.keyboard.type("tar")
    assert _place(page, "val_2024.npy") == "targets"
    with page.expect_response(lambda each: urlsplit(each.url).path == "/bce"):
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.get_by_role("button", name=_GO).evaluate("(each) => each === document.activeElement"):
                break
        page.keyboard.press("Enter")


# ---- The same as a command


def test_the_example_runs_and_its_commands_give_the_same(page: Page, files: Path) -> None:
    with page.expect_response(lambda each: urlsplit(each.url).path == "/focal") as asked:
        page.get_by_role("button", name="Try an example").click()
    shown = asked.value.json()["report"]
    for link in page.locator("#example-files a").all():
        with page.expect_download() as download:
            link.click()
        download.value.save_as(files / download.value.suggested_filename)
    reports = _run_all(page, files)
    ids = (files / "images.txt").read_text().splitlines()
    cameras = sorted(set((files / "camera.txt").read_text().splitlines()))
    same = ("totals", "classes", "histogram", "calibration", "sweep")
    for name in same:
        for command, report in reports.items():
            assert report[name] == shown[name], (command, name)
    for command in ("Python", "lossd report"):
        assert reports[command]["groups"]["ids"] == [cameras]
        assert reports[command]["groups"]["sum_terms"] == shown["groups"]["sum_terms"]
        losses = {row["id"]: row["loss"] for row in reports[command]["top"]["rows"]}
        ranks = sorted(ids)
        assert losses == {ranks[int(row["id"])]: row["loss"] for row in shown["top"]["rows"]}
    classes = (files / "classes.txt").read_text().splitlines()
    assert reports["lossd report"]["run"]["class_names"] == classes
    assert "leaves out images.txt, camera.txt" in _commands(page)["curl"]


def _save_all(folder: Path, arrays: Arrays) -> tuple[Path, ...]:
    """Files of all places, under names that a shell and curl take badly."""
    rng = np.random.default_rng(7)
    rows: int = arrays.logits.shape[0]
    columns: int = arrays.logits.shape[1]
    given: dict[str, NDArray[Any]] = {
        'it\'s logits; "x".npy': arrays.logits,
        "-targets.npy": arrays.targets,
        "weight $HOME.npy": rng.random(size=(rows, 1)),
        "mask,1.npy": rng.random((rows, columns)) < 0.9,
        "pos_weight.npy": rng.random(columns) * 3,
        "baseline.npy": arrays.better,
        "camera.npy": rng.integers(0, 3, rows),
        "ids.npy": rng.permutation(rows),
    }
    for name, array in given.items():
        np.save(folder / name, array)
    return tuple(folder / name for name in given)


def test_commands_have_all_that_was_asked(page: Page, arrays: Arrays, files: Path) -> None:
    _choose(page, *_save_all(files, arrays))
    page.get_by_label("loss", exact=True).select_option("focal")
    page.get_by_label("alpha", exact=True).fill("0.1, 0.2, 0.3, 0.4, 0.5, 0.6")
    page.get_by_label("variant").select_option("quality")
    page.get_by_text("More parameters").click()
    page.get_by_label("normalizer").fill("weight")
    page.get_by_label("ignore_index").fill("nan")
    page.get_by_label("calibration_bins").fill("10")
    page.get_by_label("allow_nan").check()
    page.get_by_label("top", exact=True).fill("5")
    shown, _ = _run(page, "focal")
    assert shown["totals"]["weighted"]
    for command, report in _run_all(page, files).items():
        assert _sections(report) == _sections(shown), command


@pytest.mark.parametrize("kind", ["npz", "arrow"])
def test_commands_of_one_file_that_has_all(page: Page, arrays: Arrays, files: Path, kind: str) -> None:
    rows = len(arrays.logits)
    weight, camera, ids = np.linspace(0.5, 2, rows), np.arange(rows) % 3, np.arange(rows)[::-1]
    if kind == "npz":
        given: dict[str, NDArray[Any]] = {
            "logits": arrays.logits,
            "targets": arrays.targets,
            "baseline": arrays.better,
        }
        given |= {"weight": weight[:, None], "groups": camera, "ids": ids}
        np.savez(files / "all.npz", allow_pickle=False, **given)
    else:
        columns: dict[str, Any] = {
            name: pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
            for name, values in (("logits", arrays.logits), ("targets", arrays.targets))
        }
        table = pa.table({**columns, "weight": weight, "group.camera": camera, "ids": ids})
        with pa.ipc.new_stream(str(files / "all.arrow"), table.schema) as sink:
            sink.write_table(table)
    _choose(page, files / f"all.{kind}")
    shown, _ = _run(page)
    assert shown["totals"]["weighted"]
    assert "groups" in shown
    for command, report in _run_all(page, files).items():
        assert _sections(report, "groups") == _sections(shown, "groups"), command
        assert report["groups"]["sum_terms"] == shown["groups"]["sum_terms"], command


def test_commands_take_the_key_from_the_environment(
    visit: Visit, team_server: TeamServer, arrays: Arrays, files: Path, watch: Watch
) -> None:
    watch.allow("status of 401")
    page = visit(f"{team_server.url}/ui")
    page.get_by_label("Key", exact=True).fill(team_server.vision)
    page.get_by_role("button", name="Use this key").click()
    for name, array in (("logits", arrays.logits), ("targets", arrays.targets)):
        np.save(files / f"{name}.npy", array)
    np.savez(files / "both.npz", logits=arrays.logits, targets=arrays.targets)
    _choose(page, files / "logits.npy", files / "targets.npy")
    shown, _ = _run(page)
    for text in _commands(page).values():
        assert team_server.vision not in text
    for command, report in _run_all(page, files, LOSSD_API_KEY=team_server.vision).items():
        assert _sections(report) == _sections(shown), command
    page.get_by_role("button", name="Remove logits.npy", exact=True).click()
    page.get_by_role("button", name="Remove targets.npy").click()
    _choose(page, files / "both.npz")
    (files / "command.py").write_text(_commands(page)["Python"])
    _shell("python command.py", files, LOSSD_API_KEY=team_server.vision)
    assert Report.load(files / "report.json").mean == _mean(shown)


def test_a_command_is_copied(page: Page, arrays: Arrays) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    _choose(page, arrays.path("logits.npy"), arrays.path("targets.npy"))
    text = _commands(page)["curl"]
    page.get_by_role("button", name="Copy curl").click()
    expect(page.get_by_role("button", name="Copy curl")).to_have_text("Copied")
    assert page.evaluate("() => navigator.clipboard.readText()") == text
