"""The fixture `loss_gate` in real runs of pytest: it fails on a regression, and costs nothing elsewhere."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from lossd_client import ConnectionFailed, LossClient

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]
MODELS = """
import numpy as np

rng = np.random.default_rng(0)
targets = rng.random((400, 5)) < 0.3
baseline = rng.normal(size=targets.shape) + 2.0 * targets
worse = baseline - 0.5 * targets + rng.normal(0.0, 0.01, size=targets.shape)
noisy = baseline + rng.normal(0.0, 0.3, size=targets.shape)
camera = np.array(["front", "rear"])[np.arange(400) % 2]
scene = np.arange(400) // 8
groups = {"camera": camera, "scene": scene}
"""


def run(pytester: pytest.Pytester, tests: str, *options: str) -> pytest.RunResult:
    """Run tests in a process of their own, in which pytest has this plugin and no other of this project."""
    pytester.makepyfile(test_model=f"{MODELS}\n{tests}")
    return pytester.runpytest_subprocess("-p", "pytest_lossd", "-p", "no:cacheprovider", *options)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "LOSSD_BASE_URL", "LOSSD_API_KEY"):
        monkeypatch.delenv(name, raising=False)


GATED = """
def test_worse(loss_gate):
    loss_gate("focal", worse, baseline, targets, max_regression="0.5%", gamma=2.0)

def test_same(loss_gate):
    found = loss_gate("bce", baseline, baseline, targets, max_regression="0.5%")
    assert (found.verdict, found.pairing) == ("passed", "rows")

def test_undecided(loss_gate):
    assert loss_gate("bce", noisy, baseline, targets, max_regression="2%").verdict == "undecided"
"""


def test_a_regression_fails_its_test_with_the_sentence_and_the_table(
    pytester: pytest.Pytester, base_url: str
) -> None:
    ran = run(pytester, GATED, "--lossd-url", base_url, "--junit-xml", "junit.xml")
    ran.assert_outcomes(passed=2, failed=1, warnings=1)
    ran.stdout.fnmatch_lines(["*def test_worse(loss_gate):*", "*Failed: *regressed*", "*comparison*", "|*|"])
    ran.stdout.fnmatch_lines(["*test_model.py:*ComparisonWarning: Both models have the same loss *"])
    ran.stdout.fnmatch_lines(
        [
            "*= undecided comparisons =*",
            "*::test_undecided: all rows: *undecided, as *",
            "*--lossd-strict*",
        ]
    )
    assert not [line for line in ran.outlines if "pytest_lossd.py" in line]  # its own frames are no news
    cases = ET.fromstring((pytester.path / "junit.xml").read_text()).findall(".//testcase")
    noted = {case.attrib["name"]: case.find(".//property").attrib["value"] for case in cases}  # type: ignore[union-attr]
    assert noted == {"test_worse": "regressed", "test_same": "passed", "test_undecided": "undecided"}


def test_strict_fails_what_is_undecided(
    pytester: pytest.Pytester, base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOSSD_BASE_URL", base_url)
    run(pytester, GATED, "--lossd-strict").assert_outcomes(passed=1, failed=2)


GROUPED = """
def test_rear(loss_gate):
    mixed = np.where((camera == "rear")[:, None], worse, baseline)
    loss_gate("bce", mixed, baseline, targets, max_regression="3%", groups=groups, by="camera")

def test_scenes(loss_gate):
    found = loss_gate("bce", worse, baseline, targets, max_regression="50%", groups=groups, clusters="scene")
    assert (found.verdict, found.whole.clusters) == ("passed", 50)

def test_probabilities(loss_gate):
    p, q = 1 / (1 + np.exp(-worse)), 1 / (1 + np.exp(-baseline))
    loss_gate("bce", p, q, targets, probabilities=True)
"""


def test_groups_clusters_and_probabilities(pytester: pytest.Pytester, base_url: str) -> None:
    ran = run(pytester, GROUPED, "--lossd-url", base_url)
    ran.assert_outcomes(passed=1, failed=2)
    ran.stdout.fnmatch_lines(["*_ test_rear _*", "*Failed: *", "*rear*"])
    ran.stdout.fnmatch_lines(["*_ test_probabilities _*", "*Failed: *regressed*"])


SAVED = """
import pytest
from lossd_client import Report

def test_files(loss_gate):
    found = loss_gate.compare("same.json.gz", "baseline.json.gz", max_regression="1%")
    assert found.pairing == "none"

def test_reports(loss_gate):
    loss_gate.compare(Report.load("worse.json.gz"), Report.load("baseline.json.gz"), max_regression="1%")
"""


def test_saved_runs_are_compared_without_a_server(
    pytester: pytest.Pytester, base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, object] = {}
    exec(MODELS, names)
    with LossClient(base_url) as client:
        for file, logits in (("same", "baseline"), ("worse", "worse"), ("baseline", "baseline")):
            report = client.report("bce", names[logits], names["targets"])  # type: ignore[call-overload]
            report.save(pytester.path / f"{file}.json.gz")
    monkeypatch.setenv("LOSSD_BASE_URL", "http://127.0.0.1:9")
    ran = run(pytester, SAVED)
    ran.assert_outcomes(passed=2, warnings=6)
    ran.stdout.fnmatch_lines(["*ComparisonWarning: Not paired: *", "*= undecided comparisons =*"])


def test_undecided_is_no_error_where_warnings_are(pytester: pytest.Pytester, base_url: str) -> None:
    tests = """
