"""A group's leader shares out no topic's partitions before it knows them all."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from pipeline.stream.knowing import share_out_what_is_known


class Brokers:
    """As aiokafka's client sees them: the first ``young`` answers name no topic."""

    def __init__(self, young: int) -> None:
        self.young = young
        self.known: dict[str, set[int]] = {}
        self.cluster = self

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return self.known.get(topic)

    async def force_metadata_update(self) -> None:
        self.young -= 1
        if self.young <= 0:
            self.known = {"journal": {0, 1}, "adjustments": {0}}


class Coordinator:
    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._group_subscription = {"journal", "adjustments"}
        self._closing = asyncio.get_running_loop().create_future()

    async def _perform_assignment(self, response: str) -> dict[str, Any]:
        return {response: dict(self._brokers.known)}


async def shared_out(young: int, *, closing: bool = False) -> dict[str, Any]:
    brokers = Brokers(young)
    coordinator = Coordinator(brokers)
    if closing:
        coordinator._closing.set_result(None)
    share_out_what_is_known(SimpleNamespace(_coordinator=coordinator, _client=brokers))
    return await asyncio.wait_for(coordinator._perform_assignment("member"), 30)


def test_a_leader_that_asked_a_young_broker_asks_again() -> None:
    assert asyncio.run(shared_out(2)) == {"member": {"journal": {0, 1}, "adjustments": {0}}}


def test_a_leader_that_is_asked_to_go_waits_for_nobody() -> None:
    assert asyncio.run(shared_out(1_000_000, closing=True)) == {"member": {}}
