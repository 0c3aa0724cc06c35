"""A partition's RocksDB."""

from __future__ import annotations

import random
from pathlib import Path

from pipeline.worker.store import _MEMTABLES_BYTES, Store, _shared


def test_many_stores_have_as_much_in_memory_as_a_few(tmp_path: Path) -> None:
    """Each may have 24 MB that are not on disk yet, but not all of them at once."""
    chance, (_, memtables) = random.Random(7), _shared()
    stores = [Store(tmp_path / str(number)) for number in range(16)]
    most = 0
    for turn in range(64):
        for store in stores:
            store.write({chance.randbytes(16): chance.randbytes(320_000)})
            most = max(most, memtables.get_usage())
        assert turn or most > 0
    for store in stores:
        store.close()
    written = 16 * 64 * 320_000
    assert _MEMTABLES_BYTES / 2 < most < 1.2 * _MEMTABLES_BYTES < written
