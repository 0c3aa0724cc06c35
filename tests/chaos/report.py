"""What a run came to, for a person, for a program and to look at."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.chaos.campaign import Outcome
from tests.chaos.checker import DUPLICATE, LOST, told
from tests.chaos.drawing import Line, Mark, Panel, histogram, lanes, lines, page, percentile
from tests.chaos.faults import LANES
from tests.chaos.ledger import FAIL, INFO, OK
from tests.chaos.nemesis import Struck
from tests.chaos.watch import Sample

TARGETS = {"worker": (10.0, 30.0), "sink": (10.0, None), "broker": (10.0, None), "gateway": (None, None)}
"""Seconds to recovery after kill -9: p50 and p99."""


def write(outcome: Outcome, directory: Path) -> str:
    """Write report.json, report.txt and report.svg; returns the text."""
    directory.mkdir(parents=True, exist_ok=True)
    text = summary(outcome)
    (directory / "report.txt").write_text(text + "\n")
    (directory / "report.json").write_text(json.dumps(figures(outcome), indent=1) + "\n")
    (directory / "report.svg").write_text(picture(outcome))
    return text


def recoveries(struck: list[Struck]) -> dict[str, list[float]]:
    """Seconds by kind of process that was killed."""
    found: dict[str, list[float]] = {}
    for one in struck:
        if one.kills and one.lane != "everything":
            found.setdefault(one.kills, []).append(one.recovery_s)
    return found


def of_ours(kills: Mapping[str, int]) -> dict[str, int]:
    """Without the brokers."""
    return {kind: count for kind, count in sorted(kills.items()) if kind != "broker"}


def summary(outcome: Outcome) -> str:
    ours, shape = of_ours(outcome.kills), outcome.plan.shape
    kinds = Counter(one.kind for one in outcome.anomalies)
    events = ", ".join(f"{outcome.events[word]:,} {word}" for word in (OK, INFO, FAIL))
    rows = {
        "seed": f"{outcome.plan.seed}",
        "stood": f"{shape.brokers} brokers, {shape.gateways} gateways, {shape.workers} workers, 1 sink, "
        f"{shape.partitions} partitions",
        "took": f"{outcome.took_s:.0f} s of load and faults, {outcome.settled_s:.0f} s until nothing was left to do",
        "events": f"{events}; {len(outcome.evidence.journal):,} event records in the journal",
        "taken back": f"{sum(outcome.adjustments.values()):,} adjustments",
        "killed -9": f"{sum(ours.values())} processes ({', '.join(f'{n} {kind}' for kind, n in ours.items())}), "
        f"{outcome.kills['broker']} brokers; {len(outcome.struck)} faults in all",
        "ended by themselves, or not as they were asked to": f"{len(outcome.surprises)}",
        "lost": f"{kinds[LOST]}",
        "double": f"{kinds[DUPLICATE]}",
        "anomalies in all": told(outcome.anomalies) if outcome.anomalies else "0",
        "compared": f"{len(outcome.evidence.summaries):,} windows, digit for digit",
        "meterline audit": outcome.audited,
        "meterline rebuild": outcome.rebuilt,
    }
    recovered = [f"  {row}" for row in _recovery_rows(outcome)]
    faults = [f"  {name}: {count}, longest {longest:.1f} s" for name, count, longest in _by_fault(outcome.struck)]
    told_rows = [f"{name}: {said}" for name, said in rows.items()]
    return "\n".join([*told_rows, "recovery after kill -9:", *recovered, "recovery after each fault:", *faults])


def _recovery_rows(outcome: Outcome) -> Iterator[str]:
    for kind, seconds in sorted(recoveries(outcome.struck).items()):
        said = []
        for share, limit in zip((50, 99), TARGETS.get(kind, (None, None)), strict=True):
            wanted = f" (target {limit:.0f} s)" if limit else ""
            said.append(f"p{share} {percentile(seconds, share):.1f} s{wanted}")
        yield f"{kind}: {len(seconds)} times, {', '.join(said)}, longest {max(seconds):.1f} s"


def _by_fault(struck: list[Struck]) -> list[tuple[str, int, float]]:
    found: dict[str, list[float]] = {}
    for one in struck:
        found.setdefault(one.fault, []).append(one.recovery_s)
    return [(name, len(seconds), max(seconds)) for name, seconds in sorted(found.items())]


def figures(outcome: Outcome) -> dict[str, Any]:
    rows = {fault.name: list(fault.rows) for faults in LANES.values() for fault in faults}
    return {
        "seed": outcome.plan.seed,
        "minutes": outcome.plan.minutes,
        "shape": outcome.plan.shape._asdict(),
        "took_s": round(outcome.took_s, 1),
        "settled_s": round(outcome.settled_s, 1),
        "events": dict(outcome.events),
        "attempts": dict(outcome.evidence.book.attempts),
        "adjustments": dict(outcome.adjustments),
        "journal_event_records": len(outcome.evidence.journal),
        "windows": len(outcome.evidence.summaries),
        "kills": dict(outcome.kills),
        "surprises": [one._asdict() for one in outcome.surprises],
        "audit": outcome.audited,
        "rebuild": outcome.rebuilt,
        "anomalies": [list(one) for one in outcome.anomalies],
        "recovery_s": {
            kind: {
                "count": len(seconds),
                "p50": round(percentile(seconds, 50), 2),
                "p99": round(percentile(seconds, 99), 2),
                "max": round(max(seconds), 2),
            }
            for kind, seconds in recoveries(outcome.struck).items()
        },
        "faults": [
            {
                "at_s": round(one.struck_at - outcome.began, 2),
                "fault": one.fault,
                "rows": rows[one.fault],
                "victims": list(one.victims),
                "recovery_s": round(one.recovery_s, 2),
            }
            for one in outcome.struck
        ],
    }


def picture(outcome: Outcome) -> str:
    end, began = outcome.took_s, outcome.began
    behind = [
        Line(f"{role}s" if role == "worker" else role, [(one.at - began, one.behind(role)) for one in outcome.samples])
        for role in ("worker", "sink")
    ]
    panels: list[Panel] = [
        lines("events acknowledged per second", [Line("", _rates(outcome.samples, began))], end),
        lines("journal records not committed yet:", behind, end),
        lanes("faults, until recovered (dark: kill -9)", list(_rows(outcome)), end),
    ]
    for number, (kind, seconds) in enumerate(sorted(recoveries(outcome.struck).items())):
        panels.append(histogram(f"seconds to recover, {kind} killed", seconds, number))
    ours = sum(of_ours(outcome.kills).values())
    killed = f"{ours} processes and {outcome.kills['broker']} brokers killed"
    title = f"{outcome.events[OK]:,} events, {killed}, {len(outcome.anomalies)} anomalies, seed {outcome.plan.seed}"
    return page(panels, title)


def _rates(samples: list[Sample], began: float, over_s: float = 2.0) -> list[tuple[float, float]]:
    rates, first = [], 0
    for one in samples:
        while one.at - samples[first].at > over_s:
            first += 1
        passed = one.at - samples[first].at
        if passed > over_s / 2:
            rates.append((one.at - began, (one.acknowledged - samples[first].acknowledged) / passed))
    return rates


def _rows(outcome: Outcome) -> Iterator[tuple[str, list[Mark]]]:
    for lane in LANES:
        marks = [
            Mark(
                one.struck_at - outcome.began,
                one.recovered_at - outcome.began,
                f"{one.fault}: {', '.join(one.victims)}, {one.recovery_s:.1f} s",
                bool(one.kills),
            )
            for one in outcome.struck
            if one.lane == lane
        ]
        if marks:
            yield lane, marks
