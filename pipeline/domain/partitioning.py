"""Which journal partition an identifier lives in: Kafka's Java-compatible murmur2.

librdkafka calls it ``murmur2_random``; its own default is CRC32. Golden vectors are in schemas/vectors.
"""

from __future__ import annotations

import struct

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995
_SEED = 0x9747B28C
_WORDS = [struct.Struct(f"<{count}I") for count in range(64)]


def murmur2(key: bytes) -> int:
    """The 32-bit hash of Kafka's Java client, as an unsigned int."""
    length = len(key)
    h = (_SEED ^ length) & _MASK
    whole = length & ~3
    for word in _words(key, whole):
        k = word * _M & _MASK
        h = (h * _M ^ (k ^ k >> 24) * _M) & _MASK
    if length != whole:
        h = (h ^ int.from_bytes(key[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


def _words(key: bytes, size: int) -> tuple[int, ...]:
    """The little-endian words of the first ``size`` bytes."""
    count = size // 4
    return _WORDS[count].unpack_from(key) if count < len(_WORDS) else struct.unpack_from(f"<{count}I", key)


def partition_of(identifier: str, partitions: int) -> int:
    """The partition of an identifier in a journal of ``partitions`` partitions."""
    return (murmur2(identifier.encode()) & 0x7FFFFFFF) % partitions
