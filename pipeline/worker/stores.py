"""The stores of one worker in its directory, and the snapshots of all workers, as files."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from pipeline.errors import Unavailable
from pipeline.worker.edges import OrderedStore
from pipeline.worker.leftovers import remove_leftovers
from pipeline.worker.partition import Origin
from pipeline.worker.snapshots import Snapshots, checkpoint_of, translated
from pipeline.worker.store import Store

log = logging.getLogger("meterline.worker")


class LocalStores:
    """``pipeline.worker.edges.Stores`` in the directory ``state``, which belongs to one worker alone."""

    def __init__(self, state: Path, snapshots: Snapshots | None) -> None:
        remove_leftovers(state)
        self._state = state
        self._snapshots = snapshots
        self.snapshots_kept = snapshots is not None
        self._failed = 0
        """Snapshots in a row that could not be made."""

    def _path(self, partition: int) -> Path:
        return self._state / f"partition-{partition}"

    def stands(self, partition: int) -> bool:
        return self._path(partition).exists()

    def open(self, partition: int) -> Store:
        return Store(self._path(partition))

    def set_aside(self, partition: int, next_offset: int) -> None:
        path = self._path(partition)
        path.rename(path.with_name(f"{path.name}-at-{next_offset}"))

    def restore(self, origin: Origin) -> int | None:
        with translated():
            return None if self._snapshots is None else self._snapshots.restore(origin, self._path(origin.partition))

    def newest_cursor(self, origin: Origin) -> int | None:
        with translated():
            return None if self._snapshots is None else self._snapshots.newest_cursor(origin)

    def checkpoint(self, store: OrderedStore) -> Path:
        assert isinstance(store, Store)
        return checkpoint_of(store, self._state)

    def keep(self, origin: Origin, cursor: int, checkpoint: Path) -> bool:
        assert self._snapshots is not None
        try:
            with translated():
                self._snapshots.take(origin, cursor, checkpoint)
        except Unavailable as error:  # the next one may succeed; until then a recovery folds a little more
            self._failed += 1
            log.warning(
                "partition %d: no snapshot at offset %d (%d failed in a row): %s",
                origin.partition,
                cursor,
                self._failed,
                error,
            )
            return False
        finally:
            shutil.rmtree(checkpoint.parent, ignore_errors=True)
        self._failed = 0
        return True
