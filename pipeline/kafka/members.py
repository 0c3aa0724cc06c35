"""Who is in a consumer group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.kafka.asking import TIMEOUT_S, admin_client, answer_of, insistently


def members(config: Mapping[str, Any], group: str) -> int:
    """How many processes, those included that were killed and whose session is not over. Raises Unavailable."""
    client = admin_client(config)

    def ask() -> int:
        found = answer_of(client.describe_consumer_groups([group], request_timeout=TIMEOUT_S)[group])
        return len(found.members)

    return insistently(ask)
