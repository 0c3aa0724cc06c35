"""The order of a flush."""

from __future__ import annotations

import asyncio
from typing import Any

from pipeline.worker import core, layout
from pipeline.worker.core import WorkerCore
from tests.simulation.planted.registry import planted


def _flush_in(order: str) -> Any:
    """The worker's flush with its steps in another order: p publish, f wait for acks, w write, a acknowledge."""

    async def flush(self: WorkerCore) -> None:
        self.changed.clear()
        self.full.clear()
        held, self.held = self.held, []
        cuts = [(partition, partition.cut()) for partition in self.partitions.values()]
        self.room.set()
        for step in order:
            if step == "p":
                await asyncio.to_thread(self._publish, [cut for _, cut in cuts])
            elif step == "f":
                await asyncio.to_thread(self.outlet.flush, 120.0)
            elif step == "w":
                await asyncio.to_thread(core._write, cuts)
                for partition, _ in cuts:
                    partition.wrote()
            else:
                for received in held:
                    received.ack()

    return flush


@planted
def commit_before_publish(patch: Any) -> None:
    patch.setattr(WorkerCore, "_flush", _flush_in("apfw"))


@planted
def cursor_before_publish(patch: Any) -> None:
    patch.setattr(WorkerCore, "_flush", _flush_in("wpfa"))


@planted
def acknowledgements_not_awaited(patch: Any) -> None:
    patch.setattr(WorkerCore, "_flush", _flush_in("pwa"))


@planted
def cursor_written_apart(patch: Any) -> None:
    def write(cuts: Any) -> None:
        for partition, cut in cuts:
            *layers, meta = [layer for layer in cut.writes if layout.META not in layer] + [
                layer for layer in cut.writes if layout.META in layer
            ]
            partition.store.write(meta)
            partition.store.write(*layers)

    patch.setattr(core, "_write", write)


@planted
def lost_folds_acknowledged(patch: Any) -> None:
    """What was folded of partitions that were taken away is lost, and acknowledged when they come back."""
    original = WorkerCore.take_over

    async def take_over(self: WorkerCore, group: Any) -> None:
        await original(self, group)
        self.held += [one for one in self.lost if one not in self.held]

    fold_one = WorkerCore._fold

    def remembered(self: WorkerCore, received: Any) -> None:
        fold_one(self, received)
        self.lost = [*getattr(self, "lost", [])[-20:], *self.held[-1:]]

    init = WorkerCore.__init__

    def made(self: WorkerCore, *args: Any) -> None:
        init(self, *args)
        self.lost = []

    patch.setattr(WorkerCore, "__init__", made)
    patch.setattr(WorkerCore, "_fold", remembered)
    patch.setattr(WorkerCore, "take_over", take_over)


@planted
def adjustment_acknowledged_before_it_is_routed(patch: Any) -> None:
    async def route_all(self: WorkerCore, stream: Any) -> None:
        async for received in stream:
            received.ack()
            await asyncio.to_thread(self._route, received.value)
            await asyncio.to_thread(self.outlet.flush, 120.0)

    patch.setattr(WorkerCore, "route_all", route_all)
