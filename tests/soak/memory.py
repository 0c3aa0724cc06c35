"""How memory went over an hour: how fast it grew when it was warm, whatever single samples say. Pure."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
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


class Growth(NamedTuple):
    """After the warm-up."""

    median_mb: float
    percent_an_hour: float

    @property
    def is_flat(self) -> bool:
        return self.percent_an_hour < GROWTH_MAX


def growth(samples: Sequence[Sample], seconds: float) -> Growth:
    """By Theil and Sen: the median of the slopes between any two samples, which no single spike can bend."""
    warm = [one for one in samples if one.at_s >= WARM_UP * seconds]
    median = statistics.median(one.resident_mb for one in warm)
    slopes = [
        (later.resident_mb - earlier.resident_mb) / (later.at_s - earlier.at_s)
        for earlier, later in itertools.combinations(warm, 2)
        if later.at_s > earlier.at_s
    ]
    return Growth(median, 100.0 * HOUR_S * statistics.median(slopes) / median if slopes else 0.0)
