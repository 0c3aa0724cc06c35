"""S28: nothing is installed that is not what it was when its hash was written down."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ["requirements.lock", "requirements-uv.lock", "infra/docker/requirements.lock"]
INSTALLS = ["Makefile", "infra/docker/Dockerfile", "infra/docker/offline/clickhouse.Dockerfile"]


@pytest.mark.parametrize("name", LOCKS)
def test_s28_every_requirement_has_one_version_and_hashes(name: str) -> None:
    joined = (ROOT / name).read_text().replace("\\\n", " ")
    requirements = [line for line in joined.splitlines() if re.match(r"[a-z0-9]", line, re.IGNORECASE)]
    assert requirements
    for line in requirements:
        assert re.match(r"[\w.\[\],-]+==[\w.!+]+ ", line), line
        assert "--hash=sha256:" in line, line


@pytest.mark.parametrize("name", INSTALLS)
def test_s28_nothing_but_our_own_code_is_installed_without_hashes(name: str) -> None:
    commands = [line for line in (ROOT / name).read_text().splitlines() if "pip install" in line]
    assert commands
    for command in commands:
        ours = "--no-deps" in command and re.search(r" \.( |$)", command)
        assert "--require-hashes" in command or ours, command


def test_s28_an_altered_package_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "altered-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("altered-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: altered\nVersion: 1.0\n")
        file.writestr("altered-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr("altered-1.0.dist-info/RECORD", "")
    right = sha256(wheel.read_bytes()).hexdigest()
    assert _tried(tmp_path, right).returncode == 0
    wrong = _tried(tmp_path, "0" * 64)
    assert wrong.returncode != 0
    assert "DO NOT MATCH THE HASHES" in wrong.stderr


def _tried(directory: Path, digest: str) -> subprocess.CompletedProcess[str]:
    lock = directory / "a.lock"
    lock.write_text(f"altered==1.0 --hash=sha256:{digest}\n")
    argv = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--find-links", str(directory)]
    argv += ["--require-hashes", "--requirement", str(lock)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)
