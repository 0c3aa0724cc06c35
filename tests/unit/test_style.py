"""How the code should read, as tests: what a reviewer would otherwise have to say again and again."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PIPELINE = ROOT / "pipeline"
SOURCES = sorted(PIPELINE.rglob("*.py"))
FILE_LINES_MAX = 340
"""About 300; the rest is for the formatter."""
FUNCTION_LINES_MAX = 60
BANNED_WORDS = {"manager", "helper", "helpers", "util", "utils", "data", "info", "process"}
"""Names that say nothing. ``process`` and ``data`` are fine as parts of longer names that say which."""
TEXT_SUFFIXES = {".py", ".md", ".toml", ".yml", ".yaml", ".json", ".sql", ".xml", ".lock", ".sh", ".cfg", ".avsc", ""}


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    hidden = {".git", ".venv", ".meterline", "__pycache__"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not hidden & set(path.relative_to(ROOT).parts)]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 30
    assert len(tracked_files()) > 60


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= FILE_LINES_MAX, f"{relative(path)} is longer than {FILE_LINES_MAX} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1 - _docstring_lines(node) - _signature_lines(node)
            assert lines <= FUNCTION_LINES_MAX, f"{relative(path)}: {node.name} has {lines} lines"


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Help texts of commands are prose and do not count."""
    first = node.body[0]
    return (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(node) is not None else 0


def _signature_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The options of a command are a table and do not count."""
    return node.body[0].lineno - node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_names_say_something(path: Path) -> None:
    assert path.stem not in BANNED_WORDS, f"{relative(path)}: what is it about?"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            words = re.findall(r"[a-z]+", re.sub(r"([A-Z])", r"_\1", node.name).lower())
            banned = {"manager", "helper", "util", "utils", "info"} & set(words)
            assert not banned, f"{relative(path)}: {node.name}"
            assert node.name.lower() not in BANNED_WORDS, f"{relative(path)}: {node.name}"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_every_module_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not tree.body or ast.get_docstring(tree), f"{relative(path)} has no docstring"


def test_imports_point_one_way() -> None:
    """The contracts are in pyproject.toml."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_environment_is_read_in_one_place() -> None:
    """settings.py names the variables; wiring.py hands the environment over; local/ passes one on to its programs."""
    readers = {relative(path) for path in SOURCES if re.search(r"os\.environ|os\.getenv", path.read_text())}
    allowed = re.compile(r"pipeline/(settings|wiring)\.py|pipeline/(local|cli)/.*")
    assert not {path for path in readers if not allowed.fullmatch(path)}


def test_no_package_registry_is_named() -> None:
    """Where packages come from is the machine's business: a clone must install through any mirror."""
    hosts = re.compile(
        "|".join(
            (
                "pypi" + r"\.org",
                "files.python" + "hosted",
                "repo1?" + r"\.maven",
                "maven" + r"\.org",
                "registry" + r"\.npmjs",
                "docker" + r"\.io/",
                "(?<!emit-)index-" + "url",
            )
        )
    )
    named = [
        f"{relative(path)}: {match[0]}"
        for path in tracked_files()
        if path.suffix in TEXT_SUFFIXES and (match := hosts.search(path.read_text(errors="ignore")))
    ]
    assert not named


def test_no_machine_is_named() -> None:
    """Paths of the machine on which something was written help nobody else."""
    paths = re.compile("/(?:root|home/[a-z]+|" + "work" + r")/[\w.]")
    named = [
        f"{relative(path)}: {match[0]}"
        for path in tracked_files()
        if path.suffix in TEXT_SUFFIXES and (match := paths.search(path.read_text(errors="ignore")))
    ]
    assert not named


def test_there_is_no_float_in_the_core() -> None:
    for path in sorted((PIPELINE / "domain").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            is_float = isinstance(node, ast.Constant) and isinstance(node.value, float)
            is_name = isinstance(node, ast.Name) and node.id == "float"
            is_division = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
            assert not any((is_float, is_name, is_division)), f"{relative(path)}:{node.lineno}"


def test_tests_are_never_skipped() -> None:
    pattern = re.compile(r"pytest\.(mark\.)?skip|importor" + "skip|unittest.mock|Magic" + "Mock")
    this = Path(__file__).resolve()
    skipping = [
        relative(path)
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path.resolve() != this and pattern.search(path.read_text())
    ]
    assert not skipping
