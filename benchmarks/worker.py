"""One worker process from the topic to acknowledged shards and a written cursor."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec


def committed(kafka: dict[str, str], group: str, topic: str, partitions: int) -> int:
    """Sum of a group's committed offsets."""
    admin = AdminClient({**kafka, "log_level": 0})
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, n) for n in range(partitions)])
    result = next(iter(admin.list_consumer_group_offsets([wanted]).values())).result()
    return sum(max(0, place.offset) for place in result.topic_partitions)


def ends(kafka: dict[str, str], topic: str, partitions: int) -> int:
    admin = AdminClient({**kafka, "log_level": 0})
    wanted = {TopicPartition(topic, n): OffsetSpec.latest() for n in range(partitions)}
    return sum(future.result().offset for future in admin.list_offsets(wanted).values())


def run_worker(
    kafka: dict[str, str], namespace: str, partitions: int, extra: dict[str, str] | None = None
) -> dict[str, Any]:
    """Start a worker on a journal that is full, and measure it until it has committed all of it.

    CPU and wall time are taken from the moment its partitions are open to the last commit.
    """
    journal, group = f"{namespace}.meter-events", f"{namespace}-worker"
    goal = ends(kafka, journal, partitions)
    start_at = committed(kafka, group, journal, partitions)
    with tempfile.TemporaryDirectory() as state:
        environ = {
            **os.environ,
            "METERLINE_KAFKA": kafka["bootstrap.servers"],
            "METERLINE_NAMESPACE": namespace,
            "METERLINE_STATE": state,
            **(extra or {}),
        }
        log_path = Path(state) / "log"
        with log_path.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.cli", "worker"], env=environ, stderr=log, stdout=log
            )
        try:
            seen = psutil.Process(process.pid)
            while "took over" not in log_path.read_text():
                assert process.poll() is None, log_path.read_text()
                time.sleep(0.02)
            wall, cpu = time.monotonic(), sum(seen.cpu_times()[:2])
            while committed(kafka, group, journal, partitions) < goal:
                assert process.poll() is None, log_path.read_text()
                time.sleep(0.2)
            wall, cpu = time.monotonic() - wall, sum(seen.cpu_times()[:2]) - cpu
            memory = seen.memory_info().rss
        finally:
            process.kill()
            process.wait()
    records = goal - start_at
    return {
        "records": records,
        "wall_s": wall,
        "cpu_s": cpu,
        "per_s": records / wall,
        "per_cpu_s": records / cpu,
        "rss_mb": memory / 2**20,
    }


def run_bare(kafka: dict[str, str], topic: str, partitions: int) -> dict[str, Any]:
    """A bare confluent-kafka loop over the same topic: what reading alone costs."""
    consumer = Consumer({**kafka, "group.id": "bare", "enable.auto.commit": False, "log_level": 0})
    goal = ends(kafka, topic, partitions)
    consumer.assign([TopicPartition(topic, n, 0) for n in range(partitions)])
    wall, cpu, seen = time.monotonic(), time.process_time(), 0
    while seen < goal:
        for message in consumer.consume(5_000, 0.5):
            message.value()
            message.key()
            seen += 1
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    consumer.close()
    return {"records": seen, "wall_s": wall, "cpu_s": cpu, "per_s": seen / wall, "per_cpu_s": seen / cpu}
