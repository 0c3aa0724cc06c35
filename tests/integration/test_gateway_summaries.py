"""Summaries by the official SDK, on usage that stands in ClickHouse: exact, paged both ways, and only one's own."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from decimal import Decimal

import pytest
import stripe
from clickhouse_connect.driver.client import Client

from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.migrations import migrate
from pipeline.clickhouse.windows import moment_of
from tests.gateways import GatewayHome
from tests.usage import Usage

DAY = 86_400
START = moment_of("2026-03-01", "UTC") // 1000
NASTY = (
    "'; DROP TABLE summary_shards_g1; --", "{x:Identifier}", "`customer`", "/* */ OR 1=1", "a\\'b", "$$x$$", "%s%d",
    "\\N", "NULL", "日本", "cus_1' OR '1'='1", "[1,2]", "--",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(stack) -> Server:
    found = Server(stack.clickhouse, f"gateway_summaries_{uuid.uuid4().hex[:12]}")
    list(migrate(found))
    return found


@pytest.fixture(scope="module")
def home(stack, server, tmp_path_factory) -> Iterator[GatewayHome]:
    with GatewayHome(stack, server.database, tmp_path_factory.mktemp("gateway")) as found:
        found.start()
        yield found


@pytest.fixture(scope="module")
def engine(server) -> Iterator[Client]:
    with connect(server) as client:
        yield client


@pytest.fixture(scope="module")
def sdk(home: GatewayHome) -> stripe.StripeClient:
    return home.stripe_client(home.new_key())


_names = (f"calls_{number}" for number in itertools.count())


class Metered:
    """A meter with an event name of its own, and usage under it."""

    def __init__(self, sdk: stripe.StripeClient, engine: Client, formula: str = "sum", **more) -> None:
        self.sdk = sdk
        self.event_name = next(_names)
        self.meter = sdk.v1.billing.meters.create(
            {
                "display_name": "Calls",
                "event_name": self.event_name,
                "default_aggregation": {"formula": formula},
                **more,
            }
        )
        self.usage = Usage(engine, self.event_name, livemode=False)

    def summaries(self, customer: str = "cus_1", start: int = START, end: int = START + 31 * DAY, **more):
        parameters = {"customer": customer, "start_time": start, "end_time": end, **more}
        return self.sdk.v1.billing.meters.event_summaries.list(self.meter.id, parameters)


def test_one_summary_without_a_window_even_of_nothing(sdk, engine) -> None:
    metered = Metered(sdk, engine)
    (none,) = metered.summaries().data
    assert (none.aggregated_value, none.start_time, none.end_time) == (0, START, START + 31 * DAY)
    metered.usage.add("cus_1", "2026-03-01T00:00", "1.5")
    metered.usage.add("cus_1", "2026-03-31T23:59", "2")
    metered.usage.add("cus_1", "2026-04-01T00:00", "100")
    metered.usage.add("cus_2", "2026-03-05", "100")
    listed = metered.summaries()
    assert [one.aggregated_value for one in listed.data] == [3.5]
    assert (listed.has_more, listed.url) == (False, f"/v1/billing/meters/{metered.meter.id}/event_summaries")
    assert listed.data[0].id.startswith("mtrusg_test_")
    assert metered.summaries(starting_after=listed.data[0].id).data == []


def test_windows_without_usage_are_left_out_newest_first(sdk, engine) -> None:
    metered = Metered(sdk, engine)
    for when in ("2026-03-02T10:00", "2026-03-02T10:59", "2026-03-02T12:00", "2026-03-04T00:00"):
        metered.usage.add("cus_1", when, "2")
    hours = metered.summaries(value_grouping_window="hour").data
    assert [(one.start_time - START, one.aggregated_value) for one in hours] == [
        (3 * DAY, 2), (DAY + 12 * 3600, 2), (DAY + 10 * 3600, 4)
    ]  # fmt: skip
    days = metered.summaries(value_grouping_window="day").data
    assert [(one.start_time - START, one.end_time - one.start_time, one.aggregated_value) for one in days] == [
        (3 * DAY, DAY, 2), (DAY, DAY, 6)
    ]  # fmt: skip


@pytest.mark.parametrize(("formula", "value"), [("sum", 6), ("count", 3), ("last", -1)])
def test_formulas(sdk, engine, formula: str, value: int) -> None:
    metered = Metered(sdk, engine, formula)
    for when, worth in (("2026-03-02T10:00", "3"), ("2026-03-02T12:00", "-1"), ("2026-03-02T11:00", "4")):
        metered.usage.add("cus_1", when, worth, shard=int(worth) % 2)
    assert metered.summaries().data[0].aggregated_value == value


def test_pages_both_ways_while_usage_arrives(sdk, engine) -> None:
    metered = Metered(sdk, engine)
    for hour in range(0, 60, 2):
        metered.usage.add("cus_1", f"2026-03-{1 + hour // 24:02}T{hour % 24:02}:00", str(hour))
    first = metered.summaries(value_grouping_window="hour", limit=7)
    seen = []
    for number, one in enumerate(first.auto_paging_iter()):
        seen.append((one.start_time - START) // 3600)
        if number == 9:  # before, in and behind what was read
            metered.usage.add("cus_1", "2026-03-03T11:00", "1")
            metered.usage.add("cus_1", "2026-03-01T01:00", "1")
    assert seen == [*range(58, 1, -2), 1, 0]
    oldest = metered.summaries(value_grouping_window="hour", limit=100).data[-1]
    backwards = metered.summaries(value_grouping_window="hour", limit=7, ending_before=oldest.id)
    assert [(one.start_time - START) // 3600 for one in backwards.auto_paging_iter()] == [1, *range(2, 59, 2), 59]


def test_a_cursor_is_known_to_every_gateway(home: GatewayHome, sdk, engine) -> None:
    metered = Metered(sdk, engine)
    for day in (1, 2, 3):
        metered.usage.add("cus_1", f"2026-03-{day:02}", "1")
    here = metered.summaries(value_grouping_window="day", limit=2).data
    other = home.start()
    metered.sdk = home.stripe_client(home.new_key(), other)
    assert [one.id for one in metered.summaries(value_grouping_window="day", limit=2).data] == [one.id for one in here]
    (last,) = metered.summaries(value_grouping_window="day", starting_after=here[-1].id).data
    assert last.start_time == START
    other.stop()


def test_values_keep_all_their_digits(home: GatewayHome, sdk, engine) -> None:
    metered = Metered(sdk, engine)
    metered.usage.add("cus_1", "2026-03-01", "99999999999999999999999999.000000000001")
    metered.usage.add("cus_1", "2026-03-01", "99999999999999999999999999.999999999999", shard=1)
    metered.usage.add("cus_2", "2026-03-01", "0.000000000001")
    key = home.new_key()
    with home.client(key) as client:
        for customer, value in (("cus_1", "199999999999999999999999999"), ("cus_2", "0.000000000001")):
            path = f"/v1/billing/meters/{metered.meter.id}/event_summaries"
            found = client.get(path, customer=customer, start_time=START, end_time=START + DAY)
            assert f'"aggregated_value":{value},'.encode() in found.content
            assert found.body["data"][0]["aggregated_value"] == Decimal(value)


def test_only_what_arrived_last_counts_in_a_pre_aggregated_meter(sdk, engine) -> None:
    metered = Metered(sdk, engine, event_time_window="hour", dimension_payload_keys=["region"])
    usage = metered.usage
    usage.add("cus_1", "2026-03-02T10:00", "100", appended=1)
    usage.add("cus_1", "2026-03-02T10:50", "7", appended=9, region="eu")
    usage.add("cus_1", "2026-03-02T10:59", "100", appended=5, shard=1)
    usage.add("cus_1", "2026-03-02T11:00", "20", appended=2)
    usage.add("cus_2", "2026-03-02T10:00", "1000", appended=99)
    assert [one.aggregated_value for one in metered.summaries(value_grouping_window="hour").data] == [20, 7]
    assert [one.aggregated_value for one in metered.summaries().data] == [27]


@pytest.mark.parametrize(
    ("change", "param", "says"),
    [
        ({"start_time": START + 1}, "start_time", "must begin a minute"),
        ({"end_time": START + DAY + 59}, "end_time", "must begin a minute"),
        ({"start_time": START + 60, "value_grouping_window": "hour"}, "start_time", "must begin a hour"),
        ({"end_time": START + 3600, "value_grouping_window": "day"}, "end_time", "must begin a day"),
        ({"end_time": START}, "end_time", "before end_time"),
        ({"end_time": 250_000_000_000}, "end_time", "both before 2300"),
        ({"value_grouping_window": "month"}, "value_grouping_window", "one of day, hour"),
        ({"limit": 0}, "limit", "1 to 100"),
        ({"customer": ""}, "customer", "empty"),
        ({"window": "hour"}, "window", "unknown parameter"),
        ({"starting_after": "mtrusg_test_x", "ending_before": "mtrusg_test_y"}, "starting_after", "not both"),
        ({"starting_after": "mtrusg_test_QUJD"}, "starting_after", "No such"),
    ],
)
def test_faults_name_the_parameter(sdk, engine, change: dict, param: str, says: str) -> None:
    metered = Metered(sdk, engine)
    asked = {"start": START, "end": START + DAY} | {
        {"start_time": "start", "end_time": "end"}.get(name, name): value for name, value in change.items()
    }
    with pytest.raises(stripe.InvalidRequestError) as fault:
        metered.summaries(**asked)
    assert (fault.value.http_status, fault.value.param) == (400, param)
    assert says in str(fault.value)


def test_a_cursor_of_another_list_is_refused(sdk, engine) -> None:
    mine, others = Metered(sdk, engine), Metered(sdk, engine)
    for one in (mine, others):
        one.usage.add("cus_1", "2026-03-01", "1")
        one.usage.add("cus_2", "2026-03-01", "1")
    wrong = [
        others.summaries(value_grouping_window="hour").data[0].id,
        mine.summaries("cus_2", value_grouping_window="hour").data[0].id,
        mine.summaries(value_grouping_window="day").data[0].id,
        mine.summaries().data[0].id,
        mine.summaries(value_grouping_window="hour").data[0].id[:-2] + "AA",
        mine.summaries(value_grouping_window="hour").data[0].id.replace("_test_", "_"),
    ]
    for cursor in wrong:
        with pytest.raises(stripe.InvalidRequestError, match="No such"):
            mine.summaries(value_grouping_window="hour", starting_after=cursor)


def test_s14_what_is_asked_is_never_read_as_sql(sdk, engine) -> None:
    metered = Metered(sdk, engine)
    for customer in NASTY:
        metered.usage.add(customer, "2026-03-01", "1")
    metered.usage.add("somebody", "2026-03-01", "1000")
    for customer in NASTY:
        (found,) = metered.summaries(customer).data
        assert found.aggregated_value == 1, customer
        (hour,) = metered.summaries(customer, value_grouping_window="hour").data
        assert metered.summaries(customer, value_grouping_window="hour", starting_after=hour.id).data == []
    for param in ("starting_after", "ending_before"):
        for text in NASTY:
            with pytest.raises(stripe.InvalidRequestError, match="No such"):
                metered.summaries(**{param: text})


def test_the_other_mode_sees_nothing(home: GatewayHome, sdk, engine) -> None:
    metered = Metered(sdk, engine)
    metered.sdk = home.stripe_client(home.new_key(livemode=True))
    with pytest.raises(stripe.InvalidRequestError) as fault:
        metered.summaries()
    assert (fault.value.http_status, fault.value.code) == (404, "resource_missing")
    metered.sdk = home.stripe_client(home.new_key(scopes=["events:write"]))
    with pytest.raises(stripe.PermissionError):
        metered.summaries()


def test_clickhouse_is_away(home: GatewayHome, sdk, engine) -> None:
    metered = Metered(sdk, engine)
    cut_off = home.start(CLICKHOUSE="http://127.0.0.1:9")
    metered.sdk = home.stripe_client(home.new_key(), cut_off)
    with pytest.raises(stripe.APIError) as fault:
        metered.summaries()
    assert fault.value.http_status == 503
    assert fault.value.headers["retry-after"]
    assert "ClickHouse" not in str(fault.value)
    cut_off.stop()
