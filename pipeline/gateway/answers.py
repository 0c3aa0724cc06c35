"""Answers as bytes and headers."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.types import Send

from pipeline.gateway.operations import Answer
from pipeline.gateway.problems import Problem

_ENCODER = msgspec.json.Encoder(decimal_format="number")
_JSON = b"application/json"


def encode(body: Any) -> bytes:
    """JSON; a Decimal becomes a number with all its digits."""
    return _ENCODER.encode(body)


async def send_answer(send: Send, answer: Answer, headers: list[tuple[bytes, bytes]]) -> int:
    """Send a success; ``headers`` are those that every answer of this request has. How many bytes the body has."""
    body = answer.body if isinstance(answer.body, bytes) else _ENCODER.encode(answer.body)
    headers.append((b"content-type", _JSON if answer.media_type == "application/json" else answer.media_type.encode()))
    if answer.replayed:
        headers.append((b"idempotent-replayed", b"true"))
    for name, text in answer.headers.items():
        headers.append((name.lower().encode(), text.encode("latin-1")))
    return await _send(send, answer.status, headers, body)


async def send_problem(send: Send, problem: Problem, face: str, headers: list[tuple[bytes, bytes]]) -> int:
    """Send a refusal in the envelope of ``face``."""
    headers.append((b"content-type", _JSON))
    said = {name.lower(): text for name, text in (problem.headers or {}).items()}
    if problem.status < 500:
        said.setdefault("stripe-should-retry", "true" if problem.status == 409 else "false")
    for name, text in said.items():
        headers.append((name.encode(), text.encode("latin-1")))
    return await _send(send, problem.status, headers, _ENCODER.encode(problem.body(face)))


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> int:
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return len(body)
