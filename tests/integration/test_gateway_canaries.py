"""Secrets are sown in every place where a request can carry one, and looked for in everything that is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

from pipeline import wiring
from pipeline.gateway.credentials import face_of
from pipeline.kafka.producer import Publisher
from pipeline.kafka.reading import read
from tests.gateways import SECRETS, GatewayHome, until

V1, V2, STREAM = "/v1/billing/meter_events", "/v2/billing/meter_events", "/v2/billing/meter_event_stream"
REPORT = b"error_report_triggered"
PAYLOAD = "canary-in-a-payload-7c1f"


def test_s7_no_key_no_token_and_no_payload_is_in_a_log_an_error_a_header_or_an_argument(stack, namespace, tmp_path):
    """FAULTS S7: what a payload holds is in the events and dead letters themselves, and nowhere else."""
    with GatewayHome(stack, namespace, tmp_path / "gateway") as home:
        gateway = home.start()
        key, refused_key = home.new_key(), "sk_test_" + uuid.uuid4().hex + uuid.uuid4().hex[:18]
        answers = []
        with home.client(key) as http:
            name = f"n_{uuid.uuid4().hex}"
            asked = {"display_name": "x", "event_name": name, "default_aggregation[formula]": "sum"}
            assert http.form("/v1/billing/meters", **asked).status == 200
            token = http.json("/v2/billing/meter_event_session", {}).body["authentication_token"]
            bad = {"event_name": name, "payload": {"stripe_customer_id": "c", "value": PAYLOAD, "note": PAYLOAD}}
            answers += [
                http.json(V2, bad),
                http.json(V2, {**bad, "payload": {"value": "1", "note": PAYLOAD}}),
                http.json(V2, {**bad, "payload": {"value": {"deep": PAYLOAD}}}),
                http.json(V2, {**bad, "payload": {"value": PAYLOAD * 5}}),
                http.json(V2, f'{{"payload": {{"value": "{PAYLOAD}", "value": 1}}}}'.encode()),
                http.json(V2, f'{{"payload": "{PAYLOAD}'.encode()),
                http.form(V1, **{"event_name": name, "payload[value]": PAYLOAD, "payload[stripe_customer_id]": "c"}),
                http.get(f"/v1/billing/meters?api_key={key}"),
                http.ask("GET", "/v1/billing/meters", headers={"Authorization": f"Bearer {refused_key}"}),
                http.ask("GET", "/v1/billing/meters", headers={"Authorization": f"Basic {refused_key}"}),
                http.ask("GET", f"/v1/billing/meters/{key}"),
            ]
        assert {answer.status for answer in answers} <= {400, 401, 404}
        with home.client(token) as stream:
            good = {"event_name": name, "payload": {"stripe_customer_id": "c", "value": "1", "note": PAYLOAD}}
            assert stream.json(STREAM, {"events": [good, bad]}).status == 200
            answers += [stream.json(STREAM, {"events": [bad, {"payload": PAYLOAD}]}), stream.get("/v1/billing/meters")]
        kafka = wiring.quiet_kafka(home.settings)

        def reported() -> bool:
            return any(REPORT in (record.value or b"") for record in read(kafka, home.topics.core_events, "beginning"))

        until(reported, "the error report is written")
        names = (home.topics.catalog, home.topics.core_events, home.topics.dead_letters)
        topics = {topic: list(read(kafka, topic, "beginning")) for topic in names}
        arguments = Path(f"/proc/{gateway.run.pid}/cmdline").read_bytes()
        metrics = gateway.metrics()
        gateway.stop()
        log = gateway.log
    assert PAYLOAD in topics[home.topics.dead_letters][0].value.decode(), "sown, so that there is something to find"
    said = json.dumps([answer.content.decode() for answer in answers if answer.status != 404]).encode()
    headers = repr([record.headers for records in topics.values() for record in records]).encode()
    values = b"".join(
        (record.key or b"") + (record.value or b"")
        for topic in (home.topics.catalog, home.topics.core_events)
        for record in topics[topic]
    )
    assert REPORT in values
    places = {"log": log.encode(), "answers": said, "headers": headers, "catalog and events": values}
    places |= {"arguments": arguments, "metrics": metrics.encode()}
    for place, content in places.items():
        for canary in (key, refused_key, token, token[10:80], PAYLOAD, SECRETS.partition(":")[2]):
            assert canary.encode() not in content, f"{canary[:12]}… is in {place}"


def test_s21_what_strangers_wrote_is_shown_escaped(stack, namespace, tmp_path):
    """FAULTS S21, S22: dead letters hold hostile text as it came; on a terminal nothing of it acts."""
    hostile = [
        "<script>alert(1)</script>",
        "=1+1",
        "@SUM(A1)",
        "-2+3",
        "\u001b[2Jcleared",
        "evil\u202egnp.exe",
        "a\r\nb",
    ]
    with GatewayHome(stack, namespace, tmp_path / "gateway") as home:
        publisher = Publisher(wiring.quiet_kafka(home.settings))
        for text in hostile:
            publisher.publish(
                home.topics.dead_letters, text.encode(), text.encode(), headers=[("reason", text.encode())]
            )
        publisher.flush(30)
        for form in ((), ("--json",)):
            argv = [sys.executable, "-m", "pipeline.cli", "tail", "dead-letters", "--from", "beginning", "--no-follow"]
            ran = subprocess.run([*argv, *form], env=home.environ, capture_output=True, timeout=60, check=True)
            shown = ran.stdout.decode()
            assert len(shown.splitlines()) == len(hostile), "one record, one line"
            assert all(character.isprintable() or character == "\n" for character in shown)
            assert "\\u001b" in shown or "\\x1b" in shown
            assert "<script>" in shown
            assert face_of(shown) is None
