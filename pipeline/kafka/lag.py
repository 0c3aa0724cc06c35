"""How far a consumer group has come, by its committed offsets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import KafkaException

from pipeline.errors import Unavailable
from pipeline.kafka.asking import admin_client
from pipeline.kafka.bounds import EARLIEST, LATEST, offsets
from pipeline.kafka.offsets import committed

TIMEOUT_S = 10.0


class Lag(NamedTuple):
    """Records of a topic, all partitions together."""

    appended: int
    """Offsets that the log has used and still has."""
    behind: int
    """Of these, how many the group has not committed yet."""


class LagReader:
    """Asks one cluster again and again; keeps its connection."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config)
        self._client = admin_client(config)

    def lag(self, group: str, topics: Iterable[str]) -> dict[str, Lag]:
        """By topic, those that exist. A partition without a committed offset is behind by all it has.

        Raises Unavailable when Kafka does not answer.
        """
        try:
            return self._lag(group, list(topics))
        except KafkaException as error:
            raise Unavailable(f"Kafka: {error.args[0].str()}") from error

    def _lag(self, group: str, topics: list[str]) -> dict[str, Lag]:
        known = self._client.list_topics(timeout=TIMEOUT_S).topics
        pairs = [(topic, number) for topic in topics if topic in known for number in known[topic].partitions]
        starts = offsets(self._config, pairs, EARLIEST, within_s=TIMEOUT_S)
        ends = offsets(self._config, pairs, LATEST, within_s=TIMEOUT_S)
        stands = committed(self._config, group, pairs)
        lags = dict.fromkeys((topic for topic, _ in pairs), Lag(0, 0))
        for pair in pairs:
            appended, behind = lags[pair[0]]
            come = max(stands.get(pair, 0), starts[pair])
            lags[pair[0]] = Lag(appended + ends[pair] - starts[pair], behind + max(0, ends[pair] - come))
        return lags
