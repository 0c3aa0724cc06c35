"""How fresh an answer is, from looks at offsets alone: never more is said to be visible than is."""

from __future__ import annotations

import random

import pytest

from pipeline.gateway.freshness import Progress
from pipeline.kafka.visibility import Look


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
