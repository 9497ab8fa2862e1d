"""Dask, by threads and by processes: bits, and what is refused."""

from __future__ import annotations

from pathlib import Path

import dask
import dask.dataframe as dd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engines.shards import SCORER, expected, write_shards
from lossd.batch import RequestError, RowsMissing, Scorer
from lossd.batch import dask as engine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:The inplace keyword in DataFrame.reset_index:DeprecationWarning"
    ),  # Dask's
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pa.Table]:
    folder = tmp_path_factory.mktemp("shards")
    return folder, write_shards(folder)


@pytest.mark.parametrize("scheduler", ["threads", "processes", "synchronous"])
def test_delayed_tables_give_the_bits_of_one(shards: tuple[Path, pa.Table], scheduler: str) -> None:
    folder, table = shards
    files = sorted(folder.glob("*.parquet"))
    tables = [dask.delayed(pq.read_table)(file) for file in files]
    found = engine.score(tables, SCORER, scheduler=scheduler, num_workers=2)
    assert found == expected(table)


def test_eight_threads_over_many_tables_give_the_bits_of_one(shards: tuple[Path, pa.Table]) -> None:
    table = shards[1]
    blocks = [table.slice(start, 3) for start in range(0, table.num_rows, 3)]
    tables = [dask.delayed(block) for block in blocks]
    assert engine.score(tables, SCORER, scheduler="threads", num_workers=8) == expected(table)


def test_a_data_frame_gives_the_bits_of_one_table(shards: tuple[Path, pa.Table]) -> None:
    folder, table = shards
    frame = dd.read_parquet(
        folder, columns=["logits", "targets", "weight", "camera", "image"], split_row_groups=True
    )
    assert frame.npartitions > 6
    assert engine.score(frame, SCORER, scheduler="threads", num_workers=2) == expected(table)


def test_a_wrong_value_is_refused_with_the_words_of_the_service(shards: tuple[Path, pa.Table]) -> None:
    table = pa.table({"logits": [1.0, 2.0], "targets": [0.0, 3.0]})
    for scheduler in ("threads", "processes"):
        with pytest.raises(RequestError, match=r"3 is outside \[0, 1\] at /targets/1") as refused:
            engine.score([dask.delayed(table)], Scorer("bce"), scheduler=scheduler, num_workers=1)
        assert refused.value.errors[0][0] == "/targets/1"


class _Shrinking:
    """A table that is read anew, each time with fewer rows."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows) + 1

    def __arrow_c_stream__(self, requested: object = None) -> object:
        return self._table.__arrow_c_stream__(requested)  # type: ignore[no-untyped-call]


def test_no_tables_have_a_sum_and_no_mean() -> None:
    assert float(engine.score([], Scorer("bce", reduction="sum"), scheduler="synchronous").result) == 0.0
    with pytest.raises(RequestError, match="empty_mean"):
        _ = engine.score([], Scorer("bce"), scheduler="synchronous").result


def test_rows_that_are_missing_are_told() -> None:
    table = _Shrinking(pa.table({"logits": [1.0, 2.0], "targets": [0.0, 1.0]}))
    with pytest.raises(RowsMissing, match="2 rows were scored, and there are 3"):
        engine.score([dask.delayed(table, pure=False)], Scorer("bce"), scheduler="synchronous")
