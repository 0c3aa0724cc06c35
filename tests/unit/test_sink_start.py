"""Where a sink goes on that other generations' sinks were before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from pipeline.errors import Unavailable
from pipeline.kafka.topics import Topics
from pipeline.sink import app
from pipeline.stream import insisting

TOPICS = Topics("test", 2)
PLACE = TP(TOPICS.adjustments, 0)


def test_kafka_may_be_away_while_it_is_asked_where_the_farthest_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that ended instead would set off the next rebalance, and ask the same again."""
    monkeypatch.setattr(insisting, "AGAIN_S", 0.0)
    asked: list[str] = []

    def committed(config: Any, group: str, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        asked.append(group)
        if len(asked) in (1, 3):
            raise Unavailable("Kafka: no answer")
        return {place: len(asked) for place in places}

    monkeypatch.setattr(app, "committed", committed)
    noted: dict[TP, int] = {}
    sink: Any = object.__new__(app.Sink)
    sink.settings = SimpleNamespace(topics=TOPICS, group="mine", before=("its",), kafka={})
    sink.app = SimpleNamespace(consumer=SimpleNamespace(note_done=noted.__setitem__))
    assert asyncio.run(sink._start_offsets({PLACE})) == {PLACE: 4}
    assert asked == ["mine", "mine", "its", "its"]
    assert noted == {PLACE: 4}
