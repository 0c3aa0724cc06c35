"""A seed's plan: the shape of a world and the steps that are taken in it. Data alone, so that steps can be left out.

Every seed draws its own weights, some of them zero (a swarm), so that rare mixtures of faults come up too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline.domain.limits import MINUTE_MS, FoldRules
from tests.simulation.chance import Stream

RULES = FoldRules(max_past_ms=20 * MINUTE_MS, max_ahead_ms=MINUTE_MS, cancel_window_ms=5 * MINUTE_MS)
TRAFFIC_S = 5.0
"""How long steps are taken; afterwards the world heals."""

EFFECTS = (
    "publish",
    "hand over",
    "flush",
    "write",
    "store write",
    "route",
    "open",
    "take_over",
    "topic",
    "checkpoint",
    "keep",
    "commit",
)
SINK_EFFECTS = ("read", "insert", "commit")


OPERATED = 0.08
SCRIPTS = (
    ("rebuild",),
    ("rebuild", "rollback"),
    ("rebuild", "drop"),
    ("tables",),
    ("rebuild", "tables"),
    ("rebuild", "rollback", "drop", "rebuild"),
)
OPERATOR_EFFECTS = (
    "append",
    "prepare",
    "members",
    "shown",
    "show",
    "beside",
    "committed",
    "sleep",
    "tend",
    "delete",
    "drop tables",
    "want filled",
    "ends",
    "left",
)


class Step(NamedTuple):
    """One thing that is done to the world at a virtual moment."""

    at: float
    kind: str
    args: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.at:6.3f} {self.kind} {' '.join(map(repr, self.args))}"


class Shape(NamedTuple):
    """What stays the same for a whole run."""

    partitions: int
    workers: int
    sinks: int
    event_log: bool
    snapshots: bool
    by_columns: bool
    """Whether the fold and the sink go by columns where a batch has a few records, as in production thousands."""
    batch_records: int
    flush_every_ms: int
    flush_records: int
    snapshot_every_ms: int
    insert_rows: int
    holes: float
    commits_lost: float
    script: tuple[str, ...]
    """What an operator does, one after the other: rebuild, rollback, drop, tables (filled once more)."""
    unsure: float
    """How often a producer does not learn that a record was taken, and sends it again."""
    tick_ms: int
    """How fine the clocks are. With minutes many a record comes in the last moment of a window."""


class Plan(NamedTuple):
    seed: int
    shape: Shape
    steps: tuple[Step, ...]
    chance: int
    """The seed of all that is drawn while it runs: how long things take, what is lost."""


def plan_of(seed: int) -> Plan:
    """The plan of a seed."""
    random = Stream(f"plan {seed}")
    shape = Shape(
        partitions=random.choice((1, 2, 2, 3)),
        workers=random.choice((1, 2, 2, 3)),
        sinks=random.choice((0, 0, 0, 1, 2)),
        event_log=random.random() < 0.15,
        snapshots=random.random() < 0.7,
        by_columns=random.random() < 0.06,
        batch_records=random.choice((1, 4, 12)),
        flush_every_ms=random.choice((20, 100, 400)),
        flush_records=random.choice((2, 8, 1000)),
        snapshot_every_ms=random.choice((300, 1000)),
        insert_rows=random.choice((3, 1000)),
        holes=random.choice((0.0, 0.0, 0.2)),
        commits_lost=random.choice((0.0, 0.2, 0.6)),
        script=random.choice(SCRIPTS) if random.random() < OPERATED else (),
        unsure=random.choice((0.0, 0.1)),
        tick_ms=random.choice((1, 1, MINUTE_MS)),
    )
    if shape.script:  # a rebuild compares tables, and copies a whole journal
        shape = shape._replace(sinks=max(1, shape.sinks), batch_records=12)
    drawn = _Steps(random, shape)
    steps = drawn.traffic() + drawn.faults() + _Steps(Stream(f"operator {seed}"), shape).operated()
    return Plan(seed, shape, tuple(sorted(steps, key=lambda step: step.at)), seed)


class _Steps:
    """Draws the steps of one plan."""

    def __init__(self, random: Stream, shape: Shape) -> None:
        self.random = random
        self.shape = shape
        self.hosts = [f"worker-{number}" for number in range(shape.workers)]
        self.names = [f"e{number}" for number in range(random.choice((4, 12, 40)))]

    def at(self) -> float:
        return round(self.random.uniform(0.0, TRAFFIC_S), 3)

    def traffic(self) -> list[Step]:
        random = self.random
        kinds = {
            "event": 60,
            "wild": random.choice((0, 0, 6)),
            "stray": random.choice((0, 0, 8)),
            "cancel": random.choice((0, 12)),
            "range": random.choice((0, 0, 8)),
            "garbage": random.choice((0, 0, 4)),
            "bad_adjustment": random.choice((0, 0, 3)),
            "copy": random.choice((0, 0, 4)),
        }
        count = random.choice((8, 25, 50))
        # Bursts: records that come together are folded together.
        moments = [self.at() for _ in range(random.choice((3, count)))]
        drawn = random.choices(list(kinds), list(kinds.values()), k=count)
        return [Step(random.choice(moments), kind, getattr(self, "_" + kind)()) for kind in drawn]

    def _event(self) -> tuple[Any, ...]:
        random = self.random
        return (
            random.choice(self.names),
            random.choice("nnnm"),
            random.choice(("c1", "c1", "c2")),
            random.choice((1, 2, 5, -1, 0, 10**12, 3 * 10**20)),
            random.choice((0, 0, 0, 1, 2, 45)) * 20_000 - 20_000,
            random.choice(((), (), (("k", "v"),))),
            random.random() < 0.9,
        )

    def _wild(self) -> tuple[Any, ...]:
        random = self.random
        change = random.choice(
            (
                ("identifier", random.choice(("", "x" * 101, "a\u200bb", "é"))),
                ("event_name", random.choice(("", "bad\x01"))),
                ("customer", random.choice(("", "z" * 101, "ü"))),
                ("value", random.choice((10**38, 1 - 10**38))),
                ("timestamp_ms", random.choice((-21, -20, 1, 2)) * MINUTE_MS),
                ("dimensions", tuple((str(n).zfill(2), "v") for n in range(17))),
            )
        )
        return (*self._event(), change)

    def _stray(self) -> tuple[Any, ...]:
        return (self.random.choice(("event", "event", "unkeyed", "cancel")), *self._event(), self.random.randrange(8))

    def _cancel(self) -> tuple[Any, ...]:
        random = self.random
        return (f"a{random.randrange(12)}", random.choice(self.names), random.choice("nnnm"), random.random() < 0.9)

    def _range(self) -> tuple[Any, ...]:
        random = self.random
        if random.random() < 0.3:  # all there is
            return (f"r{random.randrange(1000)}", "n", None, -60 * MINUTE_MS, 90 * MINUTE_MS)
        start = random.choice((-2, -1, 0, 1)) * 20_000
        # An id is one request: a copy of it says the same.
        return (
            f"r{random.randrange(1000)}",
            "n",
            random.choice((None, "c1")),
            start,
            random.choice((1, 2, 60)) * 20_000,
        )

    def _garbage(self) -> tuple[Any, ...]:
        return (self.random.choice((None, b"", b"junk", b"\xc3\x01torn")), self.random.randrange(8))

    def _bad_adjustment(self) -> tuple[Any, ...]:
        return (self.random.choice(("junk", "both", "name", "cancellation", "range")),)

    def _copy(self) -> tuple[Any, ...]:
        """A record of the journal once more, as it stands, into the same partition."""
        return (self.random.randrange(10**6),)

    # Faults.

    def faults(self) -> list[Step]:
        random = self.random
        kinds = {
            "kill": random.choice((0, 6)),
            "kill_at": random.choice((0, 10)),
            "freeze": random.choice((0, 6)),
            "freeze_at": random.choice((0, 8)),
            "rebalance": random.choice((0, 6)),
            "storm": random.choice((0, 0, 3)),
            "stop": random.choice((0, 3)),
            "join": random.choice((0, 2)),
            "skew": random.choice((0, 4)),
            "leap": random.choice((0, 0, 5)),
            "leader": random.choice((0, 4)),
            "lose_disk": random.choice((0, 3)),
            "lose_commits": random.choice((0, 0, 1)),
            "damage_snapshot": random.choice((0, 2)) if self.shape.snapshots else 0,
            "gives_up": random.choice((0, 2)),
            "database_away": random.choice((0, 2)) if self.shape.sinks else 0,
            "database_unsure": random.choice((0, 2)) if self.shape.sinks else 0,
            "kill_sink": random.choice((0, 4)) if self.shape.sinks else 0,
            "freeze_sink": random.choice((0, 3)) if self.shape.sinks else 0,
            "retention": random.choice((0, 0, 0, 4)),
            "compact": random.choice((0, 0, 2)),
            "kill_operator": random.choice((0, 10)) if self.shape.script else 0,
            "kill_crew": random.choice((0, 6)) if self.shape.script else 0,
        }
        if not any(kinds.values()):
            return []
        count = random.choice((0, 2, 5, 10))
        drawn = random.choices(list(kinds), list(kinds.values()), k=count)
        return [Step(self.at(), kind, getattr(self, "_" + kind, self._nothing)()) for kind in drawn]

    def operated(self) -> list[Step]:
        """Kills of who rebuilds, and of his crew: a command makes hundreds of calls, and each is a place to die at."""
        if not self.shape.script:
            return []
        kills = [("kill_operator", self._kill_operator)] * self.random.choice((0, 4, 8))
        kills += [("kill_crew", self._kill_crew)] * self.random.choice((0, 0, 2))
        return [Step(self.at(), kind, draw()) for kind, draw in kills]

    def _nothing(self) -> tuple[Any, ...]:
        return ()

    def _kill(self) -> tuple[Any, ...]:
        return (self.random.choice(self.hosts), self._pause())

    def _pause(self) -> float:
        return self.random.choice((0.05, 0.5, 4.0))

    def _kill_at(self) -> tuple[Any, ...]:
        return (*self._effect_of(self._worker_or_sink()), self.random.randint(1, 3), self._pause())

    def _kill_operator(self) -> tuple[Any, ...]:
        random = self.random
        effect, when = random.choice(OPERATOR_EFFECTS), random.choice(("before", "after"))
        return ("operator", effect, when, random.choice((1, 1, 2, 3, 10, 30)), random.choice((0.1, 3.0, 8.0)))

    def _kill_crew(self) -> tuple[Any, ...]:
        one = self.random.choice(("crew-0", "crew-1", "crew-sink"))
        return (*self._effect_of(one), self.random.randint(1, 4), None)

    def _freeze(self) -> tuple[Any, ...]:
        return (self.random.choice(self.hosts), self.random.choice((0.2, 1.0, 4.0, 6.0)))

    def _freeze_at(self) -> tuple[Any, ...]:
        random = self.random
        return (*self._effect_of(self._worker_or_sink()), random.randint(1, 3), random.choice((1.0, 4.0, 6.0)))

    def _worker_or_sink(self) -> str:
        if self.shape.sinks and self.random.random() < 0.3:
            return f"sink-{self.random.randrange(self.shape.sinks)}"
        return self.random.choice(self.hosts)

    def _effect_of(self, host: str) -> tuple[str, str, str]:
        """(host, one of the effects that it has, before or after)"""
        effects = SINK_EFFECTS if "sink" in host else EFFECTS
        return host, self.random.choice(effects), self.random.choice(("before", "after"))

    def _storm(self) -> tuple[Any, ...]:
        return (self.random.choice((3, 8)), self.random.choice((0.02, 0.08, 0.3)))

    def _stop(self) -> tuple[Any, ...]:
        return (self.random.choice(self.hosts), self._pause())

    def _skew(self) -> tuple[Any, ...]:
        random = self.random
        return (random.randrange(8), random.choice((-120_000, -7_000, -1, 1, 40_000, 240_000)))

    def _leap(self) -> tuple[Any, ...]:
        return (self.random.choice((4, 5, 6, 20, 21, 22, 23, 60)) * MINUTE_MS,)

    def _leader(self) -> tuple[Any, ...]:
        return (self.random.randrange(8), self.random.choice((0.3, 2.0)), self.random.choice((-500, 0, 300)))

    def _lose_disk(self) -> tuple[Any, ...]:
        return (self.random.choice(self.hosts), self._pause())

    def _gives_up(self) -> tuple[Any, ...]:
        return (self.random.choice(self.hosts),)

    def _database_away(self) -> tuple[Any, ...]:
        return (self.random.choice((0.5, 3.0)),)

    _database_unsure = _database_away

    def _kill_sink(self) -> tuple[Any, ...]:
        return (f"sink-{self.random.randrange(self.shape.sinks)}", self._pause())

    def _freeze_sink(self) -> tuple[Any, ...]:
        return (f"sink-{self.random.randrange(self.shape.sinks)}", self.random.choice((1.0, 4.0, 6.0)))

    def _compact(self) -> tuple[Any, ...]:
        return (self.random.randrange(8), self.random.random())

    def _retention(self) -> tuple[Any, ...]:
        return (self.random.randrange(8), self.random.random())
