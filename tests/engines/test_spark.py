"""Spark, in a driver with local executors: bits, retried tasks, wrong rows, rows that are missing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.errors import PythonException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sql

from engines.shards import SCORER, expected, write_shards
from lossd.batch import RowsMissing, Scorer, merge
from lossd.batch import spark as engine

pytestmark = [
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("java") is None, reason="needs java (openjdk-17-jre-headless)"),
]


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    folder = tmp_path_factory.mktemp("spark")
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    session = (
        SparkSession.builder.master("local[2, 3]")  # two cores, a task is tried three times
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.memory", "1g")
        .config("spark.local.dir", str(folder))
        .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
        .config("spark.sql.shuffle.partitions", "3")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "17")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pa.Table]:
    folder = tmp_path_factory.mktemp("shards")
    return folder, write_shards(folder)


def test_partitions_give_the_bits_of_one_table(spark: SparkSession, shards: tuple[Path, pa.Table]) -> None:
    folder, table = shards
    df = spark.read.parquet(str(folder))
    assert engine.score(df, SCORER) == expected(table)
    assert engine.score(df.repartition(5, "image"), SCORER) == expected(table)
    assert engine.score(df.coalesce(1).orderBy("weight"), SCORER) == expected(table)
    assert engine.score(df.where("camera = 'none'"), SCORER).rows == 0


def test_a_task_that_fails_at_first_counts_once(
    spark: SparkSession, shards: tuple[Path, pa.Table], tmp_path: Path
) -> None:
    folder, table = shards
    failed = str(tmp_path)

    def sometimes(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from SCORER.map_arrow(batches)
        mark = Path(failed) / str(os.getpid())
        if not mark.exists() and len(list(Path(failed).iterdir())) < 2:
            mark.touch()
            raise OSError("the machine is gone")

    df = spark.read.parquet(str(folder)).drop("unused")
    found = df.mapInArrow(sometimes, "rows long, partial binary").collect()
    assert list(tmp_path.iterdir())
    assert merge((bytes(row.partial) for row in found), rows=df.count()) == expected(table)


def test_a_wrong_value_is_refused_with_the_words_of_the_service(
    spark: SparkSession, shards: tuple[Path, pa.Table]
) -> None:
    df = spark.read.parquet(str(shards[0])).withColumn("targets", sql.transform("targets", lambda y: y + 3))
    with pytest.raises(PythonException, match=r"is outside \[0, 1\] at /targets/"):
        engine.score(df, Scorer("bce"))


def test_rows_that_are_others_at_every_look_are_noticed(
    spark: SparkSession, shards: tuple[Path, pa.Table]
) -> None:
    chance = sql.udf(lambda: os.urandom(1)[0] < 128, "boolean").asNondeterministic()
    df = spark.read.parquet(str(shards[0]))
    df = df.unionAll(df).unionAll(df).where(chance())
    with pytest.raises(RowsMissing, match="rows were scored, and there are"):
        _score_often(df)


def _score_often(df: DataFrame) -> None:
    for _ in range(5):  # two draws of some 600 rows may be of one number
        engine.score(df, SCORER)
