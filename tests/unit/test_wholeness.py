"""Whether the journal is the one that was folded: what its tables say of its partitions, and of nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.domain.generations import LIVE, Generation
from pipeline.errors import Refusal
from pipeline.kafka.admin import TopicState
from pipeline.kafka.offsets import Noted
from pipeline.kafka.topics import Topics
from pipeline.replay.wholeness import check_whole

LIVE_ONE = Generation(1, LIVE, 1, 2, "rules", 0)
TOPICS = Topics("test")
ENDS = {0: 100, 1: 100}
AT_MS = 7


def ground(newest: dict[int, tuple[int, int]]) -> Any:
    """A journal of two partitions, folded to its end; every record was appended at AT_MS."""
    coverage = SimpleNamespace(journal_ends=lambda: dict(ENDS), journal_starts=lambda: dict.fromkeys(ENDS, 0))
    return SimpleNamespace(
        topics=lambda _: TOPICS,
        journal=lambda _: TopicState(TOPICS.journal, "id", 2, 1, {"message.timestamp.type": "LogAppendTime"}),
        partitions=lambda _: 2,
        coverage=lambda _: coverage,
        newest_records=lambda _: newest,
        noted=lambda _, places: {place: Noted(ENDS[place[1]], "rules") for place in places},
        appended_at=lambda *_: AT_MS,
        put_back=lambda *_: None,
    )


def test_a_journal_that_holds_what_was_folded_is_whole() -> None:
    check_whole(ground({0: (99, AT_MS), 1: (40, AT_MS)}), LIVE_ONE, accept=False)


@pytest.mark.parametrize("told", [(99, AT_MS + 1), (100, AT_MS)], ids=["another record", "lost records"])
def test_what_the_tables_say_of_a_partition_must_be_there(told: tuple[int, int]) -> None:
    with pytest.raises(Refusal, match="not touched"):
        check_whole(ground({1: told}), LIVE_ONE, accept=False)


@pytest.mark.parametrize("told", [(5, AT_MS), (5, AT_MS + 1), (1_000, AT_MS)])
def test_a_row_of_no_partition_says_nothing_of_the_journal(told: tuple[int, int]) -> None:
    """The audit names it, and a rebuild is what makes it go away."""
    check_whole(ground({0: (99, AT_MS), 9: told}), LIVE_ONE, accept=False)
