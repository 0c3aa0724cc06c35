"""The gateway at the level of sockets: hostile heads and bodies, silent clients, deadlines, its end.

Rows H3 to H6, S12, S24, S25.
"""

from __future__ import annotations

import gzip
import json
import re
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.gateway import server
from pipeline.gateway.request_body import BODY_BYTES_MAX
from tests.conftest import Stack
from tests.gateways import PATIENCE_S, GatewayHome, GatewayProcess, until


@pytest.fixture(scope="module")
def home(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHome]:
    with GatewayHome(stack, f"http{time.time_ns() % 10**9}", tmp_path_factory.mktemp("http")) as one:
        one.start()
        yield one


@pytest.fixture(scope="module")
def gateway(home: GatewayHome) -> GatewayProcess:
    return home._gateways[0]


@pytest.fixture(scope="module")
def key(home: GatewayHome, gateway: GatewayProcess) -> str:
    return home.new_key()


class SlowBody:
    """A request whose body never comes; on a thread, because that takes half a minute."""

    def __init__(self, gateway: GatewayProcess, key: str) -> None:
        self._request = post(key, b"a", FORM, "Content-Length: 1000")
        self._gateway = gateway
        self._answer, self._took_s = b"", 0.0
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        with connected(self._gateway) as connection:
            connection.settimeout(60)
            began = time.monotonic()
            connection.sendall(self._request)
            self._answer = all_of(connection)
            self._took_s = time.monotonic() - began

    def end(self) -> tuple[bytes, float]:
        """What the gateway said in the end, and after how many seconds."""
        self._thread.join()
        return self._answer, self._took_s


@pytest.fixture(scope="module", autouse=True)
def slow_body(gateway: GatewayProcess, key: str) -> SlowBody:
    """Begins with the first test and is looked at by one of the last."""
    return SlowBody(gateway, key)


def connected(gateway: GatewayProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=30)


def all_of(connection: socket.socket) -> bytes:
    """Everything until the gateway closes."""
    got = b""
    while True:
        try:
            piece = connection.recv(65_536)
        except ConnectionResetError:
            return got
        if not piece:
            return got
        got += piece


def said_to(gateway: GatewayProcess, request: bytes) -> bytes:
    """What comes back until the gateway closes; it must close by itself."""
    with connected(gateway) as connection:
        connection.sendall(request)
        return all_of(connection)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def statuses_in(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]


def post(key: str, body: bytes, *headers: str, path: str = "/v1/billing/meters") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Authorization: Bearer {key}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


FORM = "Content-Type: application/x-www-form-urlencoded"
GET = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"

SMUGGLED = {
    "Content-Length and Transfer-Encoding": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding and Content-Length": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "Content-Length twice": b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "two Content-Lengths": b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "a list of Content-Lengths": b"Content-Length: 3, 3\r\n\r\nabc",
    "Content-Length with a sign": b"Content-Length: +3\r\n\r\nabc",
    "Content-Length below zero": b"Content-Length: -3\r\n\r\nabc",
    "an empty Content-Length": b"Content-Length: \r\n\r\nabc",
    "an endless Content-Length": b"Content-Length: 99999999999999999999\r\n\r\nabc",
    "bare LF behind a header": b"X: y\nContent-Length: 3\r\n\r\nabc",
    "bare LF at the end of the head": b"Content-Length: 3\r\n\nabc",
    "bare CR in a header": b"X: y\rContent-Length: 3\r\n\r\nabc",
    "NUL in a header": b"X: a\x00b\r\n\r\n",
    "a folded header": b"X: y\r\n z\r\n\r\n",
    "a space before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "another coding": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "no coding that is known": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "bare LF behind a chunk's size": b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
    "a chunk's size that is none": b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "a chunk's size that is endless": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc",
    "a second Host": b"Host: b\r\n\r\n",
}


@pytest.mark.parametrize("rest", SMUGGLED.values(), ids=SMUGGLED.keys())
def test_h5_what_two_parsers_could_read_differently_is_refused(gateway: GatewayProcess, rest: bytes) -> None:
    """400, and the connection ends: what stands behind is never read as a request."""
    answer = said_to(gateway, b"POST /v1/billing/meters HTTP/1.1\r\nHost: a\r\n" + rest + GET)
    assert status_of(answer) == 400, answer
    assert len(statuses_in(answer)) == 1
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"


