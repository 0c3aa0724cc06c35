"""A sink's threads share one arena of malloc: how many there are, by glibc's own account of a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ARENAS = """
import ctypes, sys, threading
from pipeline.stream.memory import share_one_arena

if sys.argv[1] == "shared":
    share_one_arena()
together = threading.Barrier(6)

def work():
    held = [bytes(4096) for _ in range(100)]
    together.wait()
    together.wait()

threads = [threading.Thread(target=work) for _ in range(5)]
for thread in threads:
    thread.start()
together.wait()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
told = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, told)
libc.fclose(told)
together.wait()
"""


@pytest.mark.parametrize(("told", "arenas"), [("shared", 1), ("apart", 6)])
def test_threads_share_an_arena(told: str, arenas: int, tmp_path: Path) -> None:
    said = tmp_path / "malloc.xml"
    subprocess.run([sys.executable, "-c", ARENAS, told, str(said)], check=True)
    assert said.read_text().count("<heap nr=") == arenas
