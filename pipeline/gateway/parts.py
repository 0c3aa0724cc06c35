"""What handlers work with: one bundle, put together once at the start (wiring.py) and handed to every handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.clickhouse.connection import Server
from pipeline.codec.records import Codec
from pipeline.domain.limits import FoldRules
from pipeline.gateway.calls import Caller
from pipeline.gateway.webhook_endpoints import Endpoint
from pipeline.kafka.topics import Topics

if TYPE_CHECKING:  # they import this module themselves
    from pipeline.gateway.adjustments import RecentAdjustments
    from pipeline.gateway.catalog import CatalogMemory
    from pipeline.gateway.core_events import CoreEvents
    from pipeline.gateway.freshness import Freshness
    from pipeline.gateway.live import LiveGeneration
    from pipeline.gateway.questions import Questions
    from pipeline.gateway.recent import RecentEvents
    from pipeline.gateway.reports import Reports
    from pipeline.gateway.tokens import Tokens
    from pipeline.kafka.acknowledged import Acknowledged


@dataclass(frozen=True, slots=True)
class Secrets:
    """The deployment's secrets by key id, the one that signs first; never in a log or a repr."""

    by_kid: Mapping[str, bytes] = field(repr=False)

    @property
    def signing_kid(self) -> str:
        return next(iter(self.by_kid))


Address = tuple[str, int]
"""Host and port; port 0 means any."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What one gateway is told. ``metrics`` is where Prometheus asks, apart from ``listen``; None: nowhere.
    ``requests_max``: requests at once. ``event_log``: whether the sink copies it.
    """

    kafka: Mapping[str, Any]
    namespace: str
    rules: FoldRules
    secrets: Secrets
    clickhouse: Server
    listen: Address = ("127.0.0.1", 0)
    metrics: Address | None = None
    requests_max: int = 256
    webhooks: tuple[Endpoint, ...] = ()
    event_log: bool = True


class Keys(Protocol):
    """Who is behind an Authorization header. Raises Problem 401, the same for every key that does not stand."""

    def authenticate(self, authorization: str | None) -> Caller: ...


class Service(Protocol):
    """A part with a life of its own: a reading thread, a producer, a dispatcher. Started in order before the first
    request, stopped in reverse after the last one. ``not_ready`` is None, or what it waits for, in plain words.
    """

    @property
    def name(self) -> str: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def not_ready(self) -> str | None: ...


@dataclass(slots=True)
class Parts:
    """``clock`` gives milliseconds since the epoch, by the brokers as far as is known. ``services`` are started and
    stopped with the gateway. ``document`` and ``page`` are what the gateway says of itself.
    """

    settings: GatewaySettings
    codec: Codec
    topics: Topics
    clock: Callable[[], int]
    keys: Keys
    tokens: Tokens
    journal: Acknowledged
    catalog: CatalogMemory
    questions: Questions
    freshness: Freshness
    core_events: CoreEvents
    reports: Reports
    live: LiveGeneration
    recent: RecentEvents
    recent_adjustments: RecentAdjustments
    services: tuple[Service, ...]
    document: bytes = b""
    page: bytes = b""
