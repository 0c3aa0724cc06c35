"""The journals that are measured: *hot* (20,000 tallies) and *wide* (about 580,000), a million records each.

3 % of the records are duplicates of an earlier event, 1 % are cancellations; keys are random UUIDs.
"""

from __future__ import annotations

import random
import time
import uuid
from typing import NamedTuple

from pipeline.codec.records import Codec
from pipeline.domain.events import Cancellation, MeterEvent
from pipeline.domain.limits import MINUTE_MS, VALUE_UNIT
from pipeline.kafka.producer import Publisher


class Shape(NamedTuple):
    """``tallies``: how many distinct ones the events are spread over, evenly."""

    name: str
    tallies: int


HOT = Shape("hot", 20_000 // 8)
WIDE = Shape("wide", 90_000)
"""A tally lives in every partition that its events fall into, so shards are up to eight times as many."""


def produce(kafka: dict[str, str], topic: str, shape: Shape, records: int, seed: int) -> None:
    """Write the journal of a shape; its timestamps lie in the last hours."""
    rng = random.Random(seed)
    codec, publisher = Codec(), Publisher(kafka)
    newest = int(time.time() * 1000) // MINUTE_MS * MINUTE_MS - MINUTE_MS
    recent: list[tuple[bytes, bytes, str]] = []
    minutes = 60
    for _ in range(records):
        draw = rng.random()
        if draw < 0.03 and recent:
            key, value, _ = rng.choice(recent)
        elif draw < 0.04 and recent:
            key, _, identifier = rng.choice(recent)
            value = codec.encode_cancellation(
                Cancellation(str(uuid.UUID(int=rng.getrandbits(128))), "tokens", True, identifier, None, newest)
            )
        else:
            tally = rng.randrange(shape.tallies)
            identifier = str(uuid.UUID(int=rng.getrandbits(128)))
            key = identifier.encode()
            value = codec.encode_event(
                MeterEvent(
                    identifier,
                    "tokens",
                    f"cus_{tally // minutes}",
                    rng.randrange(1, 100_000) * VALUE_UNIT // 100,
                    newest - tally % minutes * MINUTE_MS + rng.randrange(MINUTE_MS),
                    (("model", "large"),),
                    True,
                )
            )
            if len(recent) < 100_000:
                recent.append((key, value, identifier))
            else:
                recent[rng.randrange(100_000)] = (key, value, identifier)
        publisher.publish(topic, key, value)
    publisher.flush(120)
