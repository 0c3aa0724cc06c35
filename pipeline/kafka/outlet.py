"""The way out to Kafka, as those who publish see it: ``producer.Publisher`` is one, the simulator has another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Outlet(Protocol):
    """Takes records, and says when the brokers have them. Raises as ``producer.Publisher`` does."""

    def publish(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int = -1,
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> None:
        """Hand one record over; -1 is the partition that murmur2 finds for the key."""

    def publish_batch(self, topic: str, partition: int, messages: Sequence[tuple[bytes, bytes]]) -> None:
        """Hand many (key, value) records to one partition."""

    def flush(self, timeout_s: float) -> None:
        """Return when all that was handed over is acknowledged; raise when that may never be."""
