"""A publisher that has lost a record never says again that all is acknowledged."""

from __future__ import annotations

import threading

import pytest

from pipeline.errors import PublishFailed
from pipeline.kafka.producer import DeliveryError, OnError, Publisher


def publisher_to_nowhere(on_error: OnError | None = None) -> Publisher:
    impatient = {"bootstrap.servers": "127.0.0.1:9", "message.timeout.ms": 100, "log_level": 0}
    return Publisher(impatient, on_error)


def test_everybody_who_waits_hears_of_it() -> None:
    """A worker's flush waits in one thread, its router in another, and both go on to acknowledge."""
    publisher = publisher_to_nowhere()
    publisher.publish_batch("summaries", 0, [(b"k", b"v")])
    heard: list[str] = []

    def wait() -> None:
        try:
            publisher.flush(60)
        except PublishFailed as error:
            heard.append(str(error))

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heard) == 2
    assert all("summaries" in said for said in heard)
    with pytest.raises(PublishFailed, match="summaries"):
        publisher.flush(60)


def test_who_publishes_on_is_told_once_and_who_flushes_each_time() -> None:
    publisher = publisher_to_nowhere()
    publisher.publish("journal", b"lost", b"v")
    with pytest.raises(PublishFailed, match="lost"):
        publisher.flush(60)
    publisher.publish("journal", b"more", b"v")
    for _ in range(2):
        with pytest.raises(PublishFailed, match=r"lost.*and 1 more"):
            publisher.flush(60)


def test_a_callback_has_been_told_all_there_is() -> None:
    failures: list[DeliveryError] = []
    publisher = publisher_to_nowhere(failures.append)
    publisher.publish("journal", b"lost", b"v")
    publisher.flush(60)
    assert [failure.key for failure in failures] == [b"lost"]
