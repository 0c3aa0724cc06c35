"""Record values as bytes and as domain values, one by one: this is the definition of what can be read.

The paths by columns (columns.py, shards.py) are held to this one, byte for byte and record for record.
"""

from __future__ import annotations

import functools
from io import BytesIO
from typing import Any

from fastavro import schemaless_reader, schemaless_writer

from pipeline.codec.borders import Walk, check, walk_of
from pipeline.codec.catalog import core_event_of, core_event_record, object_of, record_of
from pipeline.codec.dimensions import dimensions_bytes, long_bytes, string_bytes
from pipeline.codec.framing import Registry, frame, unframe
from pipeline.codec.plain import plain_event
from pipeline.codec.schemas import newest, versions
from pipeline.domain.catalog import CatalogObject
from pipeline.domain.core_events import CoreEvent
from pipeline.domain.events import (
    Adjustment,
    Cancellation,
    CancellationRange,
    Disposition,
    Last,
    Latest,
    MeterEvent,
    SummaryShard,
    TallyKey,
)
from pipeline.domain.generations import Generation
from pipeline.errors import UndecodableRecord

CATALOG = ("Meter", "Product", "Plan", "ApiKey")
"""The records of the catalog topic."""

SUM_BYTES = 32
VALUE_BYTES = 16


