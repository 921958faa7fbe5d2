"""An HTTP server on the loopback that serves files by ranges, and misbehaves as it is told."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_PAGE = b"<html><body>Please log in to use this network.</body></html>"


@dataclass
class Fault:
    """What is done with a request instead of answering it well.

    Attributes:
        kind: "status", "truncate", "stall", "reset", "whole" (200 for 206), "corrupt", "longer", "other range",
            "redirect", "html" (a page that asks to log in), "drip" (so slowly that it would take for ever).
        value: a status, a location, seconds.
        times: how many requests it concerns.
        wanted: which ranges; `None`: all.
    """

    kind: str
    value: object = None
    times: int = 1_000_000
    wanted: Callable[[int, int], bool] | None = None


@dataclass
class HostileServer:
    """Serves `files` (path -> bytes); a context manager.

    Attributes:
        ranges: the ranges that were asked for, in order, those of one byte aside.
        faults: tried in order for each request; the first that applies is used.
        etags: path -> ETag; without, none is sent.
        length: that is claimed, where it is not the files'.
        honest: whether `If-Match` is obeyed.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    ranges: list[tuple[int, int]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    delay_seconds: float = 0.0
    honest: bool = True
    length: int | None = None

    def __enter__(self) -> HostileServer:
        outer = self
        self._lock = threading.Lock()
        self._closing = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer._answer(self)

            def do_HEAD(self):
                outer._answer_head(self)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

            def handle_error(self, *_):
                pass  # A client may hang up at any time.

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{path}"

    @property
    def bytes_asked(self) -> int:
        return sum(stop - start for start, stop in self.ranges)

    def _fault(self, start: int, stop: int) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and (fault.wanted is None or fault.wanted(start, stop)):
                    fault.times -= 1
                    return fault
        return None

    def _answer_head(self, request: BaseHTTPRequestHandler) -> None:
        """As S3 is asked which version there is; for faults it is a range of one byte."""
        path = request.path.lstrip("/")
        data, fault = self.files.get(path), self._fault(0, 1)
        if fault is not None and fault.kind == "redirect":
            return self._send(request, 302, b"", {"Location": str(fault.value)})
        if data is None or (fault is not None and fault.kind == "status"):
            return self._send(request, 404 if data is None else int(fault.value), b"")
        if fault is not None and fault.kind == "html":
            return self._send(request, 200, b"", {"Content-Type": "text/html"}, len(_PAGE))
        return self._send(request, 200, b"", {"ETag": self.etags[path]}, len(data))

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0].lstrip("/")
        with self._lock:
            self.headers.append(dict(request.headers))
        data = self.files.get(path)
        if data is None:
            return self._send(request, 404, b"")
        etag = self.etags.get(path)
        start, stop = (int(number) for number in re.match(r"bytes=(\d+)-(\d+)", request.headers["Range"]).groups())
        stop = min(stop + 1, len(data))
        if stop - start > 1:
            with self._lock:
                self.ranges.append((start, stop))
        if self.honest and request.headers.get("If-Match", etag) != etag:
            return self._send(request, 412, b"")
        time.sleep(self.delay_seconds)
        fault = self._fault(start, stop)
        headers = {"Content-Range": f"bytes {start}-{stop - 1}/{self.length or len(data)}"}
        if etag is not None:
            headers["ETag"] = etag
        body = data[start:stop]
        if fault is not None:
            return self._misbehave(request, fault, body, headers, data)
        return self._send(request, 206, body, headers)

    def _misbehave(self, request, fault: Fault, body: bytes, headers: dict[str, str], data: bytes) -> None:
        if fault.kind == "status":
            return self._send(request, int(fault.value), b"no")
        if fault.kind == "redirect":
            return self._send(request, 302, b"", {"Location": str(fault.value)})
        if fault.kind == "whole":
            return self._send(request, 200, data, {key: text for key, text in headers.items() if key == "ETag"})
        if fault.kind == "html":
            return self._send(request, 200, _PAGE, {"Content-Type": "text/html"})
        if fault.kind == "drip":
            return self._drip(request, body, headers)
        if fault.kind == "corrupt":
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 0x55]) + body[middle + 1 :]
        if fault.kind == "longer":
            body += b"more"
        if fault.kind == "other range":
            headers["Content-Range"] = f"bytes 1-{len(body)}/{len(data)}"
        cut = len(body) // 2 if fault.kind in ("truncate", "stall", "reset") else len(body)
        self._send(request, 206, body[:cut], headers, len(body))
        if fault.kind == "stall":
            self._closing.wait(float(fault.value or 60))
        if fault.kind == "reset":
            # With nothing to wait for, closing sends RST.
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.close_connection = cut < len(body)
        return None

    def _drip(self, request, body: bytes, headers: dict[str, str]) -> None:
        # A byte at a time is never a pause that a time limit of each read would see.
        self._send(request, 206, b"", headers, len(body))
        for byte in body:
            if self._closing.wait(0.05):
                break
            request.wfile.write(bytes([byte]))
            request.wfile.flush()
        request.close_connection = True

    def _send(self, request, status: int, body: bytes, headers=None, length: int | None = None) -> None:
        request.send_response(status)
        for name, text in (headers or {}).items():
            request.send_header(name, text)
        request.send_header("Content-Length", str(len(body) if length is None else length))
        request.end_headers()
        request.wfile.write(body)
        request.wfile.flush()


def is_data(start: int, stop: int) -> bool:
    """Whether a request is for data, and not for the length alone."""
    return stop - start > 1


# Faults behind which the same request may come right.
PASSING = [
    Fault("status", 503, 3),
    Fault("status", 429, 2),
    Fault("truncate", times=3),
    Fault("reset", times=3),
    Fault("stall", 5, 1),
    Fault("whole", times=2),
    Fault("other range", times=2),
    Fault("longer", times=2),
    Fault("corrupt", times=1),
    Fault("html", times=2),
]
