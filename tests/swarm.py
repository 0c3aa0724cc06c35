"""Random journals of one partition, and what the specification makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from pipeline.codec.records import Codec
from pipeline.domain.events import Cancellation, CancellationRange, Disposition, MeterEvent, SummaryShard
from pipeline.domain.fold import Journal, Record, Undecodable, step
from pipeline.domain.limits import MINUTE_MS, VALUE_BOUND, FoldRules
from pipeline.domain.partitioning import partition_of
from pipeline.domain.state import PlainState
from pipeline.errors import UndecodableRecord

CODEC = Codec()
T0 = 1_700_000_000_000
JOURNAL = Journal(0, 2, FoldRules(max_past_ms=20 * MINUTE_MS, max_ahead_ms=MINUTE_MS, cancel_window_ms=5 * MINUTE_MS))

HOME = [name for name in map(str, range(200)) if partition_of(name, 2) == 0]
AWAY = next(name for name in map(str, range(200)) if partition_of(name, 2) == 1)
VALUES = [0, 1, 2, -1, 10**12, 2**63, -(2**63), 2**64 + 5, VALUE_BOUND - 1, 1 - VALUE_BOUND]
DIMENSIONS = [(), (), (("k", "v"),), (("a", "1"), ("b", ""))]
GARBAGE = [b"", b"junk", CODEC.encode_event(MeterEvent("a", "n", "c1", 1, T0, (), True)) + b"!"]


class Swarm:
    """A random journal. Each seed draws its own weights, some of them zero, so that rare mixtures come up too."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        kinds = [self.tame, self.wild, self.single, self.range, self.garbage]
        self.weights = [60, *(random.choice([0, 0, 5, 15]) for _ in kinds[1:])]
        self.kinds = kinds
        self.pool = HOME[: random.choice([5, 20, 60])]
        self.steps_ms = random.choice(
            [[0], [0, 0, 0, 1, 1000], [0] * 20 + [4 * MINUTE_MS], [0, 1, 1000, -1000], [0] * 10 + [15 * MINUTE_MS]]
        )
        self.now_ms = T0
        self.holes = random.choice([[1], [1, 1, 3]])

    def journal(self) -> list[tuple[bytes, int, int]]:
        """(value, how far the clock moves, how far the offset moves) of each record."""
        random, records = self.random, []
        for _ in range(random.randrange(1, 120)):
            step_ms = random.choice(self.steps_ms)
            self.now_ms += step_ms
            records.append((random.choices(self.kinds, self.weights)[0](), step_ms, random.choice(self.holes)))
        return records

    def schedule(self) -> list[tuple[int, str]]:
        actions = self.random.choice([["flush"], ["go on", "flush", "crash"]])
        return [(self.random.choice([1, 5, 20, 50]), self.random.choice(actions)) for _ in range(20)]

    def event(self) -> MeterEvent:
        random = self.random
        when = self.now_ms + random.randrange(-1, 2) * 20_000
        customer = random.choice(["c1", "c2"])
        return MeterEvent(
            random.choice(self.pool), "n", customer, random.choice(VALUES), when, random.choice(DIMENSIONS), True
        )

    def tame(self) -> bytes:
        return CODEC.encode_event(self.event())

    def wild(self) -> bytes:
        random = self.random
        change = random.choice(
            [
                {"identifier": random.choice([AWAY, "é", "x\u200b", "y" * 101, ""])},
                {"event_name": random.choice(["m", "bad\x01"])},
                {"customer": random.choice(["", "ü", "z" * 101])},
                {"value": VALUE_BOUND},
                {"timestamp_ms": self.now_ms + random.randrange(-30, 6) * MINUTE_MS},
                {"dimensions": tuple((str(n).zfill(2), "v") for n in range(17))},
                {"livemode": False},
            ]
        )
        return CODEC.encode_event(self.event()._replace(**change))

    def single(self) -> bytes:
        random = self.random
        name = random.choice([*self.pool, AWAY])
        return CODEC.encode_cancellation(
            Cancellation(f"s{random.randrange(8)}", random.choice("nnnm"), True, name, None, T0)
        )

    def range(self) -> bytes:
        random = self.random
        start_ms = self.now_ms + random.randrange(-2, 2) * 20_000
        wanted = CancellationRange(random.choice([None, "c1"]), start_ms, start_ms + random.randrange(3) * 20_000)
        requested_at_ms = self.now_ms + random.choice([-1000, 0, 20 * MINUTE_MS])
        return CODEC.encode_cancellation(
            Cancellation(f"r{random.randrange(4)}", "n", True, None, wanted, requested_at_ms)
        )

    def garbage(self) -> bytes:
        return self.random.choice(GARBAGE)


def records(journal: list[tuple[bytes, int, int]]) -> Iterator[tuple[int, int, bytes]]:
    """(offset, appended_at_ms, value): offsets with holes, a clock that sometimes steps back."""
    offset, now = 0, T0
    for body, step_ms, offset_step in journal:
        offset, now = offset + offset_step, now + step_ms
        yield offset, now, body


def specified(journal: list[tuple[bytes, int, int]]) -> tuple[PlainState, list[Disposition], list[SummaryShard]]:
    state, decided = PlainState(), []
    for offset, appended_at_ms, body in records(journal):
        try:
            content = CODEC.decode_journal(body)
        except UndecodableRecord as error:
            content = Undecodable(error.reason)
        decided += step(state, JOURNAL, Record(offset, appended_at_ms, content))
    return state, decided, state.take_shards(0)
