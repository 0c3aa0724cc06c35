"""A publisher that follows the journal when it moves to another topic.

While a journal moves, the brokers refuse what is sent to it and to the adjustments (fence.py), and afterwards to the
old journal for ever. So nobody has to be told in time: a record that was refused is kept here, and sent again to
wherever the ledger of generations says that the journal is now.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Message

from pipeline.codec.records import Codec
from pipeline.errors import Closed, Unavailable
from pipeline.kafka.generations import GenerationLedger
from pipeline.kafka.producer import OnError, Publisher
from pipeline.kafka.topics import Topics, topics_of_generation

REFUSED_BYTES_MAX: Final = 500_000
"""A record above that may be too large for any topic."""
AGAIN_S: Final = 0.25
PATIENCE_S: Final = 300.0
"""How long a journal may be on the move."""


class MovingPublisher(Publisher):
    """As ``Publisher``. Records for the journal of any generation go to the one that stands."""

    def __init__(
        self, config: Mapping[str, Any], namespace: str, codec: Codec, on_error: OnError | None = None
    ) -> None:
        super().__init__(config, on_error, self._keep)
        self._namespace = namespace
        self._ledger = GenerationLedger(config, namespace, codec)
        self._journals = {Topics(namespace).journal}
        self._journal: str | None = None
        self._kept: deque[tuple[str, bytes | None, bytes | None]] = deque()
        self._moving = threading.Lock()

    def publish(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int = -1,
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> None:
        """As ``Publisher.publish``; waits while the journal moves."""
        if self._kept:
            self._send_again()
        super().publish(self._present(topic), key, value, partition=partition, headers=headers)

    def _settle(self, timeout_s: float) -> None:
        """As ``Publisher._settle``; the journal may move meanwhile."""
        deadline = time.monotonic() + timeout_s
        super()._settle(timeout_s)
        while self._kept:
            self._send_again()
            super()._settle(max(AGAIN_S, deadline - time.monotonic()))

    def _present(self, topic: str) -> str:
        return self._journal if self._journal is not None and topic in self._journals else topic

    def _keep(self, message: Message) -> bool:
        value = message.value() or b""
        if len(value) > REFUSED_BYTES_MAX:
            return False
        self._kept.append((message.topic() or "", message.key(), value))
        return True

    def _send_again(self) -> None:
        """Send what was refused to where the journal is now, until the brokers take it. Raises Closed."""
        with self._moving:
            deadline = time.monotonic() + PATIENCE_S
            while self._kept:
                self._look()
                refused, self._kept = self._kept, deque()
                for topic, key, value in refused:
                    super().publish(self._present(topic), key, value)
                super()._settle(PATIENCE_S)
                if self._kept:
                    if time.monotonic() > deadline:
                        raise Closed(
                            "the journal has been closed for a long time: `meterline generations list` shows whether"
                            " it is on the move"
                        )
                    time.sleep(AGAIN_S)

    def _look(self) -> None:
        try:
            found = self._ledger.read()
        except Unavailable:
            return
        self._journals |= {topics_of_generation(self._namespace, one).journal for one in found.by_number.values()}
        self._journal = topics_of_generation(self._namespace, found.live).journal
