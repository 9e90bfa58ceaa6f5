"""What the test servers on this machine share: replies of JSON over HTTP, from a thread of this process."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Mapping
from typing import Any


class JsonReplies:
    """What a `BaseHTTPRequestHandler` needs beside its methods for requests: it sends replies and prints nothing."""

    protocol_version = "HTTP/1.1"

    def send(self, status: int, headers: Mapping[str, str], content: Any) -> None:
        """Send a reply; bytes go as they are, all else as JSON."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


class LoopbackServer:
    """A server on 127.0.0.1 whose requests go to a handler.

    Attributes:
        origin: Scheme, host and port.
    """

    def __init__(self, handler: type[http.server.BaseHTTPRequestHandler], port: int = 0) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self._port: socket.socket | None = None
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening; the port stays taken until `close`, otherwise another test's server could get it."""
        self._server.shutdown()
        self._server.server_close()
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port.bind(self._server.server_address)

    def close(self) -> None:
        """Stop listening, and give the port back."""
        self._server.shutdown()
        self._server.server_close()
        if self._port is not None:
            self._port.close()
