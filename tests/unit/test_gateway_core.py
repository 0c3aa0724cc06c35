"""The gateway's small parts: who gets a place, who fails too often, ids, lists, envelopes, answers, metrics."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Overloaded, Unavailable
from pipeline.gateway import limits
from pipeline.gateway.app import App
from pipeline.gateway.calls import Call
from pipeline.gateway.ids import object_id
from pipeline.gateway.limits import FAILURES_PER_PREFIX, Admission, AuthFailures
from pipeline.gateway.lists import page_of, page_token, position_of
from pipeline.gateway.metrics import Metrics
from pipeline.gateway.operations import Answer, Handler, Operation
from pipeline.gateway.parameters import Field, Text
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import (
    Problem,
    forbidden,
    invalid,
    missing_object,
    too_many,
    unauthorized,
    unavailable,
    unexpected,
)
from pipeline.gateway.request_log import RequestLog


def places_of(admission: Admission, *keys: str) -> list[bool]:
    """Whether each of these got a place, in turn."""
    got = []
    for key in keys:
        try:
            admission.enter(key)
        except Problem:
            got.append(False)
        else:
            got.append(True)
    return got


def test_h2_one_key_that_floods_leaves_half_of_the_places() -> None:
    admission = Admission(16)
    assert sum(places_of(admission, *["flood"] * 100)) == 8
    assert all(places_of(admission, "other", "other", "third"))
    for _ in range(8):
        admission.leave("flood")
    assert places_of(admission, "flood") == [True]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=300), st.integers(2, 40))
def test_h2_a_key_without_a_place_gets_one_while_any_is_free(keys: list[int], places: int) -> None:
    admission = Admission(places)
    held: dict[str, int] = {}
    for number in keys:
        key = str(number)
        free = places - admission.taken
        got = places_of(admission, key)[0]
        assert got == (held.get(key, 0) < free)
        held[key] = held.get(key, 0) + got
    assert admission.taken == sum(held.values()) <= places
    for key, count in held.items():
        for _ in range(count):
            admission.leave(key)
    assert admission.taken == 0
    assert not admission._by_key, "nothing is remembered of keys that hold no place"


def test_s11_failures_are_forgiven_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1_000.0
    monkeypatch.setattr(limits.time, "monotonic", lambda: now_s)
    failures, wrong = AuthFailures(), unauthorized("no")

    def burst(address: str, prefix: str, count: int) -> list[int]:
        return [failures.failed(address, prefix, wrong).status for _ in range(count)]

    assert burst("1.2.3.4", "sk_test_a", FAILURES_PER_PREFIX + 2) == [401] * FAILURES_PER_PREFIX + [429] * 2
    assert burst("1.2.3.4", "sk_test_b", 1) == [401]
    assert burst("5.6.7.8", "sk_test_a", 1) == [401]
    now_s += limits.FAILURES_FORGIVEN_EVERY_S
    assert burst("1.2.3.4", "sk_test_a", 2) == [401, 429]


def test_s11_guessing_with_many_keys_is_one_guesser() -> None:
    failures, wrong = AuthFailures(), unauthorized("no")
    said = [failures.failed("1.2.3.4", f"sk_test_{number}", wrong).status for number in range(300)]
    assert said[: limits.FAILURES_PER_ADDRESS] == [401] * limits.FAILURES_PER_ADDRESS
    assert said.count(429) > 150


def test_s11_the_memory_of_failures_is_bounded() -> None:
    failures, wrong = AuthFailures(), unauthorized("no")
    for number in range(3 * limits.BUCKETS_MAX):
        failures.failed(f"address {number}", "sk_test_a", wrong)
    assert len(failures._buckets) <= limits.BUCKETS_MAX


@given(st.text(min_size=1), st.booleans(), st.binary(min_size=16, max_size=16))
def test_ids_follow_from_idempotency_keys(key: str, livemode: bool, secret: bytes) -> None:
    said: dict[str, Any] = {"livemode": livemode, "operation": "create_meter", "secret": secret}
    first = object_id("meter", idempotency_key=key, **said)
    assert first == object_id("meter", idempotency_key=key, **said)
    assert first.startswith("mtr_" if livemode else "mtr_test_")
    others = [
        object_id("meter", idempotency_key=key + "x", **said),
        object_id("meter", idempotency_key=key, **{**said, "livemode": not livemode}),
        object_id("meter", idempotency_key=key, **{**said, "operation": "create_plan"}),
        object_id("meter", idempotency_key=key, **{**said, "secret": secret + b"x"}),
        object_id("meter", idempotency_key=None, **said),
        object_id("meter", idempotency_key=None, **said),
    ]
    assert len({first, *others}) == len(others) + 1


@given(st.lists(st.integers(), unique=True, max_size=40), st.integers(1, 10))
def test_pages_both_ways_are_the_whole_list(items: list[int], limit: int) -> None:
    def page(**given: Any) -> tuple[list[int], bool]:
        return page_of(items, {"limit": limit, **given}, kind="number", id_of=str)

    forward, (found, more) = [], page()
    forward += found
    while more:
        found, more = page(starting_after=str(found[-1]))
        forward += found
    assert forward == items
    if items:
        backward, (found, more) = [], page(ending_before=str(items[-1]))
        backward = found + backward
        while more:
            found, more = page(ending_before=str(found[0]))
            backward = found + backward
        assert backward == items[:-1]


def test_cursors_are_checked() -> None:
    for given_, code in (
        ({"starting_after": "a", "ending_before": "b"}, "parameters_exclusive"),
        ({"starting_after": "z"}, "resource_missing"),
        ({"ending_before": "z"}, "resource_missing"),
    ):
        with pytest.raises(Problem) as refused:
            page_of(["a", "b"], given_, kind="letter", id_of=str)
        assert (refused.value.status, refused.value.code) == (400, code)
        assert refused.value.param in given_


@given(st.text())
def test_page_tokens_come_back(position: str) -> None:
    assert position_of(page_token(position)) == position


@pytest.mark.parametrize("token", ["a", "%%%", "_w", "ä"])
def test_page_tokens_that_are_none_are_a_400(token: str) -> None:
    with pytest.raises(Problem, match="page"):
        position_of(token)


PROBLEMS = (
    invalid("a", "b", "c"),
    missing_object("meter", "mtr_1"),
    unauthorized("no"),
    forbidden("events:write"),
    too_many("global-concurrency"),
    unavailable(),
    unexpected("req_1"),
)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: str(problem.status))
def test_one_problem_has_two_envelopes(problem: Problem) -> None:
    v1, v2 = problem.body("v1")["error"], problem.body("v2")["error"]
    assert v1["type"] in ("invalid_request_error", "api_error", "idempotency_error")
    assert v1["message"] == v2["message"] == problem.message
    assert v2["code"], "v2 always has a code"
    assert None not in {*v1.values(), *v2.values()}


def test_waiting_is_asked_for_where_it_helps() -> None:
    for problem in (too_many("global-rate", 3), unavailable(3)):
        assert problem.headers is not None
        assert problem.headers["retry-after"] == "3"
        assert problem.headers["stripe-should-retry"] == "true"


def operation(handler: Handler, **row: Any) -> Operation:
    said: dict[str, Any] = {"name": "try", "method": "GET", "path": "/v1/try/{id}", "face": "v1", "scope": None}
    return Operation(handler=handler, summary="Try", answer={}, **{**said, **row})


class Asked:
    """An app with one operation, and what it answers and logs."""

    def __init__(self, one: Operation) -> None:
        self.logged: list[str] = []
        self.more_headers: list[tuple[bytes, bytes]] = []
        nothing: dict[str, Any] = dict.fromkeys(one.name for one in dataclasses.fields(Parts))
        parts = Parts(**{**nothing, "clock": lambda: 0, "services": ()})
        self._app = App(parts, [one], 4, RequestLog(self.logged.append))

    def __call__(
        self, path: str = "/v1/try/1", query: str = "", method: str = "GET", body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        sent: list[dict[str, Any]] = []
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [
                *((name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()),
                *self.more_headers,
            ],
            "server": ("127.0.0.1", 1),
            "client": ("127.0.0.1", 2),
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        async def ask() -> None:
            await self._app(scope, receive, send)
            self._app._log.flush()

        asyncio.run(ask())
        headers = {name.decode(): text.decode() for name, text in sent[0]["headers"]}
        return sent[0]["status"], headers, sent[1]["body"]


async def echo(parts: Parts, call: Call) -> Answer:
    return Answer({"id": call.path["id"], "value": Decimal("12345678901234567890.123456789012"), **call.given})


def test_decimals_are_numbers_with_all_their_digits() -> None:
    status, _, body = Asked(operation(echo))()
    assert status == 200
    assert b'"value":12345678901234567890.123456789012' in body


def test_every_answer_has_stripes_headers() -> None:
    status, headers, _ = Asked(operation(echo))(stripe_version="2024-06-20", idempotency_key="again")
    assert status == 200
    assert headers["request-id"].startswith("req_")
    assert headers["stripe-version"] == "2024-06-20"
    assert headers["idempotency-key"] == "again"

    async def replay(parts: Parts, call: Call) -> Answer:
        return Answer({}, replayed=True)

    assert Asked(operation(replay))()[1]["idempotent-replayed"] == "true"
    assert Asked(operation(echo))(stripe_version="latest")[0] == 400


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"path": "/v1/nothing"}, 404),
        ({"path": "/v2/nothing"}, 404),
        ({"path": "/v1/try/1/"}, 404),
        ({"method": "DELETE"}, 405),
        ({"query": "colour=red"}, 400),
        ({"query": "limit=1&limit=2"}, 400),
        ({"content_length": "3"}, 400),
        ({"transfer_encoding": "chunked"}, 400),
    ],
)
def test_what_is_not_served_is_refused_in_stripes_shape(asked: dict[str, str], status: int) -> None:
    got, headers, body = Asked(operation(echo))(**asked)  # type: ignore[arg-type]
    assert got == status
    assert headers["request-id"]
    assert json.loads(body)["error"]["message"]
    assert status != 405 or headers["allow"] == "GET"


@pytest.mark.parametrize("name", ["key", "api_key", "apikey", "access_token", "Key", "a=b&token"])
def test_s24_a_key_in_the_address_is_refused_and_never_logged(name: str) -> None:
    for path in ("/v1/try/1", "/v1/nothing"):
        asked = Asked(operation(echo))
        status, _, body = asked(path, query=f"{name}=sk_live_abc123")
        assert status == 400
        assert b"Authorization" in body
        assert "sk_live" not in body.decode() + "".join(asked.logged)


def test_s24_a_key_under_another_name_is_refused_too() -> None:
    assert Asked(operation(echo))(query="expand[]=rk_test_abc")[0] == 400


def test_s23_what_nobody_expected_stays_inside() -> None:
    async def fail(parts: Parts, call: Call) -> Answer:
        raise ValueError("SELECT secret FROM meterline.meter-events /var/lib")

    asked = Asked(operation(fail))
    status, headers, body = asked()
    assert status == 500
    said = body.decode() + str(headers)
    for word in ("SELECT", "meter-events", "/var", "ValueError", "Traceback", ".py"):
        assert word not in said
    assert headers["request-id"] in body.decode()
    assert any(headers["request-id"] in line and "SELECT secret" in line for line in asked.logged)


def test_s23_a_dependency_that_is_away_is_a_503_that_names_nothing() -> None:
    async def away(parts: Parts, call: Call) -> Answer:
        raise Unavailable("Kafka at kafka.internal:9092 did not acknowledge meterline.meter-events", 2.5)

    status, headers, body = Asked(operation(away))()
    assert (status, headers["retry-after"], headers["stripe-should-retry"]) == (503, "3", "true")
    assert b"kafka" not in body.lower()


def test_a_full_buffer_is_a_429() -> None:
    async def full(parts: Parts, call: Call) -> Answer:
        raise Overloaded("full")

    status, headers, _ = Asked(operation(full))()
    assert (status, headers["retry-after"], headers["stripe-rate-limited-reason"]) == (429, "1", "resource-specific")


def test_a_place_is_given_back_however_a_request_ends() -> None:
    async def fail(parts: Parts, call: Call) -> Answer:
        raise RuntimeError

    asked = Asked(operation(fail))
    assert {asked()[0] for _ in range(20)} == {500}, "a place was lost: that would be 429"


def test_expand_is_taken_everywhere_in_v1() -> None:
    async def expand(parts: Parts, call: Call) -> Answer:
        return Answer({"expand": list(call.expand)})

    body = Asked(operation(expand))(query="expand[]=product&expand[]=data.tiers")[2]
    assert json.loads(body) == {"expand": ["product", "data.tiers"]}


@pytest.mark.parametrize("name", ["authorization", "idempotency-key", "content-type"])
def test_a_header_that_decides_is_given_once(name: str) -> None:
    """Somebody in between may have looked at the other one."""
    asked = Asked(operation(echo))
    asked.more_headers = [(name.encode(), b"a"), (name.encode(), b"b")]
    status, _, body = asked()
    assert status == 400
    assert name in body.decode()
    asked.more_headers = [(b"x-trace", b"a"), (b"x-trace", b"b")]
    assert asked()[0] == 200


def test_an_idempotency_key_is_short_text() -> None:
    one = operation(echo, method="POST", fields={"name": Field(Text())})
    form = "application/x-www-form-urlencoded"
    assert Asked(one)(method="POST", body=b"name=a", content_type=form, idempotency_key="k" * 255)[0] == 200
    assert Asked(one)(method="POST", body=b"name=a", content_type=form, idempotency_key="k" * 256)[0] == 400


def test_metrics_are_what_prometheus_reads() -> None:
    metrics = Metrics()
    metrics.answered("create_meter", 200, 0.003)
    metrics.answered("create_meter", 200, 99.0)
    text = metrics.text({"meterline_gateway_requests_running": ("Now.", {"": 2.0})})
    assert 'meterline_gateway_requests_total{operation="create_meter",status="200"} 2' in text
    assert 'meterline_gateway_request_seconds_bucket{operation="create_meter",le="0.005"} 1' in text
    assert 'meterline_gateway_request_seconds_bucket{operation="create_meter",le="+Inf"} 2' in text
    assert "meterline_gateway_requests_running 2" in text
