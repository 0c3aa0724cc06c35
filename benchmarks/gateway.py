"""One gateway process under load from a program that is not Python, beside a bare producer of the same events.

LoadGenerator.java sends; what it was answered 200 is compared with the journal, event by event, before any figure is
handed out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.figures import MEGABYTES, MILLISECONDS, RATIO, RECORDS_PER_S, Figure, Outcome, Target, agreed, at_most
from benchmarks.measuring import Moment, Rate, peak_memory_mb
from benchmarks.stage import Deployment, RoleProcess, Stage
from pipeline import wiring
from pipeline.codec.records import Codec
from pipeline.domain.catalog import Meter
from pipeline.domain.events import MeterEvent
from pipeline.domain.limits import VALUE_UNIT
from pipeline.gateway.keys import made_key
from pipeline.kafka.producer import Publisher
from pipeline.kafka.reading import read
from pipeline.local.jars import java
from pipeline.settings import Settings

EVENT_NAME = "load"
SECRETS = "bench:" + "0123456789abcdef" * 2
STREAM, SINGLE = "/v2/billing/meter_event_stream", "/v2/billing/meter_events"
STREAM_TARGET, SINGLE_TARGET = 30_000.0, 2_500.0
"""Events and requests per second of one core."""
EVENTS_PER_CALL = 100
CONNECTIONS = 16
_GENERATOR = Path(__file__).with_name("LoadGenerator.java")
_FULL_SIZE, _FULL_S, _LEAST_S = 1_000_000, 15.0, 1.0
_LONG_SLICES = 10


class Answered(NamedTuple):
    """What the load generator says of one run."""

    requests: int
    events: int
    units: int
    wall_s: float
    p50_ms: float
    p99_ms: float


class Gateway(NamedTuple):
    """A running gateway with what a client needs."""

    process: RoleProcess
    port: int
    key: str
    token: str

    def load(self, path: str, seconds: float, per_s: float = 0.0) -> Answered:
        """Requests for so many seconds, at a rate or as fast as answers come. All are answered 200, or it raises."""
        of_stream = path == STREAM
        argv = [java(), "-Xmx256m", "-XX:+UseSerialGC", str(_GENERATOR), "127.0.0.1", str(self.port), path]
        argv += [self.token if of_stream else self.key, EVENT_NAME, str(EVENTS_PER_CALL if of_stream else 1)]
        argv += [str(CONNECTIONS), str(seconds), str(per_s)]
        # It ends when nobody holds its standard input open any more, so it cannot outlive this process.
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as generator:
            assert generator.stdout is not None
            told = generator.stdout.read()
        if generator.returncode:
            raise subprocess.CalledProcessError(generator.returncode, _GENERATOR.name)
        said = json.loads(told)
        assert said["answers"] == {"200": said["requests"]}, said["answers"]
        self.process.checked_log()
        return Answered(*(said[name] for name in Answered._fields))


def measure(stage: Stage, records: int) -> Outcome:
    """``records``: about how many events the stream takes at full speed."""
    seconds = max(_LEAST_S, _FULL_S * records / _FULL_SIZE)
    with stage.deployment("gateway") as deployment, running(deployment) as gateway:
        deployment.say("gateway: a bare producer of the same events")
        bare = _bare_producer(deployment, records)
        deployment.say("gateway: streams, as fast as they are answered")
        gateway.load(STREAM, _LEAST_S)  # the compiler of the load generator, caches, connections
        before = sum_in_journal(deployment)
        stream, streamed = _full_speed(gateway, STREAM, seconds)
        deployment.say("gateway: streams, at half of their target")
        half_stream = gateway.load(STREAM, seconds, STREAM_TARGET / 2 / EVENTS_PER_CALL)
        deployment.say("gateway: events one by one")
        single, singly = _full_speed(gateway, SINGLE, seconds)
        half_single = gateway.load(SINGLE, seconds, SINGLE_TARGET / 2)
        memory_mb = peak_memory_mb(gateway.process.pid)
        deployment.say("gateway: checking the journal")
        exact = _compared(deployment, before, (streamed, half_stream, singly, half_single))
    figures = [
        *stream.figures("gateway", "stream", None, Target(STREAM_TARGET)),
        *bare.figures("gateway", "bare producer"),
        Figure("gateway", "stream to bare, CPU", stream.per_cpu_s / bare.per_cpu_s, RATIO),
        Figure("gateway", "stream at half of the target, p50", half_stream.p50_ms, MILLISECONDS),
        Figure("gateway", "stream at half of the target, p99", half_stream.p99_ms, MILLISECONDS, at_most(100.0)),
        *single.figures("gateway", "one by one", None, Target(SINGLE_TARGET)),
        Figure("gateway", "one by one at half, p50", half_single.p50_ms, MILLISECONDS),
        Figure("gateway", "one by one at half, p99", half_single.p99_ms, MILLISECONDS, at_most(100.0)),
        Figure("gateway", "most memory", memory_mb, MEGABYTES),
    ]
    return Outcome(figures, exact)


def long(stage: Stage, records: int) -> Outcome:
    """Streams at half of their target until so many events are written: ten minutes at full size; memory stays."""
    seconds = max(_LEAST_S, records / (STREAM_TARGET / 2) / _LONG_SLICES)
    with stage.deployment("gateway_long") as deployment, running(deployment) as gateway:
        before = sum_in_journal(deployment)
        runs, memory = [], []
        for number in range(_LONG_SLICES):
            deployment.say(f"gateway-long: part {number + 1} of {_LONG_SLICES}")
            runs.append(gateway.load(STREAM, seconds, STREAM_TARGET / 2 / EVENTS_PER_CALL))
            memory.append(resident_mb(gateway.process.pid))
        deployment.say("gateway-long: checking the journal")
        exact = _compared(deployment, before, runs)
    events = sum(run.events for run in runs)
    figures = [
        Figure("gateway long", "events written", events / sum(run.wall_s for run in runs), RECORDS_PER_S),
        Figure("gateway long", "p99, the worst part", max(run.p99_ms for run in runs), MILLISECONDS, at_most(100.0)),
        Figure("gateway long", "memory after the first part", memory[0], MEGABYTES),
        Figure("gateway long", "memory, last to first", memory[-1] / memory[0], RATIO, at_most(1.2)),
    ]
    return Outcome(figures, exact)


@contextlib.contextmanager
def running(
    deployment: Deployment, event_name: str = EVENT_NAME, *, livemode: bool = False, **more: str
) -> Iterator[Gateway]:
    """A gateway with a meter, a key and a session. ``more``: METERLINE_* without it."""
    variables = {"GATEWAY_SECRETS": SECRETS, "GATEWAY_LISTEN": "127.0.0.1:0", "GATEWAY_METRICS": "off", **more}
    with deployment.run("gateway", **variables) as process:
        key = _key_and_meter(deployment, event_name, livemode=livemode)
        process.await_log("listening on")
        found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", process.checked_log())
        assert found, process.checked_log()
        port = int(found[1])
        yield Gateway(process, port, key, session_token(port, key))


def meter_id(*, livemode: bool) -> str:
    return "mtr_load" if livemode else "mtr_test_load"


def _key_and_meter(deployment: Deployment, event_name: str, *, livemode: bool) -> str:
    """A key, and a meter for the event name, both of one mode."""
    environ = {"KAFKA": deployment.stage.kafka, "NAMESPACE": deployment.namespace, "GATEWAY_SECRETS": SECRETS}
    settings = Settings.load({f"METERLINE_{name}": text for name, text in environ.items()})
    now_ms = time.time_ns() // 1_000_000
    key, one = made_key(wiring.gateway_secrets(settings), now_ms, livemode=livemode)
    meter = Meter(
        id=meter_id(livemode=livemode),
        livemode=livemode,
        created_ms=now_ms,
        updated_ms=now_ms,
        version=1,
        display_name="Load",
        event_name=event_name,
        formula="sum",
    )

    async def write() -> None:
        async with wiring.catalog_session(settings) as catalog:
            await catalog.write(one, meter)

    asyncio.run(write())
    return key


def session_token(port: int, key: str) -> str:
    """A session's token; waits until the gateway knows the key."""
    url = f"http://127.0.0.1:{port}/v2/billing/meter_event_session"
    deadline = time.monotonic() + 30
    while True:
        request = urllib.request.Request(url, method="POST", headers={"Authorization": f"Bearer {key}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return str(json.load(answer)["authentication_token"])
        except OSError:
            assert time.monotonic() < deadline, "the gateway never learnt of the key"
            time.sleep(0.1)


def _full_speed(gateway: Gateway, path: str, seconds: float) -> tuple[Rate, Answered]:
    start = Moment.now(gateway.process.pid)
    answered = gateway.load(path, seconds)
    cpu_s = Moment.now(gateway.process.pid).cpu_s - start.cpu_s
    return Rate(answered.events, answered.wall_s, cpu_s), answered


def _bare_producer(deployment: Deployment, records: int) -> Rate:
    """What it costs to hand encoded events to librdkafka and have them acknowledged: the scale, not a competitor."""
    codec, now_ms = Codec(), time.time_ns() // 1_000_000
    events = (MeterEvent(f"bare-{n}", "bare", f"cus_{n % 1000}", VALUE_UNIT, now_ms, (), False) for n in range(records))
    messages = [(event.identifier.encode(), codec.encode_event(event)) for event in events]
    publisher = Publisher(deployment.config)
    start = Moment.now()
    for first in range(0, records, EVENTS_PER_CALL):
        publisher.publish_batch(deployment.topics.journal, -1, messages[first : first + EVENTS_PER_CALL])
    publisher.flush(120)
    return start.until(Moment.now(), records)


class InJournal(NamedTuple):
    """Events of EVENT_NAME and the sum of their values. Nobody sends one twice here, so a copy is a difference."""

    events: int
    units: int


def sum_in_journal(deployment: Deployment) -> InJournal:
    codec, events, units = Codec(), 0, 0
    for record in read(deployment.config, deployment.topics.journal, "beginning"):
        event = codec.decode_accepted_event(record.value or b"")
        if event.event_name == EVENT_NAME:
            events += 1
            units += event.value
    return InJournal(events, units // VALUE_UNIT)


def _compared(deployment: Deployment, before: InJournal, runs: Any) -> dict[str, int]:
    found = sum_in_journal(deployment)
    return {
        **agreed("events", found.events - before.events, sum(run.events for run in runs)),
        **agreed("sum", found.units - before.units, sum(run.units for run in runs)),
    }


def resident_mb(pid: int) -> float:
    """Memory that a process has resident now, in 10^6 bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024 / 1e6
