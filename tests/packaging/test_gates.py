"""The gates for other repositories' CI: their scripts are run, as GitHub's and GitLab's runners do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]

from lossd import __version__
from lossd_client import LossClient
from pages import ROOT
from scripts.composite_action import Ran, run_action

ACTION: Final = ROOT / "deploy/github-action/action.yml"
WORKFLOW: Final = ROOT / "deploy/github-action/example.yml"
TEMPLATE: Final = ROOT / "deploy/gitlab/lossd-gate.yml"
PIPELINE: Final = ROOT / "deploy/gitlab/example.gitlab-ci.yml"
BOUND: Final = {"max-regression": "1%"}

Act = Callable[..., Ran]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the logits of a baseline, of a worse model, and of one that is neither."""
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    targets = rng.random((400, 5)) < 0.3
    baseline = rng.normal(size=targets.shape) + 2.0 * targets
    camera, scene = np.array(["front", "rear"])[np.arange(400) % 2], np.arange(400) // 8
    models = {
        "baseline": baseline,
        "worse": baseline - 0.5 * targets,
        "noisy": baseline + rng.normal(0.0, 0.3, size=targets.shape),
        "rear": np.where((camera == "rear")[:, None], baseline - 0.5 * targets, baseline + 0.5 * targets),
    }
    for name, logits in models.items():
        np.savez(folder / f"{name}.npz", logits=logits, targets=targets, camera=camera, scene=scene)
        np.save(folder / f"{name} model.npy", logits)
    np.save(folder / "labels.npy", targets)
    return folder


