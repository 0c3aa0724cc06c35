"""One worker process, from a full journal to acknowledged shards and a durable cursor, beside a bare consumer."""

from __future__ import annotations

from typing import Any

from confluent_kafka import Consumer, TopicPartition

from benchmarks.figures import RATIO, Figure, Outcome, Target, agreed
from benchmarks.measuring import Moment, Rate
from benchmarks.published import usage_published
from benchmarks.stage import PARTITIONS, Deployment, Progress, Stage
from benchmarks.workload import HOT, WIDE, Shape, Usage, write_journal

_PER_CPU_S = {HOT.name: 200_000.0, WIDE.name: 90_000.0}
_WALL_SHARE = 0.6
"""Of the target per CPU-second, to be reached per second of wall time."""


def hot(stage: Stage, records: int) -> Outcome:
    return _measure(stage, HOT, records)


def wide(stage: Stage, records: int) -> Outcome:
    return _measure(stage, WIDE, records)


def _measure(stage: Stage, shape: Shape, records: int) -> Outcome:
    name = f"worker {shape.name}"
    with stage.deployment(shape.name) as deployment:
        deployment.say(f"{name}: writing {records:,} records")
        usage = write_journal(deployment.config, deployment.topics.journal, shape, records)
        deployment.say(f"{name}: folding")
        folded = _fold(deployment)
        deployment.say(f"{name}: a bare consumer over the same topic")
        bare = bare_consumer(deployment.config, deployment.topics.journal)
        deployment.say(f"{name}: checking the sums")
        exact = check_published(deployment, usage)
    target = _PER_CPU_S[shape.name]
    figures = [
        *folded.figures(name, "folded", Target(_WALL_SHARE * target), Target(target)),
        *bare.figures(name, "bare consumer"),
        Figure(name, "worker to bare, wall", folded.per_s / bare.per_s, RATIO),
        Figure(name, "worker to bare, CPU", folded.per_cpu_s / bare.per_cpu_s, RATIO),
    ]
    return Outcome(figures, exact)


def _fold(deployment: Deployment) -> Rate:
    """Measured from the moment the worker's partitions are open until all is committed.

    Kafka hears of the cursor once a second, so that up to a second of the wall time is waiting.
    """
    progress = Progress(deployment, "worker", deployment.topics.journal)
    with deployment.run("worker") as worker:
        worker.await_log("took over")
        start = Moment.now(worker.pid)
        progress.await_end(worker)
        rate = start.until(Moment.now(worker.pid), progress.end())
    progress.close()
    return rate


def bare_consumer(kafka: dict[str, Any], topic: str) -> Rate:
    """The cost of reading alone: confluent-kafka in a loop that looks at every key and value."""
    consumer = Consumer({**kafka, "group.id": "bare", "enable.auto.commit": False})
    places = [TopicPartition(topic, number, 0) for number in range(PARTITIONS)]
    goal = sum(consumer.get_watermark_offsets(place, timeout=30)[1] for place in places)
    consumer.assign(places)
    seen, start = 0, Moment.now()
    while seen < goal:
        for message in consumer.consume(5_000, 0.5):
            message.value()
            message.key()
            seen += 1
    rate = start.until(Moment.now(), seen)
    consumer.close()
    return rate


def check_published(deployment: Deployment, usage: Usage) -> dict[str, int]:
    """The published shards are the workload, customer by customer."""
    found, expected = usage_published(deployment.config, deployment.topics.summaries), usage.by_customer()
    differing = [
        customer for customer in found.keys() | expected.keys() if found.get(customer) != expected.get(customer)
    ]
    assert not differing, f"{len(differing)} customers differ, for example {sorted(differing)[:3]}"
    return {
        **agreed("events", sum(count for count, _ in found.values()), usage.count),
        **agreed("sum", sum(units for _, units in found.values()), usage.units),
    }
