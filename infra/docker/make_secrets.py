# ruff: noqa: INP001 - a script, run by its path and part of no package
"""Makes the secrets of a compose stack, once: random passwords in the directory that is given.

Every file holds one secret, read by ``METERLINE_..._FILE``. ``clickhouse-users.xml`` has ClickHouse's half: hashes.
What is there already stays, so that a restart changes nothing; ``docker compose down -v`` forgets them all.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from pathlib import Path

CLICKHOUSE_USERS = ("admin", "writer", "reader")
KAFKA_USERS = ("admin", "gateway", "worker", "sink", "cli")


def kept(path: Path, text: str, mode: int = 0o400) -> str:
    """The file's content; ``text`` if there is no such file yet."""
    if not path.exists():
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
        new.rename(path)
    return path.read_text()


def main() -> None:
    directory = Path(sys.argv[1])
    hashes = {
        user: hashlib.sha256(kept(directory / f"clickhouse-{user}", secrets.token_urlsafe(32)).encode()).hexdigest()
        for user in CLICKHOUSE_USERS
    }
    lines = "".join(f"  <{user}_password_sha256>{text}</{user}_password_sha256>\n" for user, text in hashes.items())
    kept(directory / "clickhouse-users.xml", f"<clickhouse>\n{lines}</clickhouse>\n", 0o444)
    for user in KAFKA_USERS:
        kept(directory / f"kafka-{user}", secrets.token_urlsafe(32))
    kept(directory / "gateway", f"compose:{secrets.token_hex(32)}")


main()
