"""Randomness by name, and what happened: both follow from the seed alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random
from typing import Any


class Stream(Random):
    """A choice is drawn a million times a minute."""

    def choice(self, among: Sequence[Any]) -> Any:
        return among[int(self.random() * len(among))]


class Chance:
    """A stream of random numbers per name, so that a step that is left out does not change what others draw."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._streams: dict[str, Stream] = {}

    def of(self, name: str) -> Stream:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = Stream(f"{self.seed}/{name}")
        return stream


class Trace:
    """What happened, in order; and which kinds of things did, for coverage."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.reached: set[str] = set()

    def say(self, now: float, who: str, what: str, *details: Any) -> None:
        """It happened, and counts as reached."""
        self.tell(now, who, what, *details)
        self.reached.add(what)

    def tell(self, now: float, who: str, what: str, *details: Any) -> None:
        """A line in the trace alone: whether anything came of it shows elsewhere."""
        self.events.append((round(now, 6), who, what, *details))

    def reach(self, what: str) -> None:
        """Count a branch as taken, without a line in the trace."""
        self.reached.add(what)

    def hash(self) -> str:
        return hashlib.blake2b(repr(self.events).encode(), digest_size=8).hexdigest()

    def lines(self) -> list[str]:
        return [f"{now:9.3f}  {who:<12} {' '.join(map(str, rest))}" for now, who, *rest in self.events]
