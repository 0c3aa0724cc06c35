"""Generations, snapshots, and what is taken over of them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from pipeline.replay import comparison
from pipeline.replay.coverage import Coverage
from pipeline.worker import layout
from pipeline.worker.acts import Acts
from pipeline.worker.core import WorkerCore
from pipeline.worker.partition import Partition
from tests.simulation.hosts import SimActs
from tests.simulation.planted.registry import planted
from tests.simulation.world import World


@planted
def tables_are_shown_before_they_are_full(patch: Any) -> None:
    patch.setattr(Coverage, "await_tables", lambda self, meanwhile, covered=None: self.folded())


@planted
def a_zombie_has_the_last_word(patch: Any) -> None:
    """What it appended behind its successor's newer shards stays there, and compaction keeps it."""

    async def watch_summaries(self: WorkerCore) -> None:
        """Nobody looks."""

    patch.setattr(WorkerCore, "watch_summaries", watch_summaries)


@planted
def a_new_generation_begins_to_act_at_its_cursor(patch: Any) -> None:
    def take_over(self: Acts, partition: Partition, committed: int) -> None:
        partition.acts_from = max(committed, partition.next_offset) if self._acting else None

    patch.setattr(Acts, "take_over", take_over)


@planted
def offsets_without_a_note_are_believed(patch: Any) -> None:
    """Those of workers that only built a generation, and sent no strays on."""
    original = SimActs._noted

    def noted(self: SimActs, group: str, places: Any) -> Any:
        return {place: one._replace(note="any") for place, one in original(self, group, places).items()}

    patch.setattr(SimActs, "_noted", noted)


@planted
def snapshots_shared_by_generations(patch: Any) -> None:
    """A generation that begins with another one's state never publishes what that one did."""
    original = World.__init__

    def made(self: World, plan: Any) -> None:
        original(self, plan)
        only = self.snapshots[1]
        self.snapshots = defaultdict(lambda: only)

    patch.setattr(World, "__init__", made)


@planted
def tallies_that_move_are_taken_for_different(patch: Any) -> None:
    original = comparison._judge

    def judge(pair: Any, cut: Any, found: Any, moved: Any) -> None:
        original(pair, dict.fromkeys(cut, 10**9), found, moved)

    patch.setattr(comparison, "_judge", judge)


@planted
def snapshot_without_cursor(patch: Any) -> None:
    """The state of a snapshot and its cursor come from different moments."""
    from tests.simulation.stores import SimStores

    def checkpoint(self: Any, store: Any) -> Any:
        keys = dict(store.files.durable)
        keys[layout.META] = store.get(layout.META)
        return keys

    patch.setattr(SimStores, "checkpoint", checkpoint)