def environment(**more: str) -> dict[str, str]:
    """What a job has: this checkout's `lossd` on the PATH, and no setting of this machine."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "PYTHONPATH") if name in os.environ}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{os.defpath}", **more}


@pytest.fixture
def act(files: Path, tmp_path: Path) -> Act:
    """Runs the action with inputs, in the folder of the files, with lossd installed already."""

    def run(environ: Mapping[str, str] | None = None, **inputs: str) -> Ran:
        scratch = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        scratch.mkdir()
        given = {name.replace("_", "-"): text for name, text in inputs.items()}
        given = {"install": "", "junit": str(scratch / "junit.xml"), **given}
        return run_action(ACTION, given, files, scratch, environ or environment())

    return run


def failures(junit: str) -> list[str]:
    cases = ET.parse(junit).getroot().iter("testcase")
    return [case.attrib["name"] for case in cases if case.find("failure") is not None]


def test_a_regression_fails_the_step_and_says_so_everywhere(act: Act) -> None:
    ran = act(new="worse.npz", baseline="baseline.npz", max_regression="1%")
    assert (ran.code, ran.outputs["verdict"], ran.steps) == (4, "regressed", ["Compare"])
    low, high = map(float, ran.outputs["interval"].split(","))
    assert 0.01 < low < float(ran.outputs["relative-change"]) < high
    assert "regressed" in ran.summary
    assert "|" in ran.summary
    assert ran.summary.strip() in ran.log
    assert len(failures(ran.outputs["junit"])) == 1


def test_a_better_model_passes(act: Act) -> None:
    ran = act(new="baseline.npz", baseline="worse.npz", max_regression="1%")
    assert (ran.code, ran.outputs["verdict"]) == (0, "passed")
    assert failures(ran.outputs["junit"]) == []


def test_an_undecided_one_passes_unless_it_is_to_fail(act: Act) -> None:
    inputs = {"new": "noisy model.npy", "baseline": "baseline model.npy", "targets": "labels.npy"}
    ran = act(**inputs, max_regression="2%")
    assert (ran.code, ran.outputs["verdict"]) == (0, "undecided")
    ran = act(**inputs, max_regression="2%", strict="true")
    assert (ran.code, ran.outputs["verdict"]) == (4, "undecided")
    assert len(failures(ran.outputs["junit"])) == 1


def test_groups_and_clusters_and_further_options(act: Act) -> None:
    inputs = {"new": "rear.npz", "baseline": "baseline.npz", "max_regression": "1%"}
    assert act(**inputs).outputs["verdict"] != "regressed"
    ran = act(**inputs, by="camera\n", cluster="scene\n", loss="focal", args="--gamma 2\n --alpha none")
    assert (ran.code, ran.outputs["verdict"]) == (4, "regressed")
    [failed] = failures(ran.outputs["junit"])
    assert "rear" in failed
    assert {"rear", "front"} <= set(ran.summary.replace("|", " ").split())


def test_runs_are_compared_without_scoring_and_a_server_scores_if_named(
    act: Act, files: Path, base_url: str
) -> None:
    targets = np.load(files / "labels.npy")
    with LossClient(base_url) as client:
        for name in ("worse", "baseline"):
            logits = np.load(files / f"{name} model.npy")
            client.report("bce", logits, targets).save(files / f"{name}.json.gz")
    ran = act(new="worse.json.gz", baseline="baseline.json.gz", max_regression="1%")
    assert ran.outputs["verdict"] == "undecided"  # not paired
    ran = act(new="worse.npz", baseline="baseline.npz", max_regression="1%", url=base_url)
    assert (ran.code, ran.outputs["verdict"]) == (4, "regressed")
    ran = act(new="worse.npz", baseline="baseline.npz", url="http://127.0.0.1:9")
    assert (ran.code, ran.outputs["verdict"]) == (3, "")


def test_a_fault_fails_the_step_with_its_own_code_and_without_a_verdict(act: Act) -> None:
    ran = act(new="missing.npz", baseline="baseline.npz")
    assert (ran.code, ran.outputs["verdict"], ran.summary) == (2, "", "")
    assert "missing.npz" in ran.log


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"targets": "labels.npy"}, "given, and no "),
        ({}, "is empty, and "),
        ({"baseline": "baseline model.npy", "targets": "labels.npy", "strict": "yes"}, " is true or false"),
        ({"baseline": "baseline model.npy", "targets": "labels.npy", "args": "--help"}, "something else"),
    ],
    ids=["targets", "nothing", "strict", "help"],
)
def test_what_is_no_comparison_is_red(
    act: Act, files: Path, tmp_path: Path, inputs: dict[str, str], said: str
) -> None:
    """Targets would be taken as the baseline, and help ends with 0."""
    (tmp_path / "old.xml").write_text("<testsuites/>")
    given = {"new": "noisy model.npy", "max_regression": "2%", **inputs}
    ran = act(**given, junit=str(tmp_path / "old.xml"))
    assert (ran.code, ran.outputs["verdict"], ran.summary) == (2, "", "")
    assert said in ran.log
    (files / "lossd-compare.xml").write_text("<testsuites/>")
    done = job("sh", files, {f"GATE_{name.upper()}": text for name, text in given.items()})
    assert done.returncode == 2
    assert said in done.stderr
    if said == "something else":
        assert not (tmp_path / "old.xml").exists()
        assert not (files / "lossd-compare.xml").exists()


def test_strict_is_read_in_any_case_and_a_baseline_may_be_a_column(act: Act, files: Path) -> None:
    inputs = {"new": "noisy model.npy", "baseline": "baseline model.npy", "targets": "labels.npy"}
    for text, code in (("True", 4), ("FALSE", 0)):
        ran = act(**inputs, max_regression="2%", strict=text)
        assert (ran.code, ran.outputs["verdict"]) == (code, "undecided")
        given = {f"GATE_{name.upper()}": each for name, each in inputs.items()}
        done = job("sh", files, {**given, "GATE_MAX_REGRESSION": "2%", "GATE_STRICT": text})
        assert done.returncode == code
    with np.load(files / "worse.npz") as worse, np.load(files / "baseline.npz") as baseline:
        np.savez(files / "both.npz", **worse, other=baseline["logits"])
    for args in ("--baseline other", "--baseline-column=other"):
        ran = act(new="both.npz", max_regression="1%", args=args)
        assert (ran.outputs["verdict"], ran.code) == ("regressed", 4), ran.log
        given = {"GATE_NEW": "both.npz", "GATE_MAX_REGRESSION": "1%", "GATE_ARGS": args}
        assert job("sh", files, given).returncode == 4


def test_a_run_in_capitals_is_not_scored(act: Act, files: Path) -> None:
    """A shell's `*.json` leaves it to --engine, which scores files and refuses a run."""
    ran = act(new="worse.npz", baseline="baseline.npz", args="--out both.json")
    assert ran.code == 4
    (files / "both.json").rename(files / "BOTH.JSON")
    assert act(new="BOTH.JSON").outputs["verdict"] == "regressed"
    assert job("sh", files, {"GATE_NEW": "BOTH.JSON"}).returncode == 4


HOSTILE: Final = (
    "$(touch pwned) `touch pwned` \"; touch pwned; ' * -o ${HOME}\n::set-output name=verdict::passed"
)
NAMES_WHAT_IS_RUN: Final = {"install", "python"}


