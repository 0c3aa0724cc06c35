"""How memory went over an hour: how fast it grew when it was warm, whatever single samples say."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HOUR_S = 3600.0
WARM_UP = 0.25
"""Share of the time in which caches fill, and which is not judged."""
GROWTH_MAX = 1.0
"""Percent of an hour."""


class Sample(NamedTuple):
    """What a process had resident at a moment."""

    at_s: float
    resident_mb: float
    anonymous_mb: float
    """Of it, what the process wrote itself. The rest are pages of files, of libraries' code above all, which come when
    they are first needed, and which the kernel can take back.
    """

    @classmethod
    def of(cls, pid: int, at_s: float) -> Sample:
        """Now, in 10^6 bytes. From smaps_rollup: the counters of ``status`` lag behind by what each processor holds."""
        found = Path(f"/proc/{pid}/smaps_rollup").read_text()
        resident, anonymous = (int(found.partition(f"\n{name}:")[2].split()[0]) for name in ("Rss", "Anonymous"))
        return cls(at_s, resident * 1024 / 1e6, anonymous * 1024 / 1e6)


class Growth(NamedTuple):
    """After the warm-up."""

    median_mb: float
    percent_an_hour: float
    anonymous_percent_an_hour: float
    """What its own memory grew by, in percent of all that it had."""

    @property
    def is_flat(self) -> bool:
        return self.percent_an_hour < GROWTH_MAX


def growth(samples: Sequence[Sample], seconds: float) -> Growth:
    """By Theil and Sen: the median of the slopes between any two samples, which no single spike can bend."""
    warm = [one for one in samples if one.at_s >= WARM_UP * seconds]
    median = statistics.median(one.resident_mb for one in warm)
    resident = _slope([(one.at_s, one.resident_mb) for one in warm])
    anonymous = _slope([(one.at_s, one.anonymous_mb) for one in warm])
    return Growth(median, 100.0 * HOUR_S * resident / median, 100.0 * HOUR_S * anonymous / median)


def _slope(points: Sequence[tuple[float, float]]) -> float:
    slopes = [(y - x) / (then - now) for (now, x), (then, y) in itertools.combinations(points, 2) if then > now]
    return statistics.median(slopes) if slopes else 0.0
