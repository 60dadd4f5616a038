"""A TCP proxy between the processes and a server: what passes through it can be cut, held up or lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future

CHUNK = 65_536


class Proxy:
    """Forwards connections to a server, in a thread of its own, until it is closed.

    Attributes:
        port: Where it listens on the loopback.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target, self._loop = (host, port), asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._down, self._lose = False, b""
        self.lost = 0
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._flows = self._call(self._listening)

    async def _listening(self) -> asyncio.Event:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        flows = asyncio.Event()
        flows.set()
        return flows

    def _call(self, make: Callable[..., object], *args: object) -> object:
        """Run a coroutine function or a function in the proxy's thread, and wait for its result."""

        async def run() -> object:
            made = make(*args)
            return await made if asyncio.iscoroutine(made) else made

        future: Future[object] = asyncio.run_coroutine_threadsafe(run(), self._loop)
        return future.result(timeout=10)

    # The faults

    def cut(self) -> int:
        """Cut every connection; returns how many there were."""
        return self._call(self._cut)

    def _cut(self) -> int:
        cut = [task for task in self._tasks if not task.done()]
        for task in cut:
            task.cancel()
        return len(cut)

    def go_down(self) -> int:
        """Cut every connection, and refuse new ones."""
        self._down = True
        return self.cut()

    def hold(self) -> None:
        """Let nothing pass, and hang up on nobody."""
        self._call(self._flows.clear)

    def lose_reply(self, marker: bytes) -> None:
        """Cut the next connection whose server replies with this, without letting the reply pass."""
        self._lose = marker

    def heal(self) -> None:
        self._down, self._lose = False, b""
        self._call(self._flows.set)

    def close(self) -> None:
        """Stop listening, cut what is left, and end the thread."""
        self._call(self._closing)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    async def _closing(self) -> None:
        self._server.close()
        self._flows.set()
        while tasks := list(self._tasks):
            self._cut()
            await asyncio.gather(*tasks, return_exceptions=True)

    # The traffic

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        ends = [writer]
        try:
            if self._down:
                return
            there, back = await asyncio.open_connection(*self._target)
            ends.append(back)
            pumps = [
                asyncio.ensure_future(self._pump(reader, back)),
                asyncio.ensure_future(self._pump(there, writer, from_server=True)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in ends:
                end.transport.abort()
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_server: bool = False
    ) -> None:
        while data := await reader.read(CHUNK):
            await self._flows.wait()
            if from_server and self._lose and self._lose in data:
                self._lose, self.lost = b"", self.lost + 1
                return
            writer.write(data)
            await writer.drain()
