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
_UNDECIDED: Final = "lossd_undecided"
_URL: Final = "--lossd-url"
_SERVER: Final = ("fastapi", "uvicorn")
"""Packages that a server needs."""


class ComparisonWarning(pytest.PytestWarning):
    """A note on a comparison: how the models were compared, or what looks like a mistake."""


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
            loss: The loss, such as "bce".
            new: The new model's logits, [N, ...]; of another loss its inputs, such as boxes.
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
            The comparison, if it has not failed the test. A request or an argument that is refused fails it,
            too, with the message alone.
        """
        __tracebackhide__ = True
        client: LossClient = self._request.getfixturevalue("_lossd_client")
        scored: Any = {"probabilities" if probabilities else "logits": new}
        try:
            by_group = options.get("groups") is not None
            options["sections"] = _sections(options.get("sections"), by_group=by_group)
            ask: Any = client.report  # by a name that is not known beforehand
            report = ask(loss, targets=targets, baseline=baseline, **scored, **options)
            notes = [] if probabilities else list(_notes_on_logits(loss, new, baseline))
        except _refusals() as error:
            raise _failure(error) from None
        return self._judged(
            report,
            notes=notes,
            by=by,
            clusters=clusters,
            max_regression=max_regression,
            confidence=confidence,
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
            The comparison, if it has not failed the test. Reports that cannot be read, or compared, fail it,
            too, with the message alone.
        """
        __tracebackhide__ = True
        return self._judged(
            new, baseline, by=by, clusters=clusters, max_regression=max_regression, confidence=confidence
        )

    def _judged(
        self,
        new: Report | str | Path,
        *baseline: Any,  # noqa: ANN401
        notes: Sequence[str] = (),
        **options: Any,  # noqa: ANN401
    ) -> Comparison:
        """Compare, note the comparison in the test's report, and fail the test or warn."""
        __tracebackhide__ = True
        from lossd_client import compare

        try:
            comparison = compare(new, *baseline, **options)
        except _refusals() as error:
            raise _failure(error) from None
        node = self._request.node
        node.add_report_section("call", "comparison", comparison.to_markdown())
        node.user_properties.append(("lossd_verdict", comparison.verdict))
        is_undecided = comparison.verdict == "undecided"
        if comparison.regressed or (is_undecided and self._request.config.getoption(_STRICT)):
            pytest.fail(str(comparison))
        if is_undecided:  # no warning: under -W error it would fail, and --lossd-strict is to say that
            node.user_properties.append((_UNDECIDED, str(comparison).splitlines()[1]))
        for note in (*notes, *comparison.notes):
            warnings.warn(ComparisonWarning(note), stacklevel=3)
        return comparison


def _sections(given: str | Sequence[str] | None, *, by_group: bool) -> list[str]:
    """Return the sections to make: those asked for, and those that a comparison needs."""
    asked = [] if given is None else given.split(",") if isinstance(given, str) else list(given)
    if asked == ["all"]:
        return asked
    return list(dict.fromkeys([*asked, "totals", "paired", *(["groups"] if by_group else [])]))


def _notes_on_logits(loss: str, new: Array, baseline: Array) -> Iterator[str]:
    """Yield a note if logits look like probabilities, of a loss that takes both."""
    from lossd_client._calls.parameters import LOSSES
    from lossd_client._calls.ranges import look_like_probabilities

    if loss in LOSSES and "probabilities" not in LOSSES[loss].inputs:
        return
    names = {"the new model": new, "the baseline": baseline}
    found = [name for name, logits in names.items() if look_like_probabilities(logits)]
    if len(found) == 1:
        yield (
            f"All logits of {found[0]} lie in [0, 1], and the others do not: if they are probabilities, its "
            "losses are wrong; give the logits of both, or the probabilities of both and probabilities=True."
        )
    elif found:
        yield "All logits lie in [0, 1]: if they are probabilities, say probabilities=True."


def _refusals() -> tuple[type[Exception], ...]:
    """Return what requests, arguments and files raise that are refused."""
    from lossd_client import LossdError

    return (LossdError, ValueError, TypeError, LookupError, OSError)


def _failure(error: Exception) -> BaseException:
    """Return the failure of a test that shows an error's message alone."""
    return pytest.fail.Exception(f"loss_gate: {type(error).__name__}: {error}", pytrace=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the gate."""
    group = parser.getgroup("lossd", "losses")
    group.addoption(
        _URL,
        metavar="URL",
        help="the server that loss_gate asks; else LOSSD_BASE_URL, else one is started on this machine",
    )
    group.addoption(
        _STRICT, action="store_true", help="loss_gate fails undecided comparisons, which it lists"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the comparisons that are undecided, in tests that have passed."""
    passed = terminalreporter.stats.get("passed", [])
    undecided = [
        (report.nodeid, text)
        for report in passed
        for name, text in report.user_properties
        if name == _UNDECIDED
    ]
    if undecided:
        terminalreporter.section("undecided comparisons")
        for nodeid, text in dict.fromkeys(undecided):
            terminalreporter.line(f"{nodeid}: {text}")
        terminalreporter.line(f"More rows would tell. With {_STRICT} these fail.")


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
