"""From columns to meter events: exact, complete, and nothing lost in silence."""

from __future__ import annotations

import pytest

from pipeline.cli.lines import BadLine, Row
from pipeline.cli.mapping import EventMapping, MappingOptions
from pipeline.domain.events import MeterEvent
from pipeline.domain.limits import VALUE_UNIT
from pipeline.errors import UsageError

NATIVE = {
    "identifier": "a-1",
    "event_name": "api_calls",
    "customer": "cus_1",
    "value": "2.5",
    "timestamp": "2026-01-31T17:05:00Z",
}


def event_of(fields: dict, **options: object) -> MeterEvent | BadLine:
    return EventMapping(MappingOptions(**options)).event_of(Row(1, "text", fields))


def test_a_native_row_needs_no_mapping() -> None:
    event = event_of({**NATIVE, "dimensions": {"region": "eu", "path": "/a"}, "livemode": False})
    assert event == MeterEvent(
        "a-1",
        "api_calls",
        "cus_1",
        25 * VALUE_UNIT // 10,
        1769879100000,
        (("path", "/a"), ("region", "eu")),
        livemode=False,
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"identifier": None}, "no_identifier"),
        ({"identifier": ""}, "no_identifier"),
        ({"event_name": None}, "no_event_name"),
        ({"customer": ""}, "no_customer"),
        ({"value": None}, "no_value"),
        ({"timestamp": None}, "no_timestamp"),
        ({"identifier": True}, "not_text"),
        ({"customer": {"id": "x"}}, "not_text"),
        ({"value": ["1"]}, "not_text"),
        ({"value": "1e3"}, "bad_value"),
        ({"value": "+1"}, "bad_value"),
        ({"value": " 1"}, "bad_value"),
        ({"value": "1_000"}, "bad_value"),
        ({"value": "１"}, "bad_value"),
        ({"value": "1."}, "bad_value"),
        ({"value": ".5"}, "bad_value"),
        ({"value": "0x1"}, "bad_value"),
        ({"value": "1" * 27}, "bad_value"),
        ({"value": "0." + "1" * 13}, "bad_value"),
        ({"timestamp": "2026-01-31"}, "bad_timestamp"),
        ({"timestamp": "2026-01-31T17:05:00"}, "bad_timestamp"),
        ({"timestamp": "2026-02-30T17:05:00Z"}, "bad_timestamp"),
        ({"timestamp": "1.5"}, "bad_timestamp"),
        ({"timestamp": "yesterday"}, "bad_timestamp"),
        ({"livemode": "maybe"}, "bad_livemode"),
        ({"livemode": "1"}, "bad_livemode"),
        ({"dimensions": ["eu"]}, "bad_dimensions"),
        ({"dimensions": {"region": True}}, "bad_dimensions"),
        ({"dimensions": "eu"}, "bad_dimensions"),
        ({"dimension": {"region": "eu"}}, "unknown_field"),
    ],
)
def test_a_bad_field_has_a_reason(change: dict, reason: str) -> None:
    bad = event_of({**NATIVE, **change})
    assert isinstance(bad, BadLine)
    assert bad.reason == reason
    assert bad.message


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2013-01-01T05:00:00-05:00", 1357034400000),
        ("2013-01-01t10:00:00z", 1357034400000),
        ("2013-01-01 10:00Z", 1357034400000),
        ("2013-01-01T10:00:00.0019Z", 1357034400001),
        ("1357034400000", 1357034400000),
        ("-1", -1),
    ],
)
def test_timestamps_are_read_exactly(text: str, milliseconds: int) -> None:
    event = event_of({**NATIVE, "timestamp": text})
    assert isinstance(event, MeterEvent)
    assert event.timestamp_ms == milliseconds


@pytest.mark.parametrize(
    ("text", "scaled"),
    [
        ("0", 0),
        ("-0", 0),
        ("007", 7 * VALUE_UNIT),
        ("-2.000000000001", -2 * VALUE_UNIT - 1),
        ("9" * 26, (10**26 - 1) * VALUE_UNIT),
    ],
)
def test_values_are_read_exactly(text: str, scaled: int) -> None:
    event = event_of({**NATIVE, "value": text})
    assert isinstance(event, MeterEvent)
    assert event.value == scaled


def test_columns_are_mapped_joined_and_set() -> None:
    row = {"day": "1", "carrier": "UA{day}", "flight": "15", "miles": "1400", "at": "0", "from": "EWR", "to": ""}
    event = event_of(
        row,
        columns={"identifier": "{day}-{carrier}-{flight}", "customer": "carrier", "value": "miles", "timestamp": "at"},
        constants={"event_name": "flight_miles"},
        dimensions={"origin": "from", "dest": "to"},
        livemode=False,
    )
    expected = MeterEvent(
        "1-UA{day}-15", "flight_miles", "UA{day}", 1400 * VALUE_UNIT, 0, (("origin", "EWR"),), livemode=False
    )
    assert event == expected


def test_other_columns_are_no_fault_where_the_columns_are_mapped() -> None:
    assert isinstance(event_of({**NATIVE, "more": "text"}, dimensions={"more": "more"}), MeterEvent)


@pytest.mark.parametrize(
    "options",
    [
        {"columns": {"custmer": "x"}},
        {"constants": {"when": "x"}},
        {"columns": {"value": "x"}, "constants": {"value": "1"}},
    ],
)
def test_impossible_options_are_a_usage_error(options: dict) -> None:
    with pytest.raises(UsageError):
        EventMapping(MappingOptions(**options))


def test_a_csv_header_must_have_what_is_asked_for() -> None:
    mapping = EventMapping(MappingOptions(columns={"customer": "account"}))
    with pytest.raises(UsageError, match="account"):
        mapping.accept_header(["identifier", "event_name", "value", "timestamp", "customer"])
    unused = EventMapping(MappingOptions()).accept_header([*NATIVE, "livemode", "more"])
    assert unused == ["more"]


def test_derived_identifiers_are_the_same_when_the_file_is_sent_again() -> None:
    row = {name: text for name, text in NATIVE.items() if name != "identifier"}
    rows = [
        Row(1, "", row),
        Row(2, "", row),
        Row(3, "", {**row, "value": "3"}),
        Row(4, "", {**row, "identifier": "own"}),
    ]

    def identifiers() -> list[str]:
        mapping = EventMapping(MappingOptions(derive=True))
        return [mapping.event_of(item).identifier for item in rows]

    assert identifiers() == identifiers()
    assert len(set(identifiers())) == 4
    assert identifiers()[3] == "own"
