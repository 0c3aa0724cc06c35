"""murmur2 of many identifiers at once; equal to ``pipeline.domain.partitioning`` (tested)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

_M = np.uint32(0x5BD1E995)
_SEED = 0x9747B28C


def home_partitions(identifiers: pl.Series, partitions: int) -> npt.NDArray[np.int64]:
    """The journal partition of each identifier (String)."""
    array = identifiers.to_arrow().cast("large_string")
    _, offsets_buffer, text_buffer = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    text = np.frombuffer(text_buffer, np.uint8) if text_buffer is not None else np.empty(0, np.uint8)
    sizes = np.diff(offsets)
    homes = np.empty(len(sizes), np.int64)
    for size in np.unique(sizes).tolist():
        rows = np.flatnonzero(sizes == size)
        if len(rows) == len(sizes) and size:
            keys = text[offsets[0] : offsets[-1]].reshape(-1, size)
        else:
            keys = text[offsets[rows][:, None] + np.arange(size)]
        homes[rows] = (_murmur2(keys) & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)
    return homes


def _murmur2(keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Hashes of a matrix of keys of one length, a key per row."""
    count, size = keys.shape
    whole = size & ~3
    words = np.ascontiguousarray(np.ascontiguousarray(keys[:, :whole]).view("<u4").T)
    hashes = np.full(count, (_SEED ^ size) & 0xFFFFFFFF, np.uint32)
    for word in words:
        k = word * _M
        k ^= k >> np.uint32(24)
        k *= _M
        hashes *= _M
        hashes ^= k
    if size != whole:
        tail = np.zeros(count, np.uint32)
        for place in range(size - whole):
            tail |= keys[:, whole + place].astype(np.uint32) << np.uint32(8 * place)
        hashes ^= tail
        hashes *= _M
    hashes ^= hashes >> np.uint32(13)
    hashes *= _M
    hashes ^= hashes >> np.uint32(15)
    return hashes
