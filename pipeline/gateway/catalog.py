"""The catalog in this gateway's memory, and the one way to change it.

Every gateway follows the topic from its first record and keeps what stands by the log's order (catalog_log.py). A
write is published and then waited for: it has happened when it comes back out of the log and stands. So whoever was
told that it happened sees it on this gateway at once; the others follow within a fraction of a second.

Reading needs no lock: the follower's thread is the only one that changes anything, one record at a time, and lookups
are single reads of dicts and lists that only grow.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, TypeVar

from pipeline.codec.records import Codec
from pipeline.domain.catalog import ApiKey, CatalogObject, Meter, Plan, Product
from pipeline.domain.catalog_log import Applied, Catalog, Refused, Seen, Shelf
from pipeline.domain.chain import NOTHING, extended, headers_after
from pipeline.errors import Unavailable, UndecodableRecord
from pipeline.kafka.acknowledged import Acknowledged, Outgoing
from pipeline.kafka.following import Follower
from pipeline.kafka.reading import Record
from pipeline.kafka.topics import Topics

_log = logging.getLogger(__name__)

READ_BACK_S = 10.0
"""How long a write that Kafka acknowledged may take to come back."""

One = TypeVar("One", bound=CatalogObject)


class Conflict(Exception):
    """The log's order decided against a write: somebody else's stands in its place."""

    def __init__(self, one: CatalogObject, refused: Refused) -> None:
        super().__init__(f"{one.id} version {one.version}: {refused.reason}")
        self.reason = refused.reason
        self.present = refused.present


class CatalogMemory:
    """What stands. ``config`` is librdkafka's: how to connect. A Service (parts.py)."""

    name = "catalog"

    def __init__(self, config: Mapping[str, Any], topics: Topics, codec: Codec, journal: Acknowledged) -> None:
        self._topic = topics.catalog
        self._codec = codec
        self._journal = journal
        self._catalog = Catalog()
        self._head = NOTHING
        self._waiting: dict[bytes, asyncio.Future[Applied | Refused]] = {}
        self._follower = Follower(config, topics.catalog, self._take)

    async def start(self) -> None:
        self._follower.start()

    async def stop(self) -> None:
        await asyncio.to_thread(self._follower.stop)

    def not_ready(self) -> str | None:
        return self._follower.not_ready()

    async def ready(self, timeout_s: float) -> None:
        """Return when everything that was in the log is known. Raises Unavailable after ``timeout_s``."""
        await asyncio.to_thread(self._follower.await_end, timeout_s)

    def get(self, kind: type[One], livemode: bool, id_: str) -> One | None:
        """The object, unless it is absent, deleted or of the other mode: the three answer the same."""
        found = self._catalog.present(kind, livemode, id_)
        return found if isinstance(found, kind) and not found.deleted else None

    def present(self, kind: type[One], livemode: bool, id_: str) -> One | None:
        """The object as it stands, also when it is deleted: what the next version is counted from."""
        found = self._catalog.present(kind, livemode, id_)
        return found if isinstance(found, kind) else None

    def meter(self, livemode: bool, id_: str) -> Meter | None:
        return self.get(Meter, livemode, id_)

    def product(self, livemode: bool, id_: str) -> Product | None:
        return self.get(Product, livemode, id_)

    def plan(self, livemode: bool, id_: str) -> Plan | None:
        return self.get(Plan, livemode, id_)

    def api_key(self, livemode: bool, id_: str) -> ApiKey | None:
        return self.get(ApiKey, livemode, id_)

    def active_meter(self, livemode: bool, event_name: str) -> Meter | None:
        """The one active meter that reads an event name."""
        return self._catalog.active_meter(livemode, event_name)

    def meters_of(self, livemode: bool, event_name: str) -> list[Meter]:
        """Every meter that reads or has read an event name, the newest first."""
        return [one for one in self.all(Meter, livemode) if one.event_name == event_name]

    def plans_of(self, livemode: bool, product: str) -> frozenset[str]:
        """Ids of a product's plans."""
        return self._catalog.plans_of(livemode, product)

    def all(self, kind: type[One], livemode: bool) -> list[One]:
        """All objects of a class and mode, the newest first."""
        return [one for one in self.shelf(kind, livemode).newest_first() if isinstance(one, kind)]

    def shelf(self, kind: type[CatalogObject], livemode: bool) -> Shelf:
        """All objects of a class and mode in their order, for listing by pages."""
        return self._catalog.shelf(kind, livemode)

    def seen(self, key_digest: str) -> Seen | None:
        """What an earlier request with this idempotency key wrote."""
        return self._catalog.seen(key_digest)

    async def write(self, *objects: CatalogObject, by: str = "") -> None:
        """Return when all of them stand, in this order. ``by``: who changes them, for those who read the log later.

        Raises Conflict for the first one that the log's order refused (those before it stand), Overloaded before
        anything was written, Unavailable when the outcome is not known: writing the same version again is harmless.
        """
        loop = asyncio.get_running_loop()
        headers = headers_after(self._head, by)
        outgoing = [
            Outgoing(self._topic, one.id.encode(), self._codec.encode_catalog(one), headers=headers) for one in objects
        ]
        # Equal bytes mean the same thing, whoever wrote them: so a record is known by them when it comes back.
        outcomes = [self._waiting.setdefault(record.value or b"", loop.create_future()) for record in outgoing]
        try:
            await self._journal.publish(outgoing)
            await asyncio.wait_for(asyncio.shield(asyncio.gather(*outcomes)), READ_BACK_S)
        except TimeoutError as error:
            raise Unavailable("what was written to the catalog has not come back yet") from error
        finally:
            for record in outgoing:
                self._waiting.pop(record.value or b"", None)
        for one, outcome in zip(objects, outcomes, strict=True):
            decided = outcome.result()
            if isinstance(decided, Refused):
                raise Conflict(one, decided)

    def _take(self, record: Record) -> None:
        one = self._decoded(record)  # before anything else: without the schema registry the record comes again
        self._head = extended(self._head, record.key, record.value, record.headers)
        if one is None:
            return
        outcome = self._catalog.apply(one)
        waiting = self._waiting.pop(record.value or b"", None)
        if waiting is not None:
            waiting.get_loop().call_soon_threadsafe(_settle, waiting, outcome)

    def _decoded(self, record: Record) -> CatalogObject | None:
        """None for a record that is no catalog object. Raises Unavailable when it is not known what it is."""
        try:
            return self._codec.decode_catalog(record.value)
        except UndecodableRecord as error:
            _log.warning("offset %d of %s is no catalog object and is left out: %s", record.offset, self._topic, error)
            return None


def _settle(waiting: asyncio.Future[Applied | Refused], outcome: Applied | Refused) -> None:
    if not waiting.done():
        waiting.set_result(outcome)
