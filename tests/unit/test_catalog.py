"""Catalog objects on the wire, the races that two gateways can run, and what a hostile record becomes."""

from __future__ import annotations

import dataclasses
import json

import pytest

from pipeline.codec.catalog import object_of, record_of
from pipeline.codec.records import Codec
from pipeline.codec.schemas import newest
from pipeline.domain import catalog_log
from pipeline.domain.catalog import Meter, Plan, Product, Tier, TransformUsage
from pipeline.domain.catalog_log import CHANGEABLE, Applied, Catalog, Refused
from pipeline.domain.plan_rules import plan_fault
from pipeline.errors import UndecodableRecord

TIMES = {"livemode": True, "created_ms": 1, "updated_ms": 1, "version": 1}
METER = Meter(id="mtr_1", **TIMES, display_name="M", event_name="x", formula="sum")
GOLD = Product(id="gold", **TIMES, name="Gold")
MONTHLY = Plan(id="p", **TIMES, product="gold", currency="usd", interval="month", amount=10**15)


def changed(one, **changes):
    return dataclasses.replace(one, version=one.version + 1, **changes)


def outcomes(*log):
    catalog = Catalog()
    said = [catalog.apply(one) for one in log]
    return catalog, ["applied" if isinstance(outcome, Applied) else outcome.reason for outcome in said]


def test_of_two_meters_for_one_event_name_the_first_in_the_log_stands():
    other = dataclasses.replace(METER, id="mtr_2")
    for first, second in ((METER, other), (other, METER)):
        catalog, said = outcomes(first, second)
        assert said == ["applied", "event_name_taken"]
        assert catalog.active_meter(True, "x") is first


def test_reactivating_loses_against_a_new_meter_for_the_name():
    off, on = changed(METER, deactivated_at_ms=2), changed(changed(METER), deactivated_at_ms=None)
    other = dataclasses.replace(METER, id="mtr_2")
    assert outcomes(METER, off, other, on)[1] == ["applied", "applied", "applied", "event_name_taken"]
    assert outcomes(METER, off, on, other)[1] == ["applied", "applied", "applied", "event_name_taken"]


def test_deactivating_and_reactivating_at_once_is_decided_by_the_version():
    off = changed(METER, deactivated_at_ms=2)
    renamed = changed(METER, display_name="N")
    assert outcomes(METER, off, renamed)[1] == ["applied", "applied", "version"]


def test_a_plan_and_the_end_of_its_product_exclude_each_other():
    gone = changed(GOLD, deleted=True)
    assert outcomes(GOLD, gone, MONTHLY)[1] == ["applied", "applied", "no_product"]
    assert outcomes(GOLD, MONTHLY, gone)[1] == ["applied", "applied", "has_plans"]
    assert outcomes(GOLD, MONTHLY, changed(MONTHLY, deleted=True), gone)[1] == ["applied"] * 4


def test_a_plan_and_the_end_of_its_meter_are_decided_by_the_log():
    metered = dataclasses.replace(MONTHLY, meter="mtr_1", usage_type="metered")
    off = changed(METER, deactivated_at_ms=2)
    assert outcomes(METER, GOLD, off, metered)[1] == ["applied", "applied", "applied", "meter_not_active"]
    nicknamed = changed(metered, nickname="n")
    assert outcomes(METER, GOLD, metered, off, nicknamed)[1] == ["applied"] * 5


def test_an_own_id_can_be_made_anew_and_the_other_mode_has_its_own():
    gone = changed(GOLD, deleted=True)
    again = changed(gone, deleted=False, name="Gold 2", created_ms=9)
    test = dataclasses.replace(GOLD, livemode=False)
    catalog, said = outcomes(GOLD, test, gone, gone, again)
    assert said == ["applied", "applied", "applied", "version", "applied"]
    assert catalog.present(Product, True, "gold") is again
    assert catalog.present(Product, False, "gold") is test


