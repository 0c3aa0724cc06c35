"""Bytes that are nearly right: good input, cut, spliced, repeated and with single bytes and numbers changed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.fuzzing.targets import LONGEST_S, TARGETS, seeds

CORPUS = Path(__file__).parents[1] / "corpus"
SIZE_MAX = 4_096
SPICE = (
    *(b"\x00", b"\xff", b"\x80", b"\xff" * 9 + b"\x01", b"\x01" + b"\x80" * 8, b"\xc3\x01"),
    *(b"\r\n", b'"', b"'", b"\\", b"%", b"[", b"{", b",", b"-", b".", b"&", b"=", b";", b"=" * 3, b"[" * 600),
    *(b"e", b"0" * 50, b"9" * 50, b"NaN", b"true", b"\\ud800", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80"),
    *(b"$$", b"/*", b"\xe2\x80\x98", b"FORMAT", b"VALUES", b"INSERT"),
)
"""What parsers stumble over."""


class Finding(AssertionError):
    """A target did what it must not."""


def corpus_of(name: str) -> list[bytes]:
    """What a target was given before: good input, and everything that was once a finding."""
    kept = [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
    return [*seeds()[name], *kept]


def mutated(random: Random, corpus: list[bytes]) -> bytes:
    """One input that is nearly one of the corpus."""
    value = random.choice(corpus)
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        at = random.randrange(len(value) + 1)
        to = min(len(value), at + random.choice((1, 1, 2, 4, 16)))
        edit = random.randrange(6)
        if edit == 0:
            value = value[:at] + value[to:]
        elif edit == 1:
            value = value[:at] + random.choice(SPICE) + value[at:]
        elif edit == 2:
            value = value[:at] + random.choice(SPICE) + value[to:]
        elif edit == 3 and at < len(value):
            value = value[:at] + bytes([value[at] ^ 1 << random.randrange(8)]) + value[at + 1 :]
        elif edit == 4:
            other = random.choice(corpus)
            value = value[:at] + other[random.randrange(len(other) + 1) :]
        else:
            value = value[:at] + value[at:to] * random.choice((2, 3, 40)) + value[to:]
    return value[:SIZE_MAX]


def inputs(name: str, seed: int) -> Iterator[bytes]:
    """The corpus, then mutations of it without end."""
    corpus, random = corpus_of(name), Random(f"{name} {seed}")
    yield from corpus
    while True:
        yield mutated(random, corpus)


def check(name: str, value: bytes) -> None:
    """Raises Finding."""
    spent = []
    for _ in range(3):
        started = time.thread_time()
        try:
            TARGETS[name](value)
        except Exception as error:
            raise Finding(f"{name} with {value[:300]!r}: {type(error).__name__}: {error}") from error
        spent.append(time.thread_time() - started)
        if min(spent) <= LONGEST_S:
            return
    raise Finding(f"{name} takes {min(spent):.2f} s for {len(value)} bytes: {value[:300]!r}")


def keep(name: str, value: bytes) -> Path:
    """Put a finding into the corpus, so that it is tried for ever."""
    path = CORPUS / name / hashlib.sha256(value).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(value)
    return path
