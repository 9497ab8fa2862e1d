"""The pytest plugin: a fixture, `loss_gate`, that fails a test where a model's loss has regressed.

pytest imports this file wherever lossd is installed. It lies beside the package and imports the client when a
test uses the fixture, because the client and numpy would add a fifth of a second to every run of pytest.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from lossd_client import Array, Comparison, LossClient, LossName, Report

_STRICT: Final = "--lossd-strict"
_URL: Final = "--lossd-url"
_SERVER: Final = ("fastapi", "uvicorn")
"""Packages that a server needs."""


class UndecidedWarning(pytest.PytestWarning):
    """There are too few rows to say whether a loss has regressed by more than the bound."""


class LossGate:
    """Compares a model with a baseline, and fails the test if its loss has regressed; see `loss_gate`."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request

    def __call__(
        self,
        loss: LossName,
        new: Array,
        baseline: Array,
        targets: Array,
        *,
        probabilities: bool = False,
        max_regression: float | str = 0.0,
        confidence: float = 0.95,
        by: str | Sequence[str] = (),
        clusters: str | Sequence[str] = (),
        **options: Any,  # noqa: ANN401 - those of `LossClient.report`
    ) -> Comparison:
        """Score both models in one pass, row by row, and compare them.

        Args:
            loss: "bce" or "focal".
            new: The new model's logits, [N, ...].
            baseline: The baseline's logits of the same rows, in the same shape.
            targets: As in `LossClient.report`.
            probabilities: Both are probabilities instead of logits.
            max_regression: By how much the mean may grow: 0.002 in units of the loss, or "0.5%" of the
                baseline's mean.
            confidence: The level of the intervals.
            by: The groups that are judged too, by their names in `groups`.
            clusters: The groups whose rows are alike, such as frames of one scene, by their names.
            options: Those of `LossClient.report`: groups, weight, mask, gamma, targets_format and so on.

        Returns:
            The comparison, if it has not failed the test.

        Raises:
            LossdError: The request failed.
        """
        __tracebackhide__ = True
        client: LossClient = self._request.getfixturevalue("_lossd_client")
        sections = ["totals", "paired", *(["groups"] if options.get("groups") is not None else [])]
        scored: Any = {"probabilities" if probabilities else "logits": new}
        report = client.report(
            loss, targets=targets, baseline=baseline, **scored, **{"sections": sections, **options}
        )
        return self._judged(
            report, by=by, clusters=clusters, max_regression=max_regression, confidence=confidence
        )

    def compare(
        self,
        new: Report | str | Path,
        baseline: Report | str | Path | None = None,
        *,
        max_regression: float | str = 0.0,
        confidence: float = 0.95,
        by: str | Sequence[str] = (),
        clusters: str | Sequence[str] = (),
    ) -> Comparison:
        """Compare two reports, or the files of two runs, without a server.

        Args:
            new: The new model's report, or the path of a saved one.
            baseline: The baseline's. None: `new` has the section `paired`.
            max_regression: As above, like the others.
            confidence: The level of the intervals.
            by: The groups that are judged too.
            clusters: The groups whose rows are alike.

        Returns:
            The comparison, if it has not failed the test.

        Raises:
            NotComparable: The reports are of other losses, parameters or rows.
        """
        __tracebackhide__ = True
        return self._judged(
            new, baseline, by=by, clusters=clusters, max_regression=max_regression, confidence=confidence
        )

    def _judged(self, new: Report | str | Path, *baseline: Any, **options: Any) -> Comparison:  # noqa: ANN401
        """Compare, note the comparison in the test's report, and fail the test or warn."""
        __tracebackhide__ = True
        from lossd_client import compare

        comparison = compare(new, *baseline, **options)
        node = self._request.node
        node.add_report_section("call", "comparison", comparison.to_markdown())
        node.user_properties.append(("lossd_verdict", comparison.verdict))
        is_undecided = comparison.verdict == "undecided"
        if comparison.regressed or (is_undecided and self._request.config.getoption(_STRICT)):
            pytest.fail(str(comparison))
        if is_undecided:
            warnings.warn(UndecidedWarning(str(comparison)), stacklevel=3)
        return comparison


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the gate."""
    group = parser.getgroup("lossd", "losses")
    group.addoption(
        _URL,
        metavar="URL",
        help="the server that loss_gate asks; else LOSSD_BASE_URL, else one is started on this machine",
    )
    group.addoption(
        _STRICT, action="store_true", help="loss_gate fails undecided comparisons, which it warns of"
    )


@pytest.fixture
def loss_gate(request: pytest.FixtureRequest) -> LossGate:
    """Fail the test if a model's loss has regressed: `loss_gate("bce", new, baseline, targets)`."""
    return LossGate(request)


@pytest.fixture(scope="session")
def _lossd_client(pytestconfig: pytest.Config) -> Iterator[LossClient]:
    """Yield the session's client, of a server that is started if none is named."""
    from lossd_client import ConnectionFailed, LossClient, Retry

    url = pytestconfig.getoption(_URL) or os.environ.get("LOSSD_BASE_URL", "").strip()
    if not url and not all(map(find_spec, _SERVER)):
        pytest.fail(
            f"loss_gate needs a server: name one by {_URL} or LOSSD_BASE_URL, or let it start one, after "
            "pip install 'lossd[cpu]'",
            pytrace=False,
        )
    try:
        client = LossClient(url, retry=Retry(first_refusal=3)) if url else LossClient.local()
    except ConnectionFailed as error:
        pytest.fail(f"loss_gate: {error}", pytrace=False)
    with client:
        yield client
