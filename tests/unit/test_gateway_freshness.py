"""How fresh an answer is, from looks at offsets alone: never more is said to be visible than is."""

from __future__ import annotations

import random

import pytest
from confluent_kafka import TopicPartition

from pipeline.gateway.freshness import OLD_AFTER_MS, READ_OLDEST_EVERY_S, Covered, Freshness, Progress
from pipeline.kafka.topics import Topics
from pipeline.kafka.visibility import Look, VisibilityReader


def look(folded: int, summaries_end: int, copied: int, journal_end: int, newest_ms: int = 0) -> Look:
    return Look({0: folded}, {0: summaries_end}, {0: copied}, {0: journal_end}, {0: newest_ms})


def never(partition: int, offset: int) -> int | None:
    raise AssertionError("nothing is old")


def test_what_was_folded_is_visible_when_the_sink_has_come_as_far() -> None:
    progress = Progress()
    first = progress.after(look(10, 100, 99, 12, newest_ms=900), 1000, lambda *_: 700)
    assert (first.seen, first.newest_unseen_ms, first.oldest_unseen_ms) == ({0: 0}, 900, 700)
    second = progress.after(
        look(12, 101, 100, 12, newest_ms=900), 2000, lambda *place: 800 if place == (0, 10) else None
    )
    assert (second.seen, second.oldest_unseen_ms) == ({0: 10}, 800)
    third = progress.after(look(12, 101, 101, 12, newest_ms=900), 3000, never)
    assert (third.seen, third.newest_unseen_ms, third.oldest_unseen_ms) == ({0: 12}, None, None)


def test_what_has_come_since_the_last_look_is_not_read() -> None:
    progress = Progress()
    progress.after(look(10, 100, 100, 10), 1000, never)
    found = progress.after(look(10, 100, 100, 15, newest_ms=1900), 2000, never)
    assert (found.newest_unseen_ms, found.oldest_unseen_ms) == (1900, 1000)


def test_how_old_the_oldest_is_is_unknown_while_one_of_those_that_may_be_it_cannot_be_read() -> None:
    progress = Progress()
    two = Look({0: 1, 1: 1}, {0: 10, 1: 10}, {0: 10, 1: 10}, {0: 3, 1: 3}, {0: 900, 1: 950})
    unread = progress.after(two, 5000, lambda number, _: 700 if number == 0 else None)
    assert (unread.newest_unseen_ms, unread.oldest_unseen_ms) == (950, None)
    assert progress.after(two, 6000, lambda number, _: 700 + number).oldest_unseen_ms == 700


class Slow:
    """A VisibilityReader beside a slow broker: a record comes right after the first look has read the journal's end."""

    topics = "the live ones"

    def __init__(self, clock: list[int]) -> None:
        self.clock = clock
        self.ends = iter([(10_000, 100), (14_000, 101)])

    def look(self) -> Look:
        self.clock[0], journal_end = next(self.ends)
        told = look(100, 50, 50, journal_end, newest_ms=10_500)
        self.clock[0] += 3_000  # the newest record's time is answered so much later
        return told

    def appended_at_ms(self, partition: int, offset: int) -> int | None:
        raise AssertionError("nothing is old")


def test_what_comes_while_a_look_goes_on_is_younger_than_the_look() -> None:
    clock = [9_000]
    freshness = Freshness({}, lambda: "the live ones", lambda: clock[0])  # type: ignore[arg-type,return-value]
    freshness._reader = Slow(clock)  # type: ignore[assignment]
    freshness._look()
    first = freshness.as_of()
    assert first is not None
    assert (first["looked_at"], first["records_not_visible"]) == ("1970-01-01T00:00:09.000Z", 0)
    freshness._look()
    second = freshness.as_of()
    assert second is not None
    assert second["records_not_visible"] == 1
    assert second["oldest_not_visible_age_ms"] >= clock[0] - 10_500, "it came at 10.5 s"


def told(looked_at_ms: int, seen: int, beside: int) -> Covered:
    return Covered(looked_at_ms, {0: seen}, {0: 10}, None, None, beside)


def test_an_explanation_lacks_what_any_of_its_topics_lacks() -> None:
    freshness = Freshness({}, lambda: None, lambda: 5_000)
    assert freshness.records_behind() is None
    for seen, beside, behind in ((10, 0, 0), (8, 0, 2), (10, 3, 3), (8, 3, 5)):
        freshness._covered = told(5_000, seen, beside)
        assert freshness.records_behind() == behind


