"""Content encodings of the endpoint: what packs and what unpacks a stream of bytes, by name."""

from __future__ import annotations

import importlib
import sys
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import lz4.frame  # type: ignore[import-untyped]

# The standard library's from 3.14 on; before, the package that clickhouse-connect brings along.
_zstd: Any = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


class Packer(Protocol):
    """Compresses a stream, chunk by chunk; ``flush`` ends it."""

    def compress(self, chunk: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class Unpacker(Protocol):
    """Decompresses a stream, chunk by chunk. ``eof`` is true after its end, ``unused_data`` is what came behind."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, chunk: bytes, /) -> bytes: ...


class _Lz4Packer:
    def __init__(self) -> None:
        self._packer = lz4.frame.LZ4FrameCompressor(auto_flush=True)
        self._begun = False

    def compress(self, chunk: bytes, /) -> bytes:
        begin = b"" if self._begun else bytes(self._packer.begin())
        self._begun = True
        return begin + bytes(self._packer.compress(chunk))

    def flush(self) -> bytes:
        return (b"" if self._begun else bytes(self._packer.begin())) + bytes(self._packer.flush())


# The quickest first: among several that a client takes, the first here is chosen.
PACKERS: dict[str, Callable[[], Packer]] = {
    "lz4": _Lz4Packer,
    "zstd": _zstd.ZstdCompressor,
    "gzip": lambda: zlib.compressobj(1, wbits=31),
    "deflate": lambda: zlib.compressobj(1),
}
UNPACKERS: dict[str, Callable[[], Unpacker]] = {
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": _zstd.ZstdDecompressor,
    "gzip": lambda: zlib.decompressobj(wbits=47),
    "deflate": lambda: zlib.decompressobj(wbits=47),
}


def chosen(accept_encoding: str) -> str | None:
    """The encoding to answer in for an Accept-Encoding header; None for none. Weights other than 0 are ignored."""
    accepted = set()
    for part in accept_encoding.lower().split(","):
        name, _, weight = part.strip().partition(";")
        if weight.replace(" ", "") not in ("q=0", "q=0.0"):
            accepted.add(name.strip())
    return next((name for name in PACKERS if name in accepted), None)
