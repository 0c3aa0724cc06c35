"""Nothing in the product is there for tests only, so nothing of the kind can be switched on in production."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PIPELINE = Path(__file__).parents[2] / "pipeline"
VARIABLES = {"environ", "environb", "getenv", "getenvb"}
OF_THE_LAPTOP = {"cli/rebuild.py", "cli/demo.py", "cli/stack.py", "cli/status.py", "wiring.py"}
"""Beside local/: they hand the environment on to processes that they start, or to the settings."""


def readers_of_the_environment() -> Iterator[str]:
    for path in PIPELINE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in VARIABLES and ast.unparse(node.value) == "os":
                yield str(path.relative_to(PIPELINE))
            if isinstance(node, ast.ImportFrom) and node.module == "os":
                assert not {alias.name for alias in node.names} & VARIABLES, path


def test_s30_only_settings_switch_anything() -> None:
    """Whatever a variable can do is a row of pipeline/settings.py."""
    found = {name for name in readers_of_the_environment() if not name.startswith("local/")}
    assert found == OF_THE_LAPTOP


@pytest.mark.parametrize("part", ["worker", "sink", "gateway"])
@pytest.mark.parametrize("variable", ["METERLINE_FAILPOINTS", "METERLINE_TEST_HOOKS"])
def test_s30_a_hook_that_is_asked_for_stops_the_start(part: str, variable: str, tmp_path: Path) -> None:
    environ = {name: text for name, text in os.environ.items() if not name.startswith("METERLINE_")}
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", part],
        env={**environ, "METERLINE_HOME": str(tmp_path), variable: "worker.after_publish=kill"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert f"{variable}: no such setting" in ended.stderr


def test_s30_no_part_of_the_product_knows_of_failpoints_or_tests() -> None:
    for path in PIPELINE.rglob("*.py"):
        text = path.read_text()
        assert "failpoint" not in text.lower(), path
        names = [
            alias.name if isinstance(node, ast.Import) else str(getattr(node, "module", ""))
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        ]
        assert not [name for name in names if name.partition(".")[0] in {"tests", "pytest", "hypothesis"}], path
