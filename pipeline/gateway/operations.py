"""What an operation is.

Every resource module exports ``OPERATIONS``, a tuple of these rows, and may export ``SHAPES``:
JSON schemas by name, for the OpenAPI document. Routes, reading, scopes, the document and the tests' matrices are made
of the rows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.gateway.calls import Call
from pipeline.gateway.parameters import Field
from pipeline.gateway.parts import Parts

Face = Literal["v1", "v2", "meterline"]
"""The envelope and the encoding. v1: form bodies. v2 and meterline: JSON bodies; meterline has v1's errors."""

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """A success. ``body`` is written as JSON, in which a Decimal becomes a number with all its digits; bytes are sent
    as they are, as ``media_type``. ``replayed`` says that an earlier request had done it.
    """

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"
    replayed: bool = False


Handler = Callable[[Parts, Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One row: what is asked for, by whom, with what, and who answers.

    ``name``: unique, snake_case, the document's operationId. ``scope``: what the key must be allowed (a secret key is
    allowed everything); several, joined by ``|``: one of them suffices; None: anybody, without a key. ``fields``: the
    parameters, of the body for POST, of the query string for GET and DELETE. ``answer``: the schema of a success, or
    the name of one in SHAPES. ``session``: authenticated by a session token in place of a key. ``own_body``: the
    handler reads ``call.body`` itself, ``fields`` are for the document alone. ``writes``: it appends usage, or takes
    some back, and has places of its own, so that no number of slow questions keeps usage out. ``media_type``: of the
    success.
    """

    name: str
    method: Literal["GET", "POST", "DELETE"]
    path: str
    face: Face
    scope: str | None
    handler: Handler
    summary: str
    answer: Schema | str
    fields: Mapping[str, Field] = field(default_factory=dict)
    session: bool = False
    own_body: bool = False
    writes: bool = False
    media_type: str = "application/json"

    @property
    def has_body(self) -> bool:
        """Whether parameters come in the body; otherwise they come in the query string."""
        return self.method == "POST"

    def allows(self, scopes: frozenset[str]) -> bool:
        """Whether a key with these scopes may call this."""
        return self.scope is None or not scopes.isdisjoint(self.scope.split("|"))
