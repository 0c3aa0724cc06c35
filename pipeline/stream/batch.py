"""What a Faust agent of ours receives: many consecutive records of one partition as one message."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(slots=True)
class RecordBatch:
    """Consecutive records of one partition in offset order, by column.

    Offsets ascend but may leave holes: transaction markers and aborted records are nobody's loss.
    """

    topic: str
    partition: int
    offsets: npt.NDArray[np.int64]
    appended_at_ms: npt.NDArray[np.int64]
    """LogAppendTime (the broker's clock), milliseconds."""
    keys: list[bytes | None]
    values: list[bytes | None]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def next_offset(self) -> int:
        """The offset after the last record."""
        return int(self.offsets[-1]) + 1
