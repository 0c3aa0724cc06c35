"""A request as a handler sees it: read, checked, authenticated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pipeline.gateway.operations import Operation


class Caller(Protocol):
    """Who asks: an API key, or a session that stands for one. The key's mode is the mode of all it sees and makes."""

    @property
    def id(self) -> str: ...

    @property
    def livemode(self) -> bool: ...

    @property
    def scopes(self) -> frozenset[str]: ...


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``given`` holds the parameters that came, validated by the operation's fields: times in int
    milliseconds, decimals as Decimal, a cleared field as None. ``body`` is the body after decompression.
    """

    operation: Operation
    key: Caller
    path: Mapping[str, str]
    given: Mapping[str, Any]
    body: bytes
    idempotency_key: str | None
    request_id: str
    now_ms: int
    expand: tuple[str, ...] = ()
    accept: str = ""
