"""The demo waits for what it has published, also while brokers come and go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from pipeline.demo import catching_up
from pipeline.demo.catching_up import CatchingUp
from pipeline.errors import Unavailable
from pipeline.kafka.lag import Lag
from pipeline.kafka.topics import Topics

TOPICS = Topics("demo")
GONE = Unavailable("Kafka: Broker transport failure")


class Told:
    """A LagReader that answers what it was told to, one after the other, then the last for ever."""

    def __init__(self, *answers: Mapping[str, Lag] | Unavailable) -> None:
        self._answers = list(answers)

    def lag(self, group: str, topics: Iterable[str]) -> dict[str, Lag]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Unavailable):
            raise answer
        return dict(answer)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that passes by sleeping alone."""
    now = [0.0]
    monkeypatch.setattr(catching_up.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(catching_up.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def journal(appended: int, behind: int) -> dict[str, Lag]:
    return {TOPICS.journal: Lag(appended, behind)}


def looks_of(*answers: Mapping[str, Lag] | Unavailable) -> list[tuple[int, int]]:
    """What is shown while the journal is awaited."""
    seen: list[tuple[int, int]] = []
    waiting = CatchingUp(Told(*answers), TOPICS)  # type: ignore[arg-type]
    waiting.journal(lambda done, total: seen.append((done, total)))
    return seen


def test_it_waits_until_all_is_done() -> None:
    assert looks_of(journal(10, 10), journal(10, 4), journal(10, 0)) == [(0, 10), (6, 10), (10, 10)]


def test_a_broker_that_starts_again_is_waited_for() -> None:
    assert looks_of(journal(10, 4), GONE, GONE, journal(10, 0)) == [(6, 10), (10, 10)]


def test_a_broker_that_knows_no_topic_yet_does_not_mean_that_nothing_is_left_to_do() -> None:
    assert looks_of(journal(10, 4), {}, journal(10, 2), journal(10, 0)) == [(6, 10), (8, 10), (10, 10)]


def test_brokers_that_do_not_come_back_are_told_of(clock: list[float]) -> None:
    with pytest.raises(Unavailable, match="transport failure"):
        looks_of(journal(10, 4), GONE)
    assert clock[0] >= catching_up.PATIENCE_S


def test_workers_that_do_nothing_are_told_of(clock: list[float]) -> None:
    with pytest.raises(Unavailable, match="no progress for 90 s and is 4 records behind"):
        looks_of(journal(10, 4))
    assert clock[0] >= catching_up.PATIENCE_S
