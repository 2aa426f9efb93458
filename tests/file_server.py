"""A small file server on 127.0.0.1 that can be told to misbehave."""

import contextlib
import hashlib
import http.server
import threading
from collections.abc import Iterator

import pytest

CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT and can be told to misbehave.

    Attributes:
        ranges: whether range requests are honoured.
        cut: bytes after which each connection is dropped, or None.
        status: an error code to answer with, or None.
        requests: the Range headers received.
    """

    ranges = True
    cut: int | None = None
    status: int | None = None
    content = CONTENT

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append(wanted)
        if server.status:
            self.send_error(server.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        total = len(server.content)
        if start >= total:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(total - start))
        self.send_header("ETag", f'"{hashlib.md5(server.content).hexdigest()}-2"')  # like a store of uploads in parts
        self.end_headers()
        if self.command == "HEAD":
            return
        body = server.content[start:]
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body if server.cut is None else body[: server.cut])

    do_HEAD = do_GET

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
