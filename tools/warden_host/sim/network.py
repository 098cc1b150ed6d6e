"""The network of a simulated board: a forwarder of TCP that is switched off, silent or slow.

Each server that the board connects to gets a port of this machine's loopback address.
"""

import asyncio
from dataclasses import dataclass, field

UP, DOWN, SILENT = MODES = ("up", "down", "silent")
MAX_DELAY_MS = 10_000
_HOST = "127.0.0.1"
MAX_SERVERS = 16
MAX_CONNECTIONS = 32
_CONNECT_S = 20.0
_READY_S = 10.0
_CHUNK = 16384
_CHUNKS = 16  # that are under way in each direction


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class _Target:
    """A server. near: the port that leads to it. ready: a connection for the next who comes."""

    host: str
    port: int
    near: int = 0
    server: asyncio.Server | None = None
    ready: Streams | None = None
    guard: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def connect(self) -> Streams:
        """Return the connection that is ready, or a new one. Raises OSError."""
        found, self.ready = self.ready, None
        if found is not None:
            if not found[0].at_eof():
                return found
            found[1].transport.abort()
        opening = asyncio.open_connection(self.host, self.port)
        try:
            return await asyncio.wait_for(opening, _CONNECT_S)
        except UnicodeError:  # of encodings.idna, for a label of more than 63 characters
            raise OSError("no name of a host") from None

    def drop(self) -> None:
        """Close the connection that is ready."""
        if self.ready is not None:
            self.ready[1].transport.abort()
            self.ready = None

    def refuse(self) -> None:
        """Listen no more: who connects is refused, as by a machine without the server."""
        self.drop()
        if self.server is not None:
            self.server.close()
            self.server = None


@dataclass
class Network:
    """One board's network.

    mode: up; down: no way to any server, and what stands is reset; silent: nothing arrives, and
    what is sent waits. delay_ms: of what passes, in each direction.
    """

    mode: str = UP
    delay_ms: int = 0
    _targets: dict[tuple[str, int], _Target] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _passes: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._passes.set()

    def switch(self, mode: str, delay_ms: int) -> None:
        """Change how it behaves, at once."""
        self.mode, self.delay_ms = mode, delay_ms
        if mode == UP:
            self._passes.set()
        else:
            self._passes.clear()
        if mode == DOWN:
            self.reset()

    def reset(self) -> None:
        """End each connection as a cable that is pulled and a board that notices."""
        for writer in self._writers:
            writer.transport.abort()

    async def port_of(self, host: str, port: int) -> int | None:
        """Return the port that leads to a server; None where there is no way to it."""
        if self.mode == DOWN:
            return None
        target = self._targets.get((host, port))
        if target is None:
            if len(self._targets) >= MAX_SERVERS or not 0 < port < 65536:
                return None
            target = self._targets[(host, port)] = _Target(host, port)
        async with target.guard:
            await self._prepare(target)
        return target.near

    async def _prepare(self, target: _Target) -> None:
        """Listen for the board as long as the server is there."""
        if self.mode == UP:
            try:
                target.ready = await target.connect()
            except OSError:  # TimeoutError too
                target.refuse()
                if target.near:
                    return
            else:
                asyncio.get_running_loop().call_later(_READY_S, target.drop)
        if target.server is None:
            try:
                target.server = await self._listen(target, target.near)
            except OSError:  # another program has taken the port meanwhile
                target.server = await self._listen(target, 0)
            target.near = target.server.sockets[0].getsockname()[1]
        if self.mode == UP and target.ready is None:
            target.refuse()

    async def _listen(self, target: _Target, port: int) -> asyncio.Server:
        """Listen for the board. port: 0 for any. Raises OSError."""
        return await asyncio.start_server(
            lambda reader, writer: self._accept(target, reader, writer), _HOST, port
        )

    async def close(self) -> None:
        """End the connections, and listen no more."""
        for target in self._targets.values():
            target.refuse()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(
        self, target: _Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self.mode == DOWN or len(self._tasks) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._writers.add(writer)
        task = asyncio.create_task(self._connect(target, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(
        self, target: _Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry one connection until both directions have ended, or one fails."""
        far = None
        try:
            sent = await self._wait_for_way(reader)
            if sent is None:
                return
            far_reader, far = await target.connect()
            self._writers.add(far)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward(reader, far, sent))
                group.create_task(self._forward(far_reader, writer))
        except* OSError:  # TimeoutError too
            pass
        finally:
            for each in (writer, far):
                if each is not None:
                    self._writers.discard(each)
                    each.transport.abort()

    async def _wait_for_way(self, reader: asyncio.StreamReader) -> bytes | None:
        """Return what the board has sent once there is a way; None if it gave up before.

        A server must not hear later of a connection that the board has closed: an old CONNECT
        would end the board's new session.
        """
        sent = b""
        way = asyncio.create_task(self._passes.wait())
        try:
            while not self._passes.is_set() and len(sent) < _CHUNK * _CHUNKS:
                read = asyncio.create_task(reader.read(_CHUNK))
                try:
                    await asyncio.wait((way, read), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    read.cancel()  # nothing happens to one that is done
                    await asyncio.wait((read,))
                if not read.cancelled():
                    data = read.result()
                    if not data:
                        return None
                    sent += data
            await way
        finally:
            way.cancel()
        return sent

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes = b""
    ) -> None:
        """Carry one direction until it ends. first: what was read of it before."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS)
        loop = asyncio.get_running_loop()

        async def deliver() -> None:
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self._passes.wait()
                if not data:
                    break
                writer.write(data)
                await writer.drain()
            writer.write_eof()

        delivery = asyncio.create_task(deliver())
        try:
            data = first or await reader.read(_CHUNK)
            while data:
                await under_way.put((loop.time() + self.delay_ms / 1000, data))
                data = await reader.read(_CHUNK)
            await under_way.put((loop.time() + self.delay_ms / 1000, b""))
            await delivery
        finally:
            delivery.cancel()
