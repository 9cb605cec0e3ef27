"""A proxy before a real server that cuts, delays, refuses and hangs as a test tells it.

It knows where a command and a reply end (RESP 2 and 3), so that it cuts at one certain command of
a pipeline: what stands before it is answered, what stands behind it is never forwarded.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from .servers import Port

Match = bytes | str | Callable[[bytes], bool]

_HOST = "127.0.0.1"
_CHUNK = 1 << 16


@dataclass
class _Rule:
    match: Match
    times: int
    applied: bool  # whether the server gets the command before the client is cut off

    def takes(self, command: bytes) -> bool:
        if self.times < 1:
            return False
        wanted = self.match.encode() if isinstance(self.match, str) else self.match
        hit = wanted in command if isinstance(wanted, bytes) else wanted(command)
        self.times -= bool(hit)
        return bool(hit)


class Proxy:
    """``with Proxy(port) as proxy:`` and clients connect to ``proxy.port``.

    What a test says takes effect before the method returns, from any thread.

    :param target: The server's port on 127.0.0.1.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._hold = Port()  # it stays ours while we refuse
        self.port = self._hold.number
        self.cuts = 0
        self.hanging = False
        self.seconds = 0.0
        self._rules: list[_Rule] = []
        self._links: set[_Link] = set()
        self._writers: weakref.WeakSet[asyncio.StreamWriter] = weakref.WeakSet()
        self._listener: socket.socket | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    @property
    def url(self) -> str:
        """:return: What to put into ``REDIS_URL``."""
        return f"redis://{_HOST}:{self.port}/0"

    @property
    def connections(self) -> int:
        """:return: How many clients are connected."""
        return len(self._links)

    def cut_reply(self, match: Match, times: int = 1) -> None:
        """Cut a client off after the server has applied its command, instead of the reply.

        :param match: What the whole command contains, or a function of it.
        :param times: How many commands to do this to.
        """
        self._rules.append(_Rule(match, times, applied=True))

    def cut_request(self, match: Match, times: int = 1) -> None:
        """Cut a client off before the server gets to see its command.

        :param match: What the whole command contains, or a function of it.
        :param times: How many commands to do this to.
        """
        self._rules.append(_Rule(match, times, applied=False))

    def delay(self, seconds: float) -> None:
        """Hold back what clients send, from now on.

        :param seconds: For how long; 0 ends it.
        """
        self.seconds = seconds

    def drop(self) -> None:
        """Close every connection there is; new ones are welcome."""
        self._do(self._drop())

    def refuse(self) -> None:
        """Be away: close every connection, and refuse new ones."""
        self._do(self._refuse())

    def hang(self) -> None:
        """Be half-open: take connections and all that is sent, and never answer."""
        self.hanging = True

    def accept(self) -> None:
        """End :meth:`refuse` and :meth:`hang`; a connection that hung is closed."""
        self._do(self._accept())

    def pass_through(self) -> None:
        """Forget every order: behave as if there were no proxy."""
        self._rules.clear()
        self.seconds = 0.0
        self.accept()

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *error: object) -> None:
        self._do(self._refuse())
        self._do(self._abort())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def rule_for(self, command: bytes) -> bool | None:
        """Look whether a command is to be cut; called by the connections.

        :param command: One whole command.
        :return: ``None``: no. Else whether the server is to get it before.
        """
        return next((rule.applied for rule in self._rules if rule.takes(command)), None)

    def note(self, writer: asyncio.StreamWriter) -> None:
        """Remember what is to be closed in the end; called by the connections."""
        self._writers.add(writer)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        waiting: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        waiting.result(10)

    async def _listen(self) -> None:
        self._listener = socket.create_server((_HOST, self.port), backlog=512)
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._welcome, self._listener)

    def _welcome(self, listener: socket.socket) -> None:
        # asyncio's own server leaves a socket open if it is closed while somebody comes in.
        with contextlib.suppress(OSError):
            link = _Link(self, listener.accept()[0])
            self._links.add(link)
            task = self._loop.create_task(link.run())
            task.add_done_callback(lambda _: self._links.discard(link))

    async def _drop(self, only_hung: bool = False) -> None:
        ended = [link for link in self._links if link.hung or not only_hung]
        for link in ended:
            link.end()
        while self._links.intersection(ended):
            await asyncio.sleep(0.001)

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        await self._drop()

    async def _abort(self) -> None:
        # A client that was killed or stands still takes what it was sent from nobody's hands, and
        # a connection that waits for that would never be closed.
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)  # what is aborted is closed in the next round

    async def _accept(self) -> None:
        self.hanging = False
        await self._drop(only_hung=True)
        if self._listener is None:
            await self._listen()


