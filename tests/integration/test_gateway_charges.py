"""Charges by HTTP and by the command line, which say the same, on usage that stands in ClickHouse."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest
import stripe
from typer.testing import CliRunner

from pipeline import cli
from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.migrations import migrate
from tests.gateways import GatewayHome
from tests.usage import Usage

EVENT_NAME = "fonts"
USAGE = [
    ("cus_1", "2026-01-05", "20"),
    ("cus_1", "2026-01-31", "-3"),
    ("cus_1", "2026-02-01", "3"),
    ("cus_1", "2026-02-28", "3.5"),
    ("cus_1", "2026-03-31", "-7"),
    ("cus_2", "2026-01-05", "1000"),
]
TIERS = [
    {"up_to": 5, "unit_amount": 700},
    {"up_to": 10, "unit_amount": 650, "flat_amount": 100},
    {"up_to": "inf", "unit_amount_decimal": "600.5"},
]


@pytest.fixture(scope="module")
def home(stack, tmp_path_factory) -> Iterator[GatewayHome]:
    server = Server(stack.clickhouse, f"gateway_charges_{uuid.uuid4().hex[:12]}")
    list(migrate(server))
    with connect(server) as client:
        usage = Usage(client, EVENT_NAME, livemode=False)
        for customer, when, value in USAGE:
            usage.add(customer, when, value)
    with GatewayHome(stack, server.database, tmp_path_factory.mktemp("gateway")) as found:
        found.start()
        yield found


@pytest.fixture(scope="module")
def key(home: GatewayHome) -> str:
    return home.new_key()


@pytest.fixture(scope="module")
def plans(home: GatewayHome, key: str) -> dict[str, stripe.Plan]:
    sdk = home.stripe_client(key)
    meter = sdk.v1.billing.meters.create(
        {"display_name": "Fonts", "event_name": EVENT_NAME, "default_aggregation": {"formula": "sum"}}
    )
    metered = {"currency": "usd", "interval": "month", "product": {"name": "Fonts"}, "meter": meter.id}
    tiered = metered | {"billing_scheme": "tiered", "tiers": TIERS}
    return {
        "graduated": sdk.v1.plans.create(tiered | {"tiers_mode": "graduated"}),
        "volume": sdk.v1.plans.create(tiered | {"tiers_mode": "volume"}),
        "dozens": sdk.v1.plans.create(
            metered | {"currency": "jpy", "amount": 90, "transform_usage": {"divide_by": 12, "round": "up"}}
        ),
        "seats": sdk.v1.plans.create(
            {"currency": "kwd", "interval": "year", "amount_decimal": "10.5", "product": {"name": "Seats"}}
        ),
    }


def moment(day: str) -> str:
    return f"{day}T00:00:00Z"


def ask(home: GatewayHome, key: str, plan: str, **asked):
    with home.client(key) as client:
        return client.get(f"/meterline/v1/plans/{plan}/charges", **({"customer": "cus_1"} | asked))


def test_graduated_tiers_cycle_by_cycle_line_by_line(home, key, plans) -> None:
    found = ask(home, key, plans["graduated"].id, start_time=moment("2026-01-01"), end_time=moment("2026-04-01")).body
    assert [(cycle["usage"], cycle["quantity"], cycle["text"]) for cycle in found["cycles"]] == [
        ("17", "17", "110.54 USD"), ("6.5", "6.5", "45.75 USD"), ("-7", "0", "0.00 USD"),
    ]  # fmt: skip
    assert [(line["description"], line["text"]) for line in found["cycles"][0]["lines"]] == [
        ("each unit up to 5", "5 x 7.00 USD = 35.00 USD"),
        ("each unit above 5 up to 10", "5 x 6.50 USD = 32.50 USD"),
        ("flat amount for usage above 5 up to 10", "1.00 USD = 1.00 USD"),
        ("each unit above 10", "7 x 6.005 USD = 42.035 USD, charged as 42.04 USD"),
    ]
    assert found["cycles"][2]["steps"] == ["usage: -7", "negative usage is charged as 0"]
    assert (found["amount"], found["text"]) == (11054 + 4575, "156.29 USD")
    assert all(cycle["whole"] and cycle["note"] is None for cycle in found["cycles"])


def test_volume_and_transformed_usage(home, key, plans) -> None:
    january = {"start_time": moment("2026-01-01"), "end_time": moment("2026-02-01")}
    (cycle,) = ask(home, key, plans["volume"].id, **january).body["cycles"]
    assert [line["text"] for line in cycle["lines"]] == ["17 x 6.005 USD = 102.085 USD, charged as 102.09 USD"]
    (cycle,) = ask(home, key, plans["dozens"].id, **january).body["cycles"]
    assert (cycle["steps"], cycle["text"]) == (["usage: 17", "divided by 12 and rounded up: 2"], "180 JPY")


def test_cycles_that_the_range_cuts_are_said_to_be(home, key, plans) -> None:
    found = ask(
        home, key, plans["graduated"].id, start_time=moment("2026-01-20"), end_time=moment("2026-02-20"),
        anchor=moment("2025-12-31"),
    ).body  # fmt: skip
    assert [(cycle["start_time"], cycle["usage"], cycle["whole"]) for cycle in found["cycles"]] == [
        (1767139200, "0", False), (1769817600, "0", False)
    ]  # fmt: skip
    assert "from 2026-01-31T00:00:00Z until 2026-02-20T00:00:00Z" in found["cycles"][1]["note"]


def test_licensed_plans_charge_the_quantity_that_is_given(home, key, plans) -> None:
    asked = {"start_time": moment("2026-01-15"), "end_time": moment("2028-02-01"), "anchor": moment("2026-01-01")}
    found = ask(home, key, plans["seats"].id, quantity=3, **asked).body
    assert [(cycle["text"], cycle["note"]) for cycle in found["cycles"]] == [
        ("0.000 KWD", "began before the range and was charged then"),
        ("0.032 KWD", None),
        ("0.032 KWD", "charged in advance"),
    ]
    assert ask(home, key, plans["seats"].id, **asked).body["cycles"][1]["lines"][0]["text"] == (
        "1 x 0.0105 KWD = 0.0105 KWD, charged as 0.011 KWD"
    )


@pytest.mark.parametrize("kind", ["graduated", "dozens", "seats"])
def test_the_command_line_says_the_same(home, key, plans, kind: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["charges", plans[kind].id, "-c", "cus_1", "--start", "2026-01", "--end", "2026-03", "--test"]
    if kind == "seats":
        words += ["--quantity", "2", "--anchor", "2026-02"]
    done = CliRunner().invoke(cli.app, [*words, "-f", "json"], env=home.environ)
    assert done.exit_code == 0, done.output
    more = {"quantity": 2, "anchor": moment("2026-02-01")} if kind == "seats" else {}
    asked = ask(home, key, plans[kind].id, start_time=moment("2026-01-01"), end_time=moment("2026-03-01"), **more)
    assert json.loads(done.stdout) == json.loads(asked.content)
    table = CliRunner().invoke(cli.app, words, env=home.environ)
    assert asked.body["text"] in table.stdout
    assert all(line["text"] in table.stdout for cycle in asked.body["cycles"] for line in cycle["lines"])


@pytest.mark.parametrize(
    ("kind", "change", "param", "says"),
    [
        ("graduated", {"quantity": 1}, "quantity", "is what the meter says"),
        ("seats", {"quantity": -1}, "quantity", "from 0"),
        ("graduated", {"start_time": "soon"}, "start_time", "Unix seconds, or as in"),
        ("graduated", {"start_time": "2026-01-01T00:00:01Z"}, "start_time", "begins a minute"),
        ("graduated", {"anchor": "2026-01-01T00:00:00.5Z"}, "anchor", "begins a minute"),
        ("graduated", {"end_time": "1"}, "end_time", "begins a minute"),
        ("graduated", {"end_time": "0"}, "end_time", "start_time must be before end_time"),
        ("graduated", {"start_time": "0", "end_time": "9999999960"}, "end_time", "more than 1000 billing cycles"),
        (
            "graduated",
            {"start_time": "253402214400", "end_time": "253402300740"},
            "end_time",
            "Ask for a shorter range",
        ),
        ("graduated", {"customer": ""}, "customer", "empty"),
        ("graduated", {"product": "x"}, "product", "unknown parameter"),
    ],
)
def test_faults_name_the_parameter(home, key, plans, kind: str, change: dict, param: str, says: str) -> None:
    asked = {"start_time": moment("2026-01-01"), "end_time": moment("2026-02-01")} | change
    found = ask(home, key, plans[kind].id, **asked)
    assert (found.status, found.error["param"]) == (400, param), found.body
    assert says in found.error["message"]


def test_the_table_of_the_command_line(home, key, plans, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["charges", plans["graduated"].id, "-c", "cus_1", "--start", "2026-01", "--end", "2026-02", "--test"]
    done = CliRunner().invoke(cli.app, words, env=home.environ)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines() if line.strip() and "─" not in line]
    assert lines == [
        "cycle computed amount",
        "2026-01-01T00:00 – 2026-02-01T00:00 usage: 17 110.54 USD",
        "each unit up to 5 5 x 7.00 USD = 35.00 USD",
        "each unit above 5 up to 10 5 x 6.50 USD = 32.50 USD",
        "flat amount for usage above 5 up to 10 1.00 USD = 1.00 USD",
        "each unit above 10 7 x 6.005 USD = 42.035 USD, charged as 42.04 USD",
        "total 110.54 USD",
    ]


def test_a_plan_that_is_not_there(home, key, plans, tmp_path, monkeypatch) -> None:
    asked = {"start_time": moment("2026-01-01"), "end_time": moment("2026-02-01")}
    absent = ask(home, key, "plan_absent", **asked)
    other_mode = ask(home, home.new_key(livemode=True), plans["seats"].id, **asked)
    assert (absent.status, absent.error["code"], other_mode.status) == (404, "resource_missing", 404)
    monkeypatch.chdir(tmp_path)
    words = ["charges", plans["seats"].id, "-c", "cus_1", "--start", "2026-01", "--end", "2026-03"]
    done = CliRunner().invoke(cli.app, words, env=home.environ)
    assert (done.exit_code, "there is no plan" in done.stderr) == (2, True)
