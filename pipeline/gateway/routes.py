"""The one table of operations. A new resource module is one line here; nothing else registers a route."""

from __future__ import annotations

from types import ModuleType

from pipeline.gateway import (
    adjustment_reads,
    adjustments,
    charges,
    core_events,
    events,
    explanation,
    health,
    meter_usage,
    meters,
    plans,
    products,
    reference,
    sessions,
    snapshot_events,
    stream,
    summaries,
)
from pipeline.gateway.operations import Operation, Schema

MODULES: tuple[ModuleType, ...] = (
    meters,
    events,
    sessions,
    stream,
    adjustments,
    adjustment_reads,
    summaries,
    meter_usage,
    explanation,
    plans,
    products,
    charges,
    core_events,
    snapshot_events,
    reference,
    health,
)
"""In the order of the document."""

OPERATIONS: tuple[Operation, ...] = tuple(row for module in MODULES for row in module.OPERATIONS)

SHAPES: dict[str, Schema] = {name: shape for module in MODULES for name, shape in getattr(module, "SHAPES", {}).items()}
"""JSON schemas that operations name in ``answer``, for the document."""
