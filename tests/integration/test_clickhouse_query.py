"""``meterline query`` as its user meets it, on the real engine: every format, every refusal."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from pipeline import cli
from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.migrations import migrate
from pipeline.clickhouse.windows import moment_of
from pipeline.domain.events import Last, Latest, SummaryShard, TallyKey
from pipeline.domain.values import value_of
from pipeline.sink.rows import Place, row_of, tables_of
from tests.conftest import Stack

Meterline = Callable[..., Result]
ZONE = "Europe/Berlin"
NASTY = "'; DROP TABLE summary_shards_g1; -- \\"

USAGE = [
    ("cus_1", {"region": "eu"}, "2026-03-28T10:00", "1.5"),
    ("cus_1", {"region": "eu"}, "2026-03-29T01:30", "2.25"),  # the 23-hour day
    ("cus_1", {"region": ""}, "2026-03-29T03:00", "0.000000000001"),
    ("cus_2", {}, "2026-03-29T23:59", "99999999999999999999999999.999999999999"),
    ("cus_2", {"region": "us"}, "2026-04-01", "-7"),
    (NASTY, {NASTY: NASTY}, "2026-05-01", "3"),
]


@pytest.fixture
def meterline(stack: Stack, namespace: str, tmp_path, monkeypatch) -> Meterline:
    """Runs a command on a database with USAGE."""
    server = Server(stack.clickhouse, namespace)
    list(migrate(server))
    rows = []
    for offset, (customer, dimensions, when, value) in enumerate(USAGE):
        units, ms = value_of(value), moment_of(when, ZONE)
        key = TallyKey(True, "calls", customer, ms, tuple(sorted(dimensions.items())))
        last, latest = Last(ms, ms, offset, units), Latest(ms, offset, units)
        rows.append(row_of(Place(0, 0, 0), SummaryShard(key, 0, offset, 1, units, units, units, last, latest)))
    with connect(server) as client:
        client.insert_arrow("summary_shards_g1", tables_of(rows)["summary_shards"])
    for name in [name for name in os.environ if name.startswith("METERLINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    environ = {"METERLINE_CLICKHOUSE": stack.clickhouse, "METERLINE_NAMESPACE": namespace, "COLUMNS": "200"}
    return lambda *words, **more: CliRunner().invoke(cli.app, list(words), env=environ | more)


def test_days_of_23_hours_as_json(meterline: Meterline) -> None:
    done = meterline("query", "calls", "-c", "cus_1", "--window", "day", "--zone", ZONE, "-f", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == [
        {
            "event_name": "calls",
            "window_start": "2026-03-28T00:00:00+01:00",
            "window_end": "2026-03-29T00:00:00+01:00",
            "sum": "1.5",
            "count": 1,
        },
        {
            "event_name": "calls",
            "window_start": "2026-03-29T00:00:00+01:00",
            "window_end": "2026-03-30T00:00:00+02:00",
            "sum": "2.250000000001",
            "count": 2,
        },
    ]


def test_groups_and_customers_as_csv(meterline: Meterline) -> None:
    words = ["query", "calls", "--end", "2026-05", "--per-customer", "--group-by", "region", "-a", "sum", "-a", "avg"]
    done = meterline(*words, "--zone", ZONE, "--format", "csv")
    assert list(csv.reader(io.StringIO(done.stdout))) == [
        ["window_start", "window_end", "customer", "region", "sum", "avg"],
        ["", "2026-05-01T00:00:00+02:00", "cus_1", "", "0.000000000001", "0.000000000001"],
        ["", "2026-05-01T00:00:00+02:00", "cus_1", "eu", "3.75", "1.875"],
        ["", "2026-05-01T00:00:00+02:00", "cus_2", "us", "-7", "-7"],
        ["", "2026-05-01T00:00:00+02:00", "cus_2", "", *["99999999999999999999999999.999999999999"] * 2],
    ]


def test_a_table_for_people(meterline: Meterline) -> None:
    done = meterline("query", "calls", "--window", "month", "--zone", ZONE, "-a", "count", "-a", "max", "-a", "last")
    lines = [line.split() for line in done.stdout.splitlines() if line.strip() and "─" not in line]
    huge = "99999999999999999999999999.999999999999"
    assert lines == [
        ["window_start", "count", "max", "last"],
        ["2026-03-01T00:00:00+01:00", "4", huge, huge],
        ["2026-04-01T00:00:00+02:00", "1", "-7", "-7"],
        ["2026-05-01T00:00:00+02:00", "1", "3", "3"],
    ]


def test_filters(meterline: Meterline) -> None:
    def total(*words: str) -> str:
        (row,) = json.loads(meterline("query", "calls", "-f", "json", *words).stdout)
        return row["sum"]

    assert total("--where", "region=eu", "--where", "region=us") == "-3.25"
    assert total("--where", "region=") == "0.000000000001"
    assert total("--where", "region=eu", "--where", "tier=1") == "0"
    assert total("-c", "cus_1", "-c", "nobody", "--start", "2026-03-29T00:30") == "2.250000000001"
    assert total("-c", NASTY, "--where", f"{NASTY}={NASTY}") == "3"
    assert total("--test") == "0"


def test_what_is_asked_is_never_read_as_sql(meterline: Meterline) -> None:
    done = meterline("query", NASTY, "-c", NASTY, "-g", NASTY, "--where", f"{NASTY}={NASTY}", "-f", "json")
    assert (done.exit_code, done.stdout) == (0, "[]\n")
    assert meterline("query", "calls", "-g", NASTY, "-f", "csv").stdout.splitlines()[0].count(NASTY) == 1


def test_nothing_to_show(meterline: Meterline) -> None:
    assert meterline("query", "nothing", "-w", "day").stdout.strip() == "no usage of nothing in this range"
    assert meterline("query", "nothing", "-w", "day", "-f", "json").stdout == "[]\n"
    assert meterline("query", "nothing", "-w", "day", "-f", "csv").stdout == "window_start,window_end,sum,count\n"
    assert "0" in meterline("query", "nothing").stdout.split()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--start", "2026-03-29T12:00", "--window", "day"], "--start 2026-03-29T12:00:00+02:00 lies inside a day"),
        (["--end", "2026-03-29T12:00:30"], "--end 2026-03-29T12:00:30+02:00 lies inside a minute"),
        (["--start", "2026-04", "--end", "2026-03"], "start must be before its end"),
        (["--start", "soon"], "--start soon: a time is written"),
        (["--zone", "Middle/Earth"], "there is no time zone 'Middle/Earth'"),
        (["--aggregation", "median"], "aggregations are sum, count"),
        (["--where", "region"], "--where 'region': write DIMENSION=VALUE"),
    ],
)
def test_questions_without_an_answer(meterline: Meterline, words: list[str], complaint: str) -> None:
    done = meterline("query", "calls", "--zone", ZONE, *words)
    assert done.exit_code == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.output


def test_clickhouse_is_away_or_empty(meterline: Meterline) -> None:
    done = meterline("query", "calls", METERLINE_CLICKHOUSE="http://127.0.0.1:9")
    assert (done.exit_code, "ClickHouse at http://127.0.0.1:9 does not answer" in done.stderr) == (1, True)
    done = meterline("query", "calls", METERLINE_NAMESPACE="nobody_made_this")
    assert (done.exit_code, "run `meterline clickhouse migrate`" in done.stderr) == (1, True)
    done = meterline("explain", "x", METERLINE_NAMESPACE="nobody_made_this")
    assert (done.exit_code, "run `meterline clickhouse migrate`" in done.stderr) == (1, True)
