"""Where a worker of a generation that has become live begins to send strays on and to write dead letters."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.codec.records import Codec
from pipeline.domain.fold import Journal
from pipeline.domain.limits import FoldRules
from pipeline.errors import Refusal
from pipeline.kafka.offsets import Noted
from pipeline.kafka.reading import Record
from pipeline.kafka.topics import Topics
from pipeline.worker.acts import Acts

TOPICS = Topics("test", 2)
FOLDED, COMMITTED = 9, 7


class Outlet:
    """Remembers what it was given."""

    def __init__(self) -> None:
        self.topics: list[str] = []

    def publish(self, topic: str, *_: Any, **__: Any) -> None:
        self.topics.append(topic)

    def flush(self, timeout_s: float) -> None:
        """It is there already."""


class Asked(Acts):
    """A journal of junk, and groups that have committed this."""

    def __init__(self, outlet: Any, noted: dict[str, Noted], *, alone: bool, first: int = 0) -> None:
        super().__init__({}, TOPICS, Codec(), outlet, acting=True, before=("test-worker",), alone=alone)
        self._by_group = noted
        self._begins_at = first

    def _noted(self, group: str, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Noted]:
        return {place: self._by_group[group] for place in places if group in self._by_group}

    def _first(self, place: tuple[str, int]) -> int:
        return self._begins_at

    def _records(self, start: int, partition: int) -> Generator[Record, None, None]:
        yield from (Record(partition, offset, 0, b"k", b"junk", ()) for offset in range(start, FOLDED + 3))


def begun(noted: dict[str, Noted], *, alone: bool = False, first: int = 0) -> tuple[int, int]:
    """(from where it acts, letters that it wrote of what was folded before)"""
    outlet = Outlet()
    partition: Any = SimpleNamespace(journal=Journal(0, 1, FoldRules()), next_offset=FOLDED, acts_from=None)
    Asked(outlet, noted, alone=alone, first=first).take_over(partition, COMMITTED)
    assert set(outlet.topics) <= {TOPICS.dead_letters}
    return partition.acts_from, len(outlet.topics)


@pytest.mark.parametrize(
    ("noted", "start"),
    [
        ({"test-worker-g2": Noted(7, ""), "test-worker": Noted(4, "rules")}, 4),
        ({"test-worker-g2": Noted(7, "rules"), "test-worker": Noted(4, "rules")}, 7),
        ({"test-worker-g2": Noted(7, "")}, 0),
        ({}, 0),
    ],
    ids=["where the former one stopped", "where its own stopped", "only a crew has been here", "nobody has"],
)
def test_it_begins_where_the_farthest_note_stands(noted: dict[str, Noted], start: int) -> None:
    assert begun(noted) == (start, FOLDED - start)


def test_where_there_never_was_another_generation_the_groups_offset_is_enough() -> None:
    assert begun({}, alone=True) == (COMMITTED, 0)


@pytest.mark.parametrize(("noted", "first"), [({}, 1), ({"test-worker": Noted(4, "rules")}, 5)])
def test_nobody_passes_over_records_that_are_gone(noted: dict[str, Noted], first: int) -> None:
    with pytest.raises(Refusal, match=f"begins at offset {first}, .* below offset {first - 1}: "):
        begun(noted, first=first)


@pytest.mark.parametrize("noted", [{"test-worker-g2": Noted(5, "begins")}, {"test-worker": Noted(FOLDED, "rules")}])
def test_what_is_seen_to_may_be_gone(noted: dict[str, Noted]) -> None:
    (stands,) = noted.values()
    assert begun(noted, first=5) == (stands.offset, FOLDED - stands.offset)
