"""What the test servers on this machine share: replies of JSON over HTTP, from a thread of this process."""

from __future__ import annotations

import http.server
import json
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
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
