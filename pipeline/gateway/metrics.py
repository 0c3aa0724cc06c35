"""Counters of one gateway, and their text for Prometheus. Labels are names of operations and numbers, never a key."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Gauges = Mapping[str, tuple[str, Mapping[str, float]]]
"""By name: what it means, and its values by labels."""


class Metrics:
    """What was answered, and how long it took."""

    def __init__(self) -> None:
        self._answered: Counter[tuple[str, int]] = Counter()
        self._took: dict[str, list[int]] = {}
        self._sum_s: dict[str, float] = {}

    def answered(self, operation: str, status: int, took_s: float) -> None:
        """One answer more. This is the hot loop."""
        self._answered[operation, status] += 1
        buckets = self._took.get(operation)
        if buckets is None:
            buckets = self._took[operation] = [0] * (len(BUCKETS_S) + 1)
            self._sum_s[operation] = 0.0
        buckets[bisect_left(BUCKETS_S, took_s)] += 1
        self._sum_s[operation] += took_s

    def text(self, gauges: Gauges) -> str:
        """Prometheus' text format, with gauges of the moment."""
        lines = [
            "# HELP meterline_gateway_requests_total Requests answered, by operation and status.",
            "# TYPE meterline_gateway_requests_total counter",
        ]
        lines += [
            f'meterline_gateway_requests_total{{operation="{operation}",status="{status}"}} {count}'
            for (operation, status), count in sorted(self._answered.items())
        ]
        lines += [
            "# HELP meterline_gateway_request_seconds Time from a request's head to its answer.",
            "# TYPE meterline_gateway_request_seconds histogram",
        ]
        for operation, buckets in sorted(self._took.items()):
            count = 0
            for bound, more in zip((*map(str, BUCKETS_S), "+Inf"), buckets, strict=True):
                count += more
                lines.append(
                    f'meterline_gateway_request_seconds_bucket{{operation="{operation}",le="{bound}"}} {count}'
                )
            lines.append(
                f'meterline_gateway_request_seconds_sum{{operation="{operation}"}} {self._sum_s[operation]:.6f}'
            )
            lines.append(f'meterline_gateway_request_seconds_count{{operation="{operation}"}} {count}')
        for name, (meaning, values) in gauges.items():
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
            lines += [f"{name}{labels} {value:g}" for labels, value in values.items()]
        return "\n".join(lines) + "\n"
