"""A worker whose store fills up: its memory at the end, and its rate there beside the one at the beginning."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from benchmarks.figures import MEGABYTES, RATIO, Figure, Outcome, Target, at_most
from benchmarks.measuring import Moment, Rate, peak_memory_mb
from benchmarks.stage import Deployment, Progress, RoleProcess, Stage, until
from benchmarks.worker import check_published
from benchmarks.workload import HOT, write_journal

_SHARE = 0.1
"""The first and the last tenth are compared."""
_SAMPLE_EVERY_S = 0.25


class _Sample(NamedTuple):
    committed: int
    moment: Moment
    memory_mb: float
    """Most so far."""


def measure(stage: Stage, records: int) -> Outcome:
    with stage.deployment("long") as deployment:
        deployment.say(f"long: writing {records:,} records")
        usage = write_journal(deployment.config, deployment.topics.journal, HOT, records)
        deployment.say("long: folding")
        samples = _fold(deployment)
        deployment.say("long: checking the sums")
        exact = check_published(deployment, usage)
    first = _rate_between(samples, 0, round(_SHARE * records))
    last = _rate_between(samples, round((1 - _SHARE) * records), records)
    figures = [
        *first.figures("long", "the first tenth"),
        *last.figures("long", "the last tenth"),
        Figure("long", "last to first, CPU", last.per_cpu_s / first.per_cpu_s, RATIO, Target(0.7)),
        Figure("long", "last to first, wall", last.per_s / first.per_s, RATIO),
        Figure("long", "most memory, the first tenth", _memory_at(samples, first.records), MEGABYTES),
        Figure("long", "most memory", samples[-1].memory_mb, MEGABYTES, at_most(1_500.0)),
    ]
    return Outcome(figures, exact)


def _fold(deployment: Deployment) -> list[_Sample]:
    """Where the worker stood when, until it has committed all."""
    progress = Progress(deployment, "worker", deployment.topics.journal)
    goal = progress.end()
    with deployment.run("worker") as worker:
        worker.await_log("took over")
        samples = [_Sample(0, Moment.now(worker.pid), peak_memory_mb(worker.pid))]
        until(lambda: _sample(worker, progress, samples) >= goal, f"{goal:,} records are folded", _SAMPLE_EVERY_S)
    progress.close()
    return samples


def _sample(worker: RoleProcess, progress: Progress, samples: list[_Sample]) -> int:
    """Note down where the worker stands, if it has moved."""
    worker.checked_log()
    committed = progress.committed()
    if committed > samples[-1].committed:
        samples.append(_Sample(committed, Moment.now(worker.pid), peak_memory_mb(worker.pid)))
    return committed


def _memory_at(samples: list[_Sample], records: int) -> float:
    return next(sample.memory_mb for sample in samples if sample.committed >= records)


def _rate_between(samples: list[_Sample], start: int, end: int) -> Rate:
    """The rate from record ``start`` to ``end``; between two samples it is taken as even."""
    committed = [sample.committed for sample in samples]
    wall_s, cpu_s = (
        np.interp([start, end], committed, clock)
        for clock in ([sample.moment.wall_s for sample in samples], [sample.moment.cpu_s for sample in samples])
    )
    return Rate(end - start, float(wall_s[1] - wall_s[0]), float(cpu_s[1] - cpu_s[0]))
