"""The ledger of generations in its topic: read as a whole, appended to, and looked at again and again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pipeline.codec.records import Codec
from pipeline.domain.chain import NOTHING, Head, extended, headers_after
from pipeline.domain.generations import Generation, Generations, generations_of
from pipeline.errors import Refusal, Unavailable, UndecodableRecord
from pipeline.kafka.asking import watermarks
from pipeline.kafka.producer import Publisher
from pipeline.kafka.reading import await_answer, read
from pipeline.kafka.topics import Topics

ANSWER_TIMEOUT_S = 10.0
APPEND_TIMEOUT_S = 30.0


class GenerationLedger:
    """One namespace's ledger. A namespace without the topic is one whose generation 1 is live."""

    def __init__(self, config: Mapping[str, Any], namespace: str, codec: Codec, by: str = "") -> None:
        """``by``: who writes, for those who read the log later."""
        self._by = by
        self._config = {**config, "log_level": 0}
        self._topic = Topics(namespace).generations
        self._codec = codec
        self._consumer: Consumer | None = None

    def read(self) -> Generations:
        """What stands now. Raises Unavailable."""
        return self._read()[0]

    def _read(self) -> tuple[Generations, Head]:
        head = NOTHING
        if await_answer(self._config, self._topic).topics[self._topic].error is not None:
            return Generations(), head
        steps = []
        for record in read(self._config, self._topic, "beginning"):
            head = extended(head, record.key, record.value, record.headers)
            try:
                steps.append(self._codec.decode_generation(record.value))
            except UndecodableRecord:
                continue  # void, as a step that does not follow
        return generations_of(steps), head

    def append(self, number: int, state: str, journal: int, partitions: int, fold: str) -> Generations:
        """Write a step down; returns what stands then.

        Raises Refusal when the step is void: somebody else was quicker, or it does not follow.
        """
        step = Generation(number, state, journal, partitions, fold, time.time_ns() // 1_000_000)
        before, head = self._read()
        if not before.allows(step):
            raise Refusal(_void(step, before))
        publisher = Publisher(self._config)
        publisher.publish(
            self._topic,
            str(number).encode(),
            self._codec.encode_generation(step),
            partition=0,
            headers=headers_after(head, self._by),
        )
        publisher.flush(APPEND_TIMEOUT_S)
        after = self.read()
        if step not in after.by_number.values():
            raise Refusal(_void(step, after))
        return after

    def end(self) -> int:
        """How long the log is: cheap to ask, and the same as long as nothing has changed. Raises Unavailable."""
        if self._consumer is None:
            self._consumer = Consumer({**self._config, "group.id": "meterline-reading", "enable.auto.commit": False})
        try:
            place = TopicPartition(self._topic, 0)
            return watermarks(self._consumer, place, ANSWER_TIMEOUT_S)[1]
        except KafkaException as error:
            cause: KafkaError = error.args[0]
            if cause.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION):  # noqa: SLF001
                return 0
            raise Unavailable(f"Kafka: {cause.str()}") from error


def _void(step: Generation, found: Generations) -> str:
    one = found.by_number.get(step.number)
    stands = f"generation {step.number} is {one.state}" if one else f"there is no generation {step.number}"
    building = found.building
    also = f", generation {building.number} is being built" if building and building.number != step.number else ""
    return (
        f"generation {step.number} cannot become {step.state}: {stands}{also}, generation {found.live.number} is live"
    )
