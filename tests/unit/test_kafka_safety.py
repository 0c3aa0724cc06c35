"""What the invariants stand on is in force in every producer, whatever its user asks for: C2, C6."""

from __future__ import annotations

import ast
import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException

import pipeline
from pipeline.kafka import acknowledged, producer
from pipeline.kafka.acknowledged import Acknowledged
from pipeline.kafka.producer import Publisher

NOWHERE = {"bootstrap.servers": "127.0.0.1:9"}
UNSAFE = {"enable.idempotence": False, "acks": "1", "partitioner": "consistent"}

Make = Callable[[Mapping[str, Any]], Any]


def acknowledging(config: Mapping[str, Any]) -> Acknowledged:
    async def made() -> Acknowledged:
        return Acknowledged(config)

    return asyncio.run(made())


BOTH = pytest.mark.parametrize("make", [Publisher, acknowledging])


@BOTH
def test_c2_c6_what_a_producer_is_made_with_cannot_be_made_unsafe(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acknowledged by all replicas, repeated without copies, in the partition where everybody looks."""
    built: list[dict[str, Any]] = []
    for module in (producer, acknowledged):
        monkeypatch.setattr(module, "Producer", built.append)
    told = {"delivery.report.only.error": make is not Publisher, "default.topic.config": {"partitioner": "random"}}
    make({**NOWHERE, **UNSAFE, **told, "linger.ms": 77})
    (config,) = built
    assert (config["acks"], config["enable.idempotence"]) == ("all", True)
    assert config["partitioner"] == "murmur2_random"
    assert config["delivery.report.only.error"] is (make is Publisher), "who waits for a success has to hear of it"
    assert config["linger.ms"] == 77, "the rest may be overridden"
    assert "default.topic.config" not in config


@BOTH
@pytest.mark.parametrize(
    "config",
    [{}, {"request.required.acks": 1}, {"default.topic.config": {"acks": "0"}}, {"default.topic.config": UNSAFE}],
)
def test_c2_c6_librdkafka_itself_says_the_same(make: Make, config: dict[str, Any]) -> None:
    said: list[str] = []

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage().rpartition("]:")[2].strip())

    logger = logging.getLogger(f"librdkafka-{make}-{config}")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(Heard())
    made = make({**NOWHERE, **config, "debug": "conf", "log_level": 7, "logger": logger})
    made._producer.poll(0)
    assert {"enable.idempotence = true", "request.required.acks = -1", "partitioner = murmur2_random"} <= set(said)


@BOTH
@pytest.mark.parametrize("config", [{"max.in.flight": 100}, {"retries": 0}, {"queuing.strategy": "lifo"}])
def test_c6_what_would_undo_idempotence_makes_no_producer(make: Make, config: dict[str, Any]) -> None:
    with pytest.raises(KafkaException, match=r"when `enable.idempotence` is true"):
        make({**NOWHERE, **config})


def test_c2_c6_no_other_producer_is_made() -> None:
    """But transactional ones, which librdkafka makes idempotent and has acknowledged by all."""
    made = [
        (path.name, ast.unparse(node))
        for path in Path(pipeline.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Producer", "confluent_kafka.Producer")
    ]
    plain = sorted(name for name, call in made if "'transactional.id'" not in call)
    assert plain == ["acknowledged.py", "producer.py"]
