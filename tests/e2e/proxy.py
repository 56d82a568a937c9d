"""A TCP link that a test can cut, slow down, reset and refuse."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: closing sends RST instead of FIN
_CHUNK = 65536
_ANSWER_S = 10.0


class Proxy:
    """Forwards connections from a port of its own to another on this machine.

    An event loop in one thread does all the work: no other thread sits in a system call on a
    socket that is to be reset, which would keep its RST back.
    """

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._delay_s = 0.0
        self._passing = asyncio.Event()
        self._passing.set()
        self._ends: set[asyncio.StreamWriter] = set()
        self._bound = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._bound.getsockname()[1])
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._do(self._listen())

    def delay(self, seconds: float) -> None:
        """Hold every piece of data for so long; 0 ends it."""
        self._delay_s = seconds

    def cut(self) -> None:
        """Let nothing through, and say so to nobody."""
        self._loop.call_soon_threadsafe(self._passing.clear)

    def reset(self) -> None:
        """Reset all connections there are (RST); new ones are taken."""
        self._do(self._reset())

    def refuse(self) -> None:
        """Reset what is connected; nobody listens any more."""
        self._do(self._refuse())

    def mend(self) -> None:
        """End all faults."""
        self._delay_s = 0.0
        self._loop.call_soon_threadsafe(self._passing.set)
        self._do(self._listen())

    def close(self) -> None:
        """End the proxy and all connections."""
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, step: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(step, self._loop).result(_ANSWER_S)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, sock=self._bound)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            # The port stays ours: bound, but with nobody listening.
            self._bound = socket.socket()
            self._bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._bound.bind(("127.0.0.1", self.port))
        await self._reset()

    async def _reset(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                own = end.get_extra_info("socket")
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.transport.abort()
        self._ends.clear()

    async def _end(self) -> None:
        self._passing.set()
        await self._refuse()
        self._bound.close()
        ours = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not ours]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        ends = [writer]
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._ends.add(far_writer)
            ends.append(far_writer)
            await self._both(self._pump(reader, far_writer), self._pump(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass  # nobody behind us, or our own end
        finally:
            for end in ends:
                self._ends.discard(end)
                end.close()

    @staticmethod
    async def _both(*directions: Coroutine[Any, Any, None]) -> None:
        """Until one direction has ended."""
        tasks = [asyncio.ensure_future(direction) for direction in directions]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(_CHUNK):
            await self._passing.wait()
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            target.write(data)
            await target.drain()
