"""The public SQL face as infra/clickhouse/README.md shows it: every example there is run here, as it stands."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from pipeline.clickhouse import tables
from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.migrations import migrate
from pipeline.clickhouse.windows import moment_of
from pipeline.domain.events import Last, Latest, MeterEvent, SummaryShard, TallyKey
from pipeline.domain.limits import VALUE_UNIT
from pipeline.sink.rows import Place, row_of, tables_of
from tests.conftest import Stack

README = (Path(__file__).parents[2] / "infra" / "clickhouse" / "README.md").read_text()
EXAMPLES = re.findall(r"^```(sh|python|sql)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
CURL, PYTHON, GRAFANA, DRILL_DOWN = (text for _, text in EXAMPLES)

USAGE = [
    ("UA", "JFK", "2013-03-09T12:00", 100),
    ("UA", "JFK", "2013-03-10T12:00", 200),  # New York's 23-hour day
    ("UA", "LGA", "2013-03-11T23:59", 300),
    ("AA", "JFK", "2013-07-04T17:30", 400),
]


@pytest.fixture
def client(stack: Stack, namespace: str) -> Iterator[Client]:
    server = Server(stack.clickhouse, namespace)
    list(migrate(server))
    with connect(server) as found:
        rows = []
        for offset, (customer, origin, when, miles) in enumerate(USAGE):
            ms, units = moment_of(when, "America/New_York"), miles * VALUE_UNIT
            key = TallyKey(True, "flight_miles", customer, ms, (("origin", origin),))
            last, latest = Last(ms, ms, offset, units), Latest(ms, offset, units)
            rows.append(row_of(Place(0, 0, 0), SummaryShard(key, 0, offset, 1, units, units, units, last, latest)))
            event = MeterEvent(f"f{offset}", "flight_miles", customer, units, ms, key.dimensions, True)
            rows.append(row_of(Place(0, offset, ms), event))
        for table, content in tables_of(rows).items():
            found.insert_arrow(tables.table_of(table), content)
        yield found


def test_curl(stack: Stack, client: Client, namespace: str) -> None:
    command = CURL.replace("http://127.0.0.1:8123", stack.clickhouse).replace(
        "database=meterline", f"database={namespace}"
    )
    assert stack.clickhouse in command
    assert namespace in command
    answer = subprocess.run(
        ["sh", "-c", command.replace("curl ", "curl -sS ", 1)], capture_output=True, text=True, check=True
    )
    assert re.findall(r"│ (2013-\d\d)-01.*?│ (\w+) +│ +(\d+) │ +(\d+) │", answer.stdout) == [
        ("2013-03", "UA", "600", "3"),
        ("2013-07", "AA", "400", "1"),
    ]


def test_clickhouse_connect(stack: Stack, client: Client, namespace: str, monkeypatch, capsys) -> None:
    get_client = clickhouse_connect.get_client

    def here(host: str, port: int, database: str) -> Client:
        assert (host, port, database) == ("127.0.0.1", 8123, "meterline")
        return get_client(dsn=f"{stack.clickhouse}/{namespace}")

    monkeypatch.setattr(clickhouse_connect, "get_client", here)
    scope: dict = {}
    exec(compile(PYTHON, "README.md", "exec"), scope)
    scope["client"].close()
    assert capsys.readouterr().out.splitlines() == [
        "2013-03-09 05:00:00 1 day, 0:00:00 JFK 100.000000000000 1",
        "2013-03-10 05:00:00 23:00:00 JFK 200.000000000000 1",
        "2013-03-11 04:00:00 1 day, 0:00:00 LGA 300.000000000000 1",
    ]


def test_a_bi_tool(client: Client) -> None:
    sql = GRAFANA.replace("$customer", "'UA'")
    sql = sql.replace("$__from", str(moment_of("2013-03-10", "UTC"))).replace(
        "$__to", str(moment_of("2013-03-12", "UTC"))
    )
    answer = client.query(sql)
    assert answer.column_names == ("time", "customer", "miles")
    assert [miles for _, _, miles in answer.result_rows] == [200.0]


def test_other_questions(client: Client) -> None:
    first, second = (part for part in DRILL_DOWN.split(";") if part.strip())
    assert client.query(first).result_rows == []
    assert [
        row[1]
        for row in client.query(
            first.replace("'UA'", "'AA'").replace(" 17:00", " 21:00").replace(" 18:00", " 22:00")
        ).result_rows
    ] == ["f3"]
    assert client.query(second).result_rows == []


def test_the_readme_lists_every_parameter_and_column(client: Client) -> None:
    ddl = str(client.command("SHOW CREATE VIEW meter_event_summaries"))
    parameters = set(re.findall(r"{(\w+):", ddl))
    call = ", ".join(
        f"{name} = {value}"
        for name, value in {
            "livemode": "true", "event_name": "'x'", "customers": "[]", "start": "'2026-01-01'", "end": "'2027-01-01'",
            "window": "'none'", "zone": "'UTC'", "by_customer": "false", "group_by": "[]", "filter": "map()",
        }.items()
    )  # fmt: skip
    columns = {name for name, *_ in client.query(f"DESCRIBE (SELECT * FROM meter_event_summaries({call}))").result_rows}
    table_of_parameters, table_of_columns = (
        set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]*) \|", part, re.MULTILINE))))
        for part in README.partition("### curl")[0].split("| column |")
    )
    assert table_of_parameters == parameters
    assert table_of_columns == columns


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"window": "'week'"}, "window: none, minute, hour, day or month"),
        ({"zone": "'Middle/Earth'"}, "zone: a name of the IANA time zone database"),
    ],
)
def test_wrong_arguments_are_refused_in_words(client: Client, change: dict[str, str], complaint: str) -> None:
    arguments = {
        "livemode": "true", "event_name": "'flight_miles'", "customers": "[]", "start": "'2013-01-01'",
        "end": "'2014-01-01'", "window": "'day'", "zone": "'UTC'", "by_customer": "false", "group_by": "[]",
        "filter": "map()",
    } | change  # fmt: skip
    call = ", ".join(f"{name} = {value}" for name, value in arguments.items())
    with pytest.raises(DatabaseError, match=complaint):
        client.query(f"SELECT * FROM meter_event_summaries({call})")
