"""``python -m tests.chaos --minutes 10``: real processes, really killed, and a report of what came of it."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import report
from tests.chaos.campaign import Plan, run
from tests.chaos.checker import told
from tests.chaos.site import Shape

EVENTS_PER_MINUTE = 30_000
KILLS_PER_MINUTE = {"gateway": 2.6, "worker": 2.6, "sink": 2.2, "broker": 0.8}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of load and faults; the comparing comes after")
    parser.add_argument("--events", type=int, help="default: 30,000 a minute")
    parser.add_argument("--kills", type=int, help="of gateways, workers and sinks together; default: 7 a minute")
    parser.add_argument("--broker-kills", type=int, help="default: 0.8 a minute")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of load and faults")
    parser.add_argument("--report", type=Path, default=Path("chaos-report"), help="directory for what it writes")
    given = parser.parse_args()
    kills = {kind: max(1, round(share * given.minutes)) for kind, share in KILLS_PER_MINUTE.items()}
    if given.kills is not None:
        kills |= {"gateway": -(-given.kills // 3), "worker": -(-given.kills // 3), "sink": -(-given.kills // 3)}
    if given.broker_kills is not None:
        kills["broker"] = given.broker_kills
    events = given.events or round(EVENTS_PER_MINUTE * given.minutes)
    plan = Plan(given.minutes, events, given.seed, kills, Shape())
    home = Path(tempfile.mkdtemp(prefix="meterline-chaos-"))
    print(f"seed {plan.seed}: {plan.events:,} events, kills {kills}, in {home}", flush=True)
    outcome = run(plan, home, lambda line: print(line, flush=True))
    print(report.write(outcome, given.report))
    if outcome.anomalies or outcome.surprises:
        for one in outcome.surprises:
            print(f"{one.name} ended with {one.code}, and nobody had asked it to:\n{one.said}")
        print(f"{told(outcome.anomalies)}\neverything of this run is in {home}".lstrip())
        return 1
    shutil.rmtree(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