def test_what_is_not_there_cannot_be_deleted():
    assert outcomes(dataclasses.replace(GOLD, deleted=True))[1] == ["absent"]
    gone = changed(GOLD, deleted=True)
    assert outcomes(GOLD, gone, changed(gone))[1] == ["applied", "applied", "absent"]


@pytest.mark.parametrize(
    ("one", "change"),
    [
        (METER, {"event_name": "y"}),
        (METER, {"formula": "count"}),
        (METER, {"created_ms": 2}),
        (MONTHLY, {"amount": 1}),
        (MONTHLY, {"currency": "eur"}),
        (MONTHLY, {"interval_count": 2}),
    ],
)
def test_what_is_fixed_stays(one, change):
    catalog, said = (
        outcomes(GOLD, one, changed(one, **change)) if one is MONTHLY else outcomes(one, changed(one, **change))
    )
    assert said[-1] == "immutable"
    assert catalog.present(type(one), True, one.id) is one


def test_every_class_says_what_can_change():
    for kind, names in CHANGEABLE.items():
        assert names <= {field.name for field in dataclasses.fields(kind)}


def test_requests_are_forgotten_oldest_first(monkeypatch):
    monkeypatch.setattr(catalog_log, "REQUESTS_KEPT", 2)
    catalog = Catalog()
    one = GOLD
    for number in range(4):
        assert isinstance(catalog.apply(dataclasses.replace(one, request=f"key{number}.asked")), Applied)
        one = changed(one)
    assert [catalog.seen(f"key{number}") is not None for number in range(4)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("record", "change"),
    [
        ("Meter", {"status": "inactive"}),
        ("Meter", {"default_aggregation": {"formula": "max"}}),
        ("Meter", {"event_time_window": "week"}),
        ("Plan", {"interval": "decade"}),
        ("Plan", {"usage_type": "stolen"}),
        ("Plan", {"amount_decimal": "1e3"}),
        ("Plan", {"amount_decimal": "-1"}),
        ("Plan", {"amount_decimal": None}),
        ("Plan", {"currency": "xxx"}),
        ("Plan", {"interval_count": 0}),
        ("Plan", {"transform_usage": {"divide_by": 0, "round": "up"}}),
        ("Plan", {"transform_usage": {"divide_by": 1, "round": "away"}}),
        ("Plan", {"billing_scheme": "tiered"}),
    ],
    ids=str,
)
def test_a_record_that_says_what_it_must_not_is_undecodable(record, change):
    codec = Codec()
    fine = codec.encode_catalog(METER if record == "Meter" else MONTHLY)
    assert codec.decode_catalog(fine).version == 1
    name, fields = record_of(METER if record == "Meter" else MONTHLY)
    with pytest.raises(UndecodableRecord, match="invalid_object"):
        codec.decode_catalog(codec._encode(name, {**fields, **change}))


def test_every_field_of_a_schema_is_a_field_of_the_object_and_back():
    tiered = dataclasses.replace(
        MONTHLY, billing_scheme="tiered", amount=None, tiers_mode="graduated",
        tiers=(Tier(10, 10**12, None), Tier(None, None, 5 * 10**11)), metadata={"b": "1", "a": "2"},
    )  # fmt: skip
    divided = dataclasses.replace(MONTHLY, transform_usage=TransformUsage(10, "down"))
    for one in (METER, GOLD, MONTHLY, tiered, divided):
        name, record = record_of(one)
        assert set(record) == {field["name"] for field in newest(name).document["fields"]}
        assert object_of(name, record) == one
        assert json.dumps(record)


def test_a_fault_names_the_first_rule_that_is_broken():
    assert plan_fault(MONTHLY) is None
    broken = dataclasses.replace(MONTHLY, currency="xxx", interval_count=99)
    assert plan_fault(broken).param == "currency"


def test_refusals_say_what_stands():
    catalog = Catalog()
    catalog.apply(METER)
    assert catalog.apply(METER) == Refused("version", METER)
