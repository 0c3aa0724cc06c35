"""``python -m benchmarks``: run the benchmarks on a stack of their own, print a table, write JSON."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks import audit, explain, freshness, gateway, long, producer, query, rebuild, sink, summaries, worker
from benchmarks.figures import Figure, Outcome, print_table, write_json
from benchmarks.machine import circumstances
from benchmarks.stage import Stage, own_stage

RESULTS = Path(__file__).parent / "results"


class Benchmark(NamedTuple):
    """``records``: its full size, for which the targets are meant. ``usual``: whether it runs unasked."""

    measure: Callable[[Stage, int], Outcome]
    records: int
    usual: bool = True


BENCHMARKS = {
    "producer": Benchmark(producer.measure, 1_000_000),
    "worker-hot": Benchmark(worker.hot, 1_000_000),
    "worker-wide": Benchmark(worker.wide, 1_000_000),
    "sink": Benchmark(sink.shards, 1_000_000),
    "sink-log": Benchmark(sink.event_log, 1_000_000),
    "query": Benchmark(query.measure, 10_000_000),
    "summaries": Benchmark(summaries.measure, 10_000_000),
    "freshness": Benchmark(freshness.measure, freshness.EVENTS_PER_S * 20),
    "gateway": Benchmark(gateway.measure, 1_000_000),
    "rebuild": Benchmark(rebuild.measure, 5_000_000),
    "audit": Benchmark(audit.measure, 10_000_000),
    "explain": Benchmark(explain.measure, 10_000_000),
    "long": Benchmark(long.measure, 10_000_000, usual=False),
    "gateway-long": Benchmark(gateway.long, 9_000_000, usual=False),
}


def main() -> None:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of every finally: nothing is left running
    wanted = arguments.only or [name for name, benchmark in BENCHMARKS.items() if benchmark.usual]
    document, figures = circumstances() | {"benchmarks": {}}, []
    with _stage(arguments, _say) as stage:
        try:
            for name in wanted:
                records = arguments.records or BENCHMARKS[name].records
                outcome = BENCHMARKS[name].measure(stage, records)
                figures += outcome.figures
                document["benchmarks"][name] = outcome.as_json() | {"records": records}
        finally:  # what was measured before one of them failed was measured
            _show(document, figures, arguments)


def _show(document: dict[str, Any], figures: list[Figure], arguments: argparse.Namespace) -> None:
    console = Console(width=None if sys.stdout.isatty() else 110)
    print_table(figures, console)
    if arguments.records:
        console.print(f"[yellow]The targets are meant for full sizes, not for {arguments.records:,} records.[/]")
    path = arguments.json or RESULTS / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    write_json(path, document)
    console.print(f"written to {path}", soft_wrap=True)


def _say(what: str) -> None:
    """A line, no spinner: that would take CPU time from what is measured."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument(
        "--records", type=_positive, help="of each benchmark; default: the size its target is meant for"
    )
    parser.add_argument("--json", type=Path, help="where to; default: a new file in benchmarks/results")
    parser.add_argument("--kafka", help="bootstrap servers, to measure on services that run already")
    parser.add_argument("--clickhouse", help="URL of ClickHouse, together with --kafka")
    arguments = parser.parse_args()
    if (arguments.kafka is None) != (arguments.clickhouse is None):
        parser.error("--kafka and --clickhouse go together")
    return arguments


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


@contextlib.contextmanager
def _stage(arguments: argparse.Namespace, say: Callable[[str], None]) -> Iterator[Stage]:
    if arguments.kafka is None:
        with own_stage(say) as stage:
            yield stage
        return
    with tempfile.TemporaryDirectory(prefix="meterline-bench-") as directory:
        yield Stage(arguments.kafka, arguments.clickhouse, Path(directory), None, say)


if __name__ == "__main__":
    main()
