"""The command line as its user meets it: help that teaches, sentences in place of tracebacks, exit codes that hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from pipeline import cli
from pipeline.errors import Refusal, Unavailable

ROOT = Path(__file__).parents[2]
NOWHERE = "127.0.0.1:1"
"""Nothing listens on port 1."""

Meterline = Callable[..., Result]


@pytest.fixture
def meterline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Meterline:
    """Runs a command in an empty directory without settings of anybody's."""
    for name in [name for name in os.environ if name.startswith("METERLINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: bytes = b"", **environ: str) -> Result:
        return CliRunner().invoke(cli.app, list(arguments), input=stdin, env={"METERLINE_KAFKA": NOWHERE, **environ})

    return run


def commands() -> Iterator[tuple[str, ...]]:
    """Every command as the words that call it, groups included."""

    def under(command: object, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if words:
            yield words
        for name, child in getattr(command, "commands", {}).items():
            yield from under(child, (*words, name))

    return under(typer.main.get_command(cli.app), ())


ALL_COMMANDS = sorted(commands())


def test_all_commands_are_there() -> None:
    names = {" ".join(words) for words in ALL_COMMANDS}
    assert names >= {
        "up", "down", "status", "env", "demo", "emit", "adjust", "query", "explain", "tail", "worker", "worker reset",
        "sink", "topics create", "topics check", "topics describe", "clickhouse migrate",
        "keys create", "keys list", "keys roll", "keys revoke",
    }  # fmt: skip


@pytest.mark.parametrize("words", ALL_COMMANDS, ids=" ".join)
def test_help_teaches(words: tuple[str, ...], meterline: Meterline) -> None:
    result = meterline(*words, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output
    if words not in (("topics",), ("clickhouse",), ("keys",), ("generations",), ("journal",)):
        assert "meterline " + " ".join(words) in result.output.split("Usage:")[1].split("\n", 1)[1], "no example"
    assert all(len(line) <= 100 for line in result.output.splitlines())


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, pipeline.cli; print(sorted(set(sys.modules) & set(sys.argv[1:])))"
    heavy = [
        "chdb",
        "polars",
        "pyarrow",
        "numpy",
        "faust",
        "aiokafka",
        "confluent_kafka",
        "fastavro",
        "rocksdict",
        "pandas",
        "clickhouse_connect",
    ]
    shown = subprocess.run([sys.executable, "-c", code, *heavy], check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["topics", "creat"],
        ["emit", "--no-such-option"],
        ["emit", "no-such-file.jsonl"],
        ["emit", "."],
        ["emit", "--format", "xml", "-"],
        ["emit", "--map", "customer", "-"],
        ["emit", "--map", "=x", "-"],
        ["emit", "--map", "custmer=x", "-"],
        ["emit", "--map", "value=x", "--map", "value=y", "-"],
        ["emit", "--map", "value=x", "--set", "value=1", "-"],
        ["emit", "--format", "csv", "--delimiter", "ab", "-"],
        ["adjust"],
        ["adjust", "api_calls"],
        ["adjust", "api_calls", "--start", "2026-01-01T00:00:00Z"],
        ["adjust", "api_calls", "--start", "2026-01-01", "--end", "2026-02-01"],
        ["adjust", "api_calls", "--start", "2026-02-01T00:00:00Z", "--end", "2026-01-01T00:00:00Z"],
        ["adjust", "api_calls", "--identifier", "a", "--customer", "c"],
        ["adjust", "api_calls", "--identifier", ""],
        ["adjust", "", "--identifier", "a"],
        ["adjust", "api_calls", "--identifier", "a" * 101],
        ["tail", "no-such-topic"],
        ["tail", "journal", "--from", "yesterday"],
        ["tail", "journal", "--from", "-1"],
        ["tail", "journal", "-n", "0"],
        ["demo", "--flights", "0"],
    ],
    ids=" ".join,
)
def test_a_wrong_call_ends_with_2_and_a_sentence(arguments: list[str], meterline: Meterline) -> None:
    result = meterline(*arguments)
    assert result.exit_code == 2, result.output
    assert len(result.output.strip()) > 10
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["emit", "-"],
        ["tail", "journal"],
        ["topics", "check"],
    ],
    ids=" ".join,
)
def test_without_kafka_a_command_fails_soon_with_a_sentence(arguments: list[str], meterline: Meterline) -> None:
    started = time.monotonic()
    result = meterline(*arguments, stdin=b"{}\n")
    assert result.exit_code == 1, result.output
    assert f"Kafka at {NOWHERE} does not answer" in result.output
    assert "meterline up" in result.output
    assert "Traceback" not in result.output
    assert time.monotonic() - started < 15


def test_wrong_settings_are_all_named_before_anything_happens(meterline: Meterline) -> None:
    result = meterline("topics", "check", METERLINE_PARTITIONS="x", METERLINE_KAFKAS="y")
    assert result.exit_code == 2
    assert "METERLINE_PARTITIONS" in result.output
    assert "METERLINE_KAFKAS: no such setting" in result.output


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes the first thing that most commands do, reading the settings, raise this."""

    def fail_with(error: BaseException) -> None:
        def load_settings() -> None:
            raise error

        monkeypatch.setattr("pipeline.wiring.load_settings", load_settings)

    return fail_with


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (Refusal("the journal was recreated; run: meterline worker reset"), 1, "meterline: the journal was recreated"),
        (Unavailable("ClickHouse does not answer"), 1, "meterline up"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (BrokenPipeError(), 1, ""),
    ],
    ids=["refusal", "unavailable", "ctrl-c", "closed pipe"],
)
def test_errors_become_sentences_and_exit_codes(
    error: BaseException, code: int, said: str, meterline: Meterline, failing: Callable[[BaseException], None]
) -> None:
    failing(error)
    result = meterline("topics", "check")
    assert result.exit_code == code
    assert said in result.output
    assert "Traceback" not in result.output


def test_an_unexpected_error_is_short_and_its_details_are_kept(
    meterline: Meterline, failing: Callable[[BaseException], None]
) -> None:
    failing(RuntimeError("the first line\nthe second"))
    result = meterline("topics", "check")
    assert result.exit_code == 1
    assert "RuntimeError: the first line" in result.output
    assert "Traceback" not in result.output
    log = Path(re.search(r"details are in (\S+\.log)", result.output)[1])
    assert "Traceback" in log.read_text()
    log.unlink()


def test_debug_shows_the_details(meterline: Meterline, failing: Callable[[BaseException], None]) -> None:
    failing(RuntimeError("the first line"))
    result = meterline("--debug", "topics", "check")
    assert result.exit_code == 1
    assert "Traceback" in result.output


def test_shell_completion_knows_the_commands(tmp_path: Path) -> None:
    environ = {**os.environ, "_METERLINE_COMPLETE": "complete_bash", "COMP_WORDS": "meterline to", "COMP_CWORD": "1"}
    meterline = Path(sys.executable).with_name("meterline")
    shown = subprocess.run([meterline], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert shown.stdout.split() == ["topics"]


def test_the_demo_leaves_a_stack_alone_that_was_made_for_younger_events(meterline: Meterline, tmp_path: Path) -> None:
    """Its worker would refuse to go on under another maximum age, and so would its owner."""
    home = tmp_path / "home"
    home.mkdir()
    written = "METERLINE_KAFKA=127.0.0.1:1\nMETERLINE_NAMESPACE=mine\n"
    (home / "env").write_text(written)
    result = meterline("demo", METERLINE_HOME=str(home))
    assert result.exit_code == 1
    assert "give the demo a stack of its own" in result.output
    assert {path.name: path.read_text() for path in home.iterdir()} == {"env": written}


def test_reset_of_a_worker_without_state_is_no_error(meterline: Meterline, tmp_path: Path) -> None:
    result = meterline("worker", "reset", METERLINE_STATE=str(tmp_path / "none"))
    assert (result.exit_code, "there is no state" in result.output) == (0, True)


def test_reset_asks_and_deletes_stores_only(meterline: Meterline, tmp_path: Path) -> None:
    state = tmp_path / "state"
    for name in ("partition-0", "partition-7", "faust"):
        (state / name).mkdir(parents=True)
    assert meterline("worker", "reset", stdin=b"n\n", METERLINE_STATE=str(state)).exit_code == 1
    assert len(list(state.iterdir())) == 3
    assert meterline("worker", "reset", "--yes", METERLINE_STATE=str(state)).exit_code == 0
    assert [path.name for path in state.iterdir()] == ["faust"]


def test_reset_refuses_while_a_worker_runs(meterline: Meterline, tmp_path: Path) -> None:
    store = tmp_path / "state" / "partition-0"
    code = "import sys, rocksdict; db = rocksdict.Rdict(sys.argv[1]); print('open', flush=True); input()"
    running = subprocess.Popen(
        [sys.executable, "-c", code, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert running.stdout.readline() == "open\n"
        result = meterline("worker", "reset", "--yes", METERLINE_STATE=str(store.parent))
        assert (result.exit_code, "in use by a running worker" in result.output) == (1, True)
        assert store.exists()
    finally:
        running.communicate("\n")


def test_every_command_that_is_mentioned_exists() -> None:
    """A message that names the command which mends something must name one that exists."""
    known = {" ".join(words) for words in ALL_COMMANDS}
    groups = {words[0] for words in ALL_COMMANDS if len(words) > 1}
    paths = [*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "pipeline").rglob("*.md"), *ROOT.glob("*.md")]
    wrong = []
    for path in paths:
        for first, second in re.findall(r"`(?:[A-Z_]+=\S+ )*meterline ([a-z]+)(?: ([a-z]+))?", path.read_text()):
            name = f"{first} {second}" if first in groups and f"{first} {second}" in known else first
            if name not in known:
                wrong.append(f"{path.relative_to(ROOT)}: meterline {first} {second}")
    assert not wrong


def test_every_command_is_in_the_handbook() -> None:
    handbook = (ROOT / "pipeline" / "README.md").read_text()
    for words in ALL_COMMANDS:
        if words not in (("topics",), ("clickhouse",), ("keys",), ("generations",), ("journal",)):
            assert f"| `meterline {' '.join(words)}` |" in handbook, words
