"""A door in front of a TCP service that a test opens, shuts, jams, or lets only questions through."""

from __future__ import annotations

import contextlib
import enum
import re
import socket
import threading
import time
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Door(enum.Enum):
    OPEN = "everything passes"
    SHUT = "connections are cut, new ones too"
    JAMMED = "connections are taken and nothing passes"
    MUTE = "questions pass; the connection is cut when their answer comes"
    SLOW = "everything passes, a while later"
    FAILING = "every question is answered with an HTTP error"
    LYING = "inserts go nowhere and are answered with 200, and with an exception in the body"


SLOW_S = 0.15
HTTP_ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
THROWN = b"Code: 241. DB::Exception: Memory limit (total) exceeded. (MEMORY_LIMIT_EXCEEDED)\n"
ASKED_MAX = 10_000


class Gate:
    """Listens on a port of its own and passes on to ``url``."""

    def __init__(self, url: str, slow_s: float = SLOW_S) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._door = Door.OPEN
        self._slow_s = slow_s
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._connections: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.answers_swallowed = 0
        self.lies = 0
        self.rows_claimed: int | None = None
        """How many rows a lie calls written; None for an answer without a summary."""
        self.asked: list[bytes] = []
        """The beginning of what clients sent, of the first ASKED_MAX pieces."""

    @property
    def address(self) -> str:
        """host:port"""
        return self.url.removeprefix("http://")

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.set(Door.SHUT)
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for one in self._connections:
            one.join()

    def set(self, door: Door) -> None:
        with self._changed:
            self._door = door
            if door is Door.SHUT:
                for one in self._open:
                    with contextlib.suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)
            self._changed.notify_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._door is Door.SHUT:
                client.close()
                continue
            one = threading.Thread(target=self._connection, args=(client,), daemon=True)
            self._connections = [before for before in self._connections if before.is_alive()]
            self._connections.append(one)
            one.start()

    def _connection(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as ends:
            ends.enter_context(client)
            try:
                server = ends.enter_context(socket.create_connection(self._target))
            except OSError:
                return  # nobody is there: to the client, the connection ends
            with self._changed:
                self._open |= {client, server}
            answers = threading.Thread(target=self._pass_on, args=(server, client, True), daemon=True)
            answers.start()
            self._pass_on(client, server, answering=False)
            answers.join()
            with self._changed:
                self._open -= {client, server}

    def _pass_on(self, source: socket.socket, target: socket.socket, answering: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                with self._changed:
                    self._changed.wait_for(lambda: self._door is not Door.JAMMED)
                if answering and self._door is Door.MUTE:
                    self.answers_swallowed += 1
                    break
                if not answering and self._door is Door.FAILING:
                    source.sendall(HTTP_ERROR)
                    break
                if not answering and self._door is Door.LYING and b"INSERT" in piece[:4096]:
                    _read_to_the_end(source, piece)
                    self.lies += 1  # first: who has the answer may ask at once
                    source.sendall(self._lie())
                    break
                if self._door is Door.SLOW:
                    time.sleep(self._slow_s)
                if not answering and len(self.asked) < ASKED_MAX:
                    self.asked.append(piece[:4096])
                target.sendall(piece)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _lie(self) -> bytes:
        summary = (
            b"" if self.rows_claimed is None else b'X-ClickHouse-Summary: {"written_rows":"%d"}\r\n' % self.rows_claimed
        )
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n" % len(THROWN)
        return head + summary + b"\r\n" + THROWN


def _read_to_the_end(source: socket.socket, piece: bytes) -> None:
    """The rest of a request whose head is in ``piece``."""
    head, _, body = piece.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    got, tail = len(body), body
    while piece and (got < int(length[1]) if length else not tail.endswith(b"\r\n0\r\n\r\n")):
        piece = source.recv(1 << 16)
        got, tail = got + len(piece), (tail + piece)[-16:]
