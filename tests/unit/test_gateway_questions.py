"""Which tables answers are made of while generations change: never such as may say less than an answer before."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline.clickhouse.connection import Server
from pipeline.errors import Unavailable
from pipeline.gateway.questions import Questions
from pipeline.kafka.topics import Topics


class Deployment:
    """A ledger, two views, and a gateway's questions that follow both."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.live: Topics | None = None
        self.shown: dict[str, int | None] | None = None
        self.questions = Questions(Server("http://nowhere", "one"), lambda: self.live)
        monkeypatch.setattr("pipeline.gateway.questions.connect", lambda *_, **__: None)
        monkeypatch.setattr("pipeline.gateway.questions.shown", self._ask)

    def _ask(self, client: Any) -> dict[str, int | None]:
        if self.shown is None:
            raise Unavailable("ClickHouse does not answer")
        return self.shown

    def show(self, shards: int | None, dispositions: int | None) -> None:
        self.shown = {"summary_shards": shards, "dispositions": dispositions}

    def look(self) -> tuple[str, Topics | None]:
        """Where shards are read after a look, and whose freshness is told."""
        asyncio.run(self.questions._look())
        return self.questions._source(), self.questions.topics


def test_a_generation_is_read_past_its_view_only_while_that_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Topics("one"), Topics("one", 2)
    place = Deployment(monkeypatch)
    assert place.look() == ("summary_shards", None), "neither is known"
    place.live = one
    assert place.look() == ("summary_shards", None), "what is shown is not"
    place.show(1, 1)
    assert place.look() == ("summary_shards_g1 FINAL", one)
    place.live = two
    assert place.look() == ("summary_shards", None), "it is decided, and not at the head yet"
    place.show(2, 1)
    assert place.look() == ("summary_shards", None), "one view is replaced"
    place.show(2, 2)
    assert place.look() == ("summary_shards_g2 FINAL", two)
    place.live = one
    assert place.look() == ("summary_shards", None), "a rollback is decided"
    place.show(1, 1)
    assert place.look() == ("summary_shards_g1 FINAL", one)
    place.shown = None
    assert place.look() == ("summary_shards", None), "what is shown is not known any more"
