"""What a log still has of offsets that no reader of committed records gets to see."""

from __future__ import annotations

import struct

from pipeline.stream.spans import Span, Stretch, spans_of, uncovered

TRANSACTION, MARKER = 0x10, 0x30


def batch(first: int, offsets: int, attributes: int = 0, body: bytes = b"records") -> bytes:
    """A record batch's head, as Kafka's protocol has it, and something behind it."""
    head = struct.pack(">iBIhiqqqhii", 0, 2, 0, attributes, offsets - 1, 0, 0, -1, -1, -1, offsets)
    return struct.pack(">qi", first, len(head + body)) + head + body


def test_spans_are_those_of_the_batches_and_the_last_may_be_cut_off() -> None:
    data = batch(5, 3) + batch(8, 10, TRANSACTION) + batch(18, 1, MARKER)
    spans = [Span(5, 8, False), Span(8, 18, True), Span(18, 19, True)]
    assert spans_of(data) == spans
    assert spans_of(data[:-5]) == spans
    assert spans_of(data[: len(batch(5, 3)) + 20]) == spans[:1]
    assert spans_of(b"") == []


def test_only_what_lies_in_a_batch_that_is_hidden_for_a_reason_is_nobodys() -> None:
    aborted, marker = Span(8, 18, True), Span(18, 19, True)
    assert uncovered(Stretch(8, 19), [aborted, marker]) == []
    assert uncovered(Stretch(10, 12), [aborted]) == []
    assert uncovered(Stretch(5, 25), [aborted, marker]) == [Stretch(5, 8), Stretch(19, 25)]
    assert uncovered(Stretch(8, 19), [aborted]) == [Stretch(18, 19)]
    assert uncovered(Stretch(8, 10), [Span(8, 10, False)]) == [Stretch(8, 10)], "a plain batch hides nothing"
    assert uncovered(Stretch(3, 5), [aborted]) == [Stretch(3, 5)]
    assert uncovered(Stretch(20, 22), [aborted]) == [Stretch(20, 22)]
