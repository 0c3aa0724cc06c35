"""What is tested here depends on which images are there; the run's header says which, and what that leaves out."""

from __future__ import annotations

from tests.containers import engine

missing = engine.missing_images()
assert not missing, f"infra/docker/images makes what is missing: {', '.join(missing)}"
collect_ignore = ["test_clickhouse_server.py"] if engine.is_stand_in(engine.clickhouse_image()) else []
