"""How fast the pipeline is, part by part: ``python -m benchmarks``. See README.md beside this file."""
