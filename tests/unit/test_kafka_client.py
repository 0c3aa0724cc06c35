"""What MeterlineProducer accepts, before anything is sent: exact values, aware times, and reasons for the rest."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from pipeline.domain.events import Adjustment, CancellationRange, MeterEvent
from pipeline.errors import UsageError
from pipeline.kafka.client import MeterlineProducer, adjustment_of, meter_event, milliseconds, scaled_value

GREATEST = "99999999999999999999999999.999999999999"


@pytest.mark.parametrize(
    ("value", "scaled"),
    [
        (0, 0),
        (-3, -3 * 10**12),
        (10**26 - 1, (10**26 - 1) * 10**12),
        ("12.5", 12_500_000_000_000),
        ("-0.000000000001", -1),
        (GREATEST, 10**38 - 1),
        (Decimal("0.1"), 10**11),
        (Decimal("1E+3"), 1000 * 10**12),
        (Decimal("-0"), 0),
        (Decimal(GREATEST), 10**38 - 1),
    ],
)
def test_a_value_is_taken_exactly(value, scaled):
    assert scaled_value(value) == scaled


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.1, "a float is not exact"),
        (float("nan"), "a float is not exact"),
        (True, "bool is not accepted"),
        (None, "NoneType is not accepted"),
        (b"1", "bytes is not accepted"),
        (10**26, "too large"),
        pytest.param(10**5000, "too large", id="5001 digits"),
        ("1e5", "no exponent"),
        (" 5", "no spaces"),
        ("+1", "is not accepted"),
        ("1.", "is not accepted"),
        (".5", "is not accepted"),
        ("1_000", "is not accepted"),
        ("１２", "is not accepted"),
        ("0x1", "is not accepted"),
        ("", "is not accepted"),
        ("0.0000000000001", "12 after a point"),
        (Decimal("1E-13"), "12 after a point"),
        (Decimal("NaN"), "is not accepted"),
        (Decimal("Infinity"), "is not accepted"),
        (Decimal("1E+26"), "is not accepted"),
    ],
)
def test_a_value_that_is_not_exactly_such_a_decimal_is_refused_with_the_reason(value, said):
    with pytest.raises(UsageError, match="value:") as refused:
        scaled_value(value)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("moment", "ms"),
    [
        (0, 0),
        (-1, -1),
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(2013, 1, 1, 5, tzinfo=timezone(timedelta(hours=-5))), 1_357_034_400_000),
        (datetime(1970, 1, 1, 0, 0, 0, 1999, tzinfo=UTC), 1),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),
    ],
)
def test_a_timestamp_is_milliseconds_rounded_down(moment, ms):
    assert milliseconds("timestamp", moment) == ms


@pytest.mark.parametrize("moment", [datetime(2013, 1, 1), 1.5, "2013-01-01", True, None])  # noqa: DTZ001  # that is the point
def test_a_time_without_a_zone_is_refused(moment):
    with pytest.raises(UsageError, match="timestamp:"):
        milliseconds("timestamp", moment)


def test_an_event_without_identifier_gets_a_random_one_and_the_time_is_now():
    one, two = (meter_event(event_name="e", customer="c", value=1) for _ in range(2))
    assert one.identifier != two.identifier
    assert len(one.identifier) == 36
    assert abs(one.timestamp_ms - datetime.now(UTC).timestamp() * 1000) < 60_000


def test_dimensions_are_sorted_text():
    event = meter_event(event_name="e", customer="c", value=1, dimensions={"b": "2", "a": "1"})
    assert event.dimensions == (("a", "1"), ("b", "2"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dimensions": {"a": 1}}, "dimension a: pass a str, not int"),
        ({"dimensions": {1: "a"}}, "a dimension's key: pass a str"),
        ({"identifier": 5}, "identifier: pass a str, not int"),
        ({"customer": None}, "customer: pass a str, not NoneType"),
        ({"event_name": b"e"}, "event_name: pass a str, not bytes"),
        ({"livemode": "false"}, "livemode: pass a bool, not str"),
    ],
)
def test_a_field_of_another_type_is_refused_by_name(fields, said):
    with pytest.raises(UsageError, match=said):
        meter_event(**{"event_name": "e", "customer": "c", "value": 1} | fields)


def test_an_adjustment_is_of_one_event_or_of_a_range():
    assert adjustment_of(event_name="e", identifier="i", adjustment_id="a") == Adjustment("a", "e", True, "i", None)
    assert adjustment_of(event_name="e", start=1, end=2, adjustment_id="a", livemode=False) == Adjustment(
        "a", "e", False, None, CancellationRange(None, 1, 2)
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"start": 2, "end": 2}, "begins before it ends"),
        ({"start": 2}, "needs start and end"),
        ({"end": 2}, "needs start and end"),
        ({"customer": "c"}, "needs start and end"),
        ({"identifier": 1}, "identifier: pass a str"),
    ],
)
def test_a_range_without_an_extent_is_refused(fields, said):
    with pytest.raises(UsageError, match=said):
        adjustment_of(event_name="e", **fields)


@pytest.fixture(scope="module")
def client():
    """A producer whose broker is not there: what is refused is refused before it is asked."""
    return MeterlineProducer({"bootstrap.servers": "127.0.0.1:1", "message.timeout.ms": 100}, on_error=lambda _: None)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"identifier": ""}, "invalid_identifier"),
        ({"identifier": "x" * 101}, "invalid_identifier"),
        ({"identifier": "\ud800"}, "invalid_identifier"),
        ({"event_name": "a\nb"}, "invalid_event_name"),
        ({"customer": "\u202eevil"}, "invalid_customer"),
        ({"dimensions": {"": "x"}}, "invalid_dimension"),
        ({"dimensions": {str(n): "x" for n in range(17)}}, "dimension_count_too_high"),
    ],
)
def test_an_event_that_could_only_be_rejected_is_refused_with_the_folds_reason(client, fields, reason):
    with pytest.raises(UsageError, match=reason):
        client.emit(**{"event_name": "e", "customer": "c", "value": 1} | fields)
    assert len(client) == 0


@pytest.mark.parametrize(
    ("adjustment", "said"),
    [
        (Adjustment("a", "e", True, "i", CancellationRange(None, 1, 2)), "exactly one"),
        (Adjustment("a", "e", True, None, None), "exactly one"),
        (Adjustment("", "e", True, "i", None), "invalid_adjustment"),
        (Adjustment("a", "", True, "i", None), "invalid_event_name"),
        (Adjustment("a", "e", True, "", None), "invalid_identifier"),
    ],
)
def test_an_adjustment_that_could_only_be_rejected_is_refused(client, adjustment, said):
    with pytest.raises(UsageError, match=said):
        client.adjust(adjustment)
    assert len(client) == 0


@pytest.mark.parametrize("wrong", [{"value": 1.5}, {"timestamp_ms": 1.5}, {"value": True}])
def test_a_ready_made_event_holds_ints(client, wrong):
    event = MeterEvent("i", "e", "c", 1, 1, (), True)._replace(**wrong)
    with pytest.raises(UsageError, match="holds ints"):
        client.emit(event)


def test_an_event_and_fields_together_are_refused(client):
    with pytest.raises(UsageError, match="not both"):
        client.emit(MeterEvent("i", "e", "c", 1, 1, (), True), value=1)
    with pytest.raises(UsageError, match="not both"):
        client.adjust(Adjustment("a", "e", True, "i", None), identifier="i")


def test_importing_the_package_does_not_load_kafkas_client():
    code = (
        "import sys, pipeline; before = 'confluent_kafka' in sys.modules; pipeline.MeterlineProducer;"
        "print(before, 'confluent_kafka' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False True\n"


def test_the_package_has_no_other_names():
    import pipeline

    with pytest.raises(AttributeError):
        _ = pipeline.Nothing
