"""One run: load and faults side by side, then heal, wait until nothing is left to do, and compare everything."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.clickhouse.connection import connect
from tests.chaos import evidence, ledger
from tests.chaos.checker import AUDIT, UNEQUAL, Anomaly, Evidence, check
from tests.chaos.kept import Surprise
from tests.chaos.ledger import Ledger
from tests.chaos.load import Load
from tests.chaos.nemesis import Nemesis, Struck
from tests.chaos.site import Shape, Site, standing
from tests.chaos.watch import Sample, Watch
from tests.gate import Door
from tests.sinks import SinkGroup
from tests.workers import until

SETTLES_WITHIN_S = 300.0
SENT_BY = 0.8
"""Share of the time after which all events are sent, if nothing holds them up."""
OVERTIME = 3.0
"""A run that takes so many times its minutes is stopped, and says what is missing."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run is to do. ``kills``: by kind of process, at least."""

    minutes: float
    events: int
    seed: int
    kills: Mapping[str, int]
    shape: Shape
    others: float = 0.3
    """Share of the faults that kill nobody of these."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of it. Times are of the monotonic clock, in seconds."""

    plan: Plan
    began: float
    took_s: float
    """Load and faults; without the start and the comparing."""
    settled_s: float
    samples: list[Sample]
    struck: list[Struck]
    kills: Counter[str]
    surprises: list[Surprise]
    evidence: Evidence
    rebuilt: str
    audited: str
    anomalies: list[Anomaly]

    @property
    def events(self) -> Counter[str]:
        """By the last word on them: ok, info, fail."""
        return Counter(status for status, _ in self.evidence.book.events.values())

    @property
    def adjustments(self) -> Counter[str]:
        return Counter(self.evidence.book.adjustments.values())


def run(plan: Plan, home: Path, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """Raises what broke the run itself; what is wrong with the numbers are anomalies."""
    say = _timed(say)
    say("starting brokers, ClickHouse, workers, sink and gateways")
    path = home / "ledger.tsv"
    with standing(home / "site", plan.shape) as site:
        began = time.monotonic()
        with Ledger(path) as book:
            watch, nemesis = _strike(plan, site, book, say)
        took_s = time.monotonic() - began
        _heal(site)
        say(f"load and faults are over after {took_s:.0f} s; waiting until nothing is left to do")
        settling = time.monotonic()
        _settle(site)
        settled_s = time.monotonic() - settling
        say("comparing the ledger, the topics and the tables")
        found = _evidence(site, path)
        anomalies = [*watch.anomalies, *check(found)]
        say("meterline audit")
        audited, wrong = _audited(site, home / "audit.json")
        anomalies += wrong
        say("meterline rebuild")
        rebuilt, wrong = _rebuilt(site)
        anomalies += wrong
        return Outcome(
            plan,
            began,
            took_s,
            settled_s,
            watch.samples,
            nemesis.struck,
            nemesis.kills(),
            site.keeper.surprises,
            found,
            rebuilt,
            audited,
            anomalies,
        )


def _timed(say: Callable[[str], None]) -> Callable[[str], None]:
    begun = time.monotonic()
    return lambda line: say(f"[{time.monotonic() - begun:.0f} s] {line}")


def _strike(plan: Plan, site: Site, book: Ledger, say: Callable[[str], None]) -> tuple[Watch, Nemesis]:
    """Return when the events are sent, the faults are done and everything has recovered from them."""
    seconds = plan.minutes * 60
    load = Load(site.access, book, plan.seed, plan.events / (SENT_BY * seconds))
    watch = Watch(site, load, book)
    nemesis = Nemesis(site, watch, plan.seed, plan.kills, 0.9 * seconds, plan.others)
    watch.start()
    load.start()
    nemesis.start()
    began = said = time.monotonic()
    try:
        while not (load.created >= plan.events and nemesis.done()):
            for failed in (load.failed, nemesis.failed):
                if failed:
                    raise failed[0]
            if load.created >= plan.events:
                load.pace.slow_down()  # what recovers is seen to recover by new events
            if time.monotonic() > said + 30:
                said = time.monotonic()
                say(f"{said - began:.0f} s: {book.acknowledged:,} acknowledged, kills {dict(nemesis.kills())}")
            assert time.monotonic() < began + OVERTIME * seconds, f"{load.created} events, {nemesis.kills()}"
            time.sleep(0.2)
        nemesis.end()
    finally:
        nemesis.give_up()
        load.end()
        watch.end()
    if nemesis.failed or load.failed:
        raise [*nemesis.failed, *load.failed][0]
    return watch, nemesis


def _heal(site: Site) -> None:
    for gate in (site.clickhouse_gate, *(gate for gates in site.cluster.gates.values() for gate in gates)):
        gate.set(Door.OPEN)
    for one in site.keeper.all:
        one.thaw()


def _settle(site: Site) -> None:
    """Nothing is appended, and both groups have done everything; in this order, because doing may append."""
    until(site.is_whole, "every broker is back, and every replica in sync", SETTLES_WITHIN_S)
    topics = site.topics()
    sink = SinkGroup(site.kafka, topics.namespace, topics)
    worker = SinkGroup(site.kafka, topics.namespace, topics, group=topics.worker_group)
    try:
        until(lambda: worker.behind(topics.journal, topics.adjustments) == 0, "the workers are done", SETTLES_WITHIN_S)
        until(
            lambda: worker.behind(topics.journal, topics.adjustments) == 0 and sink.behind() == 0,
            "the sink is done",
            SETTLES_WITHIN_S,
        )
    finally:
        sink.close()
        worker.close()


def _evidence(site: Site, path: Path) -> Evidence:
    with connect(site.server) as client:
        return evidence.gathered(ledger.read(path), site.kafka, site.topics(), client)


def _audited(site: Site, report: Path) -> tuple[str, list[Anomaly]]:
    done = site.command("audit", "--json", str(report))
    said = (done.stdout + done.stderr).strip()
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(report.read_text())
        return f"equal: {sum(one['records'] for one in found['partitions'])} records of the journal folded again", []
    return "differs", [Anomaly(AUDIT, said[-2000:])]


def _rebuilt(site: Site) -> tuple[str, list[Anomaly]]:
    with connect(site.server) as client:
        before, sums_before = evidence.fingerprint(client), evidence.summaries(client)
        done = site.command("rebuild", "--processes", "1")
        if done.returncode != 0:
            return "failed", [Anomaly(UNEQUAL, (done.stdout + done.stderr)[-2000:])]
        _settle(site)
        after, sums_after = evidence.fingerprint(client), evidence.summaries(client)
    said = f"{after[0]} shards, digest {after[1]:016x}"
    if before == after and sums_before == sums_after:
        return f"equal: {said}", []
    return "differs", [Anomaly(UNEQUAL, f"before: {before[0]} shards, digest {before[1]:016x}; after: {said}")]
