"""Where each record of a journal stands in one with other partitions, and which records need no copy there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from confluent_kafka import Message

from pipeline.codec.columns import decode_events
from pipeline.codec.murmur import home_partitions
from pipeline.codec.records import Codec
from pipeline.domain import fold
from pipeline.domain.events import Cancellation, MeterEvent
from pipeline.domain.limits import FoldRules
from pipeline.domain.partitioning import partition_of
from pipeline.errors import UndecodableRecord

SAME_RANGE_MS: Final = 60_000
"""Within this time, a second copy of a range cancellation is one of those that the worker wrote into every partition;
later ones are carried over, for the fold to judge."""
EVERYWHERE, _NOWHERE = -1, -2
"""In place of a partition."""


class Journal(NamedTuple):
    """A topic, and how many partitions it has."""

    topic: str
    partitions: int


class Copy(NamedTuple):
    """A record as it is to be written."""

    key: bytes | None
    value: bytes | None
    partition: int
    """EVERYWHERE: into each of them."""
    clock_ms: int


class Placing:
    """From ``old`` to ``new``. Takes the records of a partition in their order; remembers ranges."""

    def __init__(self, old: Journal, new: Journal, codec: Codec) -> None:
        self._old, self._new, self._codec = old, new, codec
        self._ranges: dict[str, int] = {}

    def copies(self, number: int, messages: Sequence[Message], clocks: Sequence[int], acted: int) -> list[Copy]:
        """Records of one partition as they are to be written.

        ``acted``: strays below this offset were sent to their partition, and their copy there is the one that counts.
        """
        values = [message.value() for message in messages]
        columns = decode_events(values)
        identifiers = columns.frame["identifier"]
        homes = np.full(len(values), number, np.int64)
        homes[columns.rows] = home_partitions(identifiers, self._new.partitions)
        strays = np.zeros(len(values), bool)
        elsewhere = columns.rows[home_partitions(identifiers, self._old.partitions) != number]
        for row in elsewhere.tolist():
            strays[row] = self._is_stray(number, self._codec.decode_journal(values[row]))
        names: list[bytes | None] = [message.key() for message in messages]
        for row, identifier in zip(columns.rows.tolist(), identifiers.to_list(), strict=True):
            names[row] = identifier.encode()
        for row in columns.rest.tolist():
            homes[row], strays[row], names[row] = self._placed(number, values[row], names[row], clocks[row])
        return [
            Copy(names[row], values[row], int(homes[row]), clocks[row])
            for row, stray in enumerate(strays.tolist())
            if homes[row] != _NOWHERE and (not stray or _offset(messages[row]) >= acted)
        ]

    def _is_stray(self, number: int, content: MeterEvent | Cancellation) -> bool:
        """As the fold has it: what it rejects where it stands is sent nowhere, whatever partition it came to."""
        return fold.is_stray(fold.Journal(number, self._old.partitions, FoldRules()), content)  # whatever the rules

    def _placed(
        self, number: int, value: bytes | None, key: bytes | None, clock_ms: int
    ) -> tuple[int, bool, bytes | None]:
        """(partition, whether it is a stray, key) of a record that columns cannot tell."""
        try:
            content = self._codec.decode_journal(value)
        except UndecodableRecord:
            return number % self._new.partitions, False, key
        if content.identifier is not None:
            home = partition_of(content.identifier, self._new.partitions)
            return home, self._is_stray(number, content), content.identifier.encode()
        assert isinstance(content, Cancellation)
        written_ms = self._ranges.get(content.adjustment_id)
        if written_ms is not None and clock_ms - written_ms <= SAME_RANGE_MS:
            return _NOWHERE, False, key  # it stood in every partition, and is in all of the new ones already
        self._ranges[content.adjustment_id] = clock_ms
        return EVERYWHERE, False, key


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None
    return offset
