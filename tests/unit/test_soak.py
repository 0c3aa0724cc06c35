"""How the soak judges memory."""

from __future__ import annotations

import os
from random import Random

import pytest

from tests.soak.memory import Growth, Sample, growth

HOUR_S = 3600


def hour(percent: float, warm_up_mb: float = 0.0, spikes: int = 0) -> list[Sample]:
    random, found = Random(7), []
    for at_s in range(0, HOUR_S, 10):
        warming = warm_up_mb * max(0.0, 1 - at_s / (0.2 * HOUR_S))
        resident = 200 * (1 + percent / 100 * at_s / HOUR_S) - warming + random.uniform(-1, 1)
        found.append(Sample(at_s, resident, 0.5 * resident))
    for place in random.sample(range(len(found)), spikes):
        found[place] = found[place]._replace(resident_mb=400)
    return found


@pytest.mark.parametrize("percent", [-2.0, 0.0, 0.5, 1.5, 10.0])
def test_growth_is_found_whatever_single_samples_say(percent: float) -> None:
    found = growth(hour(percent, warm_up_mb=150, spikes=60), HOUR_S)
    assert found.percent_an_hour == pytest.approx(percent, abs=0.2, rel=0.1)
    assert found.anonymous_percent_an_hour == pytest.approx(percent / 2, abs=0.2, rel=0.1)
    assert found.is_flat == (percent < 1)


def test_one_sample_says_nothing() -> None:
    assert growth([Sample(100, 50.0, 20.0)], 100) == Growth(50.0, 0.0, 0.0)


def test_a_process_has_memory_of_its_own_and_pages_of_files() -> None:
    before = Sample.of(os.getpid(), 0.0)
    held = bytearray(b"x") * 50_000_000
    after = Sample.of(os.getpid(), 1.0)
    assert 0 < before.anonymous_mb < before.resident_mb
    assert after.anonymous_mb - before.anonymous_mb == pytest.approx(len(held) / 1e6, abs=5)
