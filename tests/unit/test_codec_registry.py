"""The schema registry's client, against a registry over real HTTP."""

from __future__ import annotations

import http.server
import json
import threading
from collections import Counter

import pytest

from pipeline.codec import registry as registry_module
from pipeline.codec.columns import decode_events
from pipeline.codec.records import Codec
from pipeline.codec.registry import SchemaRegistry
from pipeline.codec.schemas import SCHEMAS, newest, versions
from pipeline.domain.events import MeterEvent
from pipeline.errors import Refusal, Unavailable, UndecodableRecord

EVENT = MeterEvent("id-1", "miles", "UA", 5, 1_700_000_000_000, (), True)


class Registry:
    """A schema registry: ids count up, a subject's schemas are remembered, requests are counted."""

    def __init__(self) -> None:
        self.schemas: dict[int, dict] = {}
        self.requests: Counter[str] = Counter()
        self.authorization: list[str | None] = []
        self.status = 200
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                schema = registry.schemas.get(int(self.path.rpartition("/")[2]))
                self.answer({"schema": schema["schema"], "schemaType": schema["schemaType"]} if schema else None)

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                subject = self.path.split("/")[2]
                known = next((i for i, s in registry.schemas.items() if s == asked | {"subject": subject}), None)
                if known is None and self.path.endswith("/versions"):
                    known = len(registry.schemas) + 1
                    registry.schemas[known] = asked | {"subject": subject}
                self.answer({"id": known} if known else None)

            def answer(self, content: dict | None) -> None:
                registry.requests[f"{self.command} {self.path}"] += 1
                registry.authorization.append(self.headers["Authorization"])
                status = registry.status if registry.status != 200 else 200 if content else 404
                body = json.dumps(content or {"error_code": 40403}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def put(self, schema: object, kind: str = "AVRO") -> int:
        self.schemas[len(self.schemas) + 1] = {"schema": json.dumps(schema), "schemaType": kind, "subject": "x"}
        return len(self.schemas)

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def server():
    started = Registry()
    yield started
    started.close()


@pytest.fixture
def client(server):
    return SchemaRegistry(f"http://{server.address}")


def framed(schema_id: int) -> bytes:
    return b"\0" + schema_id.to_bytes(4, "big") + Codec().encode_event(EVENT)[10:]


def test_a_registered_record_is_written_and_read_in_confluent_framing(server, client):
    schema_id = client.register("MeterEvent")
    codec = Codec(client)
    assert codec.encode_event(EVENT) == framed(schema_id)
    assert codec.decode_journal(framed(schema_id)) == EVENT
    assert codec.decode_journal(Codec().encode_event(EVENT)) == EVENT, "single-object encoding is still read"


def test_both_framings_go_by_columns(server, client):
    schema_id = client.register("MeterEvent")
    codec = Codec(client)
    read = decode_events([framed(schema_id), Codec().encode_event(EVENT)], codec.prefixes("MeterEvent"))
    assert read.rest.tolist() == []


def test_registering_twice_changes_nothing(server, client):
    assert client.register("Plan") == client.register("Plan")
    assert len(server.schemas) == 1


def test_all_listed_schemas_are_registered_under_their_full_names(server, client):
    assert client.register_all() == [f"meterline.{name}" for name in SCHEMAS]
    assert {schema["subject"] for schema in server.schemas.values()} == {f"meterline.{name}" for name in SCHEMAS}


def test_an_answer_is_asked_for_once(server, client):
    schema_id = server.put(newest("MeterEvent").document)
    codec = Codec(client)
    for _ in range(5):
        assert codec.decode_journal(framed(schema_id)) == EVENT
    assert server.requests == {f"GET /schemas/ids/{schema_id}": 1}


def test_an_unknown_id_is_undecodable_and_not_asked_for_again_for_a_while(server, client, monkeypatch):
    codec = Codec(client)
    for _ in range(5):
        with pytest.raises(UndecodableRecord) as refused:
            codec.decode_journal(framed(99))
        assert refused.value.reason == "unknown_schema"
    assert server.requests == {"GET /schemas/ids/99": 1}
    later = registry_module.time.monotonic() + registry_module.UNKNOWN_FOR_S + 1
    monkeypatch.setattr(registry_module.time, "monotonic", lambda: later)
    for _ in range(99):
        server.put(newest("MeterEvent").document)
    assert codec.decode_journal(framed(99)) == EVENT


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ("string", "AVRO"),
        ({"type": "record", "name": "meterline.Other", "fields": []}, "AVRO"),
        ({**newest("MeterEvent").document, "namespace": "elsewhere"}, "AVRO"),
        ({**newest("MeterEvent").document, "fields": newest("MeterEvent").document["fields"][:-1]}, "AVRO"),
        ({"type": "record", "name": "MeterEvent", "fields": [{"name": "a", "type": "nothing"}]}, "AVRO"),
        (newest("MeterEvent").document, "JSON"),
        ([], "AVRO"),
    ],
)
def test_a_schema_that_is_not_listed_is_none_of_ours(server, client, schema, kind):
    with pytest.raises(UndecodableRecord, match="unknown_schema"):
        Codec(client).decode_journal(framed(server.put(schema, kind)))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ('"scale": 12', '"scale": 2'),
        ('"precision": 38', '"precision": 18'),
        ('"logicalType": "decimal"', '"comment": "none"'),
        ('"logicalType": "timestamp-millis"', '"logicalType": "timestamp-micros"'),
    ],
)
def test_the_same_bytes_with_another_meaning_are_none_of_ours(server, client, caplog, ours, theirs):
    """A canonical form leaves logical types out: 12.34, with two digits behind the point, would be 0.000000001234."""
    text = json.dumps(newest("MeterEvent").document)
    assert ours in text
    schema_id = server.put(json.loads(text.replace(ours, theirs)))
    with pytest.raises(UndecodableRecord, match="unknown_schema"):
        Codec(client).decode_journal(framed(schema_id))
    assert f"the schema with id {schema_id} is meterline.MeterEvent" in caplog.text


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_listed_schema_is_taken_for_itself(server, client, name):
    for version in versions(name):
        assert client.schema_of(server.put(version.document)) == version


