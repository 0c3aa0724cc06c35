"""Every benchmark at a tiny size: its figures exist, its digits are right, and a wrong digit is no figure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.stage import Progress, Stage
from benchmarks.worker import check_published
from benchmarks.workload import HOT, WIDE, write_journal
from tests.conftest import Stack

pytestmark = pytest.mark.timeout(1200)  # all benchmarks, one after the other, in one fixture

RECORDS = 3_000
ROOT = Path(__file__).parents[2]

TARGETS = {
    ("worker hot", "folded, CPU"): {"at_least": 200_000},
    ("worker hot", "folded, wall"): {"at_least": 120_000},
    ("worker wide", "folded, CPU"): {"at_least": 90_000},
    ("worker wide", "folded, wall"): {"at_least": 54_000},
    ("sink", "shards, wall"): {"at_least": 150_000},
    ("sink", "shards, CPU"): {"at_least": 150_000},
    ("query", "meterline query, p99"): {"at_most": 50},
    ("query", "view, p99"): {"at_most": 50},
    ("summaries", "one client, p99"): {"at_most": 30},
    ("summaries", "8 clients, requests"): {"at_least": 150},
    ("summaries", "8 clients, p99"): {"at_most": 120},
    ("freshness", "events published"): {"at_least": 4_900},
    ("freshness", "acknowledged to visible, p99"): {"at_most": 2_000},
    ("gateway", "stream, CPU"): {"at_least": 30_000},
    ("gateway", "stream at half of the target, p99"): {"at_most": 100},
    ("gateway", "one by one, CPU"): {"at_least": 2_500},
    ("gateway", "one by one at half, p99"): {"at_most": 100},
    ("gateway long", "p99, the worst part"): {"at_most": 100},
    ("gateway long", "memory, last to first"): {"at_most": 1.2},
    ("rebuild", "live rate meanwhile"): {"at_least": 9_000},
    ("rebuild", "folded, wall"): {"at_least": 100_000},
    ("audit", "once, wall"): {"at_least": 10_000_000 / 120},
    ("audit", "standing at 1,000 events/s, share of a core"): {"at_most": 0.1},
    ("explain", "one event, p99"): {"at_most": 1_000},
    ("explain", "a customer's month, p99"): {"at_most": 5_000},
    ("long", "most memory"): {"at_most": 1_500},
    ("long", "last to first, CPU"): {"at_least": 0.7},
}

EXACT = {
    "producer": {"events"},
    "worker-hot": {"events", "sum"},
    "worker-wide": {"events", "sum"},
    "sink": {"shards", "events", "sum"},
    "sink-log": {"records", "events", "sum"},
    "query": {"shards", "answers"},
    "summaries": {"shards", "answers"},
    "freshness": {"events", "sum", "probes"},
    "gateway": {"events", "sum"},
    "rebuild": {"events", "sum"},
    "audit": {"records"},
    "explain": {"events"},
    "long": {"events", "sum"},
    "gateway-long": {"events", "sum"},
}
"""What each benchmark compares before it hands out a figure."""


@pytest.fixture(scope="module")
def document(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("benchmarks") / "results" / "tiny.json"
    every = [part for name in BENCHMARKS for part in ("--only", name)]
    services = ["--kafka", stack.kafka, "--clickhouse", stack.clickhouse]
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks", *every, *services, "--records", str(RECORDS), "--json", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "worker wide" in ended.stdout
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def test_every_benchmark_has_figures(document: dict[str, Any]) -> None:
    assert set(document["benchmarks"]) == set(BENCHMARKS)
    for name, one in document["benchmarks"].items():
        assert one["records"] == RECORDS
        assert one["figures"], name
        for figure in one["figures"]:
            assert figure["value"] > 0, figure


def test_the_targets_are_those_that_were_set(document: dict[str, Any]) -> None:
    found = {
        (figure["benchmark"], figure["figure"]): {
            bound: figure[bound] for bound in ("at_least", "at_most") if bound in figure
        }
        for one in document["benchmarks"].values()
        for figure in one["figures"]
        if "reached" in figure
    }
    assert found == TARGETS


def test_every_benchmark_compared_its_result(document: dict[str, Any]) -> None:
    exact = {name: one["exact"] for name, one in document["benchmarks"].items()}
    assert {name: set(numbers) for name, numbers in exact.items()} == EXACT
    assert all(int(number) > 0 for numbers in exact.values() for number in numbers.values())
    assert int(exact["sink"]["shards"]) == RECORDS
    assert int(exact["sink-log"]["records"]) == RECORDS


def test_the_circumstances_are_told(document: dict[str, Any]) -> None:
    assert document["machine"]["cores"] >= 1
    assert document["machine"]["cpu"]
    assert {"python", "kafka", "confluent-kafka", "chdb", "rocksdict"} <= set(document["versions"])


def test_a_fast_worker_with_a_wrong_sum_gets_no_figure(stack: Stack, tmp_path: Path) -> None:
    stage = Stage(stack.kafka, stack.clickhouse, tmp_path, None, lambda _: None)
    with stage.deployment("wrong") as deployment, deployment.run("worker") as worker:
        usage = write_journal(deployment.config, deployment.topics.journal, HOT, 200)
        worker.await_log("took over")
        progress = Progress(deployment, "worker", deployment.topics.journal)
        progress.await_end(worker)
        progress.close()
        check_published(deployment, usage)
        usage.add("cus_0", 1)
        with pytest.raises(AssertionError, match="1 customers differ"):
            check_published(deployment, usage)


def test_the_shapes_are_as_they_are_said_to_be() -> None:
    """Expected distinct tallies of a million records, of which 96 % are events, spread evenly over 8 partitions."""
    for shape, tallies in ((HOT, 20_000), (WIDE, 580_000)):
        pairs = shape.cells_of(1_000_000) * 8
        expected = pairs * (1 - (1 - 1 / pairs) ** 960_000)
        assert abs(expected - tallies) < 0.01 * tallies


def test_the_readme_tells_of_every_benchmark() -> None:
    readme = (ROOT / "benchmarks" / "README.md").read_text()
    assert [name for name in BENCHMARKS if f"`{name}`" not in readme] == []
