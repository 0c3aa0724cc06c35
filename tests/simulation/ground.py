"""The ground of generations (``pipeline/replay/ground.py``) as models have it: ledger, topics, groups and tables.

What decides stays the real thing: which steps follow, how far a generation has come, when two of them are equal, and
whether one may be dropped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.clickhouse import tables
from pipeline.domain.generations import LIVE, Generation, Generations, generations_of
from pipeline.errors import Refusal
from pipeline.kafka.admin import TopicState
from pipeline.kafka.offsets import Noted
from pipeline.kafka.topics import Topics, topics_of_generation
from pipeline.replay.beside import Key, Pair, Side
from pipeline.replay.coverage import Coverage, Cursors
from pipeline.replay.ground import Ground
from tests.simulation.broker import Place
from tests.simulation.checks import hold

if TYPE_CHECKING:
    from tests.simulation.world import World

Row = dict[str, Any]


class SimLedger:
    """``pipeline.kafka.generations.GenerationLedger``"""

    def __init__(self, world: World) -> None:
        self._world = world
        self.steps: list[Generation] = []

    def read(self) -> Generations:
        return generations_of(self.steps)

    def end(self) -> int:
        return len(self.steps)

    def append(self, number: int, state: str, journal: int, partitions: int, fold: str) -> Generations:
        self._world.loop.effect("append", "before")
        step = Generation(number, state, journal, partitions, fold, 0)
        if not self.read().allows(step):
            raise Refusal(f"void: {step}")
        self.steps.append(step)
        self._world.trace.say(self._world.loop.now, "ledger", state, number)
        self._world.loop.effect("append", "after")
        return self.read()


class SimGround:
    """``pipeline.replay.ground.Ground``; every call may be its caller's last."""

    drop = Ground.drop
    _check_taken_over = Ground._check_taken_over

    def __init__(self, world: World) -> None:
        self._world = world
        self.ledger = world.ledger

    def _at(self, name: str) -> contextlib.AbstractContextManager[None]:
        return effect(self._world, name)

    def topics(self, generation: Generation) -> Topics:
        return topics_of_generation(self._world.topics.namespace, generation)

    def known(self, fold: str) -> Generations:
        found = self.ledger.read()
        live = found.live
        return found if live.fold else self.ledger.append(live.number, LIVE, live.journal, self._partitions, fold)

    @property
    def _partitions(self) -> int:
        return self._world.plan.shape.partitions

    def prepare(self, generation: Generation) -> None:
        with self._at("prepare"):
            topics = self.topics(generation)
            for topic in (topics.summaries, topics.dispositions):
                self._world.broker.create(topic, self._partitions)
            self._world.checks.watch(topics)

    def coverage(self, generation: Generation) -> SimCoverage:
        return SimCoverage(self._world, self.topics(generation), generation.partitions)

    def members(self, group: str) -> int:
        with self._at("members"):
            return len(self._world.group(group).members)

    def lag_reader(self) -> SimLagReader:
        return SimLagReader(self._world)

    filling_group = "sim-sink-tables"

    def restore_tables(self, live: Generation) -> None:
        """A table of the model is there as soon as rows come."""

    def want_filled(self, live: Generation) -> None:
        with self._at("want filled"):
            self.delete((), [self.filling_group])

    def reopen(self, topic: str) -> None:
        """It was never closed: no journal is made anew here."""

    def shown(self) -> int:
        with self._at("shown"):
            self._world.database.ask()
            return self._world.database.shown

    def show(self, generation: Generation) -> None:
        with self._at("show"):
            database = self._world.database
            database.ask()
            if database.shown != generation.number:
                _check_no_step_back(
                    database.final_of("summary_shards", database.shown),
                    database.final_of("summary_shards", generation.number),
                )
            database.shown = generation.number
            self._world.trace.say(self._world.loop.now, "views", "show", generation.number)

    @contextlib.contextmanager
    def beside(self, before: Generation, after: Generation) -> Iterator[SimBeside]:
        with self._at("beside"):
            yield SimBeside(self._world, before.number, after.number)

    def noted(self, generation: Generation, places: list[Place]) -> dict[Place, Noted]:
        return self._world.noted(self.topics(generation).worker_group, places)

    def journal(self, generation: Generation) -> TopicState | None:
        name = self.topics(generation).journal
        return self._world.broker.describe([name]).get(name)

    def newest_records(self, generation: Generation) -> dict[int, tuple[int, int]]:
        """As the tables tell it: of a journal that was never made anew here."""
        self._world.database.ask()
        rows = self._world.database.final_of("summary_shards", generation.number).values()
        found: dict[int, tuple[int, int]] = {}
        for row in rows:
            if row["count"]:
                newest = row["latest_offset"], row["latest_appended_at"]
                found[row["shard"]] = max(found.get(row["shard"], newest), newest)
        return found

    def partitions(self, generation: Generation) -> int:
        return self._partitions

    def appended_at(self, generation: Generation, partition: int, offset: int) -> int | None:
        log = self._world.broker.logs[self.topics(generation).journal, partition]
        return next((one.appended_at_ms for one in log.records if one.offset == offset), None)

    def put_back(self, generation: Generation, places: dict[Place, Noted]) -> None:
        hold("8 fail closed", not places, "nothing is lost here, but", places, "is to be put back")

    def delete(self, topics: Sequence[str], groups: Sequence[str]) -> None:
        with self._at("delete"):
            for group in groups:
                if self._world.group(group).members:
                    raise Refusal(f"somebody is in {group}")
                self._world.groups.pop(group)
                self._world.checks.forget_commits(group)
            self._world.broker.deleted |= set(topics)

    def drop_tables(self, generation: Generation, *, log: bool) -> None:
        with self._at("drop tables"):
            for name in tables.DERIVED:
                self._world.database.rows.pop(tables.derived(name, generation.number), None)


