"""The journals that are measured, and what they come to.

*hot*: a million records over 20,000 tallies; *wide*: a million over about 580,000. 3 % of the records are copies of an
earlier event, 1 % cancel one; keys are random UUIDs; timestamps lie in the last hour.
"""

from __future__ import annotations

import random
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pipeline.codec.dimensions import dimensions_bytes, long_bytes, string_bytes
from pipeline.codec.records import Codec, decimal_bytes
from pipeline.domain.events import Cancellation, MeterEvent
from pipeline.domain.limits import MINUTE_MS, VALUE_UNIT
from pipeline.kafka.producer import Publisher

EVENT_NAME = "tokens"
CENT = VALUE_UNIT // 100
MINUTES = 60
DUPLICATES, CANCELLATIONS = 0.03, 0.01
_FULL_SIZE = 1_000_000
_DIMENSIONS = (("model", "large"),)
_RECENT = 100_000
_CHUNK = 20_000


class Shape(NamedTuple):
    """``cells``: distinct (customer, minute) pairs among a million records. Each is a tally in every partition that
    one of its events falls into, so with eight partitions there are up to eight times as many tallies."""

    name: str
    cells: int

    def cells_of(self, records: int) -> int:
        """Fewer records have proportionally fewer, so that as many events fall into each; more have no more."""
        return max(1, round(self.cells * min(1.0, records / _FULL_SIZE)))


HOT = Shape("hot", 20_000 // 8)
WIDE = Shape("wide", 108_000)
"""864,000 (cell, partition) pairs, of which 960,000 events hit 864,000 * (1 - exp(-960 / 864)) = 580,000."""


class Usage:
    """What the journal comes to, by customer: events that count, and their sum in cents."""

    def __init__(self) -> None:
        self.counts: defaultdict[str, int] = defaultdict(int)
        self.cents: defaultdict[str, int] = defaultdict(int)

    def add(self, customer: str, cents: int) -> None:
        self.counts[customer] += 1
        self.cents[customer] += cents

    def take_back(self, customer: str, cents: int) -> None:
        self.counts[customer] -= 1
        self.cents[customer] -= cents

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    @property
    def units(self) -> int:
        return sum(self.cents.values()) * CENT

    def by_customer(self) -> dict[str, tuple[int, int]]:
        """Customers with events: (events, sum in units of 10^-12)."""
        return {customer: (count, self.cents[customer] * CENT) for customer, count in self.counts.items() if count}


class _Sent(NamedTuple):
    """An event that may be sent again or taken back."""

    key: bytes
    value: bytes
    customer: str
    cents: int


def write_journal(kafka: dict[str, Any], topic: str, shape: Shape, records: int, seed: int = 1) -> Usage:
    """Write the journal of a shape; returns when Kafka has it. The same seed gives the same events, but for time."""
    publisher, usage = Publisher(kafka), Usage()
    chunk: list[tuple[bytes, bytes]] = []
    for record in _journal(shape, records, random.Random(seed), usage):
        chunk.append(record)
        if len(chunk) == _CHUNK:
            publisher.publish_batch(topic, -1, chunk)
            chunk = []
    publisher.publish_batch(topic, -1, chunk)
    publisher.flush(120)
    return usage


def _journal(shape: Shape, records: int, rng: random.Random, usage: Usage) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of each record; ``usage`` is kept up on the way."""
    codec = Codec()
    newest_ms = int(time.time() * 1000) // MINUTE_MS * MINUTE_MS - MINUTE_MS
    cells = shape.cells_of(records)
    encode = _encoder(codec)
    recent: list[_Sent] = []
    cancelled: set[bytes] = set()
    for _ in range(records):
        draw = rng.random()
        if draw < DUPLICATES and recent:
            sent = rng.choice(recent)
            yield sent.key, sent.value
        elif draw < DUPLICATES + CANCELLATIONS and recent:
            sent = rng.choice(recent)
            if sent.key not in cancelled:
                cancelled.add(sent.key)
                usage.take_back(sent.customer, sent.cents)
            cancellation = Cancellation(_uuid(rng), EVENT_NAME, True, sent.key.decode(), None, newest_ms)
            yield sent.key, codec.encode_cancellation(cancellation)
        else:
            cell = int(rng.random() * cells)
            customer, cents = f"cus_{cell // MINUTES}", 1 + int(rng.random() * 100_000)
            timestamp_ms = newest_ms - cell % MINUTES * MINUTE_MS + int(rng.random() * MINUTE_MS)
            identifier = _uuid(rng)
            sent = _Sent(identifier.encode(), encode(identifier, customer, cents, timestamp_ms), customer, cents)
            usage.add(customer, cents)
            if len(recent) < _RECENT:
                recent.append(sent)
            else:
                recent[int(rng.random() * _RECENT)] = sent
            yield sent.key, sent.value


def _uuid(rng: random.Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _encoder(codec: Codec) -> Callable[[str, str, int, int], bytes]:
    """``Codec.encode_event`` for events that differ in little, at a third of the cost."""
    frame, name = codec.frame_of("MeterEvent"), string_bytes(EVENT_NAME)
    tail = dimensions_bytes(_DIMENSIONS) + b"\x01"

    def encode(identifier: str, customer: str, cents: int, timestamp_ms: int) -> bytes:
        value = decimal_bytes(cents * CENT)
        return b"".join(
            (
                frame,
                string_bytes(identifier),
                name,
                string_bytes(customer),
                long_bytes(len(value)),
                value,
                long_bytes(timestamp_ms),
                tail,
            )
        )

    sample = MeterEvent(str(uuid.UUID(int=1)), EVENT_NAME, "cus_1", 7 * CENT, 1_700_000_000_000, _DIMENSIONS, True)
    same = encode(sample.identifier, sample.customer, 7, sample.timestamp_ms)
    assert same == codec.encode_event(sample), "the schema has changed: change this encoder too"
    return encode
