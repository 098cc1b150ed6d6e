"""A TCP proxy between a device and its broker, as bad as a mobile network.

Its weather changes every few seconds, by a seed: clear, delayed, dribbling, silent (nothing passes
and nothing is closed: half-open), cut (closed with a reset), and late: the device's side is cut,
and what it sent last reaches the broker seconds after, when the device may be back on another
connection.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter

from process_kit import PATIENCE_S

WEATHERS = ("clear", "delay", "dribble", "silence", "cut", "late")
_SHORTEST_S, _LONGEST_S = 0.5, 6.0
_LATE_S = 2.0


class _Connection:
    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.near, self.far = near, far
        self.late = False


class Chaos:
    """Serve while the context lasts. port: where devices connect. upstream: the broker's port."""

    def __init__(self, port: int, upstream: int, seed: int, longest_s: float = _LONGEST_S) -> None:
        self._port, self._upstream = port, upstream
        self._random = random.Random(seed)  # noqa: S311  a plan, no secret
        self._longest_s = longest_s
        self._weather = "clear"
        self._open: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._calm = True
        self._ahead: list[str] = []  # each weather once, then all of them again
        self.seen: Counter[str] = Counter()  # how often each weather came
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> "Chaos":
        self._thread.start()
        assert self._ready.wait(PATIENCE_S), "the proxy does not listen"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def calm(self, calm: bool = True) -> None:
        """Let everything pass, as from the beginning; or let the weather change from now on."""
        self._calm = calm

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._ready.set()
        change = asyncio.create_task(self._change())
        await self._stop.wait()
        server.close()
        tasks = [change, *(asyncio.all_tasks() - {asyncio.current_task()})]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _change(self) -> None:
        while True:
            if self._calm:
                self._weather = "clear"
                await asyncio.sleep(0.05)
                continue
            if not self._ahead:
                self._ahead = self._random.sample(WEATHERS, len(WEATHERS))
            weather = self._weather = self._ahead.pop()
            self.seen[weather] += 1
            for each in list(self._open):
                if weather == "cut":
                    _reset(each.near)
                    _reset(each.far)
                elif weather == "late":
                    each.late = True
                    _reset(each.near)
            await asyncio.sleep(self._random.uniform(_SHORTEST_S, self._longest_s))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            _reset(writer)
            return
        each = _Connection(writer, far)
        self._open.add(each)
        try:
            await asyncio.gather(
                self._pass(reader, far, each, up=True),
                self._pass(far_reader, writer, each, up=False),
                return_exceptions=True,
            )
        finally:
            self._open.discard(each)
            _reset(writer)
            _reset(far)

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        each: _Connection,
        up: bool,
    ) -> None:
        try:
            while data := await reader.read(4096):
                if each.late and up:
                    await asyncio.sleep(_LATE_S)
                while self._weather == "silence" and not self._calm:
                    await asyncio.sleep(0.05)
                if self._weather == "delay":
                    await asyncio.sleep(self._random.uniform(0.1, 1.2))
                if self._weather == "dribble":
                    for start in range(0, len(data), 40):
                        writer.write(data[start : start + 40])
                        await writer.drain()
                        await asyncio.sleep(0.01)
                else:
                    writer.write(data)
                    await writer.drain()
        finally:
            if each.late:
                await asyncio.sleep(_LATE_S)
            writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset, as a router does that forgot the connection."""
    with contextlib.suppress(OSError):
        found = writer.get_extra_info("socket")
        if found is not None:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()
