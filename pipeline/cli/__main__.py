"""``python -m pipeline.cli``: the same as ``meterline``, for a machine whose PATH does not have it."""

from pipeline.cli import main

main()
