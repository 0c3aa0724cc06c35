"""One partition's RocksDB.

No write-ahead log: the journal is the log. After a crash the store is at some earlier cursor, whole, because one
column family is flushed in the order it was written and every write is one batch with its cursor.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DBCompactionStyle,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from pipeline.errors import Refusal

_MEMTABLE_BYTES = 24 * 2**20
_MEMTABLES_BYTES = 144 * 2**20
"""All stores of a process together: when they have more, whoever writes next flushes first, however little it has."""
_CACHE_BYTES = 64 * 2**20


@functools.cache
def _shared() -> tuple[Cache, WriteBufferManager]:
    """What all stores of a process have in common, so that its memory does not grow with its partitions."""
    return Cache(_CACHE_BYTES), WriteBufferManager(_MEMTABLES_BYTES, False)


def _options() -> Options:
    cache, memtables = _shared()
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_bloom_filter(10, False)
    table.set_format_version(5)
    # Indexes and filters live in the cache, in small blocks: outside of it they would take more memory for every
    # identifier that is remembered.
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    table.set_index_type(BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    table.set_pin_top_level_index_and_filter(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_manager(memtables)
    options.set_write_buffer_size(_MEMTABLE_BYTES)
    options.set_max_write_buffer_number(3)
    options.set_memtable_prefix_bloom_ratio(0.1)
    options.set_memtable_whole_key_filtering(True)
    options.set_level_zero_file_num_compaction_trigger(8)
    options.set_compaction_style(DBCompactionStyle.level())
    options.set_compression_type(DBCompressionType.lz4())
    options.set_block_based_table_factory(table)
    options.set_max_open_files(256)
    options.set_keep_log_file_num(2)
    options.set_max_background_jobs(2)
    return options


class Store:
    """Bytes by key, in order of key. One process at a time; ``path`` is made when it is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._rocks = Rdict(str(path), _options())
        except Exception as error:
            if "lock" in str(error).lower():
                raise Refusal(
                    f"the store {path} is in use by another worker; give each worker its own METERLINE_STATE directory"
                ) from None
            raise Refusal(
                f"the store {path} cannot be opened ({error}); `meterline worker reset` deletes this worker's local"
                " state, which is then taken from a snapshot or folded from the journal again"
            ) from error
        self._write_options = WriteOptions()
        self._write_options.memtable_insert_hint_per_batch = True
        self._write_options.disable_wal = True  # type: ignore[method-assign,assignment]  # the stub is wrong

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._rocks.get(key)
        return value

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        values: Any = self._rocks.get(list(keys))
        return list(values)

    def scan(self, prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of all keys with this prefix, from ``start`` on, in order."""
        cursor = self._rocks.iter()
        cursor.seek(start or prefix)
        while cursor.valid():
            key: bytes = cursor.key()
            if not key.startswith(prefix):
                return
            yield key, cursor.value()
            cursor.next()

    def write(self, *layers: Mapping[bytes, bytes | None]) -> None:
        """All of them or none; None deletes. A later layer prevails over an earlier one."""
        batch = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for layer in layers:
            for key, value in layer.items():
                if value is None:
                    delete(key)
                else:
                    put(key, value)
        self._rocks.write(batch, self._write_options)

    def checkpoint(self, path: Path) -> None:
        """A whole copy at this moment, by hard links, in a directory that does not exist yet."""
        Checkpoint(self._rocks).create_checkpoint(str(path))

    def flush(self) -> None:
        """Bring what was written to disk, so that a crash need not fold it again."""
        self._rocks.flush()

    def close(self) -> None:
        self._rocks.close()
