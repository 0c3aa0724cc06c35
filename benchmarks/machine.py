"""Where and of what the figures were measured: the machine, the versions, the revision of the code."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.local.resources import infra

ROOT = Path(__file__).parents[1]
_PACKAGES = (
    "confluent-kafka",
    "faust-streaming",
    "aiokafka",
    "fastavro",
    "polars",
    "pyarrow",
    "numpy",
    "rocksdict",
    "clickhouse-connect",
    "chdb",
)


def circumstances() -> dict[str, Any]:
    """Everything that a figure depends on besides the code it measures."""
    return {
        "measured_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            "kernel": f"{platform.system()} {platform.release()}",
            "load_before": [round(load, 2) for load in os.getloadavg()],
        },
        "versions": {
            "python": platform.python_version(),
            "kafka": _kafka_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
        },
        "revision": _revision(),
    }


def _cpu_model() -> str:
    match = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def _kafka_version() -> str:
    """Of the broker that the laptop stack fetches."""
    pom = infra("kafka", "pom.xml").read_text()
    match = re.search(r"<artifactId>kafka_[\d.]+</artifactId>\s*<version>([^<]+)<", pom)
    return match[1] if match else "unknown"


def _revision() -> str | None:
    """Of the checkout, with a plus when files differ from it; None outside of one."""
    try:
        revision = _git("rev-parse", "HEAD")
        return revision + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
