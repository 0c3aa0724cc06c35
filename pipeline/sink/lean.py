"""What a sink does not load.

pyarrow and clickhouse-connect import pandas wherever it is installed, as it is beside the demo. That is a quarter of
the work of a sink's start and a fifth of its memory, and a start is most of a recovery.
"""

from __future__ import annotations

import importlib.abc
import sys
from typing import Any


class _Without(importlib.abc.MetaPathFinder):
    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, fullname: str, *_: Any) -> None:
        if fullname == self._name:
            raise ModuleNotFoundError(f"{fullname} is not for this process", name=fullname)


def load_no_pandas() -> None:
    """From now on pandas is not there for this process, before anything has looked for it."""
    sys.meta_path.insert(0, _Without("pandas"))
