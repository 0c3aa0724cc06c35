"""Sending events to the endpoints that are configured, each at least once.

Every endpoint has a consumer group of its own, so one gateway at a time sends to it, and a dead endpoint keeps nobody
waiting but itself. An event that an endpoint does not take with a 2xx is sent again with growing pauses until it is
three days old; later ones overtake it. The group's offset stands below the oldest event that is still owed: what a
gateway owes when it dies, the next one sends again. An endpoint that is new hears what happens from then on.

Only URLs from the settings are called. Redirects are not followed, answers are not read, and every wait is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import heapq
import hmac
import http.client
import logging
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.codec.records import Codec
from pipeline.domain.core_events import CoreEvent
from pipeline.errors import UndecodableRecord
from pipeline.gateway.answers import encode
from pipeline.gateway.core_events import is_thin, thin_body
from pipeline.gateway.relay import GROUP_CONFIG, STOP_PATIENCE_S
from pipeline.gateway.snapshot_events import event_body
from pipeline.gateway.webhook_endpoints import Endpoint
from pipeline.kafka.asking import watermarks
from pipeline.kafka.topics import Topics

_log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S: Final = 10.0
GIVE_UP_AFTER_MS: Final = 3 * 24 * 3_600_000
FIRST_PAUSE_S: Final = 1.0
PAUSE_FACTOR: Final = 4
LONGEST_PAUSE_S: Final = 6 * 3_600.0
OWED_MAX: Final = 1_000
"""Events that one endpoint may be owed before no more are read for it."""
POLL_S: Final = 0.2
AGAIN_AFTER_S: Final = 1.0
ASK_TIMEOUT_S: Final = 10.0


class Owed(NamedTuple):
    """An event on its way to an endpoint; the heap brings up what is due first."""

    due_s: float
    offset: int
    attempts: int
    event: CoreEvent


def signature(secret: str, payload: bytes, now_s: int) -> str:
    """The Stripe-Signature header."""
    digest = hmac.new(secret.encode(), f"{now_s}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={now_s},v1={digest}"


def payload_of(event: CoreEvent) -> bytes:
    """What is sent: thin events without their data, snapshots with the object."""
    if is_thin(event):
        return encode(thin_body(event))
    body = event_body(event)
    if body is None:
        raise ValueError("its data is no JSON object")
    return encode(body)


def send(endpoint: Endpoint, payload: bytes) -> int:
    """POST the payload and return the answer's status; its body is not read.

    Raises OSError, HTTPException or ValueError when there is none within ANSWER_TIMEOUT_S.
    """
    parts = urlsplit(endpoint.url)
    host, port = parts.hostname or "", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, port, timeout=ANSWER_TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=ANSWER_TIMEOUT_S)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": signature(endpoint.secret, payload, int(time.time())),
        "User-Agent": "Meterline/1.0",
    }
    # The connection's own timeout is for each step: an answer that comes byte by byte would take for ever.
    late = threading.Event()
    cut = threading.Timer(ANSWER_TIMEOUT_S, _cut, (connection, late))
    cut.start()
    try:
        connection.request("POST", path, payload, headers)
        status = connection.getresponse().status
    finally:
        cut.cancel()
        connection.close()
    if late.is_set():  # half a head reads like a whole one
        raise TimeoutError
    return status


def _cut(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    """Whoever waits on the connection hears of its end."""
    late.set()
    if (socket_ := connection.sock) is not None:
        with contextlib.suppress(OSError):
            socket_.shutdown(socket.SHUT_RDWR)


def pause_s(attempts: int) -> float:
    """How long to wait after that many attempts."""
    longest: float = min(FIRST_PAUSE_S * PAUSE_FACTOR ** min(attempts - 1, 20), LONGEST_PAUSE_S)
    return random.uniform(longest / 2, longest)


class Sender:
    """Sends to one endpoint, on a thread of its own."""

    def __init__(
        self,
        endpoint: Endpoint,
        config: Mapping[str, Any],
        topics: Topics,
        codec: Codec,
        transmit: Callable[[Endpoint, bytes], int] = send,
    ) -> None:
        self.endpoint = endpoint
        self._topic = topics.core_events
        self._codec = codec
        self._transmit = transmit
        self._config = {**config, **GROUP_CONFIG, "group.id": topics.webhooks_group(endpoint.name)}
        self._stopping = threading.Event()
        self._owed: list[Owed] = []
        self._next = 0
        self._committed = 0
        self._paused = False
        self._ready = False
        self._thread = threading.Thread(target=self._run, name=f"webhook {endpoint.name}", daemon=True)

    @property
    def ready(self) -> bool:
        """Whether it is settled from where on this endpoint hears."""
        return self._ready

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def join(self) -> None:
        self._thread.join(STOP_PATIENCE_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._send_for_ever()
            except KafkaException as error:
                _log.warning("webhook %s waits for Kafka: %s", self.endpoint.name, error)
            except Exception:
                _log.exception("webhook %s stumbled, trying on", self.endpoint.name)
            self._stopping.wait(AGAIN_AFTER_S)

    def _send_for_ever(self) -> None:
        consumer = Consumer(self._config)
        try:
            self._settle_start(consumer)
            consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked)
            while not self._stopping.is_set():
                self._hear(consumer)
                self._send_what_is_due()
                self._commit(consumer)
        finally:
            consumer.close()

    def _settle_start(self, consumer: Consumer) -> None:
        """A group that never was begins at the end: nobody wants thirty days of the past at once."""
        place = TopicPartition(self._topic, 0)
        if consumer.committed([place], timeout=ASK_TIMEOUT_S)[0].offset < 0:
            end = watermarks(consumer, place, ASK_TIMEOUT_S)[1]
            consumer.commit(offsets=[TopicPartition(self._topic, 0, end)], asynchronous=False)
        self._ready = True

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """The offset is settled: librdkafka goes on from it by itself."""
        self._forget()
        if partitions:
            self._committed = self._next = max(0, consumer.committed(partitions, timeout=ASK_TIMEOUT_S)[0].offset)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Another gateway sends from here on, beginning with what is owed."""
        self._forget()

    def _forget(self) -> None:
        self._owed, self._next, self._committed, self._paused = [], 0, 0, False

    def _hear(self, consumer: Consumer) -> None:
        """Take one record, waiting no longer than until something is due."""
        due_s = self._owed[0].due_s - time.monotonic() if self._owed else POLL_S
        message = consumer.poll(max(0.0, min(POLL_S, due_s)))
        if message is not None:
            self._take(message)
        full = len(self._owed) >= OWED_MAX
        if full != self._paused and consumer.assignment():
            (consumer.pause if full else consumer.resume)(consumer.assignment())
            self._paused = full

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF and not error.retriable():  # noqa: SLF001
                raise KafkaException(error)
            return
        offset = message.offset() or 0
        self._next = offset + 1
        try:
            event = self._codec.decode_core_event(message.value())
        except UndecodableRecord:
            return
        if self.endpoint.wants(event):
            heapq.heappush(self._owed, Owed(time.monotonic(), offset, 0, event))

    def _send_what_is_due(self) -> None:
        """One attempt at most: the group must be heard in between."""
        if not self._owed or self._owed[0].due_s > time.monotonic():
            return
        one = heapq.heappop(self._owed)
        failure = self._attempt(one.event)
        if failure is None:
            return
        attempts = one.attempts + 1
        if time.time() * 1_000 - one.event.created_ms >= GIVE_UP_AFTER_MS:
            _log.error("webhook %s: %s given up: %s", self.endpoint.name, one.event.id, failure)
            return
        if attempts == 1:
            _log.warning("webhook %s: %s is sent again later: %s", self.endpoint.name, one.event.id, failure)
        heapq.heappush(self._owed, Owed(time.monotonic() + pause_s(attempts), one.offset, attempts, one.event))

    def _attempt(self, event: CoreEvent) -> str | None:
        """None when it was taken; else why not."""
        try:
            payload = payload_of(event)
        except ValueError as error:
            _log.error("webhook %s: %s cannot be sent: %s", self.endpoint.name, event.id, error)
            return None
        try:
            status = self._transmit(self.endpoint, payload)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return type(error).__name__  # its text may repeat the URL
        return None if 200 <= status < 300 else f"HTTP {status}"

    def _commit(self, consumer: Consumer) -> None:
        low = min((one.offset for one in self._owed), default=self._next)
        if low > self._committed and consumer.assignment():
            consumer.commit(offsets=[TopicPartition(self._topic, 0, low)], asynchronous=False)
            self._committed = low


class Webhooks:
    """A Service (parts.py): one sender for each endpoint. ``config`` is librdkafka's: how to connect."""

    name = "webhooks"

    def __init__(self, endpoints: Sequence[Endpoint], config: Mapping[str, Any], topics: Topics, codec: Codec) -> None:
        self._senders = [Sender(endpoint, config, topics, codec) for endpoint in endpoints]

    async def start(self) -> None:
        for sender in self._senders:
            sender.start()

    async def stop(self) -> None:
        for sender in self._senders:
            sender.stop()
        for sender in self._senders:
            await asyncio.to_thread(sender.join)

    def not_ready(self) -> str | None:
        waiting = [sender.endpoint.name for sender in self._senders if not sender.ready]
        return f"finding where to begin for {', '.join(waiting)}" if waiting else None