def test_an_old_look_says_nothing_of_what_is_behind_now() -> None:
    clock = [5_000 + OLD_AFTER_MS]
    freshness = Freshness({}, lambda: None, lambda: clock[0])
    freshness._covered = told(5_000, 10, 0)
    assert freshness.records_behind() == 0
    clock[0] += 1
    assert freshness.records_behind() is None


class Group:
    """A consumer that is asked how far its group has come: everywhere to 10, but where it is said."""

    def __init__(self, **behind: int) -> None:
        self.behind = behind

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [
            TopicPartition(one.topic, one.partition, self.behind.get(one.topic.partition(".")[2].replace("-", "_"), 10))
            for one in places
        ]


@pytest.mark.parametrize(
    ("worker", "sink", "event_log", "beside"),
    [
        ({}, {}, True, 0),
        ({}, {"meter_event_dispositions": 7}, True, 6),
        ({}, {"meter_event_adjustments": 8}, True, 6),
        ({"meter_event_adjustments": 9}, {}, True, 3),
        ({}, {"meter_events": 9}, True, 2),
        ({}, {"meter_events": -1001}, False, 0),
        ({"meter_events": 4}, {"meter_event_summaries": 5}, True, 0),
    ],
)
def test_a_look_counts_what_an_explanation_is_made_of(
    monkeypatch: pytest.MonkeyPatch, worker: dict[str, int], sink: dict[str, int], event_log: bool, beside: int
) -> None:
    groups = {"one-worker": Group(**worker), "one-sink": Group(**sink)}
    monkeypatch.setattr("pipeline.kafka.visibility._asking", lambda _, group: groups[group])
    monkeypatch.setattr("pipeline.kafka.visibility.offsets", lambda _, places, *__, **___: dict.fromkeys(places, 10))
    monkeypatch.setattr("pipeline.kafka.visibility.newest_ms", lambda _, places, **__: dict.fromkeys(places, 900))
    found = VisibilityReader({}, Topics("one"), 2, 3, event_log=event_log).look()
    assert found.beside == beside
    assert (found.folded[1], found.copied[1]) == (worker.get("meter_events", 10), sink.get("meter_event_summaries", 10))
    assert (found.summaries_end, found.journal_end, found.newest_ms) == (
        {0: 10, 1: 10},
        {0: 10, 1: 10},
        {0: 900, 1: 900},
    )


class Unreadable:
    """A VisibilityReader whose records are read at the second try."""

    def __init__(self) -> None:
        self.asked = 0

    def appended_at_ms(self, partition: int, offset: int) -> int | None:
        assert (partition, offset) == (0, 5)
        self.asked += 1
        return None if self.asked == 1 else 700


def test_a_record_that_could_not_be_read_is_read_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("pipeline.gateway.freshness.time.monotonic", lambda: clock[0])
    freshness = Freshness({}, lambda: None, lambda: 0)
    freshness._reader = reader = Unreadable()  # type: ignore[assignment]
    assert [freshness._appended_at_ms(0, 5) for _ in range(2)] == [None, None]
    assert reader.asked == 1
    clock[0] += READ_OLDEST_EVERY_S + 1
    assert [freshness._appended_at_ms(0, 5) for _ in range(2)] == [700, 700]
    assert reader.asked == 2


@pytest.mark.parametrize("seed", range(20))
def test_never_more_is_visible_than_was_copied(seed: int) -> None:
    """A worker that publishes before it commits, a sink that copies: whenever one looks, ``seen`` is true."""
    rng = random.Random(seed)
    journal = folded = committed = copied = acknowledged = 0
    published: list[int] = []  # for each summary: the journal offset that it says everything below
    progress = Progress()
    for step in range(400):
        journal += rng.randint(0, 3)
        if rng.random() < 0.5 and folded < journal:
            folded = rng.randint(folded + 1, journal)
            published += [folded] * rng.randint(1, 2)
        if rng.random() < 0.4:
            committed = folded
        if rng.random() < 0.5:
            copied = rng.randint(copied, len(published))
        if rng.random() < 0.4:
            acknowledged = copied
        told = look(committed, len(published), acknowledged, journal)
        found = progress.after(told, step, lambda *_: 0)
        rest = published[copied:]
        visible = min(rest) - 1 if rest else folded
        assert found.seen[0] <= max(visible, max(published[:copied], default=0)), f"seed {seed}, step {step}"
