"""Merging packed tallies by columns; equal to ``pipeline.domain.tally.merge_tally`` for every row it vouches for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.worker import layout

Rows = npt.NDArray[np.void]
"""Of ``layout.TALLY_ROW``."""
Mask = npt.NDArray[np.bool_]

_LAST = ("last_timestamp", "last_appended_at", "last_offset")
_LATEST = ("latest_appended_at", "latest_offset")
_SMALL = 2**62


def merge_rows(before: Rows, more: Rows) -> tuple[Rows, Mask]:
    """Each tally of ``before`` with the events of ``more`` added; none of ``more`` is empty.

    Also returns which rows are right: those whose sums and values fit 64 bits. The others are not merged.
    """
    merged = before.copy()
    sums, sums_fit = zip(*(_narrow(rows["sum"], layout.SUM_BYTES) for rows in (before, more)), strict=True)
    lows, lows_fit = zip(*(_narrow(rows["min"], layout.VALUE_BYTES) for rows in (before, more)), strict=True)
    highs, highs_fit = zip(*(_narrow(rows["max"], layout.VALUE_BYTES) for rows in (before, more)), strict=True)
    right: Mask = np.logical_and.reduce([*sums_fit, *lows_fit, *highs_fit])
    for addend in sums:
        right &= (addend < _SMALL) & (addend > -_SMALL)
    merged["version"] = np.maximum(before["version"], more["version"])
    merged["count"] = before["count"] + more["count"]
    total = np.where(right, sums[0], 0) + np.where(right, sums[1], 0)
    merged["sum"] = wide(total, layout.SUM_BYTES)
    _take(merged, more, lows[1] < lows[0], ("min",))
    _take(merged, more, highs[1] > highs[0], ("max",))
    _take(merged, more, _greater(more, before, _LAST), (*_LAST, "last_value"))
    _take(merged, more, _greater(more, before, _LATEST), (*_LATEST, "latest_value"))
    emptied = before["count"] == 0
    version = merged["version"].copy()
    merged[emptied] = more[emptied]
    merged["version"] = version
    return merged, right


def wide(numbers: npt.NDArray[np.int64], size: int) -> Any:
    """Each number in ``size`` bytes, two's complement, big-endian."""
    matrix = np.empty((len(numbers), size), np.uint8)
    matrix[:, :-8] = (numbers >> 63).astype(np.uint8)[:, None]
    matrix[:, -8:] = numbers.astype(">i8").view(np.uint8).reshape(-1, 8)
    return matrix.view(f"V{size}").ravel()


def _narrow(column: Any, size: int) -> tuple[npt.NDArray[np.int64], Mask]:
    """The low 64 bits of big-endian numbers, and whether there is no more to them."""
    words = np.ascontiguousarray(column).view(">i8").reshape(-1, size // 8).astype(np.int64)
    low = words[:, -1]
    return low, (words[:, :-1] == (low >> 63)[:, None]).all(axis=1)


def _greater(one: Rows, other: Rows, names: tuple[str, ...]) -> Mask:
    """Whether ``one`` is behind ``other`` in the order of these fields, compared as a tuple."""
    greater, equal = np.zeros(len(one), np.bool_), np.ones(len(one), np.bool_)
    for name in names:
        mine, its = one[name].astype(np.int64), other[name].astype(np.int64)
        greater |= equal & (mine > its)
        equal &= mine == its
    return greater


def _take(merged: Rows, more: Rows, where: Mask, names: tuple[str, ...]) -> None:
    for name in names:
        merged[name][where] = more[name][where]
