"""Which offsets of a log belong to a batch, whoever may read it.

To a reader of committed records a marker at the end of a transaction, an aborted record and a record that a broker has
lost look alike: an offset without a record. In the log they do not. Markers and aborted records stand in batches, which
say so in their heads; of what was lost no batch is left.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, LeaderNotAvailableError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

from pipeline.errors import Unavailable

FETCH_BYTES: Final = 4 * 2**20
PATIENCE_S: Final = 60.0
_AGAIN_S: Final = 0.2
_READ_UNCOMMITTED: Final = 0
_HEAD: Final = struct.Struct(">qiibIhi")
"""Of a batch: base offset, length, leader epoch, magic, checksum, attributes, last offset's distance."""
_HEAD_BEHIND: Final = 12
"""Bytes of a batch that its length does not count."""
_HIDDEN: Final = 0x10 | 0x20
"""Attributes of batches that a reader of committed records may not see: of a transaction, or a marker."""


class Stretch(NamedTuple):
    """Offsets [first, end)."""

    first: int
    end: int


class Span(NamedTuple):
    """A batch's offsets [first, end)."""

    first: int
    end: int
    hidden: bool
    """Whether there is a reason why a reader of committed records does not see it."""


def lost(kafka: Mapping[str, Any], topic: str, partition: int, holes: Sequence[Stretch]) -> list[Stretch]:
    """Those parts of the holes, which ascend, of which the log has no trace: somebody has deleted them.

    ``kafka``: a librdkafka configuration. Raises Unavailable.
    """
    return asyncio.run(_lost(kafka, topic, partition, holes)) if holes else []


async def _lost(kafka: Mapping[str, Any], topic: str, partition: int, holes: Sequence[Stretch]) -> list[Stretch]:
    client = AIOKafkaClient(bootstrap_servers=kafka["bootstrap.servers"], **_how_to_connect(kafka))
    try:
        await client.bootstrap()
        await client.set_topics([topic])
        return await _Log(client, topic, partition).without_trace(holes)
    except KafkaError as error:
        raise Unavailable(f"Kafka: {error}") from error
    finally:
        await client.close()


def _how_to_connect(kafka: Mapping[str, Any]) -> dict[str, Any]:
    protocol = kafka.get("security.protocol", "PLAINTEXT")
    options: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        options["ssl_context"] = ssl.create_default_context(cafile=kafka.get("ssl.ca.location"))
    if protocol.startswith("SASL"):
        options["sasl_mechanism"] = kafka["sasl.mechanism"]
        options["sasl_plain_username"] = kafka["sasl.username"]
        options["sasl_plain_password"] = kafka["sasl.password"]
    return options


class _Log:
    """One partition, of which pieces are fetched."""

    def __init__(self, client: AIOKafkaClient, topic: str, partition: int) -> None:
        self._client = client
        self._topic = topic
        self._partition = partition
        self._known = Stretch(0, 0)
        self._spans: list[Span] = []
        """All of those that reach into ``_known``."""

    async def without_trace(self, holes: Sequence[Stretch]) -> list[Stretch]:
        found: list[Stretch] = []
        for hole in holes:
            at = hole.first
            while at < hole.end:
                if not self._known.first <= at < self._known.end:
                    await self._fetch(at, hole.end)
                upto = min(hole.end, self._known.end)
                found += uncovered(Stretch(at, upto), self._spans)
                at = upto
        return found

    async def _fetch(self, at: int, beyond: int) -> None:
        """Know what there is from ``at`` on; where nothing comes up to ``beyond``, there is nothing."""
        data = await self._bytes(at)
        self._spans = spans_of(data)
        end = self._spans[-1].end if self._spans else beyond
        self._known = Stretch(at, max(end, at + 1))

    async def _bytes(self, at: int) -> bytes:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await self._answer(at)
            except KafkaError as error:
                if not error.retriable or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_AGAIN_S)
            await self._client.force_metadata_update()

    async def _answer(self, at: int) -> bytes:
        leader = self._client.cluster.leader_for_partition(TopicPartition(self._topic, self._partition))
        if leader is None or leader < 0:
            raise LeaderNotAvailableError(f"{self._topic}-{self._partition} has no leader")
        places = [(self._topic, [(self._partition, at, FETCH_BYTES)])]
        request = FetchRequest(0, 0, FETCH_BYTES, _READ_UNCOMMITTED, places)
        response: Any = await self._client.send(leader, request)
        ((_, ((_, code, *_, data),)),) = response.topics
        if code:
            raise for_code(code)(f"fetching {self._topic}-{self._partition} from {at}")
        return bytes(data or b"")


def spans_of(data: bytes) -> list[Span]:
    """Those of the batches in a fetched piece of a log; the last one may be cut off."""
    found, at = [], 0
    while at + _HEAD.size <= len(data):
        first, length, _, _, _, attributes, distance = _HEAD.unpack_from(data, at)
        found.append(Span(first, first + distance + 1, bool(attributes & _HIDDEN)))
        at += _HEAD_BEHIND + length
    return found


def uncovered(hole: Stretch, spans: Sequence[Span]) -> list[Stretch]:
    """The parts of a hole that lie in no hidden batch."""
    found, at = [], hole.first
    for span in spans:
        if not span.hidden or span.end <= at or span.first >= hole.end:
            continue
        if span.first > at:
            found.append(Stretch(at, span.first))
        at = max(at, span.end)
    if at < hole.end:
        found.append(Stretch(at, hole.end))
    return found
