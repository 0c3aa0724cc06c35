"""Our image: small, without a superuser, without secrets, and made of what is locked."""

from __future__ import annotations

import json
import re

from tests.containers import engine

MEGABYTES_MAX = 700


def in_image(code: str) -> str:
    """What a line of Python prints in a container of our image, its root file system read-only."""
    return engine.docker_cli(
        *("run", "--rm", "--read-only", "--tmpfs", "/tmp", "--network", "none", "--name", f"{engine.PREFIX}image"),
        *("--entrypoint", "python", engine.own_image(), "-c", code),
    ).strip()


def test_it_is_small() -> None:
    image = engine.client().images.get(engine.own_image())
    assert image.attrs["Size"] / 1_000_000 <= MEGABYTES_MAX


def test_it_runs_one_process_as_nobody_in_particular() -> None:
    config = engine.client().images.get(engine.own_image()).attrs["Config"]
    assert config["User"] == "10001"
    assert config["Entrypoint"] == ["meterline"]
    assert config["Labels"]["org.opencontainers.image.version"] == engine.own_image().partition(":")[2]
    assert not [pair for pair in config["Env"] if re.search(r"PASSWORD|SECRET|TOKEN", pair)]


def test_it_runs_read_only_and_says_its_help() -> None:
    said = engine.docker_cli("run", "--rm", "--read-only", "--network", "none", engine.own_image(), "--help")
    assert "Usage: meterline" in said


def test_it_holds_what_is_locked_and_no_tools_to_build_or_test() -> None:
    listing = "{one.name.lower(): one.version for one in metadata.distributions()}"
    found = json.loads(in_image(f"import json; from importlib import metadata; print(json.dumps({listing}))"))
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (engine.ROOT / "requirements.lock").read_text(), re.MULTILINE))
    found.pop("meterline")
    differ = {name: version for name, version in found.items() if locked.get(re.sub("[_.]", "-", name)) != version}
    assert set(differ) <= {"numpy"}, differ  # locked twice, by the version of Python
    assert not {"pip", "setuptools", "hatchling", "chdb", "pytest", "pandas"} & set(found)


def test_every_part_can_be_loaded() -> None:
    """Nothing was left out that a process imports late."""
    parts = "pipeline.worker.app, pipeline.sink.app, pipeline.gateway.app, pipeline.cli, pyarrow, polars, rocksdict"
    assert in_image(f"import {parts}; print('loaded')") == "loaded"
