"""Offsets of the journal without a record: each must lie in a batch of the log, else a record was lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.replay.audit_findings import Compared, Difference
from pipeline.replay.audit_fold import AuditFold
from pipeline.stream.spans import Stretch, lost


class JournalHoles:
    """What the fold of one partition has passed over, looked at once."""

    def __init__(self, topic: str, partition: int) -> None:
        self.count = 0
        """Offsets without a record."""
        self._topic = topic
        self._partition = partition
        self._lost: list[Stretch] = []

    def compared(self, kafka: Mapping[str, Any], fold: AuditFold) -> Compared:
        """What is lost up to where the fold stands. Raises Unavailable."""
        holes = [Stretch(*hole) for hole in fold.holes]
        self._lost += lost(kafka, self._topic, self._partition, holes)
        fold.holes = []  # only now: what nobody answered is asked again in the next round
        self.count += sum(hole.end - hole.first for hole in holes)
        side = Compared(f"topic {self._topic}", fold.next_offset, items=fold.next_offset)
        for first, end in self._lost:
            what = f"offsets {first} to {end - 1}: no record, and no batch of the log holds them"
            side.differ(Difference(side.where, self._partition, "missing", what))
        return side
