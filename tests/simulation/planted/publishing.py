"""What is published."""

from __future__ import annotations

from typing import Any

from pipeline.domain.tally import Tally
from pipeline.worker import layout, publishing
from pipeline.worker.opening import Opening
from pipeline.worker.partition import Partition
from pipeline.worker.state import StoredState
from tests.simulation.planted.registry import planted


@planted
def shard_emitted_as_a_delta(patch: Any) -> None:
    original = publishing.shards_of
    said: dict[bytes, Tally] = {}

    def shards(codec: Any, tallies: Any, partition: int) -> Any:
        deltas = []
        for key, packed in tallies:
            tally, before = layout.unpack_tally(packed), said.get(key)
            said[key] = layout.unpack_tally(packed)
            if before is not None and tally.count > before.count > 0:
                tally.count -= before.count
                tally.sum -= before.sum
            deltas.append((key, layout.pack_tally(tally)))
        return original(codec, deltas, partition)

    patch.setattr(publishing, "shards_of", shards)


@planted
def version_not_monotone(patch: Any) -> None:
    """A cancellation changes a tally and leaves its version: the older shard may win."""
    original = Tally.remove

    def remove(self: Tally, entry: Any, at_offset: int) -> bool:
        version = self.version
        stale = original(self, entry, at_offset)
        self.version = version
        return stale

    patch.setattr(Tally, "remove", remove)


@planted
def version_of_the_flush(patch: Any) -> None:
    """Versions that depend on where a worker cut, so that a zombie's older state can win."""
    original = StoredState.cut

    def cut(self: StoredState) -> Any:
        made = original(self)
        self.flushes = getattr(self, "flushes", 0) + 1000
        stamped = [(key, self.flushes.to_bytes(8, "big") + packed[8:]) for key, packed in made.tallies]
        return made._replace(tallies=stamped)

    patch.setattr(StoredState, "cut", cut)


@planted
def silent_up_to_the_end(patch: Any) -> None:
    """A worker that takes over trusts that everything in the journal was published."""
    original = Opening.open

    def opened(self: Opening, number: int, committed: int) -> Any:
        partition = original(self, number, committed)
        partition.silent_below = self.cluster.offsets(self._journal, number)[1]
        return partition

    patch.setattr(Opening, "open", opened)


@planted
def strays_not_sent_on(patch: Any) -> None:
    original = Partition.cut
    patch.setattr(Partition, "cut", lambda self: original(self)._replace(reroutes=[]))


@planted
def dead_letters_dropped(patch: Any) -> None:
    original = Partition.cut
    patch.setattr(Partition, "cut", lambda self: original(self)._replace(dead_letters=[]))


@planted
def dispositions_of_the_flush_lost(patch: Any) -> None:
    """Dispositions are taken from memory a moment after the cut: those in between are never published."""
    original = Partition.wrote

    def wrote(self: Partition) -> None:
        original(self)
        self.dispositions = []

    patch.setattr(Partition, "wrote", wrote)
