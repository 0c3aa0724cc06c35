"""Which generation a process works on, where that one's things are, and when it has to begin again with another."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pipeline.domain.generations import DROPPED, FIRST, Generation
from pipeline.domain.limits import FoldRules
from pipeline.kafka.asking import insistently
from pipeline.kafka.generations import GenerationLedger
from pipeline.kafka.topics import Topics, topics_of_generation
from pipeline.stream.app import Fate


class Apart(NamedTuple):
    """A process of a generation that is not live, which ends with the command that started it."""

    generation: int
    parent: int
    """The id of that command's process."""


class Part(NamedTuple):
    """What a process works on."""

    generation: Generation
    topics: Topics
    others: tuple[Topics, ...]
    """Of the other generations that are kept."""
    alone: bool
    """Whether there has never been another."""
    fate: Callable[[], Fate]
    """Whether to go on with it, asked again and again."""
    dropped: tuple[int, ...]
    """Generations that nobody needs any more."""
    moves: bool
    """Whether its journal is another one than that of the live generation."""


def part_of(ledger: GenerationLedger, namespace: str, apart: Apart | None) -> Part:
    """The live generation, for as long as it is; with ``apart`` another one, for as long as its command runs."""
    seen, known = insistently(lambda: (ledger.end(), ledger.read()))
    mine = known.live if apart is None else known.of(apart.generation)

    def follow() -> Fate:
        nonlocal seen
        end = ledger.end()
        if end == seen:
            return Fate.GO_ON
        stands = ledger.read()
        seen = end
        return Fate.GO_ON if stands.live.number == mine.number else Fate.BEGIN_AGAIN

    def stay_with_parent() -> Fate:
        return Fate.GO_ON if apart is not None and os.getppid() == apart.parent else Fate.END

    others = tuple(topics_of_generation(namespace, one) for one in known.kept if one.number != mine.number)
    fate = follow if apart is None else stay_with_parent
    dropped = tuple(number for number, one in known.by_number.items() if one.state == DROPPED)
    moves = mine.journal != known.live.journal
    alone = len(known.by_number) == 1
    return Part(mine, topics_of_generation(namespace, mine), others, alone, fate, dropped, moves)


def rules_of(generation: Generation, settings: FoldRules) -> FoldRules:
    """A generation keeps the rules with which it was begun; the settings say those of the next one."""
    if not generation.fold:
        return settings
    if generation.fold != settings.version:
        logging.getLogger("meterline.worker").warning(
            "generation %d is folded by %s; the settings say %s, which only a generation of `meterline rebuild` has",
            generation.number,
            generation.fold,
            settings.version,
        )
    return FoldRules.of_version(generation.fold)


def state_of(state: Path, number: int) -> Path:
    """Where in a worker's directory its stores of one generation are."""
    return state / f"g{number}" if number > FIRST else state


def snapshots_of(url: str, namespace: str, number: int) -> str:
    """Where in the snapshot store those of one generation are; empty where there is no store."""
    if not url:
        return ""
    return f"{url}/{namespace}/g{number}" if number > FIRST else f"{url}/{namespace}"
