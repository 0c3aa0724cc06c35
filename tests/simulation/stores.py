"""A model of RocksDB without a write-ahead log, of a worker's directory, and of the snapshot store.

Every write is whole. A crash loses the newest writes, back to some earlier one; what was flushed stays.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

from pipeline.errors import Unavailable
from pipeline.worker import layout
from pipeline.worker.opening import TRIES
from pipeline.worker.partition import Origin
from tests.simulation.chance import Trace

Keys = dict[bytes, bytes]
Layer = Mapping[bytes, bytes | None]
Effect = Callable[[str, str], None]


def apply(keys: Keys, layers: tuple[Layer, ...]) -> None:
    for layer in layers:
        for key, value in layer.items():
            if value is None:
                keys.pop(key, None)
            else:
                keys[key] = value


class Disk:
    """What one directory holds, whatever becomes of the processes that use it."""

    def __init__(self) -> None:
        self.stores: dict[int, Files] = {}
        self.aside: dict[tuple[int, int], Files] = {}

    def reach(self, partition: int) -> int:
        """The highest cursor of any state of a partition."""
        files = [self.stores.get(partition), *(one for (number, _), one in self.aside.items() if number == partition)]
        return max((one.reach() for one in files if one is not None), default=0)


class Files:
    """The files of one store: what is on disk, and what a crash may lose."""

    def __init__(self, keys: Keys | None = None) -> None:
        self.durable: Keys = keys or {}
        self.unflushed: list[tuple[dict[bytes, bytes | None], ...]] = []

    def reach(self) -> int:
        """The cursor of all that was written."""
        layers = [layer for layers in self.unflushed for layer in layers]
        metas = [layer[layout.META] for layer in (self.durable, *layers) if layout.META in layer]
        return int(json.loads(metas[-1] or b"{}")["cursor"]) if metas else 0

    def flush(self, writes: int) -> None:
        for layers in self.unflushed[:writes]:
            apply(self.durable, layers)
        del self.unflushed[:writes]

    def crash(self, random: Random) -> int:
        """Lose the newest writes; how many are lost."""
        self.flush(random.randint(0, len(self.unflushed)))
        lost = len(self.unflushed)
        self.unflushed.clear()
        return lost


class SimStore:
    """``pipeline.worker.edges.OrderedStore``"""

    def __init__(self, path: Path, files: Files, random: Random, wrote: Callable[[int], None], effect: Effect) -> None:
        self._effect = effect
        self.path = path
        self.files = files
        self._random = random
        self._wrote = wrote
        self._keys = dict(files.durable)
        for layers in files.unflushed:
            apply(self._keys, layers)
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        assert not self._closed, "a store is read after it was closed"
        return self._keys.get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        assert not self._closed, "a store is read after it was closed"
        return [self._keys.get(key) for key in keys]

    def scan(self, prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        assert not self._closed, "a store is read after it was closed"
        keys = self._keys
        found = sorted([key for key in keys if key.startswith(prefix) and key >= (start or prefix)])
        return iter([(key, keys[key]) for key in found])

    def write(self, *layers: Layer) -> None:
        assert not self._closed, "a store is written after it was closed"
        self._effect("store write", "before")
        kept = tuple(dict(layer) for layer in layers)
        apply(self._keys, kept)
        self.files.unflushed.append(kept)
        meta = next((layer[layout.META] for layer in kept if layout.META in layer), None)
        if meta is not None:
            self._wrote(json.loads(meta)["cursor"])
        if self._random.random() < 0.2:  # a memtable is full, or RocksDB thinks it is time
            self.files.flush(self._random.randint(0, len(self.files.unflushed)))
        self._effect("store write", "after")

    def flush(self) -> None:
        self.files.flush(len(self.files.unflushed))

    def close(self) -> None:
        if not self._closed:
            self.flush()
            self._closed = True


@dataclasses.dataclass(slots=True)
class Snapshot:
    cursor: int
    keys: Keys
    damaged: bool = False


class SnapshotStore:
    """What all workers share."""

    def __init__(self) -> None:
        self.of: dict[Origin, list[Snapshot]] = {}

    def newest(self, origin: Origin) -> Snapshot | None:
        found = sorted(self.of.get(origin, []), key=lambda one: -one.cursor)
        return next((one for one in found if not one.damaged), None)


class SimStores:
    """``pipeline.worker.edges.Stores`` of one host."""

    def __init__(
        self,
        disk: Disk,
        snapshots: SnapshotStore | None,
        random: Random,
        away: Random,
        trace: Trace,
        wrote: Callable[[int, int], None],
        effect: Effect,
    ) -> None:
        self._effect = effect
        self._disk = disk
        self._snapshots = snapshots
        self._random = random
        self._away = away
        self._in_vain = 0
        """How often the snapshots will yet be asked for in vain."""
        self._trace = trace
        self._wrote = wrote
        self.snapshots_kept = snapshots is not None

    def stands(self, partition: int) -> bool:
        found = partition in self._disk.stores
        self._trace.reach("took over a local store" if found else "took over without a local store")
        return found

    def open(self, partition: int) -> SimStore:
        files = self._disk.stores.setdefault(partition, Files())
        return SimStore(
            Path(f"partition-{partition}"),
            files,
            self._random,
            lambda cursor: self._wrote(partition, cursor),
            self._effect,
        )

    def set_aside(self, partition: int, next_offset: int) -> None:
        self._trace.reach("set a store aside")
        self._disk.aside[partition, next_offset] = self._disk.stores.pop(partition)

    def restore(self, origin: Origin) -> int | None:
        assert origin.partition not in self._disk.stores
        if self._snapshots is None:
            return None
        self._ask()
        found = self._snapshots.newest(origin)
        if any(one.damaged for one in self._snapshots.of.get(origin, [])):
            self._trace.reach("passed over a damaged snapshot")
        if found is None:
            return None
        self._trace.reach("restored a snapshot")
        self._disk.stores[origin.partition] = Files(dict(found.keys))
        return found.cursor

    def _ask(self) -> None:
        if not self._in_vain and self._away.random() < 0.1:
            self._in_vain = self._away.randint(1, 2 * TRIES)
        if self._in_vain:
            self._in_vain -= 1
            self._trace.reach("snapshots away")
            raise Unavailable("the snapshot store is away")

    def newest_cursor(self, origin: Origin) -> int | None:
        if self._snapshots is not None:
            self._ask()
        found = sorted(self._snapshots.of.get(origin, []), key=lambda one: -one.cursor) if self._snapshots else []
        return found[0].cursor if found else None

    def checkpoint(self, store: SimStore) -> Any:
        store.flush()
        return dict(store.files.durable)

    def keep(self, origin: Origin, cursor: int, checkpoint: Keys) -> bool:
        assert self._snapshots is not None
        if self._random.random() < 0.1:
            self._trace.reach("snapshot failed")
            return False
        self._trace.reach("took a snapshot")
        kept = self._snapshots.of.setdefault(origin, [])
        kept.append(Snapshot(cursor, checkpoint))
        kept.sort(key=lambda one: one.cursor)
        del kept[:-3]
        return True
