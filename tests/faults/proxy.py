"""A hostile network between an agent and a collector: a TCP proxy that misbehaves as told."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from tests.ports import free_port

CHUNK_BYTES = 65_536
LOOK_EVERY_S = 0.01
AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER that makes a close a reset."""


@dataclass
class Weather:
    """What the network does to the connections made under it; may be changed at any time.

    ``cut_after`` draws for each connection the number of bytes, both ways together,
    after which it is cut. Swallowed bytes vanish while everything looks open; held
    ones wait in the network. ``keep_upstream``: the collector does not see a cut.
    """

    delay_s: float = 0.0
    slice_bytes: int = CHUNK_BYTES
    bytes_per_s: int = 0
    cut_after: Callable[[], int] | None = None
    reset: bool = False
    swallow_up: bool = False
    swallow_down: bool = False
    hold_up: bool = False
    keep_upstream: bool = False
    is_partitioned: bool = False


@dataclass(eq=False)
class Connection:
    """One agent's connection and its continuation to the collector; ``left`` bytes may pass."""

    weather: Weather
    down: asyncio.StreamWriter
    up: asyncio.StreamWriter
    left: int

    def drop(self) -> None:
        """Close it towards both sides, or towards the agent only."""
        for writer in (self.down,) if self.weather.keep_upstream else (self.down, self.up):
            if self.weather.reset:
                there = writer.get_extra_info("socket")
                there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                writer.transport.abort()
            else:
                writer.close()


class Proxy:
    """Listens on ``port`` and passes on to the collector's port, in a thread of its own."""

    def __init__(self, upstream_port: int) -> None:
        """Listen on nothing yet."""
        self.port = free_port()
        self.weather = Weather()
        self.bytes_up = self.bytes_down = self.bytes_under_way = self.accepted = self.cuts = 0
        self._upstream_port = upstream_port
        self._open: set[Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        listen = asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self._server = asyncio.run_coroutine_threadsafe(listen, self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        """Cut everything and stop."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self) -> None:
        """Cut what is open now."""
        asyncio.run_coroutine_threadsafe(self._cut_all(), self._loop).result(10)

    async def _cut_all(self) -> None:
        for connection in list(self._open):
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        self.cuts += 1
        self._open.discard(connection)
        connection.drop()

    async def _end(self) -> None:
        self._server.close()
        await self._cut_all()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, down: asyncio.StreamWriter) -> None:
        self.accepted += 1
        weather = self.weather
        await _until(lambda: not weather.is_partitioned)  # neither refused nor answered
        try:
            answers, up = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            down.close()
            return
        left = weather.cut_after() if weather.cut_after else -1
        connection = Connection(weather, down, up, left)
        self._open.add(connection)
        ways = (self._way(connection, reader, up), self._way(connection, answers, down))
        await asyncio.gather(*ways, return_exceptions=True)
        self._open.discard(connection)
        for writer in (down, up):
            writer.close()

    async def _way(
        self, connection: Connection, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        """Pass bytes on in one direction until its source ends; they arrive in order."""
        travelling: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1_000)
        arrive = asyncio.create_task(self._arrive(connection, travelling, sink))
        weather = connection.weather
        with contextlib.suppress(OSError):
            while chunk := await source.read(weather.slice_bytes):
                if 0 <= connection.left <= len(chunk):
                    sink.write(chunk[: connection.left])
                    self._drop(connection)
                    break
                connection.left -= len(chunk) if connection.left >= 0 else 0
                self.bytes_under_way += len(chunk)
                await travelling.put((self._loop.time() + weather.delay_s, chunk))
        await travelling.put((0.0, b""))
        await arrive
        if sink.can_write_eof() and not (sink is connection.up and weather.keep_upstream):
            sink.close()

    async def _arrive(
        self,
        connection: Connection,
        travelling: asyncio.Queue[tuple[float, bytes]],
        sink: asyncio.StreamWriter,
    ) -> None:
        weather, is_up = connection.weather, sink is connection.up
        while (item := await travelling.get())[1]:
            due_s, chunk = item
            await asyncio.sleep(max(0.0, due_s - self._loop.time()))
            await _until(lambda: not (weather.is_partitioned or (is_up and weather.hold_up)))
            if weather.bytes_per_s:
                await asyncio.sleep(len(chunk) / weather.bytes_per_s)
            self.bytes_under_way -= len(chunk)
            if weather.swallow_up if is_up else weather.swallow_down:
                continue
            self.bytes_up += len(chunk) if is_up else 0
            self.bytes_down += 0 if is_up else len(chunk)
            with contextlib.suppress(OSError):
                sink.write(chunk)
                await sink.drain()


async def _until(is_so: Callable[[], bool]) -> None:
    """Wait for what another thread decides."""
    while not is_so():  # noqa: ASYNC110 - an Event is not safe to set from another thread
        await asyncio.sleep(LOOK_EVERY_S)