def test_no_input_is_run_and_an_output_is_one_line(act: Act, files: Path, tmp_path: Path) -> None:
    names = yaml.safe_load(ACTION.read_text())["inputs"].keys() - NAMES_WHAT_IS_RUN
    ran = act(**dict.fromkeys(names, HOSTILE))
    assert (ran.code, ran.outputs["verdict"]) == (2, "")
    junit = f"{tmp_path}/x\nverdict=passed\n$(touch pwned)"
    ran = act(new="worse.npz", baseline="baseline.npz", by="camera\n", junit=junit)
    assert (ran.code, ran.outputs["verdict"]) == (4, "regressed")
    assert not list(files.glob("pwned*"))


def test_a_group_cannot_command_the_runner(act: Act, files: Path) -> None:
    """A line of the log that begins with `::` is a command, unless a word that nobody knows stops these."""
    with np.load(files / "worse.npz") as worse:
        camera = np.array(["::error::x", "rear"])[np.arange(400) % 2]
        np.savez(files / "named.npz", **{**worse, "camera": camera})
    ran = act(new="named.npz", baseline="baseline model.npy", by="camera")
    before, _, rest = ran.log.partition("::stop-commands::")
    word, _, inside = rest.partition("\n")
    assert len(word) == 32, ran.log
    inside, _, after = inside.partition(f"::{word}::")
    assert ("::" in before, "::error::x" in inside) == (False, True)
    assert re.findall("::.+::", after) == ["::error title=lossd compare::"]


def test_scripts_hold_no_expression_and_the_action_installs_its_own_version() -> None:
    action = yaml.safe_load(ACTION.read_text())
    assert all("${{" not in step["run"] for step in action["runs"]["steps"])
    assert action["inputs"]["install"]["default"] == f"lossd[local]=={__version__}"
    [used] = [step for step in example_steps() if "lossd" in step.get("uses", "")]
    assert used["uses"] == f"example-org/lossd/{ACTION.parent.relative_to(ROOT)}@v{__version__}"


def example_steps() -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = yaml.safe_load(WORKFLOW.read_text())["jobs"]["gate"]["steps"]
    return steps


def test_the_example_of_a_workflow_is_red(act: Act, files: Path) -> None:
    inputs = example_steps()[-1]["with"]
    (files / "new.npz").write_bytes((files / "worse.npz").read_bytes())
    assert act(**{name: str(text) for name, text in inputs.items()}).code == 4


def job(shell: str, folder: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the script of GitLab's template, as its runner does: in one shell that ends at the first error."""
    template = yaml.safe_load(TEMPLATE.read_text())[".lossd-gate"]
    given = {**template["variables"], **variables}
    return subprocess.run(
        [shell, "-e", "-c", "\n".join(template["script"])],
        cwd=folder,
        env=environment(**given),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_job_of_gitlab_is_red_and_has_its_junit_report(files: Path, shell: str) -> None:
    pipeline = yaml.safe_load(PIPELINE.read_text())
    (files / "new.npz").write_bytes((files / "worse.npz").read_bytes())
    done = job(shell, files, pipeline["gate"]["variables"])
    assert (done.returncode, done.stderr) == (4, "")
    assert "regressed" in done.stdout
    artifacts = yaml.safe_load(TEMPLATE.read_text())[".lossd-gate"]["artifacts"]
    assert artifacts["when"] == "always"  # a failed job's report is the one that matters
    assert len(failures(str(files / artifacts["reports"]["junit"]))) == 1
    assert all((files / path).is_file() for path in artifacts["paths"])


def test_a_job_of_gitlab_takes_all_variables(files: Path, base_url: str) -> None:
    given = {
        "GATE_NEW": "noisy model.npy",
        "GATE_BASELINE": "baseline model.npy",
        "GATE_TARGETS": "labels.npy",
        "GATE_MAX_REGRESSION": "2%",
    }
    assert job("sh", files, {**given, "GATE_ARGS": "--strict --loss bce"}).returncode == 4
    assert job("sh", files, {**given, "LOSSD_BASE_URL": base_url}).returncode == 0
    hostile = {**given, "GATE_MAX_REGRESSION": HOSTILE, "GATE_ARGS": "$(touch pwned) *"}
    assert job("sh", files, hostile).returncode == 2
    assert not (files / "pwned").exists()


def test_the_template_installs_its_own_version_and_the_example_includes_it() -> None:
    template = yaml.safe_load(TEMPLATE.read_text())[".lossd-gate"]
    assert template["variables"]["GATE_INSTALL"] == f"lossd[local]=={__version__}"
    pipeline = yaml.safe_load(PIPELINE.read_text())
    [include] = pipeline["include"]
    assert include["remote"].endswith(f"/v{__version__}/{TEMPLATE.relative_to(ROOT)}")
    assert pipeline["gate"]["extends"] in yaml.safe_load(TEMPLATE.read_text())
    assert pipeline["gate"]["variables"].keys() <= template["variables"].keys()
