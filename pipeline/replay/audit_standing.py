"""The audit that never sleeps: it keeps its own fold, so that each round folds only what has come since.

What can only be looked at whole takes turns, within a share of the time: worker states, a partition after the other,
and ClickHouse's tables. Everything that is published is compared in every round all the same, in its topic.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import time
from collections.abc import Callable, Iterator, Sequence

from pipeline.errors import Refusal, Unavailable
from pipeline.kafka.admin import TopicState
from pipeline.replay.audit import (
    AuditSources,
    Standings,
    await_sink,
    journal_of,
    standings_of,
    strangers,
    tabled_of,
    task_of,
)
from pipeline.replay.audit_findings import PartitionFindings
from pipeline.replay.audit_partition import PartitionRun
from pipeline.replay.audit_reading import Client

WORKER_PATIENCE_S = 120.0
_LOOK_EVERY_S = 0.5

SHARE = 0.02
"""Of the time: so much may pass while worker states are looked at, and as much while ClickHouse adds up its tables."""
BURST_S = 1.0
"""What was not spent is saved up to this."""


class Share:
    """A share of the time, to be spent on something."""

    def __init__(self, share: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._now_s = now_s
        self._left_s = 0.0
        self._asked_s = now_s()

    def is_left(self) -> bool:
        now_s = self._now_s()
        self._left_s = min(BURST_S, self._left_s + self._share * (now_s - self._asked_s))
        self._asked_s = now_s
        return self._left_s > 0

    def spend(self, seconds: float) -> None:
        self._left_s -= seconds


class StandingAudit:
    """Rounds over the same partitions, in this process. Its memory grows with the identities within their windows."""

    def __init__(
        self, sources: AuditSources, partitions: Sequence[int], journal: TopicState, share: float = SHARE
    ) -> None:
        self._sources = sources
        self._partitions = partitions
        self._journal = journal
        self._client = Client(sources.kafka)
        self._runs: dict[int, PartitionRun] = {}
        self._states, self._tables = Share(share), Share(share)
        self._looked: dict[int, float] = {}
        """When a partition's worker states were looked into the last time."""
        self._strangers: list[PartitionFindings] = []
        self._tables_seen = False
        gc.disable()  # millions of objects, no cycles among them

    def round(self) -> list[PartitionFindings]:
        """Compare everything once. Raises as ``audit`` does; the next round may be tried all the same.

        A worker's store is compared when it stands at or behind the end of the round before: in the first round, and
        whenever a worker has written itself down since.
        """
        journal = journal_of(self._sources)
        if journal.topic_id != self._journal.topic_id:
            raise Refusal(
                f"{journal.name} was deleted and created again while it was audited (topic id"
                f" {self._journal.topic_id}, now {journal.topic_id}): its offsets mean other records, and what was"
                " published of the old ones stands against them. Restore the topic, or `meterline rebuild`"
            )
        with self._tidy():
            return self._compare(journal)

    @contextlib.contextmanager
    def _tidy(self) -> Iterator[None]:
        """Nothing is fetched between rounds; of the cycles that libraries have left only new ones are looked for."""
        try:
            yield
        finally:
            self._client.rest()
            gc.collect()
            gc.freeze()

    def _compare(self, journal: TopicState) -> list[PartitionFindings]:
        look_at_tables = not self._tables_seen or self._tables.is_left()
        sources = self._sources if look_at_tables else dataclasses.replace(self._sources, clickhouse=None)
        standings = self._await_worker()
        await_sink(sources, self._partitions)
        began_s = time.monotonic()
        tabled = tabled_of(sources, standings)
        self._tables.spend(time.monotonic() - began_s)
        if look_at_tables:
            self._strangers = list(strangers(tabled, journal, sources.topics.generation))
        found = list(self._strangers)
        for number in sorted(self._partitions, key=lambda number: self._looked.get(number, 0.0)):
            look = number not in self._looked or self._states.is_left()
            images = self._sources.images if look else None
            task = task_of(dataclasses.replace(sources, images=images), number, journal, standings, tabled)
            if number not in self._runs:
                self._runs[number] = PartitionRun(task, self._client)
            run = self._runs[number]
            found.append(run.findings(task))
            if look:
                self._looked[number] = time.monotonic()
                self._states.spend(run.states_took_s)
        self._tables_seen = True
        return found

    def _await_worker(self) -> Standings:
        """Wait until the worker has committed all that the last round has folded: a part of it was only just seen."""
        deadline = time.monotonic() + WORKER_PATIENCE_S
        while True:
            standings = standings_of(self._sources, self._partitions, self._journal)
            waiting = [number for number, run in self._runs.items() if standings.cursors[number] < run.fold.next_offset]
            if not waiting:
                return standings
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the worker has not committed partitions {waiting} for {WORKER_PATIENCE_S:.0f} s, and some of what"
                    " it published there cannot be told yet. `meterline status` tells why"
                )
            time.sleep(_LOOK_EVERY_S)

    def close(self) -> None:
        self._client.close()
        gc.unfreeze()
        gc.enable()
