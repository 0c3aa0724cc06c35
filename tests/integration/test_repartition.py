"""Another number of partitions while usage is sent: nothing is lost, nothing counts twice, and no number changes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Self

from clickhouse_connect.driver.client import Client
from confluent_kafka import KafkaError, Producer

from pipeline.domain.generations import BUILDING, LIVE
from pipeline.kafka import fence
from pipeline.kafka.client import MeterlineProducer
from pipeline.kafka.topics import Topics
from tests.conftest import Stack
from tests.gateways import GatewayHome
from tests.oracle import read_topic, specified
from tests.rebuilding import Site, site
from tests.sinks import stored
from tests.workers import until

MOVING = "moving"
TAKEN_BACK_EVERY = 7


class Sender:
    """A service with our client, which goes on all the time: each event is worth 1, some are taken back."""

    def __init__(self, kafka: str, namespace: str) -> None:
        self.sent = self.taken_back = 0
        self.longest_wait_s = 0.0
        self._producer = MeterlineProducer(kafka, namespace=namespace)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self._error is None, self._error

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                began_s = time.monotonic()
                for _ in range(20):
                    self._send()
                self._producer.flush(120)
                self.longest_wait_s = max(self.longest_wait_s, time.monotonic() - began_s)
                self._stop.wait(0.05)
        except BaseException as error:
            self._error = error

    def _send(self) -> None:
        identifier = f"m{self.sent}"
        self._producer.emit(event_name=MOVING, customer=f"c{self.sent % 5}", value=1, identifier=identifier)
        self.sent += 1
        if self.sent % TAKEN_BACK_EVERY == 0:
            self._producer.adjust(event_name=MOVING, identifier=identifier)
            self.taken_back += 1


def summaries(client: Client) -> dict[tuple[object, ...], tuple[int, Decimal, Decimal, Decimal]]:
    """What the views say of everything but what the sender sends."""
    rows = client.query(
        "SELECT livemode, event_name, customer, window_start, mapKeys(dimensions), mapValues(dimensions),"
        " sum(count), sum(sum), min(min), max(max) FROM summary_shards WHERE count > 0 AND event_name != {name:String}"
        " GROUP BY ALL",
        parameters={"name": MOVING},
    ).result_rows
    return {(*row[:4], tuple(row[4]), tuple(row[5])): tuple(row[6:]) for row in rows}


def assert_exact(place: Site, partitions: int) -> None:
    """What the views show is what the specification says of the journal that stands."""
    place.deployment.partitions = partitions
    place.settle()
    log = list(read_topic(place.stack.kafka, place.topics.journal))
    world, _ = specified(log, place.rules, partitions)
    found = stored(place.client)
    assert found.shards == world.shards
    assert found.dispositions == world.dispositions


def assert_moving(client: Client, sender: Sender) -> None:
    sql = "SELECT sum(count), sum(sum) FROM summary_shards WHERE event_name = {name:String}"
    ((events, total),) = client.query(sql, parameters={"name": MOVING}).result_rows
    assert (events, total) == (sender.sent - sender.taken_back, sender.sent - sender.taken_back)


def repartition(place: Site, partitions: int) -> tuple[str, ...]:
    return ("journal", "repartition", "--partitions", str(partitions), "--processes", "1", "--margin", "2")


@contextlib.contextmanager
def sending(place: Site) -> Iterator[Sender]:
    sender = Sender(place.stack.kafka, place.namespace)
    with sender:
        yield sender
    place.settle()


def test_more_partitions_and_fewer_under_load(stack: Stack, namespace: str, home: Path) -> None:
    with site(stack, namespace, home, partitions=4) as place:
        place.traffic.send_each()
        place.traffic.send(300)
        place.settle()
        before = summaries(place.client)
        assert before
        with sending(place) as sender:
            for partitions, number in ((8, 2), (6, 3)):
                run = place.command(*repartition(place, partitions))
                assert place.end_of(run) == 0, run.said
                assert f"{namespace}.meter-events-j{number} now, with {partitions} partitions" in run.said
                assert place.generations().live.number == number
                assert summaries(place.client) == before
                place.deployment.partitions = partitions
        assert_exact(place, 6)
        assert_moving(place.client, sender)
        assert summaries(place.client) == before
        assert fence.is_closed({"bootstrap.servers": stack.kafka}, Topics(namespace).journal)
        assert not fence.is_closed({"bootstrap.servers": stack.kafka}, place.topics.journal)
        assert refused(stack, Topics(namespace).journal), "what is sent to the old journal is never acknowledged"


def refused(stack: Stack, topic: str) -> bool:
    said: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": stack.kafka, "log_level": 0})
    producer.produce(topic, bytes(200), b"k", on_delivery=lambda error, _: said.append(error))
    producer.flush(30)
    return said[0] is not None and said[0].code() == KafkaError.MSG_SIZE_TOO_LARGE


def test_a_gateways_clients_see_a_pause_and_nothing_else(stack: Stack, namespace: str, home: Path) -> None:
    """The official SDK with its own retries, one event after the other; a cancellation in the middle."""
    with site(stack, namespace, home) as place, GatewayHome(stack, namespace, home / "g", partitions=3) as gateways:
        gateway = gateways.start()
        client = gateways.stripe_client(gateways.new_key(livemode=True), gateway, max_network_retries=5)
        client.v1.billing.meters.create(
            {"display_name": "x", "event_name": MOVING, "default_aggregation": {"formula": "sum"}}
        )
        run = place.command(*repartition(place, 4))
        sent = taken_back = 0
        while run.run.poll() is None:
            place.supervise()
            payload = {"stripe_customer_id": f"c{sent % 5}", "value": "1"}
            client.v2.billing.meter_events.create({"event_name": MOVING, "identifier": f"g{sent}", "payload": payload})
            if sent % TAKEN_BACK_EVERY == 0:
                client.v2.billing.meter_event_adjustments.create(
                    {"event_name": MOVING, "type": "cancel", "cancel": {"identifier": f"g{sent}"}}
                )
                taken_back += 1
            sent += 1
            time.sleep(0.02)
        assert place.end_of(run) == 0, run.said
        place.deployment.partitions = 4
        assert_exact(place, 4)
        sql = "SELECT sum(count), sum(sum) FROM summary_shards WHERE event_name = {name:String}"
        ((events, total),) = place.client.query(sql, parameters={"name": MOVING}).result_rows
        assert (events, total) == (sent - taken_back, sent - taken_back)


def test_killed_at_every_step_it_goes_on(stack: Stack, namespace: str, home: Path) -> None:
    steps = ["its journal, topics and tables", "copying the journal", "folding the copy", "closing the journal"]
    steps += ["generation 1 to its end", "copying the rest", "comparing with generation 1", "copying the last records"]
    with site(stack, namespace, home) as place:
        place.traffic.send_each()
        place.traffic.send(200)
        place.settle()
        before = summaries(place.client)
        with sending(place) as sender:
            for step in steps:
                run = place.command(*repartition(place, 4))
                until(lambda run=run, step=step: step in run.said or run.run.poll() is not None, step)
                if run.run.poll() is not None:
                    break
                run.kill()
            if place.generations().live.number == 1:
                run = place.command(*repartition(place, 4))
                assert place.end_of(run) == 0, run.said
            place.deployment.partitions = 4
        assert_exact(place, 4)
        assert_moving(place.client, sender)
        assert summaries(place.client) == before


def test_thrown_away_before_the_end(stack: Stack, namespace: str, home: Path) -> None:
    """The old journal is open again, and nothing has happened."""
    with site(stack, namespace, home) as place:
        place.traffic.send(50)
        place.settle()
        before = stored(place.client)
        with sending(place) as sender:
            run = place.command(*repartition(place, 4))
            until(lambda: "closing the journal" in run.said or run.run.poll() is not None, "it closes the journal")
            run.kill()
            assert place.generations().building is not None
            assert place.generations().building.state == BUILDING
            assert place.command("rebuild").end() == 1, "something else is under way"
            until(lambda: place.command("generations", "drop", "2", "--yes").end() == 0, "the crew has gone")
        assert place.generations().live.state == LIVE
        assert place.generations().live.number == 1
        assert_moving(place.client, sender)
        mine = {key: shard for key, shard in stored(place.client).shards.items() if MOVING not in str(key)}
        assert mine == before.shards
