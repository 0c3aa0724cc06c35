"""Bugs that are planted on purpose, one at a time: a simulator that misses one of them would miss it in earnest.

Each takes pytest's ``monkeypatch`` and breaks one line's worth of the product.
"""

from tests.simulation.planted import flushing, folding, publishing, sinking, taking_over
from tests.simulation.planted.registry import PLANTED

__all__ = ["PLANTED", "flushing", "folding", "publishing", "sinking", "taking_over"]
