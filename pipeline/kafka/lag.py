"""How far a consumer group has come, by its committed offsets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import KafkaException

from pipeline.errors import Unavailable
from pipeline.kafka.asking import admin_client
from pipeline.kafka.bounds import EARLIEST, LATEST, Place, offsets
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
        places = self._places(topics)
        starts = self._starts(places)
        ends = offsets(self._config, places, LATEST, within_s=TIMEOUT_S)
        lags = dict.fromkeys((topic for topic, _ in places), Lag(0, 0))
        for place, left in self._left(group, starts, ends).items():
            appended, behind = lags[place[0]]
            lags[place[0]] = Lag(appended + ends[place] - starts[place], behind + left)
        return lags

    def ends(self, topics: Iterable[str]) -> dict[Place, int]:
        """Where those of these topics end that exist, by partition. Raises Unavailable."""
        return offsets(self._config, self._places(topics), LATEST, within_s=TIMEOUT_S)

    def left(self, group: str, ends: Mapping[Place, int]) -> int:
        """How many records below these ends are still there, and not committed by the group. Raises Unavailable."""
        return sum(self._left(group, self._starts(ends), ends).values())

    def _left(self, group: str, starts: Mapping[Place, int], ends: Mapping[Place, int]) -> dict[Place, int]:
        stands = committed(self._config, group, ends)
        return {place: max(0, end - max(stands.get(place, 0), starts[place])) for place, end in ends.items()}

    def _places(self, topics: Iterable[str]) -> list[Place]:
        try:
            known = self._client.list_topics(timeout=TIMEOUT_S).topics
        except KafkaException as error:
            raise Unavailable(f"Kafka: {error.args[0].str()}") from error
        return [(topic, number) for topic in topics if topic in known for number in known[topic].partitions]

    def _starts(self, places: Iterable[Place]) -> dict[Place, int]:
        return offsets(self._config, places, EARLIEST, within_s=TIMEOUT_S)
