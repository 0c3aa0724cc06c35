"""How far a generation has come, stage by stage, and up to which journal offset its tables say everything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pipeline.errors import Unavailable
from pipeline.kafka.asking import insistently
from pipeline.kafka.bounds import EARLIEST, LATEST, offsets
from pipeline.kafka.offsets import committed
from pipeline.kafka.topics import Topics

Cursors = dict[int, int]
"""By journal partition, an offset: everything below it."""
Place = tuple[str, int]

LOOK_EVERY_S = 0.25
PATIENCE_S = 60.0
"""Without any progress for this long, something does not run."""


class Coverage:
    """Asks about one generation of one cluster. Raises Unavailable when Kafka is away for minutes."""

    def __init__(self, kafka: Mapping[str, Any], topics: Topics, partitions: int) -> None:
        self._kafka = dict(kafka)
        self.topics = topics
        self._journal = [(topics.journal, number) for number in range(partitions)]
        self._outputs = [
            (topic, number) for topic in (topics.summaries, topics.dispositions) for number in range(partitions)
        ]

    def journal_ends(self) -> Cursors:
        return {number: end for (_, number), end in self._ends(self._journal).items()}

    def journal_starts(self) -> Cursors:
        return {number: start for (_, number), start in self._starts(self._journal).items()}

    def folded(self) -> Cursors:
        """Below these the worker has published everything."""
        found = self._committed(self.topics.worker_group, self._journal)
        return {number: found.get((topic, number), 0) for topic, number in self._journal}

    def uncopied(self) -> int:
        """Output records that the sink has not acknowledged."""
        return self._uncopied(self._ends(self._outputs))

    def await_tables(self, meanwhile: Callable[[], None], covered: Cursors | None = None) -> Cursors:
        """Wait until the tables say everything below ``covered`` (else: what is folded now), and return how far.

        ``meanwhile`` is called at each look. Raises Unavailable after PATIENCE_S without progress.
        """
        best, deadline = -1, time.monotonic() + PATIENCE_S
        while True:
            folded = self.folded()
            if covered is None or all(folded[number] >= offset for number, offset in covered.items()):
                break
            if sum(folded.values()) > best:
                best, deadline = sum(folded.values()), time.monotonic() + PATIENCE_S
            self._wait(deadline, "worker", self.topics.worker_group, meanwhile)
        ends = self._ends(self._outputs)
        least, deadline = self._uncopied(ends) + 1, time.monotonic() + PATIENCE_S
        while left := self._uncopied(ends):
            if left < least:
                least, deadline = left, time.monotonic() + PATIENCE_S
            self._wait(deadline, "sink", self.topics.sink_group, meanwhile)
        return folded

    def _wait(self, deadline: float, what: str, group: str, meanwhile: Callable[[], None]) -> None:
        if time.monotonic() > deadline:
            raise Unavailable(
                f"the {what} of generation {self.topics.generation} (group {group}) makes no progress: does it run?"
            )
        meanwhile()
        time.sleep(LOOK_EVERY_S)

    def _uncopied(self, ends: Mapping[Place, int]) -> int:
        come = self._committed(self.topics.sink_group, ends)
        return sum(max(0, end - come.get(place, 0)) for place, end in ends.items())

    # What it asks of Kafka.

    def _committed(self, group: str, places: Iterable[Place]) -> dict[Place, int]:
        return insistently(lambda: committed(self._kafka, group, places))

    def _ends(self, places: list[Place]) -> dict[Place, int]:
        return insistently(lambda: offsets(self._kafka, places, LATEST))

    def _starts(self, places: list[Place]) -> dict[Place, int]:
        return insistently(lambda: offsets(self._kafka, places, EARLIEST))
