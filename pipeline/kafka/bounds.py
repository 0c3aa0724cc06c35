"""Where partitions begin and end, as their leaders say.

The admin client puts the leader epoch that it knows into each question, and never learns another one from the refusal:
after a partition has changed its leader, or a broker has started again, every answer is FENCED_LEADER_EPOCH until
somebody asks for the metadata. So nothing else in this project calls ``list_offsets``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin._listoffsets import OffsetSpec

from pipeline.kafka.asking import ATTEMPT_S, TIMEOUT_S, admin_client, known_offset, of_leaders, translated

__all__ = ["EARLIEST", "LATEST", "OffsetSpec", "Place", "newest_ms", "offsets"]

Place = tuple[str, int]
"""(topic, partition)"""

EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_NEWEST = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]
_T = TypeVar("_T")


def offsets(
    config: Mapping[str, Any],
    places: Iterable[Place],
    spec: OffsetSpec,
    *,
    within_s: float = TIMEOUT_S,
    isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
) -> dict[Place, int]:
    """By place, its first offset (EARLIEST) or the one behind its last record (LATEST).

    Raises Unavailable when a leader does not answer, Refusal when there is no such partition.
    """
    return _listed(config, places, spec, known_offset, within_s, isolation)


def newest_ms(config: Mapping[str, Any], places: Iterable[Place], *, within_s: float = TIMEOUT_S) -> dict[Place, int]:
    """By place, the greatest timestamp of its records; negative where there are none. Raises as ``offsets`` does."""
    return _listed(
        config, places, _NEWEST, lambda answer: int(answer.timestamp), within_s, IsolationLevel.READ_UNCOMMITTED
    )


def _listed(
    config: Mapping[str, Any],
    places: Iterable[Place],
    spec: OffsetSpec,
    read: Callable[[Any], _T],
    within_s: float,
    isolation: IsolationLevel,
) -> dict[Place, _T]:
    asked = {TopicPartition(*place): spec for place in places}
    if not asked:
        return {}
    client = admin_client(config)

    def ask(attempt_s: float) -> dict[Place, _T]:
        answers = client.list_offsets(asked, isolation_level=isolation, request_timeout=attempt_s)
        return {(place.topic, place.partition): read(future.result()) for place, future in answers.items()}

    try:
        return of_leaders(ask, lambda: client.list_topics(timeout=ATTEMPT_S), within_s)
    except KafkaException as error:
        raise translated(error) from error
