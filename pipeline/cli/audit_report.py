"""What an audit found, for people and for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.codec.digests import Digest, added
from pipeline.replay.audit_findings import Difference, PartitionFindings
from pipeline.replay.audit_findings import as_object as partition_object


class Paths(NamedTuple):
    """Where programs read it."""

    report: Path | None
    metrics: Path | None


def tell(found: Sequence[PartitionFindings], paths: Paths) -> None:
    """Everywhere where somebody wants to know."""
    found = sorted(found, key=lambda one: one.partition)
    write(found)
    if paths.report is not None:
        _replace(paths.report, json.dumps(as_object(found), ensure_ascii=False, indent=2) + "\n")
    if paths.metrics is not None:
        _replace(paths.metrics, metrics_text(found, time.time_ns() // 10**9))


def _replace(path: Path, text: str) -> None:
    """As a whole or not at all: somebody may be reading."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, "utf-8")
    part.replace(path)


def metrics_text(found: Sequence[PartitionFindings], now_s: int) -> str:
    """For Prometheus's node exporter, which reads files of a directory."""
    values = (
        ("meterline_audit_differences", "What is not as the journal says.", difference_count(found)),
        ("meterline_audit_records", "Journal records that were folded again.", sum(one.records for one in found)),
        ("meterline_audit_partitions", "Journal partitions that were audited.", len(found)),
        ("meterline_audit_finished_seconds", "When the last audit ended, Unix time.", now_s),
    )
    return "".join(f"# HELP {name} {text}\n# TYPE {name} gauge\n{name} {value}\n" for name, text, value in values)


def difference_count(found: Sequence[PartitionFindings]) -> int:
    return sum(len(side.differences) + side.untold for one in found for side in one.compared)


def write(found: Sequence[PartitionFindings]) -> None:
    """A table of what was compared, then every difference, then the verdict."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("partition", "compared", box=box.SIMPLE_HEAD)
    for name in ("as of", "items"):
        table.add_column(name, justify="right")
    table.add_column("found")
    for one in found:
        for side in one.compared:
            count = len(side.differences) + side.untold
            verdict = "equal" if not count else f"{count:,} difference{'s' if count > 1 else ''}"
            table.add_row(str(one.partition), side.where, f"{side.as_of:,}", f"{side.items:,}", verdict)
    Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 200).print(table)
    for one in found:
        for difference in one.differences:
            sys.stdout.write(_sentence(difference) + "\n")
        for note in one.notes:
            sys.stdout.write(f"note: {note}\n")
    sys.stdout.write(_verdict(found) + "\n")


def _sentence(one: Difference) -> str:
    said = f"{one.where}, partition {one.partition}: {one.what}: {_KINDS[one.kind]}"
    numbers = "; ".join(_number(one, *number) for number in one.numbers)
    return f"{said}: {numbers}" if numbers else said


_KINDS = {
    "missing": "missing",
    "unexpected": "nothing in the journal makes it",
    "differs": "differs",
    "broken": "broken",
}


def _number(one: Difference, name: str, expected: str, found: str) -> str:
    if one.kind == "missing":
        return f"{name} {expected}"
    if one.kind == "unexpected":
        return f"{name} {found}"
    return f"{name} is {found}, expected {expected}"


def _verdict(found: Sequence[PartitionFindings]) -> str:
    records = sum(one.records for one in found)
    differences = difference_count(found)
    what = f"{records:,} journal records of {len(found)} partition{'s' if len(found) != 1 else ''}"
    if differences:
        return f"{what}: {differences:,} difference{'s' if differences > 1 else ''}"
    return f"{what}: everything is equal, digest {_digest(found)}"


def _digest(found: Sequence[PartitionFindings]) -> Digest:
    """Of all summaries: the same for the same numbers, wherever and however often they were computed."""
    return added(one.digest for one in found)


def as_object(found: Sequence[PartitionFindings]) -> dict[str, Any]:
    """For JSON."""
    return {
        "equal": not any(one.differences for one in found),
        "records": sum(one.records for one in found),
        "digest": str(_digest(found)),
        "differences": difference_count(found),
        "partitions": [partition_object(one) for one in found],
    }
