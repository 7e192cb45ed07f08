"""A small chat-completions server for tests: real HTTP on loopback, answers from a function, counts what it is asked.

    with serve(lambda body: "4") as server:
        server.base_url, server.requests

A reply is a text, a message (a mapping with a role), a whole response body, a `Reply`, or an exception to raise.
`"What is 3 + 4?"` is answered with "### 7 ###" by default.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """A reply as it goes over the wire; `hang` seconds before it."""

    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: float = 0.0


def adds(body: Mapping[str, Any]) -> str:
    """The right answer to `What is A + B?`."""
    question = next(m["content"] for m in reversed(body["messages"]) if m["role"] == "user")
    a, b = map(int, re.findall(r"\d+", question)[:2])
    return f"### {a + b} ###"


@dataclass
class ChatServer:
    """A running server; `requests` are the bodies that were posted to it, in order."""

    port: int
    answer: Callable[[dict[str, Any]], Any]
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def questions(self) -> list[str]:
        return [body["messages"][-1]["content"] for body in self.requests]

    def wait_for(self, count: int, seconds: float = 30.0) -> None:
        """Until so many requests have come in."""
        deadline = time.monotonic() + seconds
        while len(self.requests) < count:
            assert time.monotonic() < deadline, f"{len(self.requests)} of {count} requests after {seconds} s"
            time.sleep(0.005)


@contextmanager
def serve(answer: Callable[[dict[str, Any]], Any] = adds) -> Iterator[ChatServer]:
    """A server on a free port, for as long as the context is open."""
    http = _Server(("127.0.0.1", 0), _Handler)
    http.chat = ChatServer(http.server_address[1], answer)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield http.chat
    finally:
        http.chat.closing.set()
        http.shutdown()
        thread.join()
        http.server_close()


def completion(reply: Any) -> dict[str, Any]:
    """A response body with this reply: a text, or a message."""
    message = {"role": "assistant", "content": reply} if isinstance(reply, str) else dict(reply)
    reason = "tool_calls" if message.get("tool_calls") else "stop"
    return {
        "id": "reply",
        "object": "chat.completion",
        "created": 0,
        "model": "fake",
        "choices": [{"index": 0, "finish_reason": reason, "message": message}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    chat: ChatServer

    def handle_error(self, *_: object) -> None:
        """Clients that were killed are what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._send(Reply(body=json.dumps({"object": "list", "data": []})))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        chat = self.server.chat
        chat.keys.append(self.headers.get("authorization", "").removeprefix("Bearer "))
        chat.requests.append(body)
        said = chat.answer(body)
        if not isinstance(said, Reply):
            whole = isinstance(said, Mapping) and "role" not in said
            said = Reply(body=json.dumps(said if whole else completion(said)))
        self._send(said)

    def _send(self, reply: Reply) -> None:
        self.server.chat.closing.wait(reply.hang) if reply.hang else None
        data = reply.body.encode()
        self.send_response(reply.status)
        headers = {"content-type": "application/json", "content-length": str(len(data)), **reply.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
