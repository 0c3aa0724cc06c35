"""A Faust app on the batch transport, and how one of our processes runs it.

Settings that are not obvious: acks are tracked per batch; the poll interval is a day because a process that waits for
ClickHouse is alive (its heartbeats say so); no table, no web server, no leader topic; a consumer whose place is gone
does not choose another one by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import faust
from yarl import URL

from pipeline import logs
from pipeline.errors import Unavailable
from pipeline.stream.ending import end_process, task_of
from pipeline.stream.memory import give_back_forever
from pipeline.stream.place import NamedPlace
from pipeline.stream.positions import CheckReach, StartOffsets
from pipeline.stream.transport import SEEK_WITHIN_S, BatchTransport, PassSchema, Tableless

STOP_WITHIN_S = 8.0
LOOK_ROUND_EVERY_S = 1.0

log = logging.getLogger("meterline")

_DAY_S = 86_400.0


class Fate(enum.Enum):
    """What a process is to do next, as the world around it stands."""

    GO_ON = enum.auto()
    BEGIN_AGAIN = enum.auto()
    """Leave in peace and start once more, as the same process: what it read at its start is another thing now."""
    END = enum.auto()


class BatchApp(faust.App):
    """A Faust app on the batch transport.

    ``check_reach`` is asked when a log does not hold the place where it is to be read on. ``start_offsets`` may say
    where partitions are read from. ``offset_note`` is committed beside every offset.
    ``fate`` is asked every ``LOOK_ROUND_EVERY_S``, in a thread. ``place``: in its group, where it has a name.
    """

    check_reach: CheckReach
    start_offsets: StartOffsets | None = None
    offset_note: str = ""
    fate: Callable[[], Fate] | None = None
    place: NamedPlace | None = None
    begins_again: bool = False

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)


def stream_app(
    group: str,
    kafka: Mapping[str, str],
    *,
    client_id: str,
    session_timeout_ms: int,
    batch_records: int,
    work_dir: Path,
    instance: str = "",
) -> BatchApp:
    """A Faust app in consumer group ``group``.

    ``kafka`` is a librdkafka configuration (``Settings.librdkafka``); ``client_id`` is what brokers call the member;
    ``batch_records`` bounds a batch; ``instance`` keeps the partitions of a member that leaves and comes back under its
    name within its session.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    asyncio.set_event_loop(asyncio.new_event_loop())  # one loop for everything Faust makes from here on
    app = BatchApp(
        group,
        broker=[URL(f"kafka://{server}") for server in kafka["bootstrap.servers"].split(",")],
        broker_credentials=_credentials(kafka),
        broker_client_id=client_id,
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        TableManager=Tableless,
        datadir=str(work_dir),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        table_standby_replicas=0,
        stream_wait_empty=False,
        stream_buffer_maxsize=8,
        broker_max_poll_records=batch_records,
        broker_max_poll_interval=_DAY_S,
        consumer_group_instance_id=instance or None,
        broker_session_timeout=session_timeout_ms / 1000,
        broker_heartbeat_interval=session_timeout_ms / 1000 / 3,
        broker_request_timeout=max(1.5 * SEEK_WITHIN_S, session_timeout_ms / 1000),
        broker_rebalance_timeout=60.0,
        broker_commit_interval=1.0,
        broker_commit_livelock_soft_timeout=_DAY_S,
        stream_processing_timeout=_DAY_S,
        consumer_max_fetch_size=8 * 2**20,
        consumer_auto_offset_reset="none",
        worker_redirect_stdouts=False,
    )
    if instance:
        app.place = NamedPlace(instance, group, session_timeout_ms / 1000, work_dir)
    app.task(task_of(give_back_forever))
    return app


def journal_topic(app: faust.App, name: str) -> Any:
    """A topic whose agents receive RecordBatch values."""
    return app.topic(name, schema=PassSchema(key_serializer="raw", value_serializer="raw"))


def _credentials(kafka: Mapping[str, str]) -> Any:
    protocol = kafka.get("security.protocol", "PLAINTEXT")
    context = None
    if protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=kafka.get("ssl.ca.location"))
    if protocol.startswith("SASL"):
        return faust.SASLCredentials(
            mechanism=kafka["sasl.mechanism"],
            username=kafka["sasl.username"],
            password=kafka["sasl.password"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None


def _leave(app: BatchApp, code: int = 0) -> None:
    """End at once: all is written. Threads of RocksDB and librdkafka still run, and what the interpreter and libraries
    clear up on their way out they may be using: one stop in some hundreds ended in a segmentation fault.
    """
    logs.drain()
    if not app.begins_again:
        os._exit(code)
    # The same command line in the same process: a supervisor sees nothing, and none is needed.
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # there is nothing for a shell


async def _look_round(app: BatchApp) -> None:
    try:
        assert app.fate is not None
        while True:
            await asyncio.sleep(LOOK_ROUND_EVERY_S)
            fate = Fate.GO_ON
            with contextlib.suppress(Unavailable):  # then nothing is known to have changed
                fate = await asyncio.to_thread(app.fate)
            if fate is not Fate.GO_ON:
                app.begins_again = fate is Fate.BEGIN_AGAIN
                consumer: Any = app.consumer
                consumer.give_up_place()
                os.kill(os.getpid(), signal.SIGTERM)
                return
    except Exception as error:  # a refusal, or a bug: nothing a task raises may be swallowed
        end_process(error)


def run_app(app: BatchApp, on_start: Callable[[], Any] | None = None) -> None:
    """Run until SIGTERM or SIGINT, or until its fate ends it or makes it begin again.

    Ends the process with a non-zero code on any unexpected exception.
    """
    worker = faust.Worker(
        app, loop=asyncio.get_event_loop(), loglevel="WARNING", override_logging=False, redirect_stdouts=False
    )
    worker.spinner = None

    async def stop_within_deadline(*_: Any, **__: Any) -> None:
        """A stop that waits for a broker that is away has waited long enough after STOP_WITHIN_S."""
        timer = threading.Timer(STOP_WITHIN_S, _leave, (app,))  # kill -9 would be safe, too
        timer.daemon = True
        timer.start()

    app.on_before_shutdown.connect(stop_within_deadline, weak=False)
    if app.fate is not None:
        app.task(lambda: _look_round(app))
    try:
        if on_start is not None:
            on_start()
        worker.execute_from_commandline()
    except SystemExit as end:
        app.begins_again = app.begins_again and not end.code
        _leave(app, end.code if isinstance(end.code, int) else int(bool(end.code)))
    except BaseException as error:  # the process's outermost frame: whatever comes here ends it
        if app.begins_again:  # on the way out: the start is a recovery then, as after kill -9
            log.warning("crashed while leaving", exc_info=error)
            _leave(app)
        end_process(error)
