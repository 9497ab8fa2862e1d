"""The numbers by which the binding names things to the C code, beside the C code's own."""

from __future__ import annotations

import re
from pathlib import Path

from lossd.core import operand
from lossd.core.catalog import LOSSES, VARIANTS
from lossd.core.native import kernel
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


def test_losses_and_variants_have_the_numbers_of_the_c_code() -> None:
    assert numbers("elements.h", "LOSSD_BCE") == kernel._LOSSES
    assert numbers("elements.h", "LOSSD_SIGMOID") == kernel._VARIANTS


def test_divisors_have_the_numbers_of_the_c_code() -> None:
    text = (SOURCES / "kernel.h").read_text()
    names = ", ".join(f"DIVISOR_{'none' if name is None else name}".upper() for name in kernel._DIVISORS)
    assert f"enum {{ {names} }};" in text
    assert list(kernel._DIVISORS.values()) == list(range(len(kernel._DIVISORS)))


def test_every_table_is_complete() -> None:
    assert set(kernel._LOSSES) == {loss.name for loss in LOSSES.values() if loss.is_native}
    assert set(kernel._VARIANTS) == set(VARIANTS)
    assert set(kernel._DTYPES) == set(ITEMSIZE) == set(operand._NUMPY)
