"""The public client: events handed over one by one, until Kafka has them all."""

from __future__ import annotations

import uuid

from benchmarks.figures import Outcome, agreed
from benchmarks.measuring import Moment
from benchmarks.stage import Progress, Stage
from pipeline import MeterlineProducer


def measure(stage: Stage, records: int) -> Outcome:
    with stage.deployment("producer") as deployment:
        deployment.say(f"producer: emitting {records:,} events")
        identifiers = [str(uuid.uuid4()) for _ in range(records)]
        producer = MeterlineProducer(deployment.config, namespace=deployment.namespace)
        start = Moment.now()
        for number, identifier in enumerate(identifiers):
            producer.emit(
                event_name="tokens",
                customer=f"cus_{number % 1000}",
                value=number,
                dimensions={"model": "large"},
                identifier=identifier,
            )
        producer.flush()
        rate = start.until(Moment.now(), records)
        progress = Progress(deployment, "worker", deployment.topics.journal)
        appended = progress.end()
        progress.close()
    return Outcome(rate.figures("producer", "emit and flush"), agreed("events", appended, records))