def decimal_bytes(value: int) -> bytes:
    """Two's complement, big-endian, as short as possible."""
    bits = (value if value >= 0 else ~value).bit_length()
    return value.to_bytes(bits // 8 + 1, "big", signed=True)


def decimal_of(encoded: bytes) -> int:
    """The scaled int of a decimal's bytes; any length."""
    return int.from_bytes(encoded, "big", signed=True)


class Codec:
    """Encodes and decodes record values.

    With a registry, records are written in Confluent framing; without, in Avro single-object encoding. Both are read,
    Confluent framing only with a registry. Every ``decode_`` raises UndecodableRecord for a value that is no record of
    its topic, and Unavailable when a schema registry has to be asked and does not answer.
    """

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry
        self._frames: dict[str, bytes] = {}

    def frame_of(self, name: str) -> bytes:
        """The bytes in front of every body of this record that we write."""
        if name not in self._frames:
            self._frames[name] = frame(newest(name), self._registry)
        return self._frames[name]

    def prefixes(self, name: str) -> tuple[bytes, ...]:
        """Everything that may stand in front of a body of this record's newest version; for the path by columns."""
        return tuple({newest(name).prefix: None, self.frame_of(name): None})

    def encode_event(self, event: MeterEvent) -> bytes:
        """Written by hand: a gateway under load writes tens of thousands a second (equal to fastavro's, tested)."""
        identifier, event_name, customer, value, timestamp_ms, dimensions, livemode = event
        if len(dimensions) > 1:
            dimensions = tuple(dict(dimensions).items())  # a map has each key once
        return b"".join(
            (
                self.frame_of("MeterEvent"),
                string_bytes(identifier),
                _shared_text(event_name),
                string_bytes(customer),
                _sized(decimal_bytes(value)),
                long_bytes(timestamp_ms),
                dimensions_bytes(dimensions),
                b"\x01" if livemode else b"\x00",
            )
        )

    def encode_cancellation(self, cancellation: Cancellation) -> bytes:
        record = {
            "adjustment_id": cancellation.adjustment_id,
            "event_name": cancellation.event_name,
            "livemode": cancellation.livemode,
            "identifier": cancellation.identifier,
            "range": _range_record(cancellation.range),
            "requested_at": cancellation.requested_at_ms,
        }
        return self._encode("Cancellation", record)

    def encode_adjustment(self, adjustment: Adjustment) -> bytes:
        identifier = adjustment.identifier
        record = {
            "id": adjustment.id,
            "event_name": adjustment.event_name,
            "livemode": adjustment.livemode,
            "cancel": None if identifier is None else {"identifier": identifier},
            "cancel_range": _range_record(adjustment.range),
        }
        return self._encode("MeterEventAdjustment", record)

    def encode_shard(self, shard: SummaryShard) -> bytes:
        return self._encode("SummaryShard", _shard_record(shard))

    def encode_disposition(self, disposition: Disposition) -> bytes:
        """Written by hand: a worker under load writes tens of thousands a second (equal to fastavro's, tested)."""
        one = disposition
        offset = long_bytes(one.offset)
        return b"".join(
            (
                self.frame_of("Disposition"),
                long_bytes(one.partition),
                offset,
                offset if one.decided_offset == one.offset else long_bytes(one.decided_offset),
                _shared_text(one.record),
                _shared_text(one.disposition),
                _optional_text(one.reason),
                _NO if one.livemode is None else b"\x02\x01" if one.livemode else b"\x02\x00",
                _optional_text(one.event_name),
                _NO if one.identifier is None else b"\x02" + string_bytes(one.identifier),
                _optional_text(one.customer),
                _NO if one.value is None else b"\x02" + _sized(decimal_bytes(one.value)),
                _optional_long(one.timestamp_ms),
                _optional_long(one.appended_at_ms),
                _NO if one.adjustment_id is None else b"\x02" + string_bytes(one.adjustment_id),
                _optional_long(one.first_offset),
                _optional_long(one.events_cancelled),
            )
        )

    def decode_journal(self, value: bytes | None) -> MeterEvent | Cancellation:
        return plain_event(value) or self.decode_journal_strictly(value)

    def decode_journal_strictly(self, value: bytes | None) -> MeterEvent | Cancellation:
        """The same answer, field by field as the schema says."""
        name, record = self._decode(value, ("MeterEvent", "Cancellation"))
        return _event_of(record) if name == "MeterEvent" else _cancellation_of(record)

    def decode_accepted_event(self, value: bytes) -> MeterEvent:
        """An event that ``decode_journal`` has read before: the same answer without the checks."""
        schema, start = unframe(value, self._registry)
        current = newest(schema.name)
        reader = None if schema is current else current.physical
        return _event_of(schemaless_reader(BytesIO(value[start:]), schema.physical, reader))  # type: ignore[arg-type]

    def decode_adjustment(self, value: bytes | None) -> Adjustment:
        _, record = self._decode(value, ("MeterEventAdjustment",))
        cancel = record["cancel"]
        return Adjustment(
            record["id"],
            record["event_name"],
            record["livemode"],
            None if cancel is None else cancel["identifier"],
            _range_of(record["cancel_range"]),
        )

    def decode_shard(self, value: bytes | None) -> SummaryShard:
        return _shard_of(self._decode(value, ("SummaryShard",))[1])

    def decode_disposition(self, value: bytes | None) -> Disposition:
        _, record = self._decode(value, ("Disposition",))
        record["timestamp_ms"] = record.pop("timestamp")
        record["appended_at_ms"] = record.pop("appended_at")
        if record["value"] is not None:
            record["value"] = decimal_of(record["value"])
        return Disposition(**record)

    def encode_catalog(self, one: CatalogObject) -> bytes:
        """Equal objects are equal bytes."""
        return self._encode(*record_of(one))

    def decode_catalog(self, value: bytes | None) -> CatalogObject:
        name, record = self._decode(value, CATALOG)
        try:
            return object_of(name, record)
        except ValueError as error:
            raise UndecodableRecord("invalid_object", str(error)) from error

    def encode_core_event(self, event: CoreEvent) -> bytes:
        return self._encode("CoreEvent", core_event_record(event))

    def decode_core_event(self, value: bytes | None) -> CoreEvent:
        return core_event_of(self._decode(value, ("CoreEvent",))[1])

    def encode_generation(self, step: Generation) -> bytes:
        number, state, journal, partitions, fold, at_ms = step
        record = {"number": number, "state": state, "journal": journal, "partitions": partitions, "fold": fold}
        return self._encode("Generation", {**record, "at": at_ms})

    def decode_generation(self, value: bytes | None) -> Generation:
        _, record = self._decode(value, ("Generation",))
        record["at_ms"] = record.pop("at")
        return Generation(**record)

    def _encode(self, name: str, record: dict[str, Any]) -> bytes:
        out = BytesIO()
        out.write(self.frame_of(name))
        schemaless_writer(out, newest(name).physical, record)
        return out.getvalue()

    def _decode(self, value: bytes | None, allowed: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
        """The record's name, and its fields as the newest version has them: what an older one lacks is defaulted."""
        schema, start = unframe(value, self._registry)
        if schema.name not in allowed:
            raise UndecodableRecord("wrong_type", f"{schema.name} where {' or '.join(allowed)} is expected")
        assert value is not None  # unframe refuses None
        body = value[start:]
        check(_walk(schema.name, schema.version), body)
        current = newest(schema.name)
        record = schemaless_reader(BytesIO(body), schema.physical, None if schema is current else current.physical)
        return schema.name, record  # type: ignore[return-value]  # a record schema reads as a dict


_NO = b"\x00"
"""The null of an optional field."""


@functools.lru_cache(maxsize=10_000)
def _shared_text(text: str) -> bytes:
    """A string that many records share."""
    return string_bytes(text)


def _optional_text(text: str | None) -> bytes:
    return _NO if text is None else b"\x02" + _shared_text(text)


def _optional_long(number: int | None) -> bytes:
    return _NO if number is None else b"\x02" + long_bytes(number)


def _sized(encoded: bytes) -> bytes:
    return long_bytes(len(encoded)) + encoded


@functools.cache
def _walk(name: str, version: int) -> Walk:
    return walk_of(versions(name)[version - 1].physical)


def _event_of(record: dict[str, Any]) -> MeterEvent:
    return MeterEvent(
        record["identifier"],
        record["event_name"],
        record["customer"],
        decimal_of(record["value"]),
        record["timestamp"],
        tuple(sorted(record["dimensions"].items())),
        record["livemode"],
    )


def _range_record(span: CancellationRange | None) -> dict[str, Any] | None:
    return None if span is None else {"customer": span.customer, "start": span.start_ms, "end": span.end_ms}


def _range_of(record: dict[str, Any] | None) -> CancellationRange | None:
    return None if record is None else CancellationRange(record["customer"], record["start"], record["end"])


def _cancellation_of(record: dict[str, Any]) -> Cancellation:
    return Cancellation(
        record["adjustment_id"],
        record["event_name"],
        record["livemode"],
        record["identifier"],
        _range_of(record["range"]),
        record["requested_at"],
    )


def _fixed(value: int | None, length: int = VALUE_BYTES) -> bytes:
    return (value or 0).to_bytes(length, "big", signed=True)


def _shard_record(shard: SummaryShard) -> dict[str, Any]:
    key = shard.key
    last = shard.last or Last(0, 0, 0, 0)
    latest = shard.latest or Latest(0, 0, 0)
    return {
        "livemode": key.livemode,
        "event_name": key.event_name,
        "customer": key.customer,
        "window_start": key.window_start_ms,
        "dimensions": dict(sorted(key.dimensions)),
        "shard": shard.shard,
        "version": shard.version,
        "count": shard.count,
        "sum": _fixed(shard.sum, SUM_BYTES),
        "min": _fixed(shard.min),
        "max": _fixed(shard.max),
        "last_value": _fixed(last.value),
        "last_timestamp": last.timestamp_ms,
        "last_appended_at": last.appended_at_ms,
        "last_offset": last.offset,
        "latest_value": _fixed(latest.value),
        "latest_appended_at": latest.appended_at_ms,
        "latest_offset": latest.offset,
    }


def _shard_of(record: dict[str, Any]) -> SummaryShard:
    some = record["count"] != 0
    last = Last(
        record["last_timestamp"], record["last_appended_at"], record["last_offset"], decimal_of(record["last_value"])
    )
    latest = Latest(record["latest_appended_at"], record["latest_offset"], decimal_of(record["latest_value"]))
    return SummaryShard(
        key=TallyKey(
            record["livemode"],
            record["event_name"],
            record["customer"],
            record["window_start"],
            tuple(sorted(record["dimensions"].items())),
        ),
        shard=record["shard"],
        version=record["version"],
        count=record["count"],
        sum=decimal_of(record["sum"]),
        min=decimal_of(record["min"]) if some else None,
        max=decimal_of(record["max"]) if some else None,
        last=last if some else None,
        latest=latest if some else None,
    )