@contextlib.contextmanager
def effect(world: World, name: str) -> Iterator[None]:
    world.loop.effect(name, "before")
    yield
    world.loop.effect(name, "after")


def _check_no_step_back(before: dict[Any, Row], after: dict[Any, Row]) -> None:
    """A reader of the views never sees an older state of a tally after a newer one."""
    for key, row in before.items():
        version = after[key]["version"] if key in after else -1
        hold(
            "7 what is served", version >= row["version"], "the views step back at", key, row["version"], "to", version
        )


class SimCoverage(Coverage):
    """``pipeline.replay.coverage.Coverage``, asking models."""

    def __init__(self, world: World, topics: Topics, partitions: int) -> None:
        super().__init__({}, topics, partitions)
        self._world = world

    def _committed(self, group: str, places: Iterable[Place]) -> dict[Place, int]:
        with effect(self._world, "committed"):
            return {place: self._world.group(group).committed[place] for place in places}

    def _ends(self, places: list[Place]) -> dict[Place, int]:
        return {place: self._world.broker.logs[place].end for place in places}

    def _starts(self, places: list[Place]) -> dict[Place, int]:
        return {place: self._world.broker.logs[place].first for place in places}


class SimLagReader:
    """``pipeline.kafka.lag.LagReader``, as far as the operator's steps need one."""

    def __init__(self, world: World) -> None:
        self._world = world

    def ends(self, topics: Iterable[str]) -> dict[Place, int]:
        with effect(self._world, "ends"):
            logs = self._world.broker.logs
            return {place: log.end for place, log in logs.items() if place[0] in topics}

    def left(self, group: str, ends: Mapping[Place, int]) -> int:
        with effect(self._world, "left"):
            logs, committed = self._world.broker.logs, self._world.group(group).committed
            return sum(max(0, end - max(committed[place], logs[place].first)) for place, end in ends.items())


class SimBeside:
    """``pipeline.replay.beside.Beside``"""

    def __init__(self, world: World, before: int, after: int) -> None:
        self._database = world.database
        self._numbers = before, after

    def _rows(self, name: str) -> list[dict[Any, Row]]:
        self._database.ask()
        return [self._database.final_of(name, number) for number in self._numbers]

    def rows(self) -> tuple[int, int]:
        before, after = map(len, self._rows("summary_shards"))
        return before, after

    def pairs(self, slices: int, meanwhile: Callable[[], None]) -> Iterator[Pair]:
        for _ in range(slices):
            meanwhile()
            before, after = self._rows("summary_shards")
            for key in {**before, **after}:
                one, other = before.get(key, {}), after.get(key, {})
                versions = one.get("version", -1), other.get("version", -1)
                differs = _content(one) != _content(other)
                if differs or versions[0] != versions[1]:
                    yield Pair(Key(*key), versions, _side(one), _side(other), differs)

    def dispositions(self, cut: Cursors) -> list[tuple[str, str, int]]:
        before, after = self._rows("dispositions")
        found = []
        for place in {**before, **after}:
            one, other = before.get(place, {}), after.get(place, {})
            newest = max(place[1], one.get("decided_offset", 0), other.get("decided_offset", 0))
            if newest < cut[place[0]] and _word(one) != _word(other):
                found.append((_word(one), _word(other), 1))
        return found


def _content(row: Row) -> list[Any] | None:
    return [value for name, value in sorted(row.items()) if name != "version"] if row.get("count") else None


def _side(row: Row) -> Side:
    return Side(row.get("count", 0), row.get("sum", 0))


def _word(row: Row) -> str:
    return f"{row['record']} {row['disposition']} {row['reason']}" if row else ""
