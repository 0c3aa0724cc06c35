"""Whoever shares a group's partitions out must know all of its topics first.

A broker that has just started says of every topic that there is none. aiokafka's group leader then gives nobody
anything of it, and the whole group sits idle until somebody looks at the metadata again: five minutes later.
"""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_S = 0.2


def share_out_what_is_known(consumer: Any) -> None:
    """Have this aiokafka consumer, started, ask again about topics that it does not know before it shares out.

    A member that takes too long is expelled, and joins again; nothing is lost by waiting.
    """
    coordinator, client = consumer._coordinator, consumer._client
    perform = coordinator._perform_assignment

    async def perform_when_known(response: Any) -> Any:
        assignments = await perform(response)
        while _unknown(client.cluster, coordinator) and not coordinator._closing.done():
            await client.force_metadata_update()
            await asyncio.sleep(AGAIN_S)
            assignments = await perform(response)
        return assignments

    coordinator._perform_assignment = perform_when_known


def _unknown(cluster: Any, coordinator: Any) -> set[str]:
    return {topic for topic in coordinator._group_subscription if not cluster.partitions_for_topic(topic)}
