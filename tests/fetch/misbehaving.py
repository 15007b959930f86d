"""A web server that answers as scripted, mostly wrong."""

from __future__ import annotations

import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """What one request gets."""

    data: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    """Whether ranges are served."""
    etag: str | None = None
    length: bool = True
    """Whether Content-Length is sent; without it the end of the connection is the end of the file."""
    chunked: bool = False
    cut: int | None = None
    """Bytes of the body after which the connection ends."""
    how: str = "close"
    """How it ends there: `close`, `reset`, or `stall`: nothing more comes, but the connection stays."""
    slow: float = 0.0
    """Seconds between any two of the eight pieces in which the body is sent."""
    meet: threading.Barrier | None = None
    """Nothing is sent until as many requests are here as the barrier waits for."""


@dataclass(frozen=True)
class Seen:
    """A request."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


class Server:
    """Answers each path from its own list; the last answer of a list is repeated. HEAD uses up none."""

    def __init__(self) -> None:
        self.scripts: dict[str, list[Answer]] = {}
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        self.busy = self.max_at_once = 0
        self.lock = threading.Lock()
        server = self

        class Handler(_Handler):
            mine = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def script(self, path: str, *answers: Answer) -> str:
        self.scripts[path] = list(answers)
        return self.url(path)

    def gets(self, path: str | None = None) -> list[Seen]:
        return [one for one in self.seen if one.method == "GET" and path in (None, one.path)]

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mine: Server

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        answer = self._note()[-1]
        self.send_response(answer.status)
        if answer.length and not answer.chunked:
            self.send_header("Content-Length", str(len(answer.data)))
        self._end(answer)

    def do_GET(self) -> None:
        script = self._note()
        with self.mine.lock:
            answer = script.pop(0) if len(script) > 1 else script[0]
            self.mine.busy += 1
            self.mine.max_at_once = max(self.mine.max_at_once, self.mine.busy)
        try:
            if answer.meet:
                answer.meet.wait(10)
        finally:  # before the client has its answer, and may send the next request
            with self.mine.lock:
                self.mine.busy -= 1
        self._answer(answer)

    def _note(self) -> list[Answer]:
        seen = Seen(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
        self.mine.seen.append(seen)
        self.close_connection = True
        return self.mine.scripts.get(self.path.partition("?")[0]) or [Answer(b"no such file", 404)]

    def _end(self, answer: Answer) -> None:
        if answer.etag:
            self.send_header("ETag", answer.etag)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()

    def _answer(self, answer: Answer) -> None:
        body, status = answer.data, answer.status
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        if asked and answer.ranges and status == 200 and condition in (None, answer.etag):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self._end(answer)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            body = body[start:]
        else:
            self.send_response(status)
        if answer.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif answer.length:
            self.send_header("Content-Length", str(len(body)))
        self._end(answer)
        sent = body if answer.cut is None else body[: answer.cut]
        if answer.chunked:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(sent), sent))
            if answer.cut is None:
                self.wfile.write(b"0\r\n\r\n")
        else:
            step = -(-len(sent) // 8) if answer.slow else len(sent)
            for start in range(0, len(sent), step or 1):
                self.wfile.write(sent[start : start + step])
                self.mine.closing.wait(answer.slow)
        if answer.cut is None:
            return
        if answer.how == "stall":
            self.wfile.flush()
            self.mine.closing.wait(30)
        elif answer.how == "reset":
            self.wfile.flush()
            # Closing with a linger time of zero sends a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
