"""A partition's RocksDB."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

from pipeline.worker import layout
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


SIGNED = """
import os, signal, sys
from pathlib import Path
from pipeline.codec.records import Codec
from pipeline.domain.fold import Journal
from pipeline.domain.limits import FoldRules
from pipeline.worker.partition import Origin, Partition
from pipeline.worker.store import Store

rules = FoldRules()
store = Store(Path(sys.argv[1]))  # let go of, it would be flushed
Partition(Journal(0, 1, rules), Origin("journal", "id", 0, 1, rules.version), store, Codec()).sign()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_whose_state_it_is_stands_there_before_anything_is_folded(tmp_path: Path) -> None:
    """A worker that is killed at once leaves a store that nobody takes for another journal's."""
    ended = subprocess.run([sys.executable, "-c", SIGNED, str(tmp_path / "store")], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    store = Store(tmp_path / "store")
    assert b'"journal"' in (store.get(layout.META) or b"")
    store.close()
