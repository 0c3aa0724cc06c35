"""The audit that never sleeps: it keeps its own fold, so that each round folds only what has come since."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence

from pipeline.errors import Refusal, Unavailable
from pipeline.kafka.admin import TopicState
from pipeline.replay.audit import AuditSources, Standings, journal_of, standings_of, strangers, tabled_of, task_of
from pipeline.replay.audit_findings import PartitionFindings
from pipeline.replay.audit_partition import PartitionRun

WORKER_PATIENCE_S = 120.0
_LOOK_EVERY_S = 0.5


class StandingAudit:
    """Rounds over the same partitions, in this process. Its memory grows with the identities within their windows."""

    def __init__(self, sources: AuditSources, partitions: Sequence[int], journal: TopicState) -> None:
        self._sources = sources
        self._partitions = partitions
        self._journal = journal
        self._runs: dict[int, PartitionRun] = {}
        gc.disable()  # millions of objects, no cycles

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
        standings = self._await_worker()
        tabled = tabled_of(self._sources, self._partitions, standings)
        found = list(strangers(tabled, journal, self._sources.topics.generation))
        for number in self._partitions:
            task = task_of(self._sources, number, journal, standings, tabled)
            if number not in self._runs:
                self._runs[number] = PartitionRun(task)
            found.append(self._runs[number].findings(task))
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
        for run in self._runs.values():
            run.close()
