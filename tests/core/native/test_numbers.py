"""The numbers by which the binding names things to the C code, beside the C code's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args, get_type_hints

from lossd.core import operand
from lossd.core.catalog import LOSSES, VARIANTS, Loss
from lossd.core.native import kernel, library, reports
from lossd.core.report.layout import Inputs, Layout
from lossd.core.report.partial import ENTRY
from lossd.core.report.spec import SECTIONS, ReportSpec
from lossd.types import ITEMSIZE

SOURCES = Path(kernel.__file__).parent


def numbers(header: str, first: str) -> dict[str, int]:
    """The members of the enumeration that begins with a name, in lower case, without the prefix."""
    text = (SOURCES / header).read_text()
    found = re.search(rf"enum {{ ({first}\b.*?) }};", text.replace("\n", " "))
    assert found is not None
    members = [member.split(" = ")[0].strip().lower() for member in found[1].split(",")]
    explicit = [int(number) for number in re.findall(r" = (\d+)", found[1])]
    assert explicit in ([], list(range(len(members))))
    return {member.removeprefix("lossd_"): number for number, member in enumerate(members)}


def test_dtypes_have_the_numbers_of_the_c_code() -> None:
    assert numbers("load.h", "FLOAT16") == kernel._DTYPES


def test_the_c_code_has_every_native_loss_and_no_other() -> None:
    found = library.loss_numbers()
    assert set(found) == {loss.name for loss in LOSSES.values() if loss.is_native}
    rows = {loss.name for loss in LOSSES.values() if loss.row}
    assert [name in rows for name in found] == sorted(name in rows for name in found)  # those of rows last
    assert library.other_loss() == len(found)


def test_variants_have_the_numbers_of_the_c_code() -> None:
    assert numbers("elements.h", "LOSSD_SIGMOID") == kernel._VARIANTS


def test_divisors_have_the_numbers_of_the_c_code() -> None:
    text = (SOURCES / "kernel.h").read_text()
    names = ", ".join(f"DIVISOR_{'none' if name is None else name}".upper() for name in reports.SHARES)
    assert f"enum {{ {names} }};" in text
    assert list(reports.SHARES.values()) == list(range(len(reports.SHARES)))


def test_every_table_is_complete() -> None:
    assert all(len(loss.parameters) <= library.MOST_OWN for loss in LOSSES.values())
    assert set(kernel._TARGETS) == set(get_args(get_type_hints(Loss)["targets"]))
    assert set(kernel._VARIANTS) == set(VARIANTS)
    assert set(kernel._DTYPES) == set(ITEMSIZE) == set(operand._NUMPY)


def test_reports_have_the_figures_of_the_c_code_in_its_order() -> None:
    text = (SOURCES / "kernel.h").read_text()
    for name, fields in (("indices", library.Indices), ("group_indices", library.GroupIndices)):
        found = re.search(r"typedef struct \{([^}]*)\} " + name + ";", text)
        assert found is not None
        assert re.findall(r"\w+(?=[,;])", found[1]) == [field[0] for field in fields._fields_]


def test_every_figure_of_a_layout_has_its_place_in_the_c_code() -> None:
    spec = ReportSpec(frozenset(SECTIONS), top=1, gammas=(1.0,))
    layout = Layout(spec, Inputs("sigmoid", (2, 3), 1, 3, False, True, True, 1))
    assert set(layout.sums.fields) == set(library.SUMS)
    assert set(layout.counts.fields) == set(library.COUNTS)
    assert set(layout.group_sums.fields) == set(library.GROUP_SUMS)
    assert set(layout.group_counts.fields) == set(library.GROUP_COUNTS)


def test_entries_have_the_members_of_the_c_code() -> None:
    text = (SOURCES / "report_figures.h").read_text()
    found = re.search(r"typedef struct \{([^}]*)\} entry;", text)
    assert found is not None
    assert tuple(re.findall(r"\w+(?=[,;])", found[1])) == ENTRY.names
