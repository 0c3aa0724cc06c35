"""Usage as a request says it, and what a meter makes of it: a meter event, or the fault that keeps it from being one.

What is wrong with the shape of an event (a parameter that does not exist, a number where text belongs) is the
request's fault and refuses it whole. What is wrong with its content is the event's own fault: a request for one event
is refused with it, in a stream it goes into the error report and the other events go on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pipeline.domain.catalog import Meter
from pipeline.domain.events import Dimensions, MeterEvent
from pipeline.domain.limits import (
    DAY_MS,
    EVENT_NAME_CHARS_MAX,
    IDENTIFIER_CHARS_MAX,
    MINUTE_MS,
    VALUE_UNIT,
    FoldRules,
)
from pipeline.domain.values import VALUE_GRAMMAR, value_of
from pipeline.gateway.catalog import CatalogMemory
from pipeline.gateway.moments import MOMENT_S_MAX, moment_ms
from pipeline.gateway.parameters import Field, Moment, Object, Text, TextMap
from pipeline.gateway.problems import INVALID_REQUEST, Problem, shown

PAYLOAD_KEYS_MAX: Final = 50
PAYLOAD_CHARS_MAX: Final = 100
"""Of a payload's key, and of its text."""

EVENT_FIELDS: Final[Mapping[str, Field]] = {
    "event_name": Field(Text(EVENT_NAME_CHARS_MAX), required=True, description="The event name of an active meter."),
    "payload": Field(
        TextMap(PAYLOAD_KEYS_MAX, PAYLOAD_CHARS_MAX, PAYLOAD_CHARS_MAX),
        required=True,
        description="The customer and the value under the meter's keys, and the dimensions it names. Further keys are "
        "sent back and not kept.",
    ),
    "identifier": Field(
        Text(IDENTIFIER_CHARS_MAX),
        description="Unique name of the event: sent again, it counts once. Absent: made from the Idempotency-Key.",
    ),
    "timestamp": Field(Moment(), description="When it was used; now, if absent."),
}

_EVENT: Final = Object(EVENT_FIELDS)
_KEYS: Final = frozenset(EVENT_FIELDS)
_VALUE = re.compile(r"-?(?:0|[1-9][0-9]{0,25})(?:\.[0-9]{1,12})?", re.ASCII)
_VALUE_OF_ANY_LENGTH = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?", re.ASCII)


class Said(NamedTuple):
    """One event of a request, well-formed."""

    event_name: str
    payload: Mapping[str, str]
    identifier: str | None
    timestamp_ms: int | None


class FaultCodes(NamedTuple):
    """What one kind of fault is called in each place: Stripe's names."""

    report: str
    """In the asynchronous error report."""
    v2: str
    v1: str | None


NO_METER: Final = FaultCodes("no_meter", "no_meter", "resource_missing")
ARCHIVED: Final = FaultCodes("archived_meter", "archived_meter", None)
NO_CUSTOMER: Final = FaultCodes("meter_event_no_customer_defined", "payload_no_customer_defined", "parameter_missing")
NO_VALUE: Final = FaultCodes("meter_event_invalid_value", "payload_no_value_defined", "parameter_missing")
BAD_VALUE: Final = FaultCodes("meter_event_invalid_value", "payload_invalid_value", None)
MANY_DIGITS: Final = FaultCodes("meter_event_value_too_many_digits", "payload_invalid_value", None)
NO_DIMENSION: Final = FaultCodes(
    "missing_dimension_payload_keys", "missing_dimension_payload_keys", "parameter_missing"
)
TOO_OLD: Final = FaultCodes("timestamp_too_far_in_past", "timestamp_too_far_in_past", None)
IN_FUTURE: Final = FaultCodes("timestamp_in_future", "timestamp_in_future", None)


class Fault(NamedTuple):
    """Why a well-formed event cannot be counted."""

    codes: FaultCodes
    param: str
    message: str
    meter: Meter | None
    """The meter it was meant for; None when there is none."""

    def problem(self, face: str) -> Problem:
        """As the answer to a request for this one event."""
        return Problem(
            400, INVALID_REQUEST, self.message, self.codes.v2 if face == "v2" else self.codes.v1, param=self.param
        )


