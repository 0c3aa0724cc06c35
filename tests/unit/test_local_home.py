"""The small pieces of the laptop stack: files, locks, ports, identities of processes, bodies of requests."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import MeterlineError
from pipeline.local import ports
from pipeline.local.clickhouse_body import Disconnected, body_of
from pipeline.local.encodings import PACKERS, chosen
from pipeline.local.home import Home, read_json
from pipeline.local.lock import InUse, Lock
from pipeline.local.program import Identity, stop
from pipeline.local.services import Ports
from pipeline.local.statement import SqlError


def test_a_shell_and_we_read_the_same_variables(tmp_path: Path) -> None:
    variables = {"METERLINE_KAFKA": "127.0.0.1:9092", "METERLINE_SNAPSHOTS": "file:///a b/it's $HOME;\n#x"}
    home = Home.at(tmp_path / "home").make()
    home.write_env(variables)
    assert home.read_env() == variables
    said = subprocess.run(
        ["sh", "-c", f"set -a; . '{home.env}'; printf '%s|%s' \"$METERLINE_KAFKA\" \"$METERLINE_SNAPSHOTS\""],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "|".join(variables.values())


def test_what_a_home_holds_is_for_its_user_only(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home").make()
    home.write_env({"METERLINE_KAFKA_PASSWORD": "secret"})
    assert home.path.stat().st_mode & 0o777 == 0o700
    assert home.env.stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text('{"brokers": ')
    with pytest.raises(MeterlineError, match=re.escape("stack.json")):
        read_json(tmp_path / "stack.json")


def test_a_lock_has_one_owner_and_says_who(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock", "the stack")
    with pytest.raises(InUse, match=f"the stack is in use by process {os.getpid()}"):
        Lock(tmp_path / "lock", "the stack")
    lock.release()
    Lock(tmp_path / "lock", "the stack").release()


def test_a_lock_does_not_outlive_a_killed_owner(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = f"from pathlib import Path; from pipeline.local.lock import Lock; lock = Lock(Path({str(path)!r}), 'it');"
    argv = [sys.executable, "-c", f"{code} print('held', flush=True); input()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == b"held\n"
        with pytest.raises(InUse):
            Lock(tmp_path / "lock", "it")
        one.kill()
        one.wait()
        Lock(tmp_path / "lock", "it").release()


def test_a_taken_port_is_replaced_and_a_free_one_kept() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (other,) = ports.choose([port])
        assert other != port
        assert ports.is_free(other)
        assert ports.choose([other]) == [other]
        assert Ports((port,), (other,), other, (other, other)).taken() == [port]


def test_a_port_that_another_run_has_claimed_is_not_chosen_though_nothing_listens() -> None:
    code = "from pipeline.local.ports import choose; print(choose([0])[0], flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        claimed = int(other.stdout.readline())
        assert ports.is_free(claimed)
        assert ports.choose([claimed]) != [claimed]
        other.kill()
        other.wait()
        assert ports.choose([claimed]) == [claimed]


def test_chosen_ports_differ() -> None:
    chosen = ports.choose([0] * 20)
    assert len(set(chosen)) == 20


def test_a_process_is_known_by_its_start_not_only_by_its_id() -> None:
    with subprocess.Popen(["sleep", "60"]) as one:
        identity = Identity.of(one.pid)
        assert identity is not None
        assert identity.alive()
        assert 0 <= identity.uptime_s() < 30
        namesake = Identity(identity.pid, identity.started - 1)
        assert not namesake.alive()
        namesake.send(signal.SIGKILL)
        assert one.poll() is None
        stop([identity], grace_s=5.0)
        assert one.wait() == -signal.SIGTERM
        assert not identity.alive()


def test_what_ignores_sigterm_is_killed() -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        one.stdout.readline()
        identity = Identity.of(one.pid)
        assert identity is not None
        stop([identity], grace_s=0.2)
        assert one.wait() == -signal.SIGKILL


def _headers(**values: str) -> Message:
    message = Message()
    for name, value in values.items():
        message[name.replace("_", "-")] = value
    return message


def _all_of(headers: Message, source: bytes) -> bytes:
    body = body_of(headers, io.BytesIO(source))  # type: ignore[arg-type]
    return b"".join(iter(body.read, b""))


@given(content=st.binary(max_size=3000), sizes=st.lists(st.integers(1, 500), max_size=20))
def test_a_body_in_chunks_is_put_together(content: bytes, sizes: list[int]) -> None:
    def chunks() -> Iterator[bytes]:
        at = 0
        for size in [*sizes, len(content)]:
            if piece := content[at : at + size]:
                yield b"%x;x=y\r\n%b\r\n" % (len(piece), piece)
            at += size
        yield b"0\r\n\r\n"

    whole = b"".join(chunks())
    assert _all_of(_headers(Transfer_Encoding="chunked"), whole + b"next request") == content
    for cut in {len(whole) // 2, len(whole) - 5}:
        with pytest.raises(Disconnected):
            _all_of(_headers(Transfer_Encoding="chunked"), whole[: max(0, cut)])


@pytest.mark.parametrize("encoding", sorted(PACKERS))
def test_every_encoding_is_read_back_also_in_several_frames(encoding: str) -> None:
    first, second = os.urandom(70_000), b"x" * 300_000
    packed = b""
    for content in (first, second):
        packer = PACKERS[encoding]()
        packed += packer.compress(content) + packer.flush()
    headers = _headers(Content_Length=str(len(packed)), Content_Encoding=encoding)
    assert _all_of(headers, packed) == first + second
    with pytest.raises((SqlError, Disconnected)):
        _all_of(_headers(Content_Length=str(len(packed) - 9), Content_Encoding=encoding), packed[:-9])
    with pytest.raises(SqlError):
        _all_of(_headers(Content_Length="20", Content_Encoding=encoding), b"\xff" * 20)


def test_a_short_body_is_a_disconnection_and_an_unknown_encoding_an_error() -> None:
    with pytest.raises(Disconnected):
        _all_of(_headers(Content_Length="10"), b"short")
    with pytest.raises(SqlError):
        _all_of(_headers(Content_Length="1", Content_Encoding="rot13"), b"x")


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [("gzip, lz4;q=0.5", "lz4"), ("gzip", "gzip"), ("br", None), ("lz4;q=0, gzip", "gzip"), ("", None)],
)
def test_the_quickest_encoding_that_is_accepted_is_chosen(accepted: str, expected: str | None) -> None:
    assert chosen(accepted) == expected