class _Link:
    """One client's connection, and the one to the server that belongs to it."""

    def __init__(self, proxy: Proxy, accepted: socket.socket) -> None:
        self._proxy = proxy
        self._accepted = accepted
        self._asked = 0  # commands forwarded
        self._answered = 0  # replies that came
        self._doomed: int | None = None  # the number of the reply that is not to be passed on
        self._progress = asyncio.Event()
        self._ended = asyncio.Event()
        self.hung = False

    def end(self) -> None:
        """Close both sides soon."""
        self._ended.set()

    async def run(self) -> None:
        """Forward until one side ends, or the connection is cut."""
        self._client_in, self._client_out = await asyncio.open_connection(sock=self._accepted)
        self._proxy.note(self._client_out)
        with contextlib.suppress(OSError):
            server_in, server_out = await asyncio.open_connection(_HOST, self._proxy.target)
            self._proxy.note(server_out)
            await self._until_one_ends(
                self._forward_requests(server_out), self._forward_replies(server_in)
            )
            server_out.close()
        self._client_out.close()

    async def _until_one_ends(self, *pumps: Coroutine[Any, Any, None]) -> None:
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(pump) for pump in pumps]
        tasks.append(asyncio.create_task(self._ended.wait()))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _forward_requests(self, server_out: asyncio.StreamWriter) -> None:
        waiting = bytearray()
        while chunk := await self._client_in.read(_CHUNK):
            if self._proxy.seconds:
                await asyncio.sleep(self._proxy.seconds)
            if self._swallows():
                continue
            waiting += chunk
            for command in _whole(waiting):
                applied = self._proxy.rule_for(command)
                if applied is not False:
                    self._asked += 1
                    if applied:
                        self._doomed = self._asked
                    server_out.write(command)
                    await server_out.drain()
                if applied is not None:
                    await self._all_answered()
                    self._proxy.cuts += 1
                    return

    async def _all_answered(self) -> None:
        while self._answered < self._asked:
            self._progress.clear()
            await self._progress.wait()

    async def _forward_replies(self, server_in: asyncio.StreamReader) -> None:
        waiting = bytearray()
        while chunk := await server_in.read(_CHUNK):
            if self._swallows():
                continue
            waiting += chunk
            for reply in _whole(waiting):
                pushed = reply.startswith(b">")  # RESP 3: said by the server unasked
                self._answered += not pushed
                if pushed or self._answered != self._doomed:
                    self._client_out.write(reply)
                self._progress.set()
            await self._client_out.drain()

    def _swallows(self) -> bool:
        # What hung once has lost bytes, and can never be made good.
        self.hung = self.hung or self._proxy.hanging
        return self.hung


def _whole(waiting: bytearray) -> Iterator[bytes]:
    """Take the whole commands or replies off the front; what is cut short stays."""
    while (end := _end(waiting, 0)) is not None:
        one = bytes(waiting[:end])
        del waiting[:end]
        yield one


def _end(data: bytearray, start: int) -> int | None:
    """:return: Where the RESP value that begins at ``start`` ends; ``None``: not all is here."""
    line = data.find(b"\r\n", start)
    if line < 0:
        return None
    kind, after = bytes(data[start : start + 1]), line + 2
    if kind in (b"$", b"=", b"!"):
        size = int(data[start + 1 : line])
        after += size + 2 if size >= 0 else 0
        return after if after <= len(data) else None
    if kind in (b"*", b"~", b">", b"%", b"|"):
        items = int(data[start + 1 : line]) * (2 if kind in (b"%", b"|") else 1)
        items += kind == b"|"  # attributes stand before the value that they belong to
        for _ in range(items):
            following = _end(data, after)
            if following is None:
                return None
            after = following
    return after
