"""Usage of many customers by HTTP: windows, zones, dimensions, pages, formats; on usage that stands in ClickHouse."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator

import pyarrow as pa
import pytest

from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.migrations import migrate
from pipeline.clickhouse.tables import table_of
from pipeline.clickhouse.windows import moment_text
from pipeline.gateway.explanation import RANGE_MAX, RECORDS_MAX
from tests.gateways import GatewayHome
from tests.usage import Usage

EVENT_NAME = "tokens"
NASTY = "'; DROP TABLE summary_shards_g1; -- {x:Identifier} `"
USAGE = [
    ("cus_1", "2026-03-28T10:00", "1.5", {"region": "eu"}),
    ("cus_1", "2026-03-29T00:30", "2.25", {"region": "eu"}),  # a 23-hour day in Berlin
    ("cus_1", "2026-03-29T01:00", "0.000000000001", {"region": ""}),
    ("cus_2", "2026-03-29T21:59", "99999999999999999999999999.999999999999", {}),
    ("cus_2", "2026-03-29T22:00", "-7", {"region": "us"}),
    (NASTY, "2026-03-28T10:00", "3", {NASTY: NASTY}),
]
RANGE = {"start_time": "2026-03-01T00:00:00Z", "end_time": "2026-04-01T00:00:00Z"}


@pytest.fixture(scope="module")
def home(stack, tmp_path_factory) -> Iterator[GatewayHome]:
    server = Server(stack.clickhouse, f"gateway_usage_{uuid.uuid4().hex[:12]}")
    list(migrate(server))
    with connect(server) as client:
        usage = Usage(client, EVENT_NAME, livemode=False)
        for customer, when, value, dimensions in USAGE:
            usage.add(customer, when, value, **dimensions)
    with GatewayHome(stack, server.database, tmp_path_factory.mktemp("gateway")) as found:
        found.start()
        yield found


@pytest.fixture(scope="module")
def key(home: GatewayHome) -> str:
    return home.new_key()


@pytest.fixture(scope="module")
def meter(home: GatewayHome, key: str) -> str:
    sdk = home.stripe_client(key)
    made = sdk.v1.billing.meters.create(
        {"display_name": "Tokens", "event_name": EVENT_NAME, "default_aggregation": {"formula": "sum"}}
    )
    return made.id


@pytest.fixture(scope="module")
def ask(home: GatewayHome, key: str, meter: str):
    def asked(headers=None, path=f"/meterline/v1/meters/{meter}/usage", **query):
        with home.client(key) as client:
            return client.ask("GET", path, params=RANGE | query, headers=headers)

    return asked


def test_customers_and_dimensions_by_day_in_berlin(ask) -> None:
    zone = {"zone": "Europe/Berlin", "start_time": "2026-02-28T23:00:00Z", "end_time": "2026-03-31T22:00:00Z"}
    found = ask(**zone, window="day", per_customer="true", **{"group_by[]": "region"}).body
    rows = [
        (row["window_start"], row["customer"], row["dimensions"]["region"], row["values"]["sum"])
        for row in found["data"]
    ]
    assert rows == [
        ("2026-03-28T00:00:00+01:00", NASTY, None, "3"),
        ("2026-03-28T00:00:00+01:00", "cus_1", "eu", "1.5"),
        ("2026-03-29T00:00:00+01:00", "cus_1", "", "0.000000000001"),
        ("2026-03-29T00:00:00+01:00", "cus_1", "eu", "2.25"),
        ("2026-03-29T00:00:00+01:00", "cus_2", None, "99999999999999999999999999.999999999999"),
        ("2026-03-30T00:00:00+02:00", "cus_2", "us", "-7"),
    ]  # fmt: skip
    assert (found["has_more"], found["next_page"], found["zone"], found["window"]) == (
        False,
        None,
        "Europe/Berlin",
        "day",
    )


def test_filters_and_aggregations(ask) -> None:
    words = {"aggregations[0]": "count", "aggregations[1]": "max", "aggregations[2]": "avg"}
    (row,) = ask(**words, **{"filter[region][0]": "eu", "filter[region][1]": "us"}).body["data"]
    assert row["values"] == {"count": "3", "max": "2.25", "avg": "-1.083333333333"}
    (row,) = ask(**{"filter[region]": "eu", "customers[]": "cus_2"}).body["data"]
    assert row["values"] == {"sum": "0"}
    (row,) = ask(**{f"filter[{NASTY}]": NASTY, "customers[0]": NASTY, "customers[1]": "cus_1"}).body["data"]
    assert row["values"] == {"sum": "3"}


@pytest.mark.parametrize("limit", [1, 2, 4])
@pytest.mark.parametrize("window", ["minute", "hour", "month"])
def test_pages_come_to_the_whole(ask, limit: int, window: str) -> None:
    question = {"window": window, "per_customer": "true", "group_by[]": "region"}
    whole = ask(**question).body["data"]
    pages, token = [], {}
    while token is not None:
        found = ask(**question, **token, limit=limit).body
        pages += found["data"]
        assert len(found["data"]) <= limit
        token = {"page": found["next_page"]} if found["has_more"] else None
    assert pages == whole


def test_lines_and_arrow_say_the_same(ask) -> None:
    question = {"window": "day", "per_customer": "true", "group_by[]": "region", "aggregations[]": "sum"}
    rows = ask(**question).body["data"]
    lines = ask({"Accept": "application/x-ndjson"}, **question)
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in lines.content.splitlines()] == [json.loads(json.dumps(row)) for row in rows]
    answer = ask({"Accept": "application/vnd.apache.arrow.stream"}, **question)
    table = pa.ipc.open_stream(io.BytesIO(answer.content)).read_all()
    assert table.column_names == ["window_start", "window_end", "customer", "dimension.region", "sum"]
    assert [f"{value:f}".rstrip("0").rstrip(".") for value in table["sum"].to_pylist()] == [
        row["values"]["sum"] for row in rows
    ]
    starts = [moment_text(int(moment.timestamp() * 1000), "UTC") for moment in table["window_start"].to_pylist()]
    assert starts == [row["window_start"] for row in rows]
    short = ask({"Accept": "application/x-ndjson"}, **question, limit=2)
    assert len(short.content.splitlines()) == 2
    rest = ask(**question, page=short.headers["meterline-next-page"]).body["data"]
    assert rest == rows[2:]


def test_every_answer_says_how_fresh_it_is(ask, home) -> None:
    found = ask().body["as_of"]
    while found is None:  # in the first second of a gateway's life
        found = ask().body["as_of"]
    assert (found["records_not_visible"], found["newest_not_visible_age_ms"]) == (0, None)
    assert found["partitions"] == [{"partition": n, "visible_below": 0, "end": 0} for n in range(2)]


def test_more_than_can_be_explained_at_once_is_refused(stack, home, ask, key, meter) -> None:
    """Two minutes: one event too many in both of them together; and one record too many of one identifier."""
    columns = "partition, offset, appended_at, identifier, event_name, customer, value, timestamp, livemode"
    with connect(Server(stack.clickhouse, home.settings.namespace)) as client:
        client.command(
            f"INSERT INTO {table_of('meter_events')} ({columns})"
            f" SELECT 0, number, now64(3), if(number <= {RECORDS_MAX}, 'often', toString(number)), '{EVENT_NAME}',"
            f" 'many', 1, toDateTime64('2026-03-05 00:00:00', 3, 'UTC') + 60 * (number = 0), false"
            f" FROM numbers({RANGE_MAX + 1})"
        )
    path = f"/meterline/v1/meters/{meter}/explanation"
    refused = ask(path=path, customer="many")
    assert (refused.status, refused.body["error"]["param"]) == (400, "end_time")
    assert "At most 50,000 events" in refused.body["error"]["message"]
    found = ask(path=path, customer="many", end_time="2026-03-05T00:01:00Z")
    assert (found.status, found.body["totals"]["undecided"]["events"]) == (200, RANGE_MAX)
    with home.client(key) as client:
        refused = client.get(f"{path}?identifier=often")
        assert (refused.status, refused.body["error"]["param"]) == (400, "identifier")
        assert client.get(f"{path}?identifier={RANGE_MAX}").body["decisions"][0]["at"] == f"0:{RANGE_MAX}"


@pytest.mark.parametrize(
    ("change", "param", "says"),
    [
        ({"zone": "Middle/Earth"}, "zone", "there is no time zone"),
        ({"zone": "../../etc/passwd"}, "zone", "there is no time zone"),
        ({"start_time": "2026-03-01T12:00:00Z", "window": "day"}, "start_time", "must begin a day"),
        ({"window": "day", "zone": "Asia/Kathmandu"}, "start_time", "must begin a day"),
        ({"window": "year"}, "window", "one of"),
        ({"aggregations[0]": "median"}, "aggregations[0]", "one of"),
        ({"limit": 10_001}, "limit", "from 1 to 10000"),
        ({"page": "x"}, "page", "page is"),
        ({"page": "W10"}, "page", "page is"),
        ({"filter": "eu"}, "filter", "filter[region]=eu"),
        ({"filter[a][b][c]": "eu"}, "filter[a]", "list"),
        ({"per_customer": "maybe"}, "per_customer", "true or false"),
        ({"end_time": "2026-02-01T00:00:00Z"}, "end_time", "before end_time"),
    ],
)
def test_faults_name_the_parameter(ask, change: dict, param: str, says: str) -> None:
    found = ask(**change)
    assert (found.status, found.error["param"]) == (400, param), found.body
    assert says in found.error["message"]


def test_a_page_goes_with_its_own_question(ask) -> None:
    token = ask(window="day", per_customer="true", limit=1).body["next_page"]
    found = ask(window="hour", per_customer="true", page=token)
    assert (found.status, found.error["param"]) == (400, "page")


def test_s14_nothing_is_read_as_sql(ask) -> None:
    for text in (NASTY, "a'b", "a\\", "x`y", "--", "/*", "{a:String}", "%(x)s", "\\N", "日本"):
        (row,) = ask(**{"customers[]": text, f"filter[{text}]": text, "group_by[]": "region"}).body["data"] or [None]
        assert (row is not None) == (text == NASTY)
        for param in ("zone", "page", "window", "aggregations[]"):
            assert ask(**{param: text}).status == 400


def test_the_other_mode_sees_nothing(ask, home, meter) -> None:
    with home.client(home.new_key(livemode=True)) as client:
        assert client.ask("GET", f"/meterline/v1/meters/{meter}/usage", params=RANGE).status == 404
