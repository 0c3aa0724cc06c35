"""The audit: fold the journal again, independently of the worker, and compare with everything that is derived from it.

Each partition is one task, on as many processes as there are cores. What the derived sides hold is read first, as of
the offsets that the worker has committed (the cursors); then the journal is folded up to them, and on for as long as
something that was published meanwhile is newer. So an audit is exact while everything runs, without stopping anything.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.clickhouse.connection import Server, connect, translated
from pipeline.clickhouse.tables import derived
from pipeline.codec.records import Codec
from pipeline.domain.fold import Journal
from pipeline.domain.limits import FoldRules
from pipeline.errors import Refusal, Unavailable
from pipeline.kafka.admin import TopicState, describe
from pipeline.kafka.offsets import committed
from pipeline.kafka.topics import Topics
from pipeline.replay.audit_clickhouse import ANSWER_TIMEOUT_S, AuditedTables, Tabled
from pipeline.replay.audit_findings import Compared, Difference, PartitionFindings
from pipeline.replay.audit_partition import Images, PartitionAudit, audit_partition
from pipeline.replay.audit_reading import Bounds, bounds_of

SINK_PATIENCE_S = 120.0
_LOOK_EVERY_S = 0.2


@dataclasses.dataclass(frozen=True, slots=True)
class AuditSources:
    """What is audited, and where it is."""

    kafka: Mapping[str, Any]
    topics: Topics
    rules: FoldRules
    codec: Callable[[], Codec]
    clickhouse: Server | None
    """None: the tables are left out."""
    images: Images | None
    """None: worker states are left out."""


class Standings(NamedTuple):
    """How far everything has come when an audit begins, by partition."""

    cursors: list[int]
    summaries: list[Bounds]
    dispositions: list[Bounds]
    dispositions_kept_ms: int


def audited_partitions(partitions: int, only: Sequence[int], share: float, seed: int) -> list[int]:
    """Which partitions are audited: those named, or a share of all, drawn at random.

    A sample is of whole partitions: whether an event is a duplicate can only be known from all identities before it.
    """
    if only:
        return sorted(set(only))
    count = max(1, round(share * partitions))
    return sorted(random.Random(seed).sample(range(partitions), count))


def journal_of(sources: AuditSources) -> TopicState:
    """The journal, which must be one that can be folded from its start. Raises Refusal."""
    topics = sources.topics
    found = describe(sources.kafka, [topics.journal, topics.summaries, topics.dispositions])
    for name in (topics.journal, topics.summaries, topics.dispositions):
        if name not in found:
            raise Refusal(
                f"there is no topic {name}: without it nothing can be compared. `meterline topics create` makes it;"
                " `meterline rebuild` fills what is derived from the journal"
            )
    journal = found[topics.journal]
    for name in (topics.summaries, topics.dispositions):
        if found[name].partitions != journal.partitions:
            raise Refusal(
                f"{topics.journal} has {journal.partitions} partitions and {name} has {found[name].partitions}: one of"
                " them was changed, identifiers moved to other partitions, and the sums cannot be told any more."
                " `meterline topics check` says what is expected"
            )
    if journal.config.get("message.timestamp.type") != "LogAppendTime":
        raise Refusal(
            f"topic {topics.journal} does not stamp records with its own clock, so folding it again gives other"
            " windows; `meterline topics check` says how to set message.timestamp.type=LogAppendTime"
        )
    return journal


def audit(
    sources: AuditSources, partitions: Sequence[int], journal: TopicState, processes: int
) -> Iterator[PartitionFindings]:
    """The findings of each partition as soon as they are there.

    Raises Refusal when the journal is not whole, Unavailable when something is away or the sink too far behind.
    """
    standings = standings_of(sources, partitions, journal)
    await_sink(sources, partitions)
    tabled = tabled_of(sources, standings)
    yield from strangers(tabled, journal, sources.topics.generation)
    tasks = [task_of(sources, number, journal, standings, tabled) for number in partitions]
    workers = min(processes, len(tasks))
    if workers == 1:
        yield from map(audit_partition, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
        futures = [pool.submit(audit_partition, task) for task in tasks]
        try:
            for future in concurrent.futures.as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def tabled_of(sources: AuditSources, standings: Standings) -> Tabled:
    """The digests of ClickHouse's tables; none when they are left out."""
    if sources.clickhouse is None:
        return Tabled({}, {})
    with translated(sources.clickhouse), connect(sources.clickhouse, answer_timeout_s=ANSWER_TIMEOUT_S) as client:
        tables = AuditedTables(client, sources.topics.generation)
        return Tabled(tables.days(standings.cursors), tables.buckets(standings.cursors))


