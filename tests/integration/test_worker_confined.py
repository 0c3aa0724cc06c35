"""S20: what Faust could open and make is shut: no web server, no topic that nobody asked for."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from confluent_kafka.admin import AdminClient

from pipeline.clickhouse.connection import Server
from pipeline.clickhouse.migrations import migrate
from tests.conftest import Stack
from tests.sinks import SinkGroup, SinkProcess
from tests.traffic import Traffic
from tests.workers import Deployment, until

LISTENS = "0A"


def listening(pid: int) -> list[str]:
    """The local addresses, in hexadecimal, on which a process accepts connections."""
    mine = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            mine.add(str(file.readlink()))
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return [row[1] for row in rows if row[3] == LISTENS and f"socket:[{row[9]}]" in mine]


def test_s20_worker_and_sink_listen_nowhere_and_make_no_topics(stack: Stack, namespace: str, tmp_path: Path) -> None:
    server = Server(stack.clickhouse, namespace)
    list(migrate(server))
    with Deployment(stack.kafka, namespace, tmp_path / "workers") as deployment:
        before = _topics(stack.kafka, namespace)
        worker = deployment.worker("worker")
        sink = SinkProcess(tmp_path, stack.kafka, stack.clickhouse, namespace)
        group = SinkGroup(stack.kafka, namespace)
        try:
            Traffic(stack.kafka, deployment.topics, 3, 7, transactions=False).send(100)
            deployment.settle()
            until(lambda: group.behind() == 0, "the sink has done everything")
            assert listening(worker.run.pid) == []
            assert listening(sink.run.pid) == []
            assert _topics(stack.kafka, namespace) == before
        finally:
            sink.end()
            group.close()


def _topics(kafka: str, namespace: str) -> set[str]:
    client = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
    return {name for name in client.list_topics(timeout=30).topics if name.startswith(f"{namespace}.")}


def test_listening_is_seen() -> None:
    """Of what use would the test above be otherwise?"""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert listening(os.getpid()) == [f"0100007F:{listener.getsockname()[1]:04X}"]
