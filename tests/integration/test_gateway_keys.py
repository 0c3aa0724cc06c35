"""Keys and tokens through real gateways: what they may, what they see, and how soon they end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from pipeline import wiring
from pipeline.gateway.credentials import face_of
from pipeline.gateway.keys import SCOPES
from pipeline.gateway.routes import OPERATIONS
from pipeline.kafka.reading import read
from tests.answers import Answer, Client
from tests.conftest import Stack
from tests.gateways import GatewayHome, until

ASKED = "/v1/billing/meters"


@pytest.fixture(scope="module")
def home(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHome]:
    directory = tmp_path_factory.mktemp("keys")
    with GatewayHome(stack, f"t_keys_{uuid.uuid4().hex[:12]}", directory) as home:
        home.start()
        home.start()
        yield home


def keys_command(home: GatewayHome, *arguments: str, code: int = 0) -> tuple[str, str]:
    """(standard output, standard error) of ``meterline keys ...``."""
    argv = [sys.executable, "-m", "pipeline.cli", "keys", *arguments]
    ran = subprocess.run(argv, env=home.environ, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == code, ran.stderr
    return ran.stdout, ran.stderr


def asked_of_all(home: GatewayHome, key: str) -> list[int]:
    """What each gateway answers to a plain question with this key."""
    statuses = []
    for gateway in home._gateways:
        with home.client(key, gateway) as client:
            statuses.append(client.get(ASKED).status)
    return statuses


def await_statuses(home: GatewayHome, key: str, status: int) -> None:
    until(lambda: set(asked_of_all(home, key)) == {status}, f"every gateway answers {status}")


def test_a_key_is_alone_on_standard_output_and_known_everywhere(home):
    out, err = keys_command(home, "create", "--mode", "live", "--name", "billing")
    key = out.strip()
    assert out == key + "\n"
    assert re.fullmatch(r"sk_live_[0-9A-Za-z]{50}", key)
    assert "only time" in err
    assert key not in err
    await_statuses(home, key, 200)
    listed, _ = keys_command(home, "list", "--json")
    (one,) = [one for one in map(json.loads, listed.splitlines()) if one["name"] == "billing"]
    assert (one["livemode"], one["kind"], one["state"]) == (True, "secret", "stands")
    assert one["hint"].startswith("sk_live_")
    assert key not in listed


def test_s1_nothing_that_is_stored_contains_a_key(home):
    """FAULTS S1: the whole catalog topic, byte for byte."""
    keys = [keys_command(home, "create")[0].strip() for _ in range(2)]
    stored = b"".join(
        (record.key or b"") + (record.value or b"")
        for record in read(wiring.quiet_kafka(home.settings), home.topics.catalog, "beginning")
    )
    for key in keys:
        face = face_of(key)
        assert face is not None
        assert face.id.encode() in stored
        assert key.encode() not in stored
        assert key[20:-6].encode() not in stored


def test_s6_a_revoked_key_and_its_sessions_end_everywhere_within_five_seconds(home):
    """FAULTS S6, S9: on both gateways, the derived token included."""
    key = home.new_key()
    with home.client(key) as client:
        token = client.json("/v2/billing/meter_event_session", {}).body["authentication_token"]
    assert set(asked_of_all(home, key)) == {200}
    face = face_of(key)
    assert face is not None
    keys_command(home, "revoke", face.id)
    await_statuses(home, key, 401)
    for gateway in home._gateways:
        with home.client(token, gateway) as client:
            refused = client.json("/v2/billing/meter_event_stream", {"events": [{}]})
        assert refused.status == 401
    said = keys_command(home, "revoke", face.id, code=2)[1]
    assert "revoked already" in said


def test_s6_rolled_under_load_the_old_key_never_fails_before_its_end_and_always_after(home):
    """FAULTS S6: 0 refusals until the overlap is over, nothing but refusals from then on."""
    old = home.new_key()
    face = face_of(old)
    assert face is not None
    asked: list[tuple[float, int, float]] = []
    over = threading.Event()

    def use(gateway) -> None:
        with home.client(old, gateway) as client:
            while not over.is_set():
                began = time.time()
                status = client.get(ASKED).status
                asked.append((began, status, time.time()))
                time.sleep(0.005)

    users = [threading.Thread(target=use, args=(gateway,)) for gateway in home._gateways]
    for user in users:
        user.start()
    out, _ = keys_command(home, "roll", face.id, "--overlap", "3s")
    new = out.strip()
    await_statuses(home, new, 200)
    listed = [json.loads(line) for line in keys_command(home, "list", "--json")[0].splitlines()]
    ends_s = next(one["expires_at"] for one in listed if one["id"] == face.id) / 1000
    time.sleep(max(0.0, ends_s + 1.5 - time.time()))
    over.set()
    for user in users:
        user.join()
    before = [status for _, status, ended in asked if ended < ends_s]
    after = [status for began, status, _ in asked if began > ends_s + 0.01]
    assert len(before) > 20
    assert set(before) == {200}
    assert len(after) > 5
    assert {status for status in after if status != 429} == {401}
    assert set(asked_of_all(home, new)) == {200}


def sent_with(client: Client, operation, path: str, fields: dict | None = None) -> Answer:
    """A request that has gone past authentication and scope as soon as it is answered with anything but 401 or 403."""
    if operation.method == "GET":
        return client.get(path, **(fields or {}))
    if operation.method == "DELETE":
        return client.delete(path, **(fields or {}))
    return client.form(path, **(fields or {})) if operation.face == "v1" else client.json(path, fields or {})


def filled(path: str) -> str:
    return re.sub(r"\{\w+\}", "nothing", path)


KEYED = [operation for operation in OPERATIONS if operation.scope is not None and not operation.session]


def test_s4_every_operation_lets_in_exactly_the_scopes_that_its_row_names(home):
    """FAULTS S4: scope by route, denied by default; a secret key passes everywhere."""
    wanted = {operation.name: set((operation.scope or "").split("|")) for operation in KEYED}
    assert all(scopes <= set(SCOPES) for scopes in wanted.values())
    for scope in (*SCOPES, None):
        key = home.new_key(scopes=[scope] if scope else [])
        with home.client(key) as client:
            for operation in KEYED:
                answer = sent_with(client, operation, filled(operation.path))
                denied = answer.status == 403
                assert denied == (scope not in wanted[operation.name]), (
                    f"{scope} on {operation.name}: {answer.content!r}"
                )
                assert answer.status != 401
    with home.client(home.new_key()) as client:
        for operation in KEYED:
            assert sent_with(client, operation, filled(operation.path)).status not in (401, 403), operation.name


def test_s9_a_session_token_opens_nothing_but_the_stream_and_mints_nothing(home):
    """FAULTS S9: and a key does not open the stream."""
    key = home.new_key()
    with home.client(key) as client:
        token = client.json("/v2/billing/meter_event_session", {}).body["authentication_token"]
        assert client.json("/v2/billing/meter_event_stream", {"events": [{}]}).status == 401
    with home.client(token, home._gateways[1]) as client:
        for operation in KEYED:
            assert sent_with(client, operation, filled(operation.path)).status in (401, 429), operation.name
        assert client.json("/v2/billing/meter_event_stream", {"events": [{}]}).status == 400, "let in, and read"


def test_s8_every_wrong_token_gets_one_answer(home):
    """FAULTS S8: nothing about a token can be learnt from its refusal."""
    with home.client(home.new_key()) as client:
        token = client.json("/v2/billing/meter_event_session", {}).body["authentication_token"]
    wrong = [
        token[:-1],
        token + "A",
        token.swapcase(),
        "mss_",
        "x",
        token.replace(".", "..", 1),
        "eyJhbGciOiJub25lIn0.e30.",
    ]
    bodies = set()
    for bad in wrong:
        with home.client(bad) as client:
            answer = client.json("/v2/billing/meter_event_stream", {"events": [{}]})
        if answer.status != 429:
            assert answer.status == 401
            bodies.add(answer.content)
    assert len(bodies) == 1
    with home.client("x" * 64_000) as client:
        assert client.json("/v2/billing/meter_event_stream", {"events": [{}]}).status in (400, 401, 431)


def test_a_key_that_expires_is_refused_from_then_on(home):
    key = keys_command(home, "create", "--expires-in", "15s")[0].strip()
    made = time.time()
    await_statuses(home, key, 200)
    time.sleep(max(0.0, made + 15 - time.time()))
    assert set(asked_of_all(home, key)) == {401}


def test_commands_say_what_is_wrong(home):
    assert "there is no key" in keys_command(home, "roll", "key_nothing", code=2)[1]
    assert "--expires-in" in keys_command(home, "create", "--expires-in", "soon", code=2)[1]
    assert "--overlap" in keys_command(home, "roll", "key_nothing", "--overlap", "-1", code=2)[1]
    without = {name: text for name, text in home.environ.items() if name != "METERLINE_GATEWAY_SECRETS"}
    argv = [sys.executable, "-m", "pipeline.cli", "keys", "create"]
    ran = subprocess.run(argv, env=without, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert "METERLINE_GATEWAY_SECRETS" in ran.stderr
