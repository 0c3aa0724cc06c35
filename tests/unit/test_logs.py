"""A log that nobody reads costs lines, and holds nothing up."""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Iterator

import pytest

from pipeline.logs import WAITING_BYTES_MAX, Outlet

LINE = "x" * 99 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096)
    yield reads, writes
    os.close(reads)


def all_of(reads: int) -> str:
    found = b""
    while piece := os.read(reads, 65_536):
        found += piece
    return found.decode()


def test_lines_come_whole_and_in_order(pipe: tuple[int, int]) -> None:
    reads, writes = pipe
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(all_of(reads)))
    reader.start()
    outlet = Outlet(writes)
    for number in range(5_000):
        outlet.write(f"line {number} ü \udc80\n")
    assert outlet.drain(60)
    os.close(writes)
    reader.join()
    assert found[0].splitlines() == [f"line {number} ü \\udc80" for number in range(5_000)]


def test_k4_a_full_pipe_holds_nobody_up_and_what_was_left_out_is_counted(pipe: tuple[int, int]) -> None:
    reads, writes = pipe
    outlet = Outlet(writes)
    written = 3 * WAITING_BYTES_MAX // len(LINE)
    for _ in range(written):
        outlet.write(LINE)
    assert not outlet.drain(0.01)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(all_of(reads)))
    reader.start()
    assert outlet.drain(60)
    outlet.write("the last\n")
    assert outlet.drain(60)
    os.close(writes)
    reader.join()
    lines = found[0].splitlines(keepends=True)
    told = [match for line in lines if (match := re.search(r"(\d+) lines left out: nobody read them$", line))]
    assert lines.count(LINE) + sum(int(match[1]) for match in told) == written
    assert len(lines) == lines.count(LINE) + len(told) + 1
    assert lines.count(LINE) < written


def test_a_reader_that_is_gone_is_no_error() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    outlet = Outlet(writes)
    for _ in range(2):
        outlet.write(LINE)
        assert outlet.drain(60)
    os.close(writes)
