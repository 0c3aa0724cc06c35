"""Strays are left out of a copied journal, so somebody must have sent them on to where they belong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.domain.generations import BUILDING, DROPPED, LIVE, RETIRED, Generation, Generations
from pipeline.errors import Refusal
from pipeline.kafka import fence
from pipeline.kafka.offsets import Noted
from pipeline.replay import ground as ground_module
from pipeline.replay import repartition
from pipeline.replay.ground import Ground

BEFORE, OLD, NEW = (
    Generation(number, state, journal, partitions, "rules", 0)
    for number, state, journal, partitions in ((1, RETIRED, 1, 2), (2, LIVE, 1, 2), (3, BUILDING, 2, 4))
)
FOLDED = {0: 7, 1: 5}


def ground(monkeypatch: pytest.MonkeyPatch, noted: dict[str, dict[int, Noted]], before: Generation = BEFORE) -> Ground:
    """Of three generations, and groups that have committed this."""
    known = Generations({one.number: one for one in (before, OLD, NEW)}, (1, 2))
    ledger: Any = SimpleNamespace(read=lambda: known)

    def committed(_: Any, group: str, places: list[tuple[str, int]]) -> dict[tuple[str, int], Noted]:
        by_partition = noted.get(group, {})
        return {(topic, number): by_partition[number] for topic, number in places if number in by_partition}

    monkeypatch.setattr(ground_module, "committed_with_notes", committed)
    server: Any = None
    return Ground({}, "test", 1, server, ledger)


class Copier:
    """Remembers up to where strays are left out."""

    def __init__(self) -> None:
        self.left_out: list[dict[int, int]] = []
        self.position = {0: 0, 1: 0}

    def copy_behind(self, limits: dict[int, int], *_: Any) -> None:
        self.left_out.append(limits)

    def close(self) -> None:
        """Nothing is open."""


class Watch:
    @contextlib.contextmanager
    def step(self, *_: Any, **__: Any) -> Iterator[Any]:
        yield lambda *_: None


def moving(one: Ground, copier: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A repartition of which nothing is real but what comes before the journal is closed."""
    now = [0.0]
    monkeypatch.setattr(repartition.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(repartition.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    this: Any = repartition._Moving.__new__(repartition._Moving)
    this._ground, this._kafka, this._watch, this._copier = one, {}, Watch(), copier
    this._move = repartition.Move(OLD, NEW)
    this._old, this._new = one.topics(OLD), one.topics(NEW)
    this._crew = SimpleNamespace(tend=lambda: None)
    this._before = SimpleNamespace(folded=lambda: dict(FOLDED), journal_ends=lambda: dict(FOLDED))
    this._after = SimpleNamespace(folded=dict, journal_ends=dict)
    this._newest_ms = lambda: 0
    return this


def test_below_the_farthest_note_of_any_generation_strays_are_sent_on(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = {
        "test-worker": {0: Noted(4, "rules"), 1: Noted(9, "rules")},
        "test-worker-g2": {0: Noted(7, "rules"), 1: Noted(5, "")},
    }
    assert ground(monkeypatch, noted).acted(OLD) == {0: 7, 1: 9}
    gone = BEFORE._replace(state=DROPPED)
    assert ground(monkeypatch, noted, gone).acted(OLD) == {0: 7, 1: 0}
    assert ground(monkeypatch, {}).acted(OLD) == {0: 0, 1: 0}


def test_nothing_is_copied_while_only_a_crew_has_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The crew came further than the former generation's workers, so strays in between stand where they came."""
    open_again: list[str] = []
    monkeypatch.setattr(fence, "reopen", lambda _, topic: open_again.append(topic))
    noted = {
        "test-worker": {0: Noted(7, "rules"), 1: Noted(4, "rules")},
        "test-worker-g2": {number: Noted(offset, "") for number, offset in FOLDED.items()},
    }
    copier = Copier()
    this = moving(ground(monkeypatch, noted), copier, monkeypatch)
    with pytest.raises(Refusal, match="Start a worker"):
        this.run(0)
    assert copier.left_out == []
    assert open_again == [this._old.journal, this._old.adjustments]


def test_with_a_regular_worker_all_that_is_folded_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = {"test-worker-g2": {number: Noted(offset, "rules") for number, offset in FOLDED.items()}}
    copier = Copier()
    this = moving(ground(monkeypatch, noted), copier, monkeypatch)
    this._await_acted(FOLDED, 0.0)
    this._copy_behind(0)
    assert copier.left_out == [FOLDED]
    with pytest.raises(Refusal, match="left out"):
        this._await_acted({0: 7, 1: 6}, 0.0)
