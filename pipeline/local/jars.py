"""Kafka's jars: fetched once by Maven into the user's cache, then shared by every clone, stack and test run."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from pipeline.errors import MeterlineError, UsageError
from pipeline.local.resources import infra

OLDEST_JAVA = 17


def kafka_jars() -> Path:
    """The directory that holds Kafka's jars; fetches them when they are not there yet (some seconds, 44 MB).

    Raises UsageError when Java or Maven is missing and MeterlineError when Maven fails.
    """
    directory = _directory()
    if not directory.is_dir():
        _fetch(infra("kafka", "pom.xml"), directory)
    return directory


def have_kafka_jars() -> bool:
    """Whether ``kafka_jars`` returns at once."""
    return _directory().is_dir()


def _directory() -> Path:
    # Named by what it was fetched from: another pom.xml, another directory.
    digest = hashlib.sha256(infra("kafka", "pom.xml").read_bytes()).hexdigest()
    return cache() / f"kafka-{digest[:12]}"


def cache() -> Path:
    """Meterline's directory in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "meterline"


def java() -> str:
    """The java command. Raises UsageError when there is none or it is too old for Kafka."""
    home = os.environ.get("JAVA_HOME")
    command = shutil.which("java", path=f"{home}/bin") if home else None
    command = command or shutil.which("java")
    if command is None:
        raise UsageError(f"Kafka needs Java {OLDEST_JAVA} or newer: install a JRE (Debian: openjdk-17-jre-headless)")
    said = subprocess.run([command, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < OLDEST_JAVA:
        raise UsageError(f"Kafka needs Java {OLDEST_JAVA} or newer; {command} is: {said.splitlines()[:1]}")
    return command


def _fetch(pom: Path, directory: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise UsageError("mvn is missing: Maven fetches Kafka's jars the first time (Debian: apt install maven)")
    directory.parent.mkdir(parents=True, exist_ok=True)
    fetched = Path(tempfile.mkdtemp(prefix=f"{directory.name}-", dir=directory.parent))
    try:
        said = subprocess.run(
            [maven, "-B", "-q", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={fetched}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if said.returncode != 0 or not any(fetched.glob("kafka_*.jar")):
            last = "\n".join((said.stdout + said.stderr).strip().splitlines()[-8:])
            raise MeterlineError(f"Maven could not fetch Kafka's jars ({pom}):\n{last}")
        fetched.chmod(0o755)
        try:
            # Whole or not at all: nobody ever sees half a directory of jars.
            fetched.rename(directory)
        except OSError:
            if not directory.is_dir():
                raise
            # Somebody else fetched them in the meantime; theirs are as good.
    finally:
        shutil.rmtree(fetched, ignore_errors=True)