def test_a_listed_schema_is_known_by_its_canonical_form(server, client):
    """Java adds properties of its own and drops documentation."""
    document = json.loads(
        json.dumps(newest("MeterEvent").document).replace(
            '"type": "string"', '"type": {"type": "string", "avro.java.string": "String"}'
        )
    )
    assert Codec(client).decode_journal(framed(server.put(document))) == EVENT


def test_a_registry_that_is_away_is_no_fault_of_the_record(server, client):
    schema_id = server.put(newest("MeterEvent").document)
    server.status = 503
    with pytest.raises(Unavailable, match="HTTP 503"):
        Codec(client).decode_journal(framed(schema_id))
    with pytest.raises(Unavailable, match="a moment ago"):
        Codec(client).decode_journal(framed(schema_id))
    assert sum(server.requests.values()) == 1, "a registry in trouble is left alone for a moment"


def test_known_ids_are_read_while_the_registry_is_away(server):
    client = SchemaRegistry(f"http://{server.address}")
    schema_id = server.put(newest("MeterEvent").document)
    codec = Codec(client)
    codec.decode_journal(framed(schema_id))
    server.status = 500
    assert codec.decode_journal(framed(schema_id)) == EVENT


def test_a_registry_that_is_not_there_is_unavailable():
    with pytest.raises(Unavailable, match="did not answer"):
        SchemaRegistry("http://127.0.0.1:1").schema_of(1)


def test_writing_an_unregistered_schema_says_which_command_registers_it(client):
    with pytest.raises(Refusal, match="meterline topics create"):
        Codec(client).encode_event(EVENT)


def test_an_incompatible_schema_is_refused(server, client):
    server.status = 409
    with pytest.raises(Refusal, match="HTTP 409"):
        client.register("MeterEvent")


def test_credentials_in_the_url_are_sent_and_not_shown(server):
    client = SchemaRegistry(f"http://me:p%40ss@{server.address}/")
    client.schema_of(1)
    assert server.authorization == ["Basic bWU6cEBzcw=="]
    server.status = 500
    with pytest.raises(Unavailable) as away:
        client.schema_of(2)
    assert "p@ss" not in str(away.value)
    assert "p%40ss" not in str(away.value)
