"""Results that are complete before any of them is sent."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_IN_MEMORY = 1 << 20


def held(chunks: Iterator[bytes], directory: Path) -> Iterator[bytes]:
    """The same chunks when all have come; an error among them is raised here. Many wait in a file."""
    file = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(directory))  # noqa: SIM115 - pieces closes it
    try:
        file.writelines(chunks)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return pieces(file)


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    """What a file holds; it is closed at the end."""
    with file:
        while piece := file.read(1 << 20):
            yield piece
