"""What a Faust agent of ours receives: many consecutive records of one partition as one message."""

from __future__ import annotations

import dataclasses

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