def test_undecided(loss_gate):
    assert loss_gate("bce", noisy, baseline, targets, max_regression="2%").verdict == "undecided"
"""
    ran = run(pytester, tests, "--lossd-url", base_url, "-W", "error")
    ran.assert_outcomes(passed=1, warnings=0)
    ran.stdout.fnmatch_lines(["*= undecided comparisons =*"])


REFUSED = """
import pytest

def test_values(loss_gate):
    loss_gate("bce", worse, baseline, targets, weight=-np.ones_like(worse))

def test_shape(loss_gate):
    loss_gate("bce", worse, baseline[:3], targets)

def test_dtype(loss_gate):
    loss_gate("bce", np.array([["a"]]), baseline, targets)

def test_argument(loss_gate):
    loss_gate("bce", worse, baseline, targets, confidence="0.95")

def test_groups(loss_gate):
    loss_gate("bce", worse, baseline, targets, by="camera")

def test_file(loss_gate):
    loss_gate.compare("none.json", "baseline.json.gz")
"""


def test_what_is_refused_fails_with_its_message_alone(pytester: pytest.Pytester, base_url: str) -> None:
    ran = run(pytester, REFUSED, "--lossd-url", base_url)
    ran.assert_outcomes(failed=6)
    ran.stdout.no_fnmatch_line("def test_*")
    ran.stdout.no_fnmatch_line("*Traceback*")
    ran.stdout.no_fnmatch_line("*During handling*")
    ran.stdout.fnmatch_lines(
        [
            "loss_gate: InvalidRequest: *",
            "loss_gate: *baseline*",
            "loss_gate: TypeError: *",
            "loss_gate: TypeError: confidence must be a number between 0 and 1, such as 0.95, and is '0.95'",
            "loss_gate: NotComparable: the new report has no groups, and by camera is asked for*",
            "loss_gate: FileNotFoundError: *none.json*",
        ]
    )


NOTED = """
import pytest
from pytest_lossd import ComparisonWarning

p, q = 1 / (1 + np.exp(-noisy)), 1 / (1 + np.exp(-baseline))

def test_sections(loss_gate):
    for sections in ("histogram", ["histogram", "top"], "all", None):
        made = {"groups": groups, "by": "camera", "sections": sections}
        loss_gate("bce", noisy, baseline, targets, max_regression="900%", **made)

@pytest.mark.parametrize("new", [p, noisy], ids=["both", "baseline"])
def test_probabilities(loss_gate, new):
    with pytest.warns(ComparisonWarning, match=r"logits.* lie in \\[0, 1\\].*probabilities=True"):
        loss_gate("bce", new, q, targets, max_regression="900%")
"""


def test_sections_are_added_and_probabilities_are_noted(pytester: pytest.Pytester, base_url: str) -> None:
    run(pytester, NOTED, "--lossd-url", base_url).assert_outcomes(passed=3, warnings=0)


COUNTED = """
from lossd_client import LossClient

start = LossClient.local

def counted(**options):
    client = start(**options)
    with open("started.txt", "a") as out:
        print(client.base_url, file=out)
    return client

LossClient.local = counted
"""


@pytest.mark.slow
def test_one_server_is_started_for_the_session_and_ends_with_it(pytester: pytest.Pytester) -> None:
    run(pytester, f"{COUNTED}\n{GATED}").assert_outcomes(passed=2, failed=1, warnings=1)
    [url] = (pytester.path / "started.txt").read_text().splitlines()
    with LossClient(url, retry=None) as client, pytest.raises(ConnectionFailed):
        client.ready()


def test_a_server_that_is_not_there_fails_the_test_and_says_what_to_do(pytester: pytest.Pytester) -> None:
    tests = "def test(loss_gate):\n    loss_gate('bce', worse, baseline, targets)"
    ran = run(pytester, tests, "--lossd-url", "http://127.0.0.1:9")
    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(["*ConnectionFailed: *127.0.0.1:9*"])


def test_where_none_can_be_started_it_says_what_to_do(pytester: pytest.Pytester) -> None:
    tests = """
import sys
sys.modules["uvicorn"] = None  # as if it were not installed

def test(loss_gate):
    loss_gate("bce", worse, baseline, targets)
"""
    ran = run(pytester, tests)
    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(["*loss_gate needs a server: *--lossd-url*LOSSD_BASE_URL*lossd?cpu?*"])


def test_other_suites_never_import_the_client(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import sys\ndef test():\n    assert 'pytest_lossd' in sys.modules\n"
        "    assert not {'lossd_client', 'numpy', 'httpx'} & set(sys.modules)"
    )
    ran = pytester.runpytest_subprocess("-p", "pytest_lossd", "-W", "error")
    ran.assert_outcomes(passed=1)


def test_pytest_finds_the_plugin_where_the_wheel_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {"pytest_lossd": "pytest_lossd"}
    assert "client/pytest_lossd.py" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert not [need for need in project["project"]["dependencies"] if need.startswith("pytest")]


def test_the_client_does_without_pytest() -> None:
    code = "import sys, lossd_client; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
