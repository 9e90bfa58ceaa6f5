"""A relay before a server on this machine, which a test can let die and live again at the same address."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit


class Relay:
    """Passes on what comes to `url`, until it dies: then it cuts all connections, as a killed server does."""

    def __init__(self, base_url: str) -> None:
        address = urlsplit(base_url)
        self.to = (address.hostname, address.port)
        self.sockets: list[socket.socket] = []
        self.dead = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{address.path}"
        threading.Thread(target=self._accept, daemon=True).start()

    def dies_when(self, condition: Callable[[], bool]) -> None:
        """Let it die as soon as a condition holds."""

        def watch() -> None:
            while not condition():
                time.sleep(0.005)
            self.dead.set()
            for each in self.sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

        threading.Thread(target=watch, daemon=True).start()

    def lives(self) -> None:
        """Let it pass on what comes from now on."""
        self.dead.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.dead.is_set():
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset it
                    client.close()
                    continue
                server = socket.create_connection(self.to)
                self.sockets += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := one.recv(1 << 16):
                other.sendall(part)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()
        for each in self.sockets:
            each.close()
