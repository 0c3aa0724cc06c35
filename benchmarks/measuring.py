"""What a stretch of work costs: wall time, and CPU time of the one process that does it."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from benchmarks.figures import PER_CPU_S, RECORDS_PER_S, Figure, Target

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """CPU time of a process so far, user and system, all its threads. Linux only; 10 ms resolution."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def peak_memory_mb(pid: int) -> float:
    """Most memory that a process had resident so far, in 10^6 bytes."""
    match = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert match, "a live process has a peak"
    return int(match[1]) * 1024 / 1e6


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """Where two clocks stood."""

    wall_s: float
    cpu_s: float

    @classmethod
    def now(cls, pid: int | None = None) -> Self:
        """``pid``: whose CPU time; None: this process's."""
        return cls(time.monotonic(), time.process_time() if pid is None else cpu_s(pid))

    def until(self, later: Moment, records: int) -> Rate:
        return Rate(records, later.wall_s - self.wall_s, later.cpu_s - self.cpu_s)


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """So many records, in so much time."""

    records: int
    wall_s: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        return self.records / self.wall_s

    @property
    def per_cpu_s(self) -> float:
        return self.records / max(self.cpu_s, 1 / _TICKS_PER_S)

    @property
    def cpu_ms(self) -> float:
        """Of one."""
        return self.cpu_s / self.records * 1000

    def figures(
        self, benchmark: str, what: str, wall_target: Target | None = None, cpu_target: Target | None = None
    ) -> list[Figure]:
        return [
            Figure(benchmark, f"{what}, wall", self.per_s, RECORDS_PER_S, wall_target),
            Figure(benchmark, f"{what}, CPU", self.per_cpu_s, PER_CPU_S, cpu_target),
        ]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