HEADS = {
    "no Host": b"GET /health/live HTTP/1.1\r\n\r\n",
    "no version": b"GET /health/live\r\n\r\n",
    "another version": b"GET /health/live HTTP/3.7\r\nHost: a\r\n\r\n",
    "HTTP/2 by surprise": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare LF all over": b"GET /health/live HTTP/1.1\nHost: a\n\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 40,
    "bytes in the path": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_h5_heads_that_are_none_are_refused(gateway: GatewayProcess, head: bytes) -> None:
    answer = said_to(gateway, head)
    assert status_of(answer) == 400, answer
    assert len(statuses_in(answer)) == 1


def test_h5_odd_but_honest_requests_are_answered(gateway: GatewayProcess) -> None:
    for head in (
        b"GET http://elsewhere/health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /health/live HTTP/1.0\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"\r\nGET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ):
        assert status_of(said_to(gateway, head)) == 200, head


def test_pipelined_requests_are_answered_in_order(gateway: GatewayProcess) -> None:
    last = b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = said_to(gateway, GET + GET + last)
    assert statuses_in(answer) == [200, 200, 404]


def test_a_bad_request_behind_a_good_one_does_not_cost_the_good_ones_answer(gateway: GatewayProcess, key: str) -> None:
    body = b"display_name=First&event_name=first&default_aggregation[formula]=sum"
    good = post(key, body, FORM, f"Content-Length: {len(body)}")
    assert statuses_in(said_to(gateway, good + b"GET / HTTP/1.1\nHost: a\n\n")) == [200]


def test_s12_a_large_head_is_refused(gateway: GatewayProcess) -> None:
    fits = b"X: " + b"a" * (server.HEAD_BYTES_MAX - 200) + b"\r\nConnection: close\r\n"
    assert status_of(said_to(gateway, GET[:-2] + fits + b"\r\n")) == 200
    for large in (
        b"X: " + b"a" * server.HEAD_BYTES_MAX + b"\r\n\r\n",
        b"".join(b"X%d: a\r\n" % number for number in range(3_000)) + b"\r\n",
        b"X: " + b"a" * 2_000_000,
    ):
        assert status_of(said_to(gateway, GET[:-2] + large)) == 431
    assert status_of(said_to(gateway, b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")) == 431


def test_h4_a_gigabyte_is_refused_before_it_comes(gateway: GatewayProcess, key: str) -> None:
    with connected(gateway) as connection:
        connection.sendall(post(key, b"a" * 1_000, FORM, f"Content-Length: {2**30}"))
        assert status_of(connection.recv(65_536)) == 413
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            connection.sendall(b"a" * 64 * BODY_BYTES_MAX)


def test_h4_an_honest_client_with_too_much_reads_why(gateway: GatewayProcess, key: str) -> None:
    """It has sent all before it looks at the answer; then it may go on."""
    large = post(key, b"a" * 3 * BODY_BYTES_MAX, FORM, f"Content-Length: {3 * BODY_BYTES_MAX}")
    assert statuses_in(said_to(gateway, large + GET[:-2] + b"Connection: close\r\n\r\n")) == [413, 200]


def test_h4_endless_chunks_are_cut(gateway: GatewayProcess, key: str) -> None:
    before_mb = gateway.resident_mb()
    with connected(gateway) as connection:
        connection.sendall(post(key, b"", FORM, "Transfer-Encoding: chunked"))
        sent = 0
        try:
            while sent < 64 * BODY_BYTES_MAX:
                connection.sendall(b"10000\r\n" + b"a" * 65_536 + b"\r\n")
                sent += 65_536
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert sent < 32 * BODY_BYTES_MAX, "the gateway reads on"
    assert gateway.resident_mb() - before_mb < 32


def test_h4_chunks_of_one_byte_and_endless_trailers_are_cut(gateway: GatewayProcess, key: str) -> None:
    for piece in (b"1;" + b"x" * 60_000 + b"\r\na\r\n", b"0\r\n" + b"".join(b"T%d: a\r\n" % n for n in range(5_000))):
        with connected(gateway) as connection:
            connection.sendall(post(key, b"", FORM, "Transfer-Encoding: chunked"))
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                connection.sendall(piece * (200_000_000 // len(piece)))


def test_h4_a_gzip_bomb_is_cut(gateway: GatewayProcess, key: str) -> None:
    bomb = gzip.compress(b"a" * 200_000_000)
    before_mb = gateway.resident_mb()
    length = f"Content-Length: {len(bomb)}"
    answer = said_to(gateway, post(key, bomb, FORM, "Content-Encoding: gzip", length, "Connection: close"))
    assert status_of(answer) == 413
    assert gateway.resident_mb() - before_mb < 32


def test_gzip_is_read(gateway: GatewayProcess, key: str) -> None:
    body = gzip.compress(b"display_name=Zipped&event_name=zipped&default_aggregation[formula]=sum")
    length = f"Content-Length: {len(body)}"
    answer = said_to(gateway, post(key, body, FORM, "Content-Encoding: gzip", length, "Connection: close"))
    assert status_of(answer) == 200, answer


def test_h6_a_client_that_goes_away_leaves_nothing(gateway: GatewayProcess, home: GatewayHome, key: str) -> None:
    body = b"display_name=Gone&event_name=gone&default_aggregation[formula]=sum"
    for sent in range(0, len(body), 11):
        with connected(gateway) as connection:
            connection.sendall(post(key, body[:sent], FORM, f"Content-Length: {len(body)}"))
    with home.client(key) as client:
        until(lambda: "status=499" in gateway.log, "the log tells of those who went away")
        assert all(meter["event_name"] != "gone" for meter in client.get("/v1/billing/meters").body["data"])


def test_h3_silent_clients_are_let_go_and_others_notice_nothing(gateway: GatewayProcess) -> None:
    """Two thousand connections that say nothing, or hardly anything; meanwhile everybody else is served."""
    with ExitStack() as opened:
        silent = [opened.enter_context(connected(gateway)) for _ in range(700)]
        slow = [opened.enter_context(connected(gateway)) for _ in range(700)]
        kept = [opened.enter_context(connected(gateway)) for _ in range(600)]
        for connection in slow:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: ")
        for connection in kept:
            connection.sendall(GET)
        began, rounds = time.monotonic(), 0
        left = set(silent + slow + kept)
        while left and time.monotonic() - began < PATIENCE_S:
            assert status_of(said_to(gateway, GET[:-2] + b"Connection: close\r\n\r\n")) == 200
            rounds += 1
            if rounds % 5 == 0:
                for connection in slow:
                    if connection in left:
                        try:
                            connection.sendall(b"a")
                        except OSError:
                            left.discard(connection)
            left -= {one for one in _readable(left) if _ended(one)}
            time.sleep(0.2)
        assert not left, f"{len(left)} connections are still open"


def _readable(connections: set[socket.socket]) -> list[socket.socket]:
    poll = select.poll()
    by_number = {one.fileno(): one for one in connections}
    for number in by_number:
        poll.register(number, select.POLLIN | select.POLLHUP)
    return [by_number[number] for number, _ in poll.poll(0)]


def _ended(connection: socket.socket) -> bool:
    """Reads what is there; whether that was the end."""
    try:
        return connection.recv(65_536) == b""
    except ConnectionResetError:
        return True


def test_h3_a_slow_body_has_a_deadline_too(slow_body: SlowBody) -> None:
    answer, took_s = slow_body.end()
    assert status_of(answer) == 408
    assert took_s > server.BODY_WITHIN_S - 1


def test_s25_metrics_are_elsewhere(gateway: GatewayProcess) -> None:
    assert status_of(said_to(gateway, b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")) == 404
    text = gateway.metrics()
    assert 'meterline_gateway_requests_total{operation="get_health_live",status="200"}' in text
    assert "sk_test_" not in text
    with socket.create_connection(("127.0.0.1", int(gateway.metrics_url.rpartition(":")[2].split("/")[0]))) as other:
        other.sendall(b"GET /v1/billing/meters HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert status_of(all_of(other)) == 404


def test_s24_no_key_is_in_the_log(gateway: GatewayProcess, home: GatewayHome, key: str) -> None:
    said_to(gateway, f"GET /v1/plans?key={key} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    said_to(gateway, f"GET /v1/{key} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    with home.client(key) as client:
        client.get("/v1/billing/meters")
        request_id = client.get("/v1/billing/meters").headers["request-id"]
    until(lambda: request_id in gateway.log, "the request is logged")
    assert key not in gateway.log
    assert key[12:40] not in gateway.log


def test_sigterm_lets_it_finish_what_it_has_begun(home: GatewayHome, key: str) -> None:
    gateway = home.start()
    body = b"display_name=Last&event_name=last&default_aggregation[formula]=sum"
    with connected(gateway) as working, connected(gateway) as idle, connected(gateway) as silent:
        idle.sendall(GET)
        answer = b""
        while not answer.endswith(b"}"):
            answer += idle.recv(65_536)
        working.sendall(post(key, body[:20], FORM, f"Content-Length: {len(body)}"))
        silent.sendall(b"GET /health")
        time.sleep(0.3)  # so that the gateway has begun with it
        began = time.monotonic()
        gateway.run.send_signal(signal.SIGTERM)
        until(lambda: _refuses(gateway), "nothing new is accepted")
        working.sendall(body[20:])
        answer = all_of(working)
        assert status_of(answer) == 200, answer
        assert b"connection: close" in answer
        assert all_of(idle) == b""
        assert all_of(silent) == b""
    assert gateway.run.wait(30) == 0
    assert time.monotonic() - began < 10.0


def _refuses(gateway: GatewayProcess) -> bool:
    try:
        connected(gateway).close()
    except ConnectionRefusedError:
        return True
    return False


def test_sigterm_does_not_wait_for_a_client_that_never_finishes(home: GatewayHome, key: str) -> None:
    gateway = home.start()
    with connected(gateway) as stuck:
        stuck.sendall(post(key, b"a", FORM, "Content-Length: 1000"))
        time.sleep(0.3)
        assert gateway.stop() < 10.0


def test_an_address_that_is_taken_is_said(home: GatewayHome, gateway: GatewayProcess, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="cannot listen on"):
        home.start(GATEWAY_LISTEN=f"127.0.0.1:{gateway.port}")