class Rulebook:
    """What events are held to at one moment: the meters as they are, the time as it is. Made once per request.

    ``doubt_ms``: how wrong the time may be; what it could be right about passes, and the brokers decide (writing.py).
    """

    def __init__(
        self, catalog: CatalogMemory, rules: FoldRules, *, livemode: bool, now_ms: int, doubt_ms: int = 0
    ) -> None:
        self._catalog = catalog
        self._rules = rules
        self._livemode = livemode
        self._now_ms = now_ms
        self._oldest_ms = now_ms - rules.max_past_ms - doubt_ms
        self._newest_ms = now_ms + rules.max_ahead_ms + doubt_ms
        self._meters: dict[str, Meter | Fault] = {}

    def event_of(self, said: Said, identifier: str) -> MeterEvent | Fault:
        """The meter event, or the first fault: meter, customer, value, dimensions, timestamp."""
        event_name, payload, _, timestamp_ms = said
        meter = self._meters.get(event_name) or self._meter_of(event_name)
        if isinstance(meter, Fault):
            return meter
        customer = payload.get(meter.customer_key)
        if not customer:
            at = f"payload[{meter.customer_key}]"
            return Fault(NO_CUSTOMER, at, f"Customer mapping key {meter.customer_key} not found in payload.", meter)
        text = payload.get(meter.value_key)
        if text is not None and _VALUE.fullmatch(text):
            value = value_of(text)
        elif text is None and meter.formula == "count":
            value = VALUE_UNIT
        else:
            return _value_fault(meter, text)
        dimensions: Dimensions = ()
        if meter.dimension_payload_keys:
            if missing := [key for key in meter.dimension_payload_keys if key not in payload]:
                at = f"payload[{missing[0]}]"
                return Fault(NO_DIMENSION, at, f"Dimension keys not found in payload: {', '.join(missing)}.", meter)
            dimensions = tuple(sorted((key, payload[key]) for key in meter.dimension_payload_keys))
        if timestamp_ms is None:
            timestamp_ms = self._now_ms
        elif not self._oldest_ms <= timestamp_ms <= self._newest_ms:
            return self._time_fault(meter, timestamp_ms)
        return MeterEvent(identifier, event_name, customer, value, timestamp_ms, dimensions, self._livemode)

    def _meter_of(self, event_name: str) -> Meter | Fault:
        found: Meter | Fault | None = self._catalog.active_meter(self._livemode, event_name)
        if found is None:
            archived = self._catalog.meters_of(self._livemode, event_name)
            if archived:
                message = f"The meter for event_name {shown(event_name)} is inactive and takes no events."
                found = Fault(ARCHIVED, "event_name", message, archived[0])
            else:
                found = Fault(NO_METER, "event_name", f"No meter was found matching event_name {event_name}.", None)
        self._meters[event_name] = found
        return found

    def _time_fault(self, meter: Meter, timestamp_ms: int) -> Fault:
        if timestamp_ms > self._newest_ms:
            allowed = _span(self._rules.max_ahead_ms)
            message = f"The event timestamp cannot be in future. At most {allowed} ahead is accepted."
            return Fault(IN_FUTURE, "timestamp", message, meter)
        message = (
            f"The event timestamp cannot be more than {_span(self._rules.max_past_ms)} in past. Expected a timestamp "
            f"greater than or equal to {-(-(self._now_ms - self._rules.max_past_ms) // 1000)}."
        )
        return Fault(TOO_OLD, "timestamp", message, meter)


def _value_fault(meter: Meter, text: str | None) -> Fault:
    """Never repeats what was sent: the message goes into reports and logs, and a payload may hold anything."""
    at = f"payload[{meter.value_key}]"
    if text is None:
        return Fault(NO_VALUE, at, f"Value key {meter.value_key} not found in payload.", meter)
    if _VALUE_OF_ANY_LENGTH.fullmatch(text):
        message = "The value in the event payload can have at most 26 digits before and 12 after the point."
        return Fault(MANY_DIGITS, at, message, meter)
    message = f"The value in the event payload is {VALUE_GRAMMAR}, no zeros in front."
    return Fault(BAD_VALUE, at, message, meter)


def _span(ms: int) -> str:
    """A span in words: Stripe's own for its 35 days."""
    for unit_ms, unit in ((DAY_MS, "days"), (MINUTE_MS, "minutes"), (1000, "seconds")):
        if ms >= unit_ms and ms % unit_ms == 0:
            return f"{ms // unit_ms} {unit}"
    return f"{ms} milliseconds"


def said_in(given: Mapping[str, Any]) -> Said:
    """An event from parameters that were read by EVENT_FIELDS."""
    return Said(given["event_name"], given["payload"], given.get("identifier"), given.get("timestamp"))


def said_of(raw: Any, at: str) -> Said:
    """An event from strict JSON; ``at`` is its place in the request. Raises Problem 400 for a wrong shape.

    The hot loop: what is in any doubt goes the plain way, which defines what is right.
    """
    if type(raw) is dict and raw.keys() <= _KEYS:
        event_name, payload = raw.get("event_name"), raw.get("payload")
        identifier, timestamp = raw.get("identifier"), raw.get("timestamp")
        timestamp_ms = _plain_moment(timestamp)
        if (
            _is_plain(event_name, EVENT_NAME_CHARS_MAX)
            and type(payload) is dict
            and len(payload) <= PAYLOAD_KEYS_MAX
            and (identifier is None or _is_plain(identifier, IDENTIFIER_CHARS_MAX))
            and (timestamp is None or timestamp_ms is not None)
        ):
            for key, text in payload.items():
                if not (_is_plain(key, PAYLOAD_CHARS_MAX) and _is_plain(text, PAYLOAD_CHARS_MAX)):
                    break
            else:
                return Said(str(event_name), payload, identifier, timestamp_ms)
    return read_said(raw, at)


def read_said(raw: Any, at: str) -> Said:
    """``said_of``, the plain way."""
    return said_in(_EVENT.read(raw, at, typed=True))


def _is_plain(text: Any, chars_max: int) -> bool:
    return type(text) is str and 0 < len(text) <= chars_max and text.isascii() and text.isprintable()


def _plain_moment(raw: Any) -> int | None:
    if type(raw) is str:
        return moment_ms(raw)
    if type(raw) is int and 0 <= raw <= MOMENT_S_MAX:
        return raw * 1000
    return None
