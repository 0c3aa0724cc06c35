"""What comes along to a journal with other partitions: every record but those whose copy is there."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from pipeline.codec.records import Codec
from pipeline.domain import fold, outcomes
from pipeline.domain.events import Cancellation, MeterEvent
from pipeline.domain.limits import DIMENSIONS_MAX, IDENTIFIER_CHARS_MAX, VALUE_UNIT, FoldRules
from pipeline.domain.partitioning import partition_of
from pipeline.domain.state import PlainState
from pipeline.replay.placing import Copy, Journal, Placing

OLD, NEW = Journal("meter-events", 8), Journal("meter-events-j2", 24)
NOW_MS = 1_700_000_000_000
CODEC = Codec()


class Message(NamedTuple):
    """``confluent_kafka.Message``, as far as it is asked."""

    at: int
    content: bytes

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes:
        return b"key"

    def value(self) -> bytes:
        return self.content


def elsewhere(prefix: str) -> str:
    """An identifier that does not belong in partition 0."""
    return next(name for name in (f"{prefix}{number}" for number in range(99)) if partition_of(name, OLD.partitions))


def event(identifier: str, **fields: Any) -> bytes:
    good = MeterEvent(identifier, "n", "c", VALUE_UNIT, NOW_MS, (), True)
    return CODEC.encode_event(good._replace(**fields))


def cancellation(adjustment_id: str) -> bytes:
    return CODEC.encode_cancellation(Cancellation(adjustment_id, "n", True, elsewhere("i"), None, NOW_MS))


def copies(*values: bytes, acted: int) -> list[Copy]:
    messages: Any = [Message(offset, value) for offset, value in enumerate(values)]
    return Placing(OLD, NEW, CODEC).copies(0, messages, [NOW_MS] * len(values), acted)


def disposition(value: bytes) -> str:
    journal = fold.Journal(0, OLD.partitions, FoldRules())
    decided = fold.step(PlainState(), journal, fold.Record(0, NOW_MS, CODEC.decode_journal(value)))
    return decided[0].disposition


REJECTED = {
    "an identifier too long": event(elsewhere("x" * IDENTIFIER_CHARS_MAX)),
    "no customer": event(elsewhere("i"), customer=""),
    "too many dimensions": event(
        elsewhere("i"), dimensions=tuple((f"d{number:02}", "v") for number in range(DIMENSIONS_MAX + 1))
    ),
    "too many digits": event(elsewhere("i"), value=10**40),
    "a cancellation without an id": cancellation(""),
}


@pytest.mark.parametrize("value", REJECTED.values(), ids=REJECTED)
def test_what_is_rejected_in_a_wrong_partition_comes_along(value: bytes) -> None:
    """Nobody has sent it on, so this one is all there is of it."""
    assert disposition(value) == outcomes.REJECTED
    assert [copy.value for copy in copies(value, acted=1)] == [value]


@pytest.mark.parametrize("value", [event(elsewhere("i")), cancellation("a")], ids=["event", "cancellation"])
def test_a_stray_comes_along_unless_it_was_sent_on(value: bytes) -> None:
    assert disposition(value) == outcomes.REROUTED
    assert copies(value, acted=1) == []
    home = partition_of(elsewhere("i"), NEW.partitions)
    assert copies(value, acted=0) == [Copy(elsewhere("i").encode(), value, home, NOW_MS)]
