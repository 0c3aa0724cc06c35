"""Waiting until workers and sink have done everything that was published: by offsets, not by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable

from pipeline.errors import Unavailable
from pipeline.kafka.lag import LagReader
from pipeline.kafka.topics import Topics

LOOK_EVERY_S = 0.3
PATIENCE_S = 90.0
"""Without any progress for this long, something is broken."""

Seen = Callable[[int, int], None]
"""Told (done, total) in records at each look."""


class CatchingUp:
    """Waits for one consumer group after the other, in the order in which records flow."""

    def __init__(self, reader: LagReader, topics: Topics) -> None:
        self._reader = reader
        self._topics = topics

    def adjustments(self, seen: Seen) -> None:
        """Until every adjustment stands in the journal as a cancellation: the worker commits only after that."""
        self._await(self._topics.worker_group, (self._topics.adjustments,), seen)

    def journal(self, seen: Seen) -> None:
        """Until every journal record is folded and its summaries are published."""
        self._await(self._topics.worker_group, (self._topics.journal,), seen)

    def sink(self, seen: Seen) -> None:
        """Until ClickHouse has every row."""
        topics = (self._topics.summaries, self._topics.dispositions, self._topics.journal, self._topics.adjustments)
        self._await(self._topics.sink_group, topics, seen)

    def _await(self, group: str, topics: tuple[str, ...], seen: Seen) -> None:
        best, deadline = -1, time.monotonic() + PATIENCE_S
        while True:
            try:
                done, total = self._look(group, topics)
            except Unavailable as error:  # it answered when the demo began: a broker that starts again
                trouble = error
            else:
                seen(done, total)
                if done == total:
                    return
                if done > best:
                    best, deadline = done, time.monotonic() + PATIENCE_S
                trouble = Unavailable(
                    f"{group} has made no progress for {PATIENCE_S:.0f} s and is {total - done:,} records behind; "
                    "`meterline status` shows which part is down and where its log is"
                )
            if time.monotonic() > deadline:
                raise trouble
            time.sleep(LOOK_EVERY_S)

    def _look(self, group: str, topics: tuple[str, ...]) -> tuple[int, int]:
        """(done, total) in records. Raises Unavailable."""
        lags = self._reader.lag(group, topics)
        if missing := set(topics) - lags.keys():
            # So says a broker that has just started, of every topic: it is not the same as nothing to do.
            raise Unavailable(f"Kafka knows nothing of {', '.join(sorted(missing))}")
        total = sum(lag.appended for lag in lags.values())
        return total - sum(lag.behind for lag in lags.values()), total
