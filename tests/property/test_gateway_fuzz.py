"""FAULTS S19: whatever bytes come, every decoder of the gateway ends soon: with what it read, or with a refusal."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Callable
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.gateway.forms import read_form
from pipeline.gateway.keys import credential_of
from pipeline.gateway.moments import moment_ms
from pipeline.gateway.problems import Problem
from pipeline.gateway.request_body import BODY_BYTES_MAX, _decompressed
from pipeline.gateway.stream import _events_in
from pipeline.gateway.strict_json import read_json
from pipeline.gateway.usage import Said, said_of

CPU_S_MAX = 0.1
TRIES = 5
EXAMPLES = 400

PIECES = [b'{"a":' * 50, b"[" * 50, b"9" * 500, b"null", b"true", b"NaN", b'"a"', b'"events"', b'"payload"', b"\\ud800"]
PIECES += [
    b"\xff",
    b"\xed\xa0\x80",
    b"\x00",
    b'"event_name"',
    b'"value"',
    *(b"%c" % byte for byte in b'{}[]",:\\ \n09.eE+-&=%'),
]
pieces = st.sampled_from(PIECES)
bodies = st.binary(max_size=2_000) | st.lists(pieces, max_size=60).map(b"".join)


def refused_or_read(read: Callable[[Any], Any], raw: Any) -> Any:
    """What was read; None for a refusal. Any other exception is a fault, and so is taking long.

    Long is what takes long each time: now and then the cycle collector looks through all that the tests hold.
    """
    for _ in range(TRIES):
        start, refusal, found = time.thread_time(), None, None
        try:
            found = read(raw)
        except Problem as problem:
            refusal = problem
        if time.thread_time() - start < CPU_S_MAX:
            break
    else:
        raise AssertionError(f"took more than {CPU_S_MAX} s of CPU, {TRIES} times")
    assert refusal is None or (400 <= refusal.status < 500 and len(refusal.message) < 1_000)
    return found


@settings(max_examples=EXAMPLES, deadline=None)
@given(bodies)
@example(b"[" * 500_000)
@example(b'{"a":' * 200_000)
@example(b"9" * 100_000)
@example(b'"' + b"\\u0041" * 100_000 + b'"')
@example(b"1e" + b"9" * 50_000)
def test_s19_json(body):
    read = refused_or_read(read_json, body)
    if read is not None:
        json.dumps(read).encode()


@settings(max_examples=EXAMPLES, deadline=None)
@given(bodies)
@example(b"a" + b"[b]" * 100_000 + b"=1")
@example(b"&".join(b"a[%d]=1" % number for number in range(50_000)))
@example(b"%" * 500_000)
@example(b"a=" + b"%41" * 200_000)
def test_s19_forms(body):
    refused_or_read(read_form, body)


@settings(max_examples=EXAMPLES, deadline=None)
@given(bodies | bodies.map(gzip.compress) | bodies.map(zlib.compress))
@example(gzip.compress(bytes(200 * BODY_BYTES_MAX)))
@example(gzip.compress(gzip.compress(bytes(BODY_BYTES_MAX))) * 2)
def test_s19_gzip(body):
    read = refused_or_read(_decompressed, body)
    assert read is None or len(read) <= BODY_BYTES_MAX


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    bodies
    | st.recursive(st.none() | st.text(max_size=5) | st.integers(), st.lists).map(
        lambda events: json.dumps({"events": events}).encode()
    )
)
def test_s19_streams(body):
    for raw in refused_or_read(_events_in, body) or ():
        said = refused_or_read(lambda one: said_of(one, "events[0]"), raw)
        assert said is None or isinstance(said, Said)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.text(max_size=300) | bodies.map(lambda body: body.decode("latin-1")))
@example("Basic " + "A" * 100_000)
@example("2026-01-31T12:00:00." + "9" * 100_000 + "Z")
def test_s19_headers_and_times(text):
    assert isinstance(refused_or_read(credential_of, text), str)
    assert isinstance(refused_or_read(credential_of, f"Basic {text}"), str)
    found = refused_or_read(moment_ms, text)
    assert found is None or isinstance(found, int)
