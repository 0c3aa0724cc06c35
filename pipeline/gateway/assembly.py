"""One gateway put together of its parts, and run."""

from __future__ import annotations

import functools
import logging

from pipeline.clickhouse.connection import ping
from pipeline.codec.records import Codec
from pipeline.errors import MeterlineError
from pipeline.gateway.adjustments import RecentAdjustments
from pipeline.gateway.answers import encode
from pipeline.gateway.app import App
from pipeline.gateway.catalog import CatalogMemory
from pipeline.gateway.core_events import CoreEvents
from pipeline.gateway.document import openapi
from pipeline.gateway.freshness import Freshness
from pipeline.gateway.journal import Journal
from pipeline.gateway.keys import KeyRing
from pipeline.gateway.live import LiveGeneration
from pipeline.gateway.page import page
from pipeline.gateway.parts import GatewaySettings, Parts
from pipeline.gateway.questions import Questions
from pipeline.gateway.recent import RecentEvents
from pipeline.gateway.relay import Relay
from pipeline.gateway.reports import Reports
from pipeline.gateway.request_log import RequestLog
from pipeline.gateway.routes import OPERATIONS, SHAPES
from pipeline.gateway.server import bound, serve
from pipeline.gateway.tokens import Tokens
from pipeline.gateway.watch import Watch
from pipeline.gateway.webhooks import Webhooks
from pipeline.kafka.acknowledged import Acknowledged
from pipeline.kafka.clock import here_ms
from pipeline.kafka.generations import GenerationLedger
from pipeline.kafka.reading import partitions_of
from pipeline.kafka.topics import Topics
from pipeline.logs import log_to_standard_error

_log = logging.getLogger("meterline.gateway")


def assemble(settings: GatewaySettings, codec: Codec) -> Parts:
    """All parts, connected and not yet started."""
    topics = Topics(settings.namespace)
    journal = Acknowledged(settings.kafka)
    catalog = CatalogMemory(settings.kafka, topics, codec, journal)
    keys = KeyRing(settings.secrets, catalog.api_key, here_ms, catalog.not_ready)
    core_events = CoreEvents(settings.kafka, topics, codec, journal)
    reports = Reports(core_events.announce, journal.clock)
    live = LiveGeneration(
        GenerationLedger(settings.kafka, settings.namespace, codec), settings.namespace, settings.rules
    )
    questions = Questions(settings.clickhouse, lambda: live.topics)
    freshness = Freshness(settings.kafka, lambda: questions.topics, journal.clock, event_log=settings.event_log)
    return Parts(
        settings=settings,
        codec=codec,
        topics=topics,
        clock=journal.clock,
        keys=keys,
        tokens=Tokens(settings.secrets, keys, here_ms),
        journal=journal,
        catalog=catalog,
        core_events=core_events,
        reports=reports,
        live=live,
        questions=questions,
        freshness=freshness,
        recent=RecentEvents(),
        recent_adjustments=RecentAdjustments(),
        services=(
            Watch("kafka", functools.partial(partitions_of, settings.kafka, topics.journal)),
            Watch("clickhouse", functools.partial(ping, settings.clickhouse), needed=False),
            Journal(journal),
            live,
            catalog,
            questions,
            freshness,
            core_events,
            Relay(settings.kafka, topics, codec),
            Webhooks(settings.webhooks, settings.kafka, topics, codec),
            reports,
        ),
    )


def run(settings: GatewaySettings, codec: Codec) -> int:
    """Serve until a signal ends it; the exit code. Raises MeterlineError when an address cannot be had."""
    log_to_standard_error()
    addresses = [settings.listen, *([settings.metrics] if settings.metrics else [])]
    sockets = []
    for host, port in addresses:
        try:
            sockets.append(bound(host, port))
        except OSError as error:
            raise MeterlineError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    host, port = sockets[0].getsockname()[:2]
    metrics_port = sockets[1].getsockname()[1] if settings.metrics else None
    parts = assemble(settings, codec)
    parts.document, parts.page = encode(openapi(OPERATIONS, SHAPES)), page(OPERATIONS).encode()
    app = App(parts, OPERATIONS, settings.requests_max, RequestLog(), metrics_port)
    where = f"listening on http://{host}:{port}, metrics on port {metrics_port}"
    return serve(app, sockets, lambda: _log.info(where))
