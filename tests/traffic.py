"""What services of every kind send, from one seed: good events and bad ones, duplicates, adjustments, strays, garbage.

Keeps books of what was meant, so that a test can tell what must count without asking the journal.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from confluent_kafka import Producer

from pipeline.codec.records import Codec
from pipeline.domain import outcomes
from pipeline.domain.events import Adjustment, Cancellation, CancellationRange, Identity, MeterEvent
from pipeline.domain.limits import MINUTE_MS, VALUE_BOUND
from pipeline.domain.partitioning import partition_of
from pipeline.errors import UndecodableRecord
from pipeline.kafka.topics import Topics
from tests.oracle import World, read_topic

TRANSACTION_RECORDS = 6
LARGE_BYTES = 1_040_000
"""Nearly all that a broker takes by default (1,048,588 bytes), and more than librdkafka's own limit of 1,000,000."""
UNPACKED_BYTES = 5_000_000


class Traffic:
    """Sends to the journal and the adjustments of one namespace. One instance is used by one thread."""

    def __init__(self, kafka: str, topics: Topics, partitions: int, seed: int, *, transactions: bool = True) -> None:
        self.random = Random(seed)
        self.topics = topics
        self.partitions = partitions
        self.codec = Codec()
        self.events: list[MeterEvent] = []
        """Good ones that were sent, each identity once; those of aborted transactions are not among them."""
        self.strays: list[MeterEvent] = []
        """Those of them that were sent to the wrong partition only."""
        self.strays_cancelled: set[str] = set()
        """Adjustment ids of cancellations that somebody wrote into the wrong partition of the journal."""
        self.repeated: list[MeterEvent] = []
        """Those that were sent again, unchanged, once for each time."""
        self.garbage: dict[tuple[bytes | None, bytes | None], str] = {}
        """(key, value) of every record of the journal that nobody can read, with the reason."""
        self.bad_adjustments: dict[tuple[bytes | None, bytes | None], str] = {}
        self._adjusted: list[tuple[str, Adjustment]] = []
        self._numbers = iter(range(1_000_000_000))
        config = {
            "bootstrap.servers": kafka,
            "partitioner": "murmur2_random",
            "message.max.bytes": 2 * UNPACKED_BYTES,
            "compression.type": "zstd",
            "linger.ms": 1,
            "log_level": 0,
            "acks": "all",
        }
        self._plain = Producer(config)
        if transactions:
            self._transactional = Producer(config | {"transactional.id": f"{topics.namespace}-{seed}"})
            self._transactional.init_transactions(30)
        self._kinds = (
            (60, self._new),
            (6, self._again),
            (3, self._differing),
            (4, self._stray),
            (2, self._without_key),
            (3, self._unacceptable),
            (5, self._adjust),
            (3, self._adjust_before),
            (2, self._adjust_again),
            (2, self._adjust_range),
            (3, self._garbage),
            (1, self._bad_adjustment),
            (1, self._stray_cancellation),
            (int(transactions), self._transaction),
        )

    def send(self, count: int) -> None:
        """Send this many things; returns when the broker has them all."""
        self._new()  # so that there is something to send again, or to take back
        weights = [weight for weight, _ in self._kinds]
        for _, kind in self.random.choices(self._kinds, weights, k=count):
            kind()
            self._plain.poll(0)
        self.flush()

    def send_each(self) -> None:
        """One of each kind, so that nothing is left to chance."""
        self.send(0)
        for _, kind in self._kinds:
            kind()
        self._large()
        self.flush()

    def flush(self) -> None:
        assert self._plain.flush(60) == 0, "the broker does not take what is sent"

    # What is sent.

    def event(self, identifier: str | None = None) -> MeterEvent:
        random = self.random
        return MeterEvent(
            identifier or f"e{next(self._numbers)}-{random.randrange(10**9)}",
            random.choice(["calls", "bytes"]),
            f"customer {random.randrange(4)}",
            random.choice([1, 7, -3, 10**12, random.randrange(10**15), VALUE_BOUND - 1]),
            int(time.time() * 1000) - random.randrange(5 * MINUTE_MS),
            random.choice([(), (), (("region", "eu"),), (("a", ""), ("b", "é"))]),
            random.random() < 0.9,
        )

    def _append(self, event: MeterEvent) -> None:
        self._produce(event.identifier.encode(), self.codec.encode_event(event))

    def _produce(self, key: bytes | None, value: bytes | None, partition: int = -1) -> None:
        self._plain.produce(self.topics.journal, value, key, partition)

    def _new(self) -> None:
        self.events.append(self.event())
        self._append(self.events[-1])

    def _again(self) -> None:
        self.repeated.append(self.random.choice(self.events))
        self._append(self.repeated[-1])

    def _differing(self) -> None:
        before = self.random.choice(self.events)
        self._append(before._replace(value=before.value // 2 + 1, customer="somebody else"))

    def _elsewhere(self, identifier: str) -> int:
        home = partition_of(identifier, self.partitions)
        return (home + self.random.randrange(1, self.partitions)) % self.partitions

    def _stray(self) -> None:
        stray = self.event()
        self.events.append(stray)
        self.strays.append(stray)
        key = self.random.choice([None, stray.identifier.encode(), b"another key"])
        self._produce(key, self.codec.encode_event(stray), self._elsewhere(stray.identifier))

    def _without_key(self) -> None:
        self.events.append(self.event())
        self._produce(None, self.codec.encode_event(self.events[-1]), self.random.randrange(self.partitions))

    def _unacceptable(self) -> None:
        change = self.random.choice(
            [
                {"timestamp_ms": int(time.time() * 1000) - 40 * 1440 * MINUTE_MS},
                {"timestamp_ms": int(time.time() * 1000) + 10 * MINUTE_MS},
                {"customer": ""},
                {"identifier": ""},
                {"event_name": "tab\t"},
                {"value": VALUE_BOUND},
            ]
        )
        bad = self.event()._replace(**change)
        self._produce(bad.identifier.encode(), self.codec.encode_event(bad))

    def _stray_cancellation(self) -> None:
        target = self.random.choice(self.events)
        body = Cancellation(
            f"c{next(self._numbers)}", target.event_name, target.livemode, target.identifier, None, target.timestamp_ms
        )
        self.strays_cancelled.add(body.adjustment_id)
        self._produce(None, self.codec.encode_cancellation(body), self._elsewhere(target.identifier))

    def _transaction(self) -> None:
        """Some records together, half of the time in vain."""
        several = [self.event() for _ in range(TRANSACTION_RECORDS)]
        self._transactional.begin_transaction()
        for one in several:
            self._transactional.produce(self.topics.journal, self.codec.encode_event(one), one.identifier.encode())
        if self.random.random() < 0.5:
            self._transactional.commit_transaction(30)
            self.events += several
        else:
            self._transactional.flush(30)  # in the log they stand, for nobody to read
            self._transactional.abort_transaction(30)

    # Adjustments.

    def _send_adjustment(self, adjustment: Adjustment) -> None:
        self._plain.produce(self.topics.adjustments, self.codec.encode_adjustment(adjustment), adjustment.id)

    def _cancel(self, event: MeterEvent) -> None:
        adjustment = Adjustment(f"a{next(self._numbers)}", event.event_name, event.livemode, event.identifier, None)
        self._adjusted.append((event.identifier, adjustment))
        self._send_adjustment(adjustment)

    def _adjust(self) -> None:
        self._cancel(self.random.choice(self.events))

    def _adjust_before(self) -> None:
        """Before its event, which half of the time never comes."""
        coming = self.event()
        self._cancel(coming)
        if self.random.random() < 0.5:
            self.flush()
            self.events.append(coming)
            self._append(coming)

    def _adjust_again(self) -> None:
        """A copy, or another adjustment of the same event."""
        if self._adjusted:
            _, before = self.random.choice(self._adjusted)
            self._send_adjustment(self.random.choice([before, before._replace(id=f"a{next(self._numbers)}")]))

    def _adjust_range(self) -> None:
        start_ms = int(time.time() * 1000) - self.random.randrange(5 * MINUTE_MS)
        wanted = CancellationRange(
            self.random.choice([None, "customer 1"]), start_ms, start_ms + self.random.choice([3_000, 20_000])
        )
        self._adjusted.append(("", Adjustment(f"a{next(self._numbers)}", "calls", True, None, wanted)))
        self._send_adjustment(self._adjusted[-1][1])

    # What nobody can read.

    def _garbage(self) -> None:
        random, mark = self.random, f"{next(self._numbers)}".encode()
        good = self.codec.encode_event(self.event())
        adjustment = self.codec.encode_adjustment(Adjustment(mark.decode(), "calls", True, "x", None))
        value, reason = random.choice(
            [
                (None, "no_value"),
                (b"", "no_value"),
                (b"junk " + mark, "unknown_framing"),
                (b"\x00\x00\x00\x00\x01" + mark, "no_schema_registry"),
                (b"\xc3\x01" + bytes(8) + mark, "unknown_schema"),
                (good + b"!", "trailing_bytes"),
                (good[:-1], "malformed"),
                (adjustment, "wrong_type"),
            ]
        )
        self._bury(random.choice([None, b"", b"key " + mark]), value, reason)

    def _large(self) -> None:
        """As large as Kafka takes: garbage, garbage that becomes that large when it is unpacked, an event."""
        self._bury(b"large", b"junk" + self.random.randbytes(LARGE_BYTES), "unknown_framing")
        self._bury(b"larger", b"junk" + bytes(UNPACKED_BYTES), "unknown_framing")
        endless = self.event()._replace(customer="c" * LARGE_BYTES)
        self._produce(b"", self.codec.encode_event(endless), self._elsewhere(endless.identifier))

    def _bury(self, key: bytes | None, value: bytes | None, reason: str) -> None:
        self.garbage[key, value] = reason
        self._produce(key, value, self.random.randrange(self.partitions))

    def _bad_adjustment(self) -> None:
        mark = f"{next(self._numbers)}"
        event, both = self.codec.encode_event(self.event()), Adjustment(mark, "calls", True, None, None)
        value, reason = self.random.choice(
            [
                (b"junk " + mark.encode(), "unknown_framing"),
                (event, "wrong_type"),
                (self.codec.encode_adjustment(both), "invalid_adjustment"),
            ]
        )
        key = mark.encode()
        self.bad_adjustments[key, value] = reason
        self._plain.produce(self.topics.adjustments, value, key)


@contextmanager
def sending(traffic: Traffic, slices: int, things: int = 40) -> Iterator[threading.Event]:
    """Send in the background for as long as the block runs, and at least this many slices. Gives what stops it."""
    enough = threading.Event()
    failed: list[BaseException] = []

    def send() -> None:
        try:
            sent = 0
            while sent < slices or not enough.wait(0.25):
                traffic.send(things)
                sent += 1
        except BaseException as error:  # raised again where the test sees it
            failed.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield enough
    finally:
        enough.set()
        thread.join()
    if failed:
        raise failed[0]


def assert_each_counts_once(kafka: str, traffic: Traffic, world: World, other: str = "") -> None:
    """Invariants 3 and 4, without the fold: of all records of a good event exactly one counts, or was taken back.

    ``other``: an event name that somebody else sends.
    """
    settled = Counter[Identity]()
    for read in read_topic(kafka, traffic.topics.journal):
        try:
            content = traffic.codec.decode_journal(read.value)
        except UndecodableRecord:
            continue
        one = world.dispositions.get((read.partition, read.offset))
        if isinstance(content, MeterEvent) and (one is None or one.disposition == outcomes.CANCELLED):
            settled[content.identity] += content.event_name != other
    assert +settled == Counter(event.identity for event in traffic.events)
