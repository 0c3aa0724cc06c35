"""The client for services written in Python: meter events and adjustments, straight to Kafka.

    with MeterlineProducer("127.0.0.1:9092") as meterline:
        meterline.emit(event_name="api_calls", customer="cus_1", value=1, dimensions={"region": "eu"})

A service in another language, or with another Kafka client, follows schemas/README.md instead.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import TracebackType
from typing import Any, Self, overload

from pipeline.codec.records import Codec
from pipeline.codec.registry import SchemaRegistry
from pipeline.domain.checks import check_cancellation, check_content
from pipeline.domain.events import Adjustment, CancellationRange, Dimensions, MeterEvent
from pipeline.domain.limits import VALUE_BOUND, VALUE_UNIT
from pipeline.domain.values import VALUE_GRAMMAR, value_of
from pipeline.errors import UsageError
from pipeline.kafka.moving import MovingPublisher
from pipeline.kafka.producer import OnError
from pipeline.kafka.topics import Topics

FLUSH_TIMEOUT_S = 60.0

Value = int | Decimal | str
Timestamp = datetime | int

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class MeterlineProducer:
    """Publishes meter events and adjustments. Safe to share between threads.

    ``kafka``: bootstrap servers, or a librdkafka configuration for anything beyond them (TLS, SASL, buffer sizes).
    ``namespace``: the deployment, METERLINE_NAMESPACE.
    ``schema_registry``: URL, if the deployment has one (METERLINE_SCHEMA_REGISTRY).
    ``on_error``: called with a DeliveryError for each record that Kafka did not take; its ``key`` is the identifier
    as UTF-8. Without it the next call raises PublishFailed, and every ``flush`` from then on.

    Nothing is sure before ``flush`` has returned. After a crash, or an error, send again with the same identifier, in
    the latter case through a new producer: an identity counts once, however often it is sent.
    """

    def __init__(
        self,
        kafka: str | Mapping[str, Any] = "127.0.0.1:9092",
        *,
        namespace: str = "meterline",
        schema_registry: str | None = None,
        on_error: OnError | None = None,
    ) -> None:
        config = {"bootstrap.servers": kafka} if isinstance(kafka, str) else kafka
        self._codec = Codec(SchemaRegistry(schema_registry) if schema_registry else None)
        self._topics = Topics(namespace)
        self._publisher = MovingPublisher(config, namespace, self._codec, on_error)

    @overload
    def emit(self, event: MeterEvent, /) -> str: ...

    @overload
    def emit(
        self,
        /,
        *,
        event_name: str,
        customer: str,
        value: Value,
        timestamp: Timestamp | None = None,
        dimensions: Mapping[str, str] | None = None,
        identifier: str | None = None,
        livemode: bool = True,
    ) -> str: ...

    def emit(self, event: MeterEvent | None = None, /, **fields: Any) -> str:
        """Hand over one meter event; returns its identifier. Waits while the buffer is full.

        ``value``: int, Decimal, or str as ``-12.5``; exact, so no float. ``timestamp``: an aware datetime or int
        milliseconds since the epoch; None: now. ``identifier``: unique per event, and the same when it is sent again;
        None: random, which protects against copies made on the way but not against your own retries.

        Raises UsageError for an event that could only be rejected, with the reason (its timestamp is judged when
        Kafka has it); PublishFailed as the class says.
        """
        if event is None:
            event = meter_event(**fields)
        elif fields:
            raise UsageError("emit takes an event or its fields, not both")
        if type(event.value) is not int or type(event.timestamp_ms) is not int:
            raise UsageError("a MeterEvent holds ints: the value in units of 10^-12, the timestamp in milliseconds")
        if reason := check_content(event):
            raise UsageError(f"event {event.identifier!r:.120}: {reason}")
        self._publisher.publish(self._topics.journal, event.identifier.encode(), self._codec.encode_event(event))
        return event.identifier

    @overload
    def adjust(self, adjustment: Adjustment, /) -> str: ...

    @overload
    def adjust(
        self, /, *, event_name: str, identifier: str, adjustment_id: str | None = None, livemode: bool = True
    ) -> str: ...

    @overload
    def adjust(
        self,
        /,
        *,
        event_name: str,
        start: Timestamp,
        end: Timestamp,
        customer: str | None = None,
        adjustment_id: str | None = None,
        livemode: bool = True,
    ) -> str: ...

    def adjust(self, adjustment: Adjustment | None = None, /, **fields: Any) -> str:
        """Take usage back: one event by ``identifier``, or those with start <= timestamp < end; returns the id.

        A range takes back no event that was appended after it; without ``customer`` it means all customers.
        Sending the same ``adjustment_id`` again changes nothing.
        """
        if adjustment is None:
            adjustment = adjustment_of(**fields)
        elif fields:
            raise UsageError("adjust takes an adjustment or its fields, not both")
        if (adjustment.identifier is None) == (adjustment.range is None):
            raise UsageError("an adjustment takes back an identifier or a range: exactly one of the two")
        if reason := check_cancellation(adjustment, adjustment.id):
            raise UsageError(f"adjustment {adjustment.id!r:.120}: {reason}")
        self._publisher.publish(
            self._topics.adjustments, adjustment.id.encode(), self._codec.encode_adjustment(adjustment)
        )
        return adjustment.id

    def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> None:
        """Return when Kafka has everything that was handed over, on all in-sync replicas.

        Raises Unavailable when that takes longer (it goes on; flush again), PublishFailed when it cannot succeed.
        """
        self._publisher.flush(timeout_s)

    def __len__(self) -> int:
        """Records handed over and not yet acknowledged."""
        return len(self._publisher)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()


def meter_event(
    *,
    event_name: str,
    customer: str,
    value: Value,
    timestamp: Timestamp | None = None,
    dimensions: Mapping[str, str] | None = None,
    identifier: str | None = None,
    livemode: bool = True,
) -> MeterEvent:
    """A meter event from what a caller writes. Raises UsageError for a wrong type or an inexact value."""
    return MeterEvent(
        identifier=str(uuid.uuid4()) if identifier is None else _text("identifier", identifier),
        event_name=_text("event_name", event_name),
        customer=_text("customer", customer),
        value=scaled_value(value),
        timestamp_ms=time.time_ns() // 1_000_000 if timestamp is None else milliseconds("timestamp", timestamp),
        dimensions=_dimensions(dimensions or {}),
        livemode=_switch("livemode", livemode),
    )


def adjustment_of(
    *,
    event_name: str,
    identifier: str | None = None,
    start: Timestamp | None = None,
    end: Timestamp | None = None,
    customer: str | None = None,
    adjustment_id: str | None = None,
    livemode: bool = True,
) -> Adjustment:
    """An adjustment from what a caller writes. Raises UsageError."""
    span = None
    if start is not None and end is not None:
        span = CancellationRange(customer, milliseconds("start", start), milliseconds("end", end))
        if span.start_ms >= span.end_ms:
            raise UsageError("a range begins before it ends: start is included, end is not")
    elif start is not None or end is not None or customer is not None:
        raise UsageError("a range needs start and end")
    return Adjustment(
        id=str(uuid.uuid4()) if adjustment_id is None else _text("adjustment_id", adjustment_id),
        event_name=_text("event_name", event_name),
        livemode=_switch("livemode", livemode),
        identifier=None if identifier is None else _text("identifier", identifier),
        range=span,
    )


def scaled_value(value: Value) -> int:
    """A value in units of 10^-12. Raises UsageError for a float, and for what is not exactly such a decimal."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal, str)):
        why = "a float is not exact (0.1 is not a tenth): pass a str or a Decimal" if isinstance(value, float) else ""
        raise UsageError(f"value: {type(value).__name__} is not accepted; {why or 'pass an int, a Decimal or a str'}")
    if isinstance(value, int):
        scaled: int = value * VALUE_UNIT
        if not -VALUE_BOUND < scaled < VALUE_BOUND:
            raise UsageError(f"value: too large; a value is {VALUE_GRAMMAR}")
        return scaled
    try:
        return value_of(f"{value:f}" if isinstance(value, Decimal) else value)
    except ValueError as error:
        raise UsageError(f"value: {value!r:.60} is not accepted; a value is {VALUE_GRAMMAR}") from error


def milliseconds(name: str, moment: Timestamp) -> int:
    """Milliseconds since the epoch, rounded down. Raises UsageError for a datetime without zone, and for a float."""
    if isinstance(moment, datetime):
        if moment.utcoffset() is None:
            raise UsageError(f"{name}: a datetime needs a time zone, for example datetime.now(timezone.utc)")
        return (moment - _EPOCH) // _MILLISECOND
    if isinstance(moment, bool) or not isinstance(moment, int):
        raise UsageError(f"{name}: pass an aware datetime or int milliseconds, not {type(moment).__name__}")
    return moment


def _text(name: str, text: str) -> str:
    if not isinstance(text, str):
        raise UsageError(f"{name}: pass a str, not {type(text).__name__}")
    return text


def _switch(name: str, on: bool) -> bool:
    if not isinstance(on, bool):
        raise UsageError(f"{name}: pass a bool, not {type(on).__name__}")
    return on


def _dimensions(dimensions: Mapping[str, str]) -> Dimensions:
    return tuple(
        sorted((_text("a dimension's key", key), _text(f"dimension {key}", dimensions[key])) for key in dimensions)
    )
