"""From plain rows to tallies: one merge per distinct tally, whatever the number of rows.

A value is 128 bits wide, which no column sum of numpy holds. It is added in three limbs (low 32, next 32, high 64
bits), each of which fits an int64 for any batch, and put together as a Python int: exact for every value there is.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.domain import outcomes
from pipeline.domain.limits import MINUTE_MS
from pipeline.domain.tally import merge_tally
from pipeline.worker import layout
from pipeline.worker.cell import Cell
from pipeline.worker.merging import Rows, merge_rows, wide
from pipeline.worker.state import StoredState

Ints = npt.NDArray[np.int64]

_ENTRY_ROW = np.dtype([("offset", ">u8"), ("appended_at", ">i8"), ("timestamp", ">i8"), ("value", "V16")])
_GROUP = ["livemode", "event_name", "customer", "minute", "dimensions"]


def enter_tallies(state: StoredState, frame: pl.DataFrame, places: Ints, offsets: Ints, appended: Ints) -> None:
    """Count the rows of ``frame`` at ``places``, whose records are at ``offsets``; both ascend, and so do times."""
    words, timestamps = _value_words(frame["value"])[places], frame["timestamp_ms"].to_numpy()[places]
    groups = _groups(frame if len(places) == len(frame) else frame[places])
    sizes = groups["row"].list.len().to_numpy().astype(np.int64)
    order = groups["row"].explode().to_numpy().astype(np.int64)
    starts = np.cumsum(sizes) - sizes
    newest = starts + sizes - 1
    words, timestamps, offsets, appended = words[order], timestamps[order], offsets[order], appended[order]

    sums = _sums(words, starts)
    lows, highs = _extremes(words, starts)
    last = _last_places(timestamps, starts, sizes)
    values = np.ascontiguousarray(words.view(np.uint8).reshape(-1, 16)[:, ::-1]).view("V16").ravel()
    entries = np.empty(len(order), _ENTRY_ROW)
    entries["offset"], entries["appended_at"], entries["timestamp"] = offsets, appended, timestamps
    entries["value"] = values

    packed = np.empty(len(starts), layout.TALLY_ROW)
    packed["version"], packed["count"] = offsets[newest], sizes
    packed["sum"] = _bytes_of(sums, layout.SUM_BYTES)
    packed["min"], packed["max"] = _bytes_of(lows, layout.VALUE_BYTES), _bytes_of(highs, layout.VALUE_BYTES)
    packed["last_timestamp"], packed["last_appended_at"] = timestamps[last], appended[last]
    packed["last_offset"], packed["last_value"] = offsets[last], values[last]
    packed["latest_appended_at"], packed["latest_offset"] = appended[newest], offsets[newest]
    packed["latest_value"] = values[newest]
    _merge(state, _tally_keys(groups), packed, entries.tobytes(), starts, sizes)
    state.account(outcomes.COUNTED, len(order), sum(sums))


def _groups(frame: pl.DataFrame) -> pl.DataFrame:
    """One row per tally: its key, and in ``row`` the rows of the frame that fall into it, ascending."""
    return (
        frame.lazy()
        .select(
            "livemode",
            "event_name",
            "customer",
            (pl.col("timestamp_ms") // MINUTE_MS * MINUTE_MS).alias("minute"),
            "dimensions",
        )
        .with_row_index("row")
        .group_by(_GROUP, maintain_order=True)
        .agg(pl.col("row"))
        .sort("event_name", "customer", "minute")  # RocksDB reads and writes ascending keys much faster
        .collect()
    )


def _merge(state: StoredState, keys: list[bytes], rows: Rows, entries: bytes, starts: Ints, sizes: Ints) -> None:
    """Bring the tallies of a batch, packed in ``rows``, with their entries into the state."""
    cells, dirty = state.cells, state.dirty
    _load(state, [key for key in keys if key not in cells])
    found = [cells.get(key) for key in keys]
    known = [(at, cell) for at, cell in enumerate(found) if cell is not None and cell.tally is None and cell.packed]
    by_hand = {at for at, cell in enumerate(found) if cell is not None and (cell.tally is not None or not cell.packed)}
    if known:
        before = np.frombuffer(b"".join([cell.packed for _, cell in known]), layout.TALLY_ROW)
        places = np.array([at for at, _ in known])
        merged, right = merge_rows(before, rows[places])
        by_hand.update(places[~right].tolist())
        single = rows.copy() if by_hand else rows
        single[places[right]] = merged[right]
        packed = single.tobytes()
    else:
        packed = rows.tobytes()
    row, size = layout.TALLY_BYTES, layout.ENTRY_BYTES
    # The hot loop: once per distinct tally.
    for at, (key, old, start, count) in enumerate(zip(keys, found, starts.tolist(), sizes.tolist(), strict=True)):
        cell = old or Cell()
        if old is None:
            cells[key] = cell
        if at in by_hand:
            merge_tally(cell.numbers(), layout.unpack_tally(rows[at].tobytes()))
        else:
            cell.packed = packed[at * row : at * row + row]
        tail = entries[start * size : (start + count) * size]
        if cell.tail or count >= layout.ENTRIES_PER_PAGE:
            cell.append(tail)
        else:
            cell.tail = tail
        if not cell.dirty:
            cell.dirty = True
            dirty.append(key)


def _load(state: StoredState, keys: list[bytes]) -> None:
    """Bring tallies of the store into memory; those that it does not have are new."""
    for key, packed in zip(keys, state.stored(keys), strict=True):
        if packed is not None:
            state.loaded(key, packed)


def _bytes_of(numbers: list[int], size: int) -> Any:
    """Each number in ``size`` bytes, two's complement, big-endian."""
    try:
        narrow = np.array(numbers, np.int64)
    except OverflowError:
        joined = b"".join([number.to_bytes(size, "big", signed=True) for number in numbers])
        return np.frombuffer(joined, f"V{size}")
    return wide(narrow, size)


