"""The catalog in a gateway's memory, without a broker: what it takes from the log, and what it tells of that."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Sequence

from pipeline.codec.records import Codec
from pipeline.domain.catalog import CatalogObject, Meter
from pipeline.domain.chain import FOLLOWS, NOTHING, Head, extended
from pipeline.errors import Unavailable
from pipeline.gateway.catalog import CatalogMemory
from pipeline.kafka.acknowledged import Outgoing
from pipeline.kafka.reading import Record
from pipeline.kafka.topics import Topics

METER = Meter(
    id="mtr_1", livemode=True, created_ms=0, updated_ms=0, version=1, display_name="M", event_name="m", formula="sum"
)


class Registry(Codec):
    """A codec that has to ask for every record, and is answered at the third time."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: Counter[bytes | None] = Counter()

    def decode_catalog(self, value: bytes | None) -> CatalogObject:
        self._asked[value] += 1
        if self._asked[value] < 3:
            raise Unavailable("the schema registry did not answer")
        return super().decode_catalog(value)


class Log:
    """The catalog's topic, followed by one gateway, to which it is also what it publishes with."""

    def __init__(self, codec: Codec) -> None:
        self.head: Head = NOTHING
        self.said: list[bytes] = []
        self.memory = CatalogMemory({}, Topics("t"), codec, self)  # type: ignore[arg-type]

    async def publish(self, records: Sequence[Outgoing]) -> None:
        for one in records:
            self.said.append(dict(one.headers)[FOLLOWS])
            self.append(one.value, one.headers)

    def append(self, value: bytes | None, headers: tuple[tuple[str, bytes], ...] = ()) -> None:
        """As a follower hands a record over: again and again, until it is taken."""
        record = Record(0, self.head.records, 0, b"mtr_1", value, headers)
        while True:
            try:
                self.memory._take(record)
            except Unavailable:
                continue
            break
        self.head = extended(self.head, record.key, record.value, record.headers)


def test_s27_a_record_that_comes_again_counts_once_in_what_a_gateway_says_it_has_read() -> None:
    """FAULTS S27: otherwise the gateway's next change would vouch for a log that there never was."""
    log = Log(Registry())
    log.append(Codec().encode_catalog(METER))
    log.append(b"no catalog object")
    log.append(None)
    before = log.head
    asyncio.run(log.memory.write(dataclasses.replace(METER, version=2, display_name="N")))
    assert log.said == [str(before).encode()]
    assert before.records == 3
    found = log.memory.meter(True, "mtr_1")
    assert found is not None
    assert found.display_name == "N"
