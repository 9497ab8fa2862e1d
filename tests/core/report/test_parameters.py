"""The parameters of a report: what is taken, what each error says, and what goes together."""

from __future__ import annotations

import pytest

from lossd.core.catalog import LOSSES, SHARED, Loss
from lossd.core.parameters import check_params, options_of, own_params
from lossd.core.report.parameters import REPORT, check_report, report_parameters
from lossd.types import RequestError
from lossd.wire import parse_query

BCE, FOCAL = LOSSES["bce"], LOSSES["focal"]
ADDED = Loss("added", "Added", "", function="somewhere:added")


def checked(loss: Loss, query: str | bytes) -> dict[str, object]:
    params = check_params(loss, parse_query(query if isinstance(query, bytes) else query.encode()))
    check_report(loss, params)
    return params


def refusal(loss: Loss, query: str) -> RequestError:
    with pytest.raises(RequestError) as caught:
        checked(loss, query)
    assert caught.value.code == "invalid_parameter"
    return caught.value


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [
        ("report=all", "report", ("all",)),
        ("report=top,classes,top", "report", ("classes", "top")),
        ("report=all,sweep&sweep=gamma:1", "report", ("sweep", "all")),
        ('report=["classes","top"]', "report", ("classes", "top")),
        ("report=top&top=3", "top", 3),
        ("report=top&row=mean", "row", "mean"),
        ("report=top&first_row=9007199254740992", "first_row", 2**53),
        ("report=all&calibration_bins=4096", "calibration_bins", 4096),
        ("report=all&calibration_bins=exact", "calibration_bins", "exact"),
        ("report=all&sweep=gamma:0,1,1.5", "sweep", (0.0, 1.0, 1.5)),
        ("report=all&sweep=gamma%3A0%2C1e2", "sweep", (0.0, 100.0)),
        ("report=all&sweep=gamma:2", "sweep", (2.0,)),
        ('report=all&sweep="gamma:0,1"', "sweep", (0.0, 1.0)),
        ('report=all&sweep=["gamma:0","gamma:1"]', "sweep", (0.0, 1.0)),
        ('report=all&sweep={"gamma":[0,1]}', "sweep", (0.0, 1.0)),
        ("report=groups&group_names=camera", "group_names", ("camera",)),
        ("report=groups&group_names=camera,weather", "group_names", ("camera", "weather")),
        ('report=groups&group_names=["a,b"]', "group_names", ("a,b",)),
    ],
)
def test_values(query: str, name: str, value: object) -> None:
    params = checked(FOCAL, query)
    assert params[name] == value
    assert type(params[name]) is type(value)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_bins_that_are_offered_are_taken(loss: Loss) -> None:
    offered = [one.schema for one in report_parameters(loss) if one.name == "calibration_bins"]
    assert ("calibration" in loss.without) is (offered == [])
    for schema in offered:
        if "exact" in str(schema):
            assert checked(loss, "report=all&calibration_bins=exact")["calibration_bins"] == "exact"
        else:
            assert "give a number of bins" in str(refusal(loss, "report=all&calibration_bins=exact"))


def test_a_request_has_them_only_if_they_are_given() -> None:
    names = {parameter.name for parameter in REPORT}
    for loss in (*LOSSES.values(), ADDED):
        assert not names & check_params(loss, {}).keys()
        assert not names & check_params(loss, dict.fromkeys(names)).keys()  # null is as if left out
        params = check_params(loss, {"report": "all", "top": 5})
        assert names & params.keys() == {"report", "top"}
        assert not names & (own_params(loss, params).keys() | options_of(loss, params).keys())


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("report=clases", "did you mean classes?"),
        ("report=[]", "totals, classes, groups, top, histogram, calibration, sweep, paired"),
        ("report=true", "must be all, or some of"),
        ("report=all&top=0", "at least 1"),
        ("report=all&top=1.5", "whole number"),
        ("report=all&top=true", "whole number"),
        ("report=all&row=max", "one of sum, mean"),
        ("report=all&first_row=-1", r"0 to 2\*\*53"),
        ("report=all&first_row=9007199254740993", r"0 to 2\*\*53"),
        ("report=all&calibration_bins=1", "2 to 4096, or exact"),
        ("report=all&calibration_bins=4097", "2 to 4096, or exact"),
        ("report=all&sweep=alpha:1", "as in gamma:0,1,1.5"),
        ("report=all&sweep=0,1", "as in gamma:0,1,1.5"),
        ("report=all&sweep=gamma:", "as in gamma:0,1,1.5"),
        ("report=all&sweep=gamma:1,alpha:2", "as in gamma:0,1,1.5"),
        ("report=all&sweep=gamma:1001", "from 0 to 1000"),
        ("report=all&sweep=gamma:nan", "from 0 to 1000"),
        ("report=all&sweep=gamma:1_0", "from 0 to 1000"),
        ("report=all&sweep=gamma:0,-0.5", "from 0 to 1000"),
        ("report=all&sweep=gamma:" + ",".join(map(str, range(33))), "1 to 32 values"),
        ('report=all&sweep={"gamma":[0],"alpha":[1]}', "as in gamma:0,1,1.5"),
        ("report=all&sweep=gamma:1,1.0", "each gamma once"),
        ("report=all&group_names=1,2", "1 to 8 names"),
        ("report=all&group_names=" + ",".join("abcdefghi"), "1 to 8 names"),
        ("report=all&group_names=" + "a" * 257, "up to 256 bytes"),
        ("report=all&group_names=a,a", "each name once"),
    ],
)
def test_values_that_are_refused(query: str, said: str) -> None:
    error = refusal(FOCAL, query)
    assert error.errors[0][0] == f"/{query.removeprefix('report=all&').partition('=')[0]}"
    with pytest.raises(RequestError, match=said):
        raise error


@pytest.mark.parametrize(
    "alone",
    ["top=3", "row=mean", "first_row=1", "calibration_bins=9", "sweep=gamma:1", "group_names=a"],
)
def test_all_others_go_with_a_report(alone: str) -> None:
    error = refusal(FOCAL, alone)
    name = alone.partition("=")[0]
    assert error.errors[0][0] == f"/{name}"
    assert error.detail.startswith(f"{name} goes with a report; add report=all")


@pytest.mark.parametrize("loss", LOSSES.values(), ids=lambda loss: loss.name)
def test_a_name_that_is_nearly_one_is_suggested(loss: Loss) -> None:
    names = [("reprot", "report"), ("tops", "top")]
    if "calibration" not in loss.without:
        names.append(("calibration_bin", "calibration_bins"))
    for wrong, name in names:
        assert f"did you mean {name}?" in refusal(loss, f"{wrong}=1").detail


def test_sweeps_are_of_losses_that_have_gamma() -> None:
    assert "the section sweep needs the gammas" in refusal(FOCAL, "report=sweep").detail
    assert checked(BCE, "report=sweep")["report"] == ("sweep",)
    assert "bce has no gamma" in refusal(BCE, "report=all&sweep=gamma:1").detail
    for query in ("report=sweep", "report=all&sweep=gamma:1"):
        assert "added has no section sweep" in refusal(ADDED, query).detail
    for loss in (BCE, FOCAL, ADDED):
        checked(loss, "report=all")


def test_no_loss_has_a_parameter_of_that_name() -> None:
    names = [parameter.name for loss in LOSSES.values() for parameter in (*SHARED, *loss.parameters)]
    assert not {parameter.name for parameter in REPORT} & set(names)
