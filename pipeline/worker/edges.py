"""What the worker's core asks of the world: in production of Kafka, RocksDB and files, in the simulator of models.

Whatever stands behind these may fail at any moment, and a process may end between any two calls: the order in which the
core makes them is what keeps the numbers right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pipeline.kafka.admin import TopicState

if TYPE_CHECKING:
    from pipeline.worker.partition import Origin


class Keyed(NamedTuple):
    """A record as it stands in a log."""

    offset: int
    key: bytes | None
    value: bytes | None


class Group(Protocol):
    """The consumer group, as one member sees it."""

    def assigned(self) -> set[int]:
        """The journal partitions that are ours now."""

    async def committed(self, partitions: set[int]) -> dict[int, int]:
        """The group's committed offsets on the journal; partitions without one are left out."""

    def note_done(self, partition: int, next_offset: int) -> None:
        """Have the group told, with the next commit, that everything below ``next_offset`` is done."""


class Cluster(Protocol):
    """The brokers, as an administrator sees them. Raises Unavailable."""

    def describe(self, names: Iterable[str]) -> dict[str, TopicState]:
        """The topics of these names that exist."""

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        """(first offset, offset after the last)"""

    def firsts(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The first offset, by partition."""

    def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The offset after the last, by partition."""

    def records(self, topic: str, partition: int, start: int, end: int, most: int) -> list[Keyed]:
        """What lies in [start, end), but no more than the first ``most``."""


class OrderedStore(Protocol):
    """Bytes by key, in order of key; see ``pipeline.worker.store.Store``."""

    path: Path

    def get(self, key: bytes) -> bytes | None: ...
    def get_many(self, keys: list[bytes]) -> list[bytes | None]: ...
    def scan(self, prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]: ...

    def write(self, *layers: Mapping[bytes, bytes | None]) -> None:
        """All of them or none, also after a crash; what was written last may then be lost, but never out of order."""

    def flush(self) -> None: ...
    def close(self) -> None: ...


class Stores(Protocol):
    """The stores of one worker, one per partition, and the snapshots that all workers share."""

    snapshots_kept: bool
    """Whether there is a snapshot store."""

    def stands(self, partition: int) -> bool:
        """Whether this worker has a store of this partition."""

    def open(self, partition: int) -> OrderedStore:
        """The partition's store, made when there is none. Raises Refusal."""

    def set_aside(self, partition: int, next_offset: int) -> None:
        """Move a closed store out of the way, and keep it."""

    def restore(self, origin: Origin) -> int | None:
        """Put the newest whole snapshot of this origin where no store is; returns its cursor, or None.

        Raises Unavailable, with nothing put there, while the snapshots are out of reach.
        """

    def newest_cursor(self, origin: Origin) -> int | None:
        """The cursor of the newest snapshot of this origin, or None. Raises Unavailable."""

    def checkpoint(self, store: OrderedStore) -> Any:
        """A whole copy of an open store as it stands, for ``keep``."""

    def keep(self, origin: Origin, cursor: int, checkpoint: Any) -> bool:
        """Make a snapshot of a checkpoint, which is used up. Whether there is one: a failure is said in the log."""