def strangers(tabled: Tabled, journal: TopicState, generation: int) -> Iterator[PartitionFindings]:
    """Rows in ClickHouse of partitions that the journal does not have."""
    for name, parts in (("summary_shards", tabled.days), ("dispositions", tabled.buckets)):
        where = f"ClickHouse {derived(name, generation)}"
        for number in sorted({partition for partition, _ in parts if partition >= journal.partitions}):
            rows = sum(one.size + len(one.late) for (partition, _), one in parts.items() if partition == number)
            side = Compared(where, 0, items=rows)
            what = f"{rows} rows of partition {number}, which the journal does not have"
            side.differ(Difference(where, number, "unexpected", what))
            yield PartitionFindings(number, compared=[side])


def task_of(
    sources: AuditSources, number: int, journal: TopicState, standings: Standings, tabled: Tabled
) -> PartitionAudit:
    return PartitionAudit(
        kafka=sources.kafka,
        topics=sources.topics,
        topic_id=journal.topic_id,
        journal=Journal(number, journal.partitions, sources.rules),
        codec=sources.codec,
        cursor=standings.cursors[number],
        summaries_end=standings.summaries[number].end,
        dispositions=standings.dispositions[number],
        dispositions_kept_ms=standings.dispositions_kept_ms,
        images=sources.images,
        clickhouse=sources.clickhouse,
        tabled=tabled.of(number),
    )


def standings_of(sources: AuditSources, partitions: Sequence[int], journal: TopicState) -> Standings:
    """First the cursors, then the ends: what is published below a cursor lies in front of the end."""
    topics, config = sources.topics, sources.kafka
    places = [(topics.journal, number) for number in range(journal.partitions)]
    done = committed(config, topics.worker_group, places)
    cursors = [done.get(place, 0) for place in places]
    journal_bounds = bounds_of(config, topics.journal, journal.partitions)
    summaries, dispositions = (
        bounds_of(config, topic, journal.partitions) for topic in (topics.summaries, topics.dispositions)
    )
    for number in partitions:
        _check_whole(topics.journal, number, journal_bounds[number], cursors[number])
    kept = describe(config, [topics.dispositions])[topics.dispositions].config["retention.ms"]
    return Standings(cursors, summaries, dispositions, int(kept))


def _check_whole(topic: str, number: int, bounds: Bounds, cursor: int) -> None:
    if bounds.first > 0:
        raise Refusal(
            f"partition {number} of {topic} begins at offset {bounds.first}: older usage was deleted from the journal,"
            " so its sums cannot be computed again, only believed. Restore the topic; what stands in ClickHouse stays"
            " as it is. `meterline audit --partition N` audits the partitions that are whole"
        )
    if cursor > bounds.end:
        raise Refusal(
            f"partition {number} of {topic} ends at offset {bounds.end}, but the worker has folded up to {cursor}: the"
            " journal lost its newest records, and what they said stands published. Restore the brokers' data; if it"
            " is gone, `meterline rebuild` computes everything from what is left"
        )


def await_sink(sources: AuditSources, partitions: Sequence[int]) -> None:
    """Wait until ClickHouse has every shard that is published now, if anybody is going to look there.

    Raises Unavailable when that takes too long.
    """
    if sources.clickhouse is None:
        return
    topics = sources.topics
    for topic in (topics.summaries, topics.dispositions):
        count = describe(sources.kafka, [topic])[topic].partitions
        goals = {(topic, number): one.end for number, one in enumerate(bounds_of(sources.kafka, topic, count))}
        deadline = time.monotonic() + SINK_PATIENCE_S
        while behind := _behind(sources, goals, partitions):
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the sink is {behind:,} records of {topic} behind: ClickHouse does not hold yet what it is"
                    " compared with. `meterline status` tells why; `meterline audit --skip-clickhouse` audits the rest"
                )
            time.sleep(_LOOK_EVERY_S)


def _behind(sources: AuditSources, goals: Mapping[tuple[str, int], int], partitions: Sequence[int]) -> int:
    wanted = {place: end for place, end in goals.items() if place[1] in partitions and end > 0}
    done = committed(sources.kafka, sources.topics.sink_group, wanted)
    return sum(max(0, end - done.get(place, 0)) for place, end in wanted.items())
