"""``python -m tests.soak --minutes 60``: steady usage through gateway, worker and sink, whose memory must stay flat.

Sampled every ten seconds beside what each group is behind; judged after the warm-up (memory.py). At the end every event
that was answered 200 stands in the summaries, to the unit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.gateway import (
    EVENT_NAME,
    EVENTS_PER_CALL,
    STREAM,
    Answered,
    Gateway,
    running,
    session_token,
)
from benchmarks.machine import circumstances
from benchmarks.stage import Deployment, Progress, RoleProcess, own_stage, until
from pipeline.clickhouse.connection import connect
from tests.chaos.drawing import Line, lines, page
from tests.soak.memory import GROWTH_MAX, Growth, Sample, growth

EVENTS_PER_S = 5_000
EVERY_S = 10.0
SLICE_S = 300.0
"""A third of a session's life: each slice has a token of its own."""


class Came(NamedTuple):
    """Of one soak."""

    seconds: float
    answered: list[Answered]
    memory: dict[str, list[Sample]]
    """By role."""
    behind: dict[str, list[tuple[float, float]]]
    """Records of the journal that the group has not committed, by role, over time."""

    @property
    def events(self) -> int:
        return sum(one.events for one in self.answered)

    def growths(self) -> dict[str, Growth]:
        return {role: growth(samples, self.seconds) for role, samples in self.memory.items()}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=EVENTS_PER_S, help="events a second")
    parser.add_argument("--report", type=Path, default=Path("soak-report"), help="directory for what it writes")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of every finally: nothing is left running
    with own_stage(_say) as stage, stage.deployment("soak") as deployment, _pipeline(deployment) as processes:
        came = soak(deployment, processes, 60.0 * given.minutes, given.rate)
        _say("comparing what was answered with what was counted")
        exact = compared(deployment, processes, came)
    _write(given.report, came, exact)
    print(_told(came, exact))
    return int(not exact or not all(one.is_flat for one in came.growths().values()))


class Processes(NamedTuple):
    gateway: Gateway
    worker: RoleProcess
    sink: RoleProcess

    def by_role(self) -> dict[str, RoleProcess]:
        return {"gateway": self.gateway.process, "worker": self.worker, "sink": self.sink}


@contextlib.contextmanager
def _pipeline(deployment: Deployment) -> Iterator[Processes]:
    with deployment.run("worker") as worker, deployment.run("sink") as sink, running(deployment) as gateway:
        worker.await_group()
        sink.await_group()
        yield Processes(gateway, worker, sink)


def soak(deployment: Deployment, processes: Processes, seconds: float, per_s: int) -> Came:
    """Raises when a process ends, or a request is not answered 200."""
    came = Came(seconds, [], {role: [] for role in processes.by_role()}, {"worker": [], "sink": []})
    failed: list[BaseException] = []
    sending = threading.Thread(target=_send, args=(processes.gateway, came, per_s, failed), daemon=True)
    progress = {role: Progress(deployment, role, deployment.topics.journal) for role in came.behind}
    began = said = time.monotonic()
    sending.start()
    while sending.is_alive():
        sending.join(EVERY_S)
        at_s = time.monotonic() - began
        for role, process in processes.by_role().items():
            process.checked_log()
            came.memory[role].append(Sample.of(process.pid, at_s))
        for role, one in progress.items():
            came.behind[role].append((at_s, float(one.end() - one.committed())))
        if time.monotonic() > said + 60.0:
            said = time.monotonic()
            _say(
                f"{at_s / 60:.0f} min: "
                + ", ".join(f"{role} {_brief(samples)}" for role, samples in came.memory.items())
            )
    for one in progress.values():
        one.close()
    if failed:
        raise failed[0]
    return came


def _brief(samples: Sequence[Sample]) -> str:
    return f"{samples[-1].resident_mb:.0f} MB ({samples[-1].anonymous_mb:.0f} its own)"


def _send(gateway: Gateway, came: Came, per_s: int, failed: list[BaseException]) -> None:
    try:
        left_s = came.seconds
        while left_s > 0:
            fresh = gateway._replace(token=session_token(gateway.port, gateway.key))
            came.answered.append(fresh.load(STREAM, min(SLICE_S, left_s), per_s / EVENTS_PER_CALL))
            left_s -= SLICE_S
    except BaseException as error:  # raised again where the soak is watched
        failed.append(error)


def compared(deployment: Deployment, processes: Processes, came: Came) -> bool:
    """Whether the tables say what was answered: as many events, the same sum."""
    for role in (processes.worker, processes.sink):
        for topic in (deployment.topics.journal, deployment.topics.summaries)[: 1 if role.role == "worker" else 2]:
            progress = Progress(deployment, role.role, topic)
            progress.await_end(role)
            progress.close()
    wanted = came.events, sum(one.units for one in came.answered)
    sql = "SELECT sum(count), toInt64(sum(sum)) FROM summary_shards FINAL WHERE event_name = {name:String}"

    def counted() -> tuple[int, int]:
        with connect(deployment.server) as client:
            ((events, units),) = client.query(sql, parameters={"name": EVENT_NAME}).result_rows
        return int(events), int(units)

    until(lambda: counted()[0] >= wanted[0], "all events are in the tables")
    return counted() == wanted


def _told(came: Came, exact: bool) -> str:
    rate = came.events / sum(one.wall_s for one in came.answered)
    rows = [f"{came.events:,} events in {came.seconds / 60:.0f} minutes, {rate:,.0f} a second; sums equal: {exact}"]
    for role, one in came.growths().items():
        verdict = "flat" if one.is_flat else f"NOT flat (target: under {GROWTH_MAX:g} %)"
        rows.append(
            f"{role}: {one.median_mb:.0f} MB, {one.percent_an_hour:+.2f} % an hour after the warm-up"
            f" ({one.anonymous_percent_an_hour:+.2f} % without pages of files), {verdict}"
        )
    for role, behind in came.behind.items():
        rows.append(f"{role}: at most {max((one for _, one in behind), default=0):,.0f} records behind")
    return "\n".join(rows)


def _write(directory: Path, came: Came, exact: bool) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    figures = circumstances() | {
        "seconds": came.seconds,
        "events": came.events,
        "exact": exact,
        "p99_ms": [one.p99_ms for one in came.answered],
        "growth": {role: one._asdict() for role, one in came.growths().items()},
        "memory": came.memory,
        "behind": came.behind,
    }
    (directory / "soak.json").write_text(json.dumps(figures, indent=1) + "\n")
    series = [Line(role, [one[:2] for one in samples]) for role, samples in came.memory.items()]
    behind = [Line(role, points) for role, points in came.behind.items()]
    panels = [
        lines("resident memory, MB:", series, came.seconds, height=260),
        lines("journal records not committed yet:", behind, came.seconds),
    ]
    (directory / "soak.svg").write_text(page(panels, f"{came.events:,} events in {came.seconds / 60:.0f} minutes"))


def _say(what: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what}\n")


if __name__ == "__main__":
    sys.exit(main())
