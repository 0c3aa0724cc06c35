"""Meterline: usage metering that can be proven.

``MeterlineProducer`` is the public client; everything else is reached through the ``meterline`` command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.kafka.client import MeterlineProducer

__all__ = ["MeterlineProducer"]


def __getattr__(name: str) -> Any:
    """Import the client when it is first asked for: a command that does not publish should not load librdkafka."""
    if name == "MeterlineProducer":
        from pipeline.kafka.client import MeterlineProducer  # noqa: PLC0415  # as the docstring says

        return MeterlineProducer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
