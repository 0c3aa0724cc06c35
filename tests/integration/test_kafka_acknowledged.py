"""Publishing for those who wait: acknowledged means in the log; what is refused is not; an unknown outcome is said."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

import pytest
from confluent_kafka import KafkaError

from pipeline.domain.partitioning import partition_of
from pipeline.errors import Closed, Overloaded, Unavailable
from pipeline.kafka import admin
from pipeline.kafka.acknowledged import Acknowledged, Appended, Outgoing
from pipeline.kafka.fence import alter
from pipeline.kafka.reading import read
from pipeline.kafka.topics import Topics
from tests.brokers import Broker

PARTITIONS = 8
LIMIT_BYTES = 2_000
AROUND = range(LIMIT_BYTES - 100, LIMIT_BYTES + 2)


@pytest.fixture
def config(stack, namespace):
    found = {"bootstrap.servers": stack.kafka}
    admin.create(found, namespace, PARTITIONS, 1)
    return found


@pytest.fixture
def journal(namespace):
    return Topics(namespace).journal


@contextlib.asynccontextmanager
async def publishing(config, **bounds):
    publisher = Acknowledged(config, **bounds)
    try:
        yield publisher
    finally:
        await asyncio.wait_for(publisher.close(), 30)


def keys(config, topic):
    return [(record.key or b"").decode() for record in read(config, topic, "beginning")]


def test_calls_that_run_together_each_return_when_their_own_records_are_in_the_log(config, journal):
    async def one_call(publisher, number):
        await publisher.publish([Outgoing(journal, f"{number}-{part}".encode(), b"x") for part in range(number % 5)])
        return {f"{number}-{part}" for part in range(number % 5)}

    async def calls():
        async with publishing(config) as publisher:
            done = await asyncio.gather(*(one_call(publisher, number) for number in range(300)))
            assert publisher.waiting == 0
            return set().union(*done)

    expected = asyncio.run(calls())
    found = list(read(config, journal, "beginning"))
    assert sorted((record.key or b"").decode() for record in found) == sorted(expected)
    assert all(record.partition == partition_of((record.key or b"").decode(), PARTITIONS) for record in found)


def test_a_call_may_write_to_several_topics_with_headers_and_partitions(config, namespace, journal):
    letters = Topics(namespace).dead_letters

    async def call():
        async with publishing(config) as publisher:
            return await publisher.publish(
                [
                    Outgoing(journal, b"a", b"1"),
                    Outgoing(letters, None, b"2", headers=(("reason", b"because"),)),
                    Outgoing(journal, b"a", None, partition=5),
                ]
            )

    appended = asyncio.run(call())
    (letter,) = read(config, letters, "beginning")
    assert (letter.key, letter.value, letter.headers) == (None, b"2", (("reason", b"because"),))
    found = list(read(config, journal, "beginning"))
    assert sorted((record.partition, record.value) for record in found) == sorted(
        [(partition_of("a", PARTITIONS), b"1"), (5, None)]
    )
    moments = [record.appended_at_ms for record in (letter, *found)]
    assert appended == Appended(min(moments), max(moments))


def test_h1_what_is_refused_for_want_of_room_is_not_in_the_log(config, journal):
    """FAULTS H1, I13: a call is handed over whole or not at all, and the others go on."""

    async def one_call(publisher, number):
        try:
            await publisher.publish([Outgoing(journal, f"{number}-{part}".encode(), b"x" * 100) for part in range(7)])
        except Overloaded:
            return None
        return number

    async def calls(**bounds):
        async with publishing(config, **bounds) as publisher:
            return [n for n in await asyncio.gather(*(one_call(publisher, n) for n in range(50))) if n is not None]

    for bounds in ({"records_max": 20}, {"bytes_max": 3000}):
        before = len(keys(config, journal))
        taken = asyncio.run(calls(**bounds))
        assert len(taken) == 2, "two calls of seven fit"
        assert len(keys(config, journal)) - before == 7 * len(taken)


def test_a_cancelled_caller_cancels_nothing(config, journal):
    """FAULTS H6: a client that goes away leaves all of its request in the log, or nothing."""

    async def calls():
        async with publishing(config) as publisher:
            task = asyncio.create_task(publisher.publish([Outgoing(journal, b"%d" % n, b"x") for n in range(50)]))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await publisher.publish([Outgoing(journal, b"after", b"x")])

    asyncio.run(calls())
    assert len(keys(config, journal)) == 51


def test_a_record_that_kafka_cannot_take_fails_its_call_and_no_other(config, journal):
    async def calls():
        async with publishing(config) as publisher:
            large, small = await asyncio.gather(
                publisher.publish([Outgoing(journal, b"large", b"x" * 2_000_000), Outgoing(journal, b"beside", b"x")]),
                publisher.publish([Outgoing(journal, b"small", b"x")]),
                return_exceptions=True,
            )
            nowhere = await asyncio.gather(
                publisher.publish([Outgoing(journal, b"nowhere", b"x", partition=99)]), return_exceptions=True
            )
            return large, small, nowhere[0]

    large, small, nowhere = asyncio.run(calls())
    assert isinstance(large, Unavailable)
    assert isinstance(small, Appended)
    assert isinstance(nowhere, Unavailable)
    assert {"small", "beside"} <= set(keys(config, journal))


@pytest.mark.parametrize("whose", ["the client's", "the topic's"])
def test_f5_records_are_taken_up_to_the_very_limit(config, journal, whose):
    """Every size around it: all below one border are in the log, none above; and nobody waits behind a refused one."""
    if whose == "the topic's":
        alter(config, journal, {"max.message.bytes": str(LIMIT_BYTES)})
    else:
        config = config | {"message.max.bytes": LIMIT_BYTES}

    async def taken(publisher, size):
        try:
            await publisher.publish([Outgoing(journal, b"%04d" % size, Random(size).randbytes(size - 4), partition=3)])
        except Closed:
            return False
        return True

    async def calls():
        async with publishing(config) as publisher:
            while await taken(publisher, 2 * LIMIT_BYTES):
                pass  # a topic's new limit is heard of a moment later
            return {size: await taken(publisher, size) for size in (*AROUND, 10)}

    answers = asyncio.run(calls())
    assert answers.pop(10)
    border = sum(answers.values())
    assert list(answers.values()) == [True] * border + [False] * (len(AROUND) - border)
    assert 0 < border < len(AROUND) - 1, "what is packed around a record counts, too"
    logged = [int(key) for key in keys(config, journal) if int(key) < 2 * LIMIT_BYTES]
    assert logged == [*AROUND[:border], 10]


def test_c5_after_a_delivery_time_out_later_records_arrive_once_and_memory_is_free_again(tmp_path, namespace):
    """FAULTS C5, C7: a frozen broker means 'unknown', in bounded time; then the same producer goes on."""
    broker = Broker(tmp_path / "broker")
    config = {"bootstrap.servers": broker.cluster.bootstrap}
    journal = Topics(namespace).journal

    async def calls():
        async with publishing(config | {"message.timeout.ms": 2000, "socket.timeout.ms": 1500}) as publisher:
            await publisher.publish([Outgoing(journal, b"before", b"x")])
            broker.freeze()
            started = asyncio.get_running_loop().time()
            lost = await asyncio.gather(
                *(publisher.publish([Outgoing(journal, b"meanwhile-%d" % n, b"x")]) for n in range(20)),
                return_exceptions=True,
            )
            assert asyncio.get_running_loop().time() - started < 10
            assert all(isinstance(error, Unavailable) for error in lost)
            assert publisher.failing
            assert publisher.waiting == 0
            broker.thaw()
            for n in range(20):  # a client that repeats what it knows nothing about
                await _until_taken(publisher, Outgoing(journal, b"meanwhile-%d" % n, b"x"))
            await asyncio.gather(*(publisher.publish([Outgoing(journal, b"after-%d" % n, b"x")]) for n in range(500)))
            assert not publisher.failing

    try:
        admin.create(config, namespace, PARTITIONS, 1)
        asyncio.run(calls())
        found = keys(config, journal)
    finally:
        broker.end()
    assert {"before", *(f"meanwhile-{n}" for n in range(20))} <= set(found)
    assert sorted(key for key in found if key.startswith("after")) == sorted(f"after-{n}" for n in range(500))


async def _until_taken(publisher, record):
    for _ in range(20):
        with contextlib.suppress(Unavailable):
            return await publisher.publish([record])
    raise AssertionError("the broker is back, but nothing is taken")


def test_a_producer_that_failed_for_good_is_replaced(config, journal):
    """What librdkafka calls fatal comes from brokers gone wrong; here it is said to the callback that hears of it."""

    async def calls():
        async with publishing(config) as publisher:
            first = publisher._producer
            await publisher.publish([Outgoing(journal, b"before", b"x")])
            publisher._told(first, KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "a gap", fatal=True))
            await publisher.publish([Outgoing(journal, b"after", b"x")])
            assert publisher._producer is not first
            publisher._told(first, KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "again", fatal=True))
            second = publisher._producer
            await publisher.publish([Outgoing(journal, b"later", b"x")])
            assert publisher._producer is second, "a dying producer's errors are its own"

    asyncio.run(calls())
    assert sorted(keys(config, journal)) == ["after", "before", "later"]