def _value_words(values: pl.Series) -> npt.NDArray[np.int64]:
    """(n, 2) int64: low and high words of each value in units of 10^-12."""
    array = values.rechunk().to_arrow()
    words = np.frombuffer(array.buffers()[1], np.int64).reshape(-1, 2)
    return words[array.offset : array.offset + len(array)]


def _sums(words: npt.NDArray[np.int64], starts: Ints) -> list[int]:
    low = words[:, 0]
    if not len(low):
        return []
    if _narrow(words) and _adds_up(low):
        return _ints(np.add.reduceat(low, starts))
    unsigned = low.view(np.uint64)
    limbs = (
        np.add.reduceat((unsigned & np.uint64(0xFFFFFFFF)).astype(np.int64), starts).tolist(),
        np.add.reduceat((unsigned >> np.uint64(32)).astype(np.int64), starts).tolist(),
        _exact_high_sums(words[:, 1], starts),
    )
    return [one + (two << 32) + (three << 64) for one, two, three in zip(*limbs, strict=True)]


def _exact_high_sums(high: Ints, starts: Ints) -> list[int]:
    """Sums of the high words, which may be too large for an int64."""
    if _adds_up(high):
        return _ints(np.add.reduceat(high, starts))
    bounds = [*starts.tolist(), len(high)]
    whole = high.tolist()
    return [sum(whole[start:end]) for start, end in pairwise(bounds)]


def _ints(column: Ints) -> list[int]:
    numbers: list[int] = column.tolist()
    return numbers


def _adds_up(column: Ints) -> bool:
    """Whether the sum of any of these numbers fits an int64. (Python ints: abs(-2^63) has no int64.)"""
    return max(int(column.max()), -int(column.min())) < 2**62 // len(column)


def _narrow(words: npt.NDArray[np.int64]) -> bool:
    """Whether every value fits its low word alone."""
    return bool((words[:, 1] == words[:, 0] >> 63).all())


def _int_list(words: npt.NDArray[np.int64]) -> list[int]:
    if _narrow(words):
        return _ints(words[:, 0])
    low = words[:, 0].view(np.uint64).tolist()
    return [(high << 64) | one for one, high in zip(low, words[:, 1].tolist(), strict=True)]


def _extremes(words: npt.NDArray[np.int64], starts: Ints) -> tuple[list[int], list[int]]:
    """(smallest, greatest) of each group."""
    if _narrow(words):
        low = words[:, 0]
        return np.minimum.reduceat(low, starts).tolist(), np.maximum.reduceat(low, starts).tolist()
    whole = _int_list(words)
    bounds = [*starts.tolist(), len(whole)]
    pieces = [whole[start:end] for start, end in pairwise(bounds)]
    return [min(piece) for piece in pieces], [max(piece) for piece in pieces]


def _last_places(timestamps: Ints, starts: Ints, sizes: Ints) -> Ints:
    """In each group the place of the greatest (timestamp, appended_at, offset): among equals, the last one."""
    greatest = np.repeat(np.maximum.reduceat(timestamps, starts), sizes)
    places = np.where(timestamps == greatest, np.arange(len(timestamps)), -1)
    found: Ints = np.maximum.reduceat(places, starts)
    return found


def _tally_keys(groups: pl.DataFrame) -> list[bytes]:
    """``layout.store_tally_key`` of each group."""
    mode = pl.when(pl.col("livemode")).then(pl.lit("1")).otherwise(pl.lit("0"))
    head = pl.concat_str(pl.lit(layout.TALLY.decode()), mode, "event_name", pl.lit("\0"), "customer", pl.lit("\0"))
    heads = groups.select(head.cast(pl.Binary).alias("head"))["head"].to_list()
    minutes = groups["minute"].to_numpy().astype(">i8").tobytes()
    return [
        head + minutes[at * 8 : at * 8 + 8] + dimensions
        for at, (head, dimensions) in enumerate(zip(heads, groups["dimensions"].to_list(), strict=True))
    ]
