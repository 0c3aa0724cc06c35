"""docker-compose.ha.yml: three brokers, and one of them lost for good while the demo runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.local import ports
from tests.containers import engine
from tests.containers.compose import Compose
from tests.containers.pair import serves
from tests.workers import until


@pytest.mark.timeout(500)
def test_the_demo_comes_out_exactly_while_a_broker_is_away(tmp_path: Path) -> None:
    second, third = ports.choose((0, 0))
    with Compose("docker-compose.ha.yml", KAFKA_2_PORT=str(second), KAFKA_3_PORT=str(third)) as compose:
        compose.up()
        until(lambda: serves(f"{compose.gateway_url}/health/ready"), "the gateway is ready")
        assert "all topics are as they should be" in compose.cli("topics", "check")
        demo = compose.start_cli(tmp_path / "demo.log", "demo", "--flights", "20000")
        try:
            (victim,) = compose.containers("kafka-2")
            engine.docker_cli("kill", victim)
            assert demo.wait(400) == 0, (tmp_path / "demo.log").read_text()[-3000:]
        finally:
            demo.kill()
        assert "digit for digit" in (tmp_path / "demo.log").read_text()
