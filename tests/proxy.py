"""A TCP proxy that cuts the reply of a request that the server has applied."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class Proxy:
    """Passes everything on, until it is told to cut.

    :param target: The server's port.
    """

    def __init__(self, target: int) -> None:
        self.cuts = 0
        self._target = target
        self._lock = threading.Lock()
        self._match = b""
        self._times = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def cut_reply(self, match: str, times: int = 1) -> None:
        """Drop the next replies to requests that hold ``match``, after the server made them."""
        with self._lock:
            self._match, self._times = match.encode(), times

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self._target))
        cutting = threading.Event()

        def replies() -> None:
            with contextlib.suppress(OSError):
                while data := server.recv(65536):
                    if cutting.is_set():
                        with self._lock:
                            self.cuts += 1
                        break
                    client.sendall(data)
            for one in (client, server):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

        threading.Thread(target=replies, daemon=True).start()
        with contextlib.suppress(OSError), client, server:
            while data := client.recv(1 << 20):
                with self._lock:
                    if self._times and self._match in data:
                        self._times -= 1
                        cutting.set()
                server.sendall(data)
