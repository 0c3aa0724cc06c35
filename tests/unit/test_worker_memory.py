"""However many threads a worker has, what they free is kept in one place and used again by all of them."""

from __future__ import annotations

import ctypes
import subprocess
import sys

from pipeline.worker.memory import ARENAS, share_arenas

THREADS = """
import ctypes, threading
from pipeline.worker.memory import share_arenas
{first}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
together = threading.Barrier(8)
def take():
    together.wait()
    libc.malloc(100_000)
    together.wait()
threads = [threading.Thread(target=take) for _ in range(8)]
for one in threads: one.start()
for one in threads: one.join()
libc.malloc_stats()
"""


def arenas(first: str) -> int:
    done = subprocess.run([sys.executable, "-c", THREADS.format(first=first)], capture_output=True, check=True)
    return done.stderr.count(b"Arena ")


def test_threads_share_arenas() -> None:
    if hasattr(ctypes.CDLL(None), "malloc_stats"):
        assert arenas("share_arenas()") <= ARENAS < arenas("")
    else:  # no glibc: it does nothing
        share_arenas()
