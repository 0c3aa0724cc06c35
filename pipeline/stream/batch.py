"""What a Faust agent of ours receives: many consecutive records of one partition as one message."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(slots=True)
class RecordBatch:
    """Consecutive records of one partition in offset order, by column. May be empty.

    Offsets ascend but may leave holes: transaction markers and aborted records are nobody's loss. Batches have none:
    each one's ``start`` is the ``next_offset`` of the one before, or a record was skipped.
    """

    topic: str
    partition: int
    start: int
    """Where the read began; at most the first record's offset."""
    next_offset: int
    """Where the next read begins; above the last record's offset."""
    offsets: npt.NDArray[np.int64]
    appended_at_ms: npt.NDArray[np.int64]
    """LogAppendTime (the broker's clock), milliseconds."""
    keys: list[bytes | None]
    values: list[bytes | None]

    def __len__(self) -> int:
        return len(self.values)

    def since(self, offset: int) -> RecordBatch:
        """The same batch without the records below ``offset``."""
        if offset <= self.start:
            return self
        cut = int(np.searchsorted(self.offsets, offset))
        return RecordBatch(
            self.topic,
            self.partition,
            min(offset, self.next_offset),
            self.next_offset,
            self.offsets[cut:],
            self.appended_at_ms[cut:],
            self.keys[cut:],
            self.values[cut:],
        )


def joined(batches: Iterable[RecordBatch], records_max: int) -> list[RecordBatch]:
    """The same records in fewer batches: those of a partition that follow each other become one, in their order.

    Reading by columns costs the same for ten records as for a thousand, and a topic that is read as it is written
    comes in batches of ten. No batch grows beyond ``records_max`` by it.
    """
    runs: list[list[RecordBatch]] = []
    open_runs: dict[tuple[str, int], tuple[list[RecordBatch], int]] = {}
    for batch in batches:
        place = (batch.topic, batch.partition)
        run, records = open_runs.get(place, ([], 0))
        if not run or run[-1].next_offset != batch.start or records + len(batch) > records_max:
            run, records = [], 0
            runs.append(run)
        run.append(batch)
        open_runs[place] = run, records + len(batch)
    return [_one(run) for run in runs]


def _one(run: Sequence[RecordBatch]) -> RecordBatch:
    if len(run) == 1:
        return run[0]
    return RecordBatch(
        run[0].topic,
        run[0].partition,
        run[0].start,
        run[-1].next_offset,
        np.concatenate([batch.offsets for batch in run]),
        np.concatenate([batch.appended_at_ms for batch in run]),
        [key for batch in run for key in batch.keys],
        [value for batch in run for value in batch.values],
    )
