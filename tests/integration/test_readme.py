"""The README's *Try to break it* and *Throw it away*, typed as they stand there, with fewer events."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.local.home import Home, write_json
from tests.workers import until

README = Path(__file__).parents[2] / "README.md"
EVENTS, EVENTS_HERE = 200_000, 20_000
TYPED_WITHIN_S = 400.0
ABOUT_THE_DEMO = "meterline explain 2013"


def blocks(section: str) -> list[str]:
    """What is between the fences of a section."""
    text = README.read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Terminal:
    """A shell in a directory of its own, in which ``meterline`` is this checkout's."""

    directory: Path

    def types(self, commands: str) -> str:
        """What the commands say, with their errors; none may fail."""
        environ = {name: text for name, text in os.environ.items() if not name.startswith("METERLINE_")}
        said = subprocess.run(
            ["bash", "-eu", "-c", f'meterline() {{ "{sys.executable}" -m pipeline.cli "$@"; }}\n{commands}'],
            cwd=self.directory,
            env={**environ, "PYTHONPATH": str(README.parent)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TYPED_WITHIN_S,
            check=False,
        )
        assert said.returncode == 0, f"{commands}\n{said.stdout}"
        return said.stdout

    def counts(self, events: int) -> bool:
        said = self.types("meterline query api_calls -f csv")
        return said.rstrip().endswith(f",{events}")


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    found = Terminal(tmp_path_factory.mktemp("readme"))
    # Any ports: the usual ones are those of whoever else runs here, as the tests of the laptop stack do.
    anywhere = {"brokers": 1, "kafka": [0], "controllers": [0], "clickhouse": 0, "gateway": [0, 0]}
    write_json(Home.at(found.directory / ".meterline").make().shape, anywhere)
    found.types("meterline up --detach")
    try:
        yield found
    finally:
        found.types("meterline down")


@pytest.fixture(scope="module")
def usage(terminal: Terminal) -> str:
    """What the first part says: a worker was killed while events came in, and they came twice."""
    commands, *_ = blocks("Try to break it")
    typed = [line for line in commands.splitlines() if not line.startswith(("source ", ABOUT_THE_DEMO))]
    said = terminal.types("\n".join(typed).replace(f"seq {EVENTS}", f"seq {EVENTS_HERE}") + "\nwait")
    until(lambda: terminal.counts(EVENTS_HERE), "all events are counted")
    return said


def without_figures(line: str) -> str:
    return re.sub(r"\d[\d:,TZ-]*", "#", line)


def test_what_was_thrown_away_comes_back_and_a_changed_digit_is_named(terminal: Terminal, usage: str) -> None:
    assert usage
    throw_away, change, named = blocks("Throw it away")
    said = terminal.types(f"{throw_away}\necho Now one digit\n{change}")
    thrown_away, _, changed = said.partition("Now one digit\n")
    digests = re.findall(r"digest (\w+)", thrown_away)
    assert len(digests) == 2, said
    assert digests[0] == digests[1]
    assert without_figures(named.splitlines()[0]) in map(without_figures, changed.splitlines()), said
    assert "everything is equal" in terminal.types("meterline audit")
    assert terminal.counts(EVENTS_HERE)
