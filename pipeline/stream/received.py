"""What an agent receives from Faust, as far as our steps know it: the simulator hands out the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from pipeline.stream.batch import RecordBatch


class Received(Protocol):
    """A batch as an agent receives it."""

    value: RecordBatch

    def ack(self) -> Any:
        """All that this batch says is where it belongs: its offsets may be committed."""


Stream = AsyncIterator[Received]
"""Batches of a topic, in the order of each partition."""
