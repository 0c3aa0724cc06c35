"""Rows A1 to A11, B5, C1, C8 and D3 on real processes: every way of killing in faults.py's table comes at least once.
Its other faults come by chance, a few in each run.

A short version of ``make chaos``: everything is killed while usage comes in every way, and at the end nothing is lost,
nothing counts twice, and every digit is the one that the clients' own ledger asks for.
"""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from pipeline.domain.outcomes import CANCELLED
from tests.chaos import report
from tests.chaos.campaign import Plan, run
from tests.chaos.checker import DIGITS, LOST, PHANTOM, Evidence, check, told
from tests.chaos.site import Shape

KILLS = {"gateway": 10, "worker": 10, "sink": 10, "broker": 3}
MINUTES = 1.0
EVENTS = 12_000
SHAPE = Shape(partitions=4, workers=2, session_s=3)


@pytest.mark.timeout(900)
def test_whatever_is_killed_nothing_is_lost_and_nothing_counts_twice(tmp_path: Path) -> None:
    plan = Plan(MINUTES, EVENTS, random.randrange(10**6), KILLS, SHAPE, others=0.1)
    outcome = run(plan, tmp_path, print)
    print(report.write(outcome, tmp_path / "report"))
    again = f"python -m tests.chaos --minutes {MINUTES} --events {EVENTS} --seed {plan.seed}"
    assert outcome.anomalies == [], f"{told(outcome.anomalies)}\n{again}"
    assert outcome.surprises == [], f"nobody asked these to end\n{again}"
    assert {kind for kind, count in KILLS.items() if outcome.kills[kind] < count} == set()
    assert outcome.events["ok"] > EVENTS // 2
    assert outcome.adjustments["ok"] > 0
    assert CANCELLED in outcome.evidence.decided.values()
    assert_it_could_have_failed(outcome.evidence)


def assert_it_could_have_failed(found: Evidence) -> None:
    """One unit in one window, one record out of the ledger, one out of the journal: each is named."""
    window, total = next(iter(found.summaries.items()))
    wrong = found.summaries | {window: total._replace(units=total.units + 1)}
    (anomaly,) = check(dataclasses.replace(found, summaries=wrong))
    assert anomaly.kind == DIGITS
    assert str(window) in anomaly.what
    identity, _ = next((key, entry) for key, entry in found.book.events.items() if entry[0] == "ok")
    forgotten = found.book._replace(events={key: one for key, one in found.book.events.items() if key != identity})
    assert (PHANTOM, f"{identity}") in check(dataclasses.replace(found, book=forgotten))
    without = [one for one in found.journal if one.usage.identity != identity]
    lost = [one for one in check(dataclasses.replace(found, journal=without)) if one.kind == LOST]
    assert [str(identity) in one.what for one in lost] == [True]
