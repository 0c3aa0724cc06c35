"""A partition's RocksDB."""

from __future__ import annotations

import random
from pathlib import Path

from pipeline.worker.store import _MEMTABLE_BYTES, _MEMTABLES_BYTES, Store, _shared
from tests.workers import until


def test_many_stores_have_as_much_in_memory_as_a_few(tmp_path: Path) -> None:
    """Each may have 24 MB that are not on disk yet, but not all of them at once."""
    chance, (_, memtables) = random.Random(7), _shared()
    stores = [Store(tmp_path / str(number)) for number in range(16)]
    for _ in range(64):
        for store in stores:
            store.write({chance.randbytes(16): chance.randbytes(320_000)})
    assert _MEMTABLES_BYTES < 16 * 64 * 320_000 < 16 * _MEMTABLE_BYTES
    until(lambda: memtables.get_usage() < _MEMTABLES_BYTES, "what is above is flushed")
    assert memtables.get_usage() > 0
    for store in stores:
        store.close()
