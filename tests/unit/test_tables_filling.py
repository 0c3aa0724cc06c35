"""When ``pipeline.replay.tables.fill`` comes to its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.kafka.lag import Lag
from pipeline.kafka.topics import Topics
from pipeline.replay import tables

GROUP = "test-sink-tables"


class Reader:
    """Lags of one topic, one after the other."""

    def __init__(self, *lags: Lag) -> None:
        self._lags = iter(lags)

    def lag(self, group: str, topics: list[str]) -> dict[str, Lag]:
        assert group == GROUP
        return {"summaries": next(self._lags)}

    @property
    def left(self) -> int:
        return len(list(self._lags))


class Watch:
    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    @contextlib.contextmanager
    def step(self, description: str, measured: bool = False) -> Iterator[Any]:
        yield lambda done, goal, note: self.told.append((done, goal))


@pytest.mark.parametrize(
    ("lags", "done"),
    [
        ([Lag(10, 10), Lag(10, 4), Lag(10, 0)], 10),
        ([Lag(10, 10), Lag(15, 9), Lag(25, 14)], 10),
        ([Lag(10, 10), Lag(10, 4), Lag(7, 0)], 7),
        ([Lag(0, 0)], None),
    ],
    ids=["all is copied", "more comes all the time", "retention takes some meanwhile", "there is nothing"],
)
def test_it_ends_when_all_that_there_was_is_copied_or_gone(
    monkeypatch: pytest.MonkeyPatch, lags: list[Lag], done: int | None
) -> None:
    monkeypatch.setattr(tables, "LOOK_EVERY_S", 0.0)
    reader, watch = Reader(*lags), Watch()
    deleted: list[tuple[tuple[str, ...], list[str]]] = []
    ground: Any = SimpleNamespace(
        ledger=SimpleNamespace(read=lambda: SimpleNamespace(live=None)),
        restore_tables=lambda live: None,
        topics=lambda live: Topics("test"),
        filling_group=GROUP,
        want_filled=lambda live: None,
        lag_reader=lambda: reader,
        delete=lambda topics, groups: deleted.append((topics, groups)),
    )
    crew: Any = SimpleNamespace(tend=lambda: None)
    watching: Any = watch
    tables.fill(ground, lambda live, group: contextlib.nullcontext(crew), watching, event_log=True)
    assert reader.left == 0
    assert [done for done, _ in watch.told[-1:]] == ([] if done is None else [done])
    assert deleted == [((), [GROUP])]
