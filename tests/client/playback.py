"""A real HTTP server in a thread: keeps what arrives, plays back answers that a test has set."""

import json
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from numpy.typing import NDArray

PARAMS: dict[str, Any] = {"gamma": 1.5, "alpha": 0.25, "variant": "sigmoid"}
OPTIONS: dict[str, Any] = {
    "axis": None,
    "normalizer": "count",
    "class_axis": -1,
    "targets_format": "dense",
    "label_smoothing": 0.0,
    "ignore_index": None,
    "background_index": None,
    "allow_nan": False,
    "pos_weight": None,
}
SCALAR = {
    "loss": 0.7923818,
    "reduction": "mean",
    "sum": 2028.497,
    "count": 2560,
    "weight_sum": 2560.0,
    "positives": 251.0,
    "shape": [32, 80],
    "loss_name": "focal",
    "params": PARAMS,
    "options": OPTIONS,
    "notes": [],
    "kernel": "native",
    "device": "cpu",
    "request_id": "r-1",
    "version": "0.1.0",
}
FIGURES = {
    "Lossd-Sum": "2.5",
    "Lossd-Count": "6",
    "Lossd-Weight-Sum": "6.0",
    "Lossd-Positives": "3.0",
    "X-Request-Id": "r-2",
    "Server-Timing": "read;dur=0.25, queue;dur=1.5, compute;dur=3",
}


def npy(array: NDArray[Any]) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@dataclass(frozen=True)
class Answer:
    body: bytes
    media_type: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    declared: int | None = None  # a Content-Length that differs from the body's
    hangs_up: bool = False  # nothing is answered: the connection is closed

    @classmethod
    def of_json(cls, value: object, **headers: str) -> Self:
        return cls(json.dumps(value).encode(), headers={k.replace("_", "-"): v for k, v in headers.items()})

    @classmethod
    def of_npy(cls, array: NDArray[Any]) -> Self:
        return cls(npy(array), "application/x-npy", headers=FIGURES)

    @classmethod
    def of_problem(cls, status: int, code: str, **more: object) -> Self:
        problem = {"type": "about:blank", "title": code, "status": status, "detail": "do it so", "code": code}
        body = json.dumps({**problem, "request_id": "r-3", "retryable": False, **more}).encode()
        return cls(body, "application/problem+json", status)


@dataclass(frozen=True)
class Arrival:
    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes

    @property
    def tensors(self) -> dict[str, NDArray[Any]]:
        """The body's arrays, read one after the other as numpy reads them, by the query's names."""
        stream = BytesIO(self.body)
        names = dict(self.query)["tensors"].split(",")
        found = {name: np.load(stream, allow_pickle=False) for name in names}
        assert stream.read() == b""
        return found

    @property
    def params(self) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self.query if name != "tensors"]


class _Listener(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), OSError):  # the caller hung up
            super().handle_error(request, client_address)  # type: ignore[arg-type] # what it was given


class Playback:
    """The server; `answers` are what the next requests get, `answer` those after them; `arrivals` came."""

    def __init__(self, port: int = 0) -> None:
        self.answer = Answer.of_json(SCALAR)
        self.answers: list[Answer] = []
        self.connections = 0
        self.arrivals: list[Arrival] = []
        self.hold = threading.Event()  # answers wait for it
        self.hold.set()
        self._http = _Listener(("127.0.0.1", port), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def last(self) -> Arrival:
        return self.arrivals[-1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.hold.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding") != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
    chunks = []
    while size := int(handler.rfile.readline() or b"0", 16):  # none: the caller hung up
        chunks.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(chunks)


def _handler(playback: Playback) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def _serve(self) -> None:
            body = _body(self)
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
            playback.arrivals.append(Arrival(self.command, parts.path, query, headers, body))
            playback.hold.wait(10)
            answer = playback.answers.pop(0) if playback.answers else playback.answer
            if answer.hangs_up:
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.media_type)
            length = len(answer.body) if answer.declared is None else answer.declared
            self.send_header("Content-Length", str(length))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)
            self.close_connection = answer.declared is not None or self.close_connection

        do_GET = do_POST = _serve  # noqa: N815 - http.server's names

        def setup(self) -> None:
            super().setup()
            playback.connections += 1

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            pass

        def finish(self) -> None:
            try:
                super().finish()
            except OSError:  # the caller hung up
                self.rfile.close()

    return Handler
