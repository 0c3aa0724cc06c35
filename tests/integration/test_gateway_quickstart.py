"""The whole way, on real processes: the README's quickstart as it stands there, and what becomes of adjustments."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import stripe

from pipeline.clickhouse.connection import Server
from pipeline.clickhouse.migrations import migrate
from tests.conftest import Stack
from tests.gateways import GatewayHome, until
from tests.sinks import SinkProcess
from tests.workers import WorkerProcess

README = Path(__file__).parents[2] / "README.md"
PARTITIONS = 2


@pytest.fixture(scope="module")
def home(stack: Stack, tmp_path_factory) -> Iterator[GatewayHome]:
    """A gateway, a worker and a sink."""
    directory, namespace = tmp_path_factory.mktemp("gateway"), f"quickstart_{uuid.uuid4().hex[:12]}"
    list(migrate(Server(stack.clickhouse, namespace)))
    with GatewayHome(stack, namespace, directory, partitions=PARTITIONS) as found:
        worker = WorkerProcess("worker", directory / "worker", found.environ, directory / "worker.log")
        sink = SinkProcess(directory, stack.kafka, stack.clickhouse, namespace)
        try:
            found.start()
            yield found
        finally:
            worker.end()
            sink.end()


@pytest.fixture(scope="module")
def sdk(home: GatewayHome) -> stripe.StripeClient:
    return home.stripe_client(home.new_key())


def code_of_readme() -> str:
    section = README.read_text().partition("## Meter with Stripe's SDK")[2]
    match = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert match
    return match[1]


def said_in_readme() -> str:
    section = README.read_text().partition("## Meter with Stripe's SDK")[2]
    return section.partition("it says\n\n```\n")[2].partition("```")[0]


def test_the_quickstart_of_the_readme_says_what_it_says_there(home: GatewayHome, tmp_path: Path) -> None:
    script = tmp_path / "quickstart.py"
    script.write_text(code_of_readme())
    url = home.client().__dict__["_base_url"]
    environ = home.environ | {"STRIPE_API_KEY": home.new_key(), "GATEWAY_URL": url}
    done = subprocess.run(
        [sys.executable, script], env=environ, capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    (event_name,) = set(re.findall(r"fonts_\d+", done.stdout))
    assert done.stdout == re.sub(r"fonts_\d+", event_name, said_in_readme())
    asked = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "query", event_name, "--test", "-f", "json"],
        env=environ, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert [(row["sum"], row["count"]) for row in json.loads(asked.stdout)] == [("20", 20)]


class Usage:
    """Events of a name of their own, and adjustments of them."""

    def __init__(self, home: GatewayHome, sdk: stripe.StripeClient) -> None:
        self.sdk = sdk
        self.event_name = f"calls_{uuid.uuid4().hex[:8]}"
        self.minute = int(time.time()) // 60 * 60
        self.meter = sdk.v1.billing.meters.create(
            {"display_name": "Calls", "event_name": self.event_name, "default_aggregation": {"formula": "sum"}}
        )

    def send(self, *numbers: int) -> None:
        for number in numbers:
            self.sdk.v1.billing.meter_events.create(
                {
                    "event_name": self.event_name,
                    "identifier": f"{self.event_name}-{number}",
                    "timestamp": self.minute,
                    "payload": {"stripe_customer_id": "cus_1", "value": str(number)},
                }
            )

    def total(self) -> float:
        asked = {"customer": "cus_1", "start_time": self.minute, "end_time": self.minute + 60}
        return self.sdk.v1.billing.meters.event_summaries.list(self.meter.id, asked).data[0].aggregated_value

    def await_total(self, total: int) -> None:
        until(lambda: self.total() == total, f"the sum is {total}")

    def cancel(self, number: int) -> str:
        return self.sdk.v2.billing.meter_event_adjustments.create(
            {
                "event_name": self.event_name,
                "type": "cancel",
                "cancel": {"identifier": f"{self.event_name}-{number}"},
            }
        ).id


def found(sdk: stripe.StripeClient, id_: str) -> dict:
    return sdk.raw_request("get", f"/v2/billing/meter_event_adjustments/{id_}").data


def outcome(sdk: stripe.StripeClient, id_: str) -> tuple[str, str | None, int | None]:
    one = found(sdk, id_)
    return one["status"], one["outcome"], one["events_cancelled"]


def test_adjustments_tell_what_became_of_them(home: GatewayHome, sdk) -> None:
    usage = Usage(home, sdk)
    usage.send(1, 2, 4)
    usage.await_total(7)
    first = usage.cancel(2)
    assert found(sdk, first)["cancel"] == {"identifier": f"{usage.event_name}-2"}
    until(lambda: outcome(sdk, first) == ("complete", "cancelled", 1), "it is cancelled")
    again = usage.cancel(2)
    until(lambda: outcome(sdk, again) == ("complete", "already_cancelled", 0), "it was cancelled already")
    early = usage.cancel(8)
    assert outcome(sdk, early) == ("pending", None, None)
    usage.send(8)
    until(lambda: outcome(sdk, early)[:2] == ("complete", "cancelled"), "the event came and was taken back")
    usage.await_total(5)


def test_a_range_is_complete_when_every_partition_has_decided(home: GatewayHome, sdk) -> None:
    usage = Usage(home, sdk)
    usage.send(*range(1, 11))
    usage.await_total(55)
    with home.client(home.new_key()) as client:
        span = {"customer": "cus_1", "start_time": usage.minute, "end_time": usage.minute + 1}
        made = client.json(
            "/meterline/v1/meter_event_adjustments",
            {"event_name": usage.event_name, "type": "cancel", "cancel_range": span},
        )
    assert made.status == 200, made.body
    until(lambda: outcome(sdk, made.body["id"]) == ("complete", "cancelled", 10), "all of the range is taken back")
    usage.await_total(0)
    assert found(sdk, made.body["id"])["cancel_range"] == made.body["cancel_range"]


def test_adjustments_are_listed_newest_first_on_every_gateway(home: GatewayHome, sdk) -> None:
    usage = Usage(home, sdk)
    usage.send(*range(5))
    ids = [usage.cancel(number) for number in range(5)]
    path = "/v2/billing/meter_event_adjustments"
    listed = sdk.raw_request("get", path, event_name=usage.event_name).data
    assert {one["id"] for one in listed["data"]} == set(ids), "also those that are not in ClickHouse yet"
    other = home.start()
    elsewhere = home.stripe_client(home.new_key(), other)
    until(
        lambda: (
            [one["status"] for one in elsewhere.raw_request("get", path, event_name=usage.event_name).data["data"]]
            == ["complete"] * 5
        ),
        "the other gateway tells all of them",
    )
    pages, url = [], f"{path}?limit=2"
    while url is not None:
        page = elsewhere.raw_request("get", url).data
        pages += [one["id"] for one in page["data"]]
        url = page["next_page_url"]
    assert [id_ for id_ in pages if id_ in ids] == sorted(ids, key=pages.index)
    assert [id_ for id_ in pages if id_ in ids] == ids[::-1]
    other.stop()


def test_the_other_mode_sees_no_adjustment(home: GatewayHome, sdk) -> None:
    usage = Usage(home, sdk)
    mine = usage.cancel(1)
    live = home.stripe_client(home.new_key(livemode=True))
    for id_ in (mine, "mtr_event_adj_absent", "'; DROP TABLE adjustments; --"):
        with pytest.raises(stripe.InvalidRequestError) as fault:
            found(live, id_)
        assert fault.value.http_status == 404
    assert live.raw_request("get", "/v2/billing/meter_event_adjustments").data["data"] == []
    with pytest.raises(stripe.InvalidRequestError, match="page is"):
        sdk.raw_request("get", "/v2/billing/meter_event_adjustments", page="zzz")


@pytest.mark.parametrize(
    "text", ["%00", "%ff", "%ed%a0%80", "a%0Ab%09c", "%5CN", "%27%29%20OR%201=1%20--", "%7Bx:Identifier%7D"]
)
def test_s14_hostile_ids_are_absent(home: GatewayHome, text: str) -> None:
    with home.client(home.new_key()) as client:
        assert client.get(f"/v2/billing/meter_event_adjustments/{text}").status in (400, 404)
        assert client.get(f"/meterline/v1/meters/{text}/usage?start_time=0&end_time=60").status in (400, 404)
        assert client.get(f"/v2/billing/meter_event_adjustments?event_name={text}").status in (200, 400)
        assert client.get(f"/v2/billing/meter_event_adjustments?page={text}").status == 400


def test_freshness_and_explanation(home: GatewayHome, sdk) -> None:
    usage = Usage(home, sdk)
    usage.send(1, 2)
    usage.await_total(3)
    cancelled = usage.cancel(2)
    usage.await_total(1)
    asked = {"start_time": usage.minute, "end_time": usage.minute + 60}
    path = f"/meterline/v1/meters/{usage.meter.id}"

    def as_of():
        return sdk.raw_request("get", f"{path}/usage", **asked).data["as_of"]

    until(lambda: as_of()["records_not_visible"] == 0, "all can be seen")
    told = as_of()
    assert [one["visible_below"] for one in told["partitions"]] == [one["end"] for one in told["partitions"]]
    assert sum(one["end"] for one in told["partitions"]) >= 3

    def explained(**more):
        return sdk.raw_request("get", f"{path}/explanation", **more).data

    fate = f"{usage.event_name}-2"
    until(lambda: explained(identifier=fate)["complete"], "all is known of it")
    until(lambda: explained(customer="cus_1", **asked)["records_behind"] == 0, "all is known of the sum")
    why = explained(customer="cus_1", **asked)
    assert (why["sum"], why["count"], why["equal"], why["records_behind"]) == ("1", 1, True, 0)
    assert why["totals"] == {"counted": {"events": 1, "value": "1"}, "cancelled": {"events": 1, "value": "2"}}
    command = [sys.executable, "-m", "pipeline.cli", "explain", "--meter", usage.meter.id, "-c", "cus_1", "--json"]
    said = subprocess.run(command, env=home.environ, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["sum"] == "1"
    told = explained(identifier=fate)
    assert (told["complete"], told["records_behind"]) == (True, 0)
    assert cancelled in {one.get("adjustment") for one in told["decisions"]}
    with pytest.raises(stripe.InvalidRequestError) as fault:
        sdk.raw_request("get", f"{path}/explanation", customer="cus_1")
    assert fault.value.param == "start_time"
