"""Where each planted bug puts itself down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Plant = Callable[[Any], None]
PLANTED: dict[str, Plant] = {}


def planted(plant: Plant) -> Plant:
    PLANTED[plant.__name__] = plant
    return plant
