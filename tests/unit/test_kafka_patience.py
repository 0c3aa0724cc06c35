"""How long a producer waits for what: a broker that has gone silent must leave time for its successor."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.kafka.acknowledged import CONFIG
from pipeline.kafka.producer import DEFAULTS

RECOVERED_WITHIN_MS = 30_000


@pytest.mark.parametrize("config", [CONFIG, DEFAULTS])
def test_a_second_attempt_fits_in_the_time_that_a_record_has(config: dict[str, Any]) -> None:
    silent_ms = config["socket.timeout.ms"] + config["socket.connection.setup.timeout.ms"]
    assert silent_ms <= config["message.timeout.ms"]
    assert 2 * config["socket.timeout.ms"] <= config["message.timeout.ms"]
    assert silent_ms + config["reconnect.backoff.max.ms"] <= RECOVERED_WITHIN_MS
