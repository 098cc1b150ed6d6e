"""The application: its devices, its commands and their verdicts, its events, one connection."""

import asyncio
import contextlib
import itertools
import logging
import random
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from warden_client import credentials, jsontext, names
from warden_client.answers import Event, Reply
from warden_client.connection import Connection, Message
from warden_client.credentials import Credentials
from warden_client.device import Device
from warden_client.errors import HostError, LinkError
from warden_client.memory import Memory
from warden_client.protocol.results import Outcome, Quarantined, Received, Refused, Send, SessionUp
from warden_client.protocol.session import Instant
from warden_client.updates import Updates

MAX_TTL_S = 30 * 24 * 3600
_log = logging.getLogger("warden_client")
_EVENTS = 1000  # that wait for the program
_TICK_S = 0.5
_WAKE_S = 10.0  # a device answers a wake at most once in so long
_LEAST_DELAY_S, _MOST_DELAY_S = 0.5, 60.0
_SHORT_S, _SHORT_ENDS = (
    10.0,
    3,
)  # connections that ended so soon, in a row: another has the account
_WILL = ("offline", names.PLAIN)


class Application:
    """An application that is logged in while the context lasts.

    file: what `warden app export` wrote; it is read anew when it changes. state: what must outlive
    a restart; beside the file where it is not named.
    """

    def __init__(self, file: Path | str, state: Path | str | None = None) -> None:
        self._file = Path(file)
        self._state = self._file.with_suffix(".state") if state is None else Path(state)
        self._devices: dict[str, Device] = {}
        self._replies: dict[int, tuple[str, asyncio.Future[dict[str, Any]]]] = {}
        self._numbers = itertools.count(secrets.randbelow(1 << 31))
        self._events: asyncio.Queue[tuple[Event, Device, Received]] = asyncio.Queue(_EVENTS)
        self._changed = asyncio.Event()  # a session came up
        self._woken: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._connection: Connection | None = None
        self._lost = asyncio.Event()
        self._credentials: Credentials
        self._stack = contextlib.ExitStack()
        self._failure: HostError | None = None  # why there is no connection
        self.dropped = 0  # events for which the program was too slow

    async def __aenter__(self) -> Self:
        """Log in. A broker that is away is tried again in the background.

        Raises: key-missing, key-permissions, key-damaged, app-running; pin-mismatch,
        certificate-untrusted, broker-refused.
        """
        file = self._read_file()
        self._memory = self._stack.enter_context(Memory(self._state))
        self._credentials, self._updates = file, Updates(self._memory)
        try:
            self._use(self._updates.load(file))
            try:
                await self._connect()
            except LinkError as error:
                self._failure = error
                self._lost.set()
                _log.warning("%s", error)
        except BaseException:
            self._stack.close()
            raise
        self._tasks = [asyncio.create_task(run()) for run in (self._keep_connected, self._tick)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()
        for _device, future in self._replies.values():
            future.cancel()
        self._stack.close()

    @property
    def appid(self) -> str:
        """Return the application's ID."""
        return self._credentials.appid

    @property
    def devices(self) -> Mapping[str, Device]:
        """Return the devices by their names; each says whether its session is up."""
        return MappingProxyType(self._devices)

    @property
    def connected(self) -> bool:
        """Return whether the application is logged in now."""
        return self._connection is not None and not self._lost.is_set()

    async def command(
        self,
        device: str,
        command: str,
        args: dict[str, Any] | None = None,
        *,
        ttl_s: int = 30,
        timeout_s: float = 15.0,
    ) -> Reply:
        """Send a command, and return the device's verdict.

        ttl_s: the device refuses it (`expired`) when it comes later than that. timeout_s: how long
        to wait for a session and for the reply.
        Raises: device-unknown, bad-name, bad-argument, cbor-limit, reserved-command, quarantined,
        mqtt-too-large, unreachable; no-session: it was not sent; timed-out: it was sent, and
        whether it was done is not known.
        """
        names.check_verb(command, "command")
        if command in names.PROTOCOL_COMMANDS or names.is_authority_command(command):
            raise HostError("reserved-command", f"'{command}' is none of an application")
        if type(ttl_s) is not int or not 0 < ttl_s <= MAX_TTL_S:
            raise HostError("bad-argument", f"ttl_s is no integer from 1 to {MAX_TTL_S}")
        number = next(self._numbers) % (1 << 32)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[number] = (device, future)
        sent = False
        try:
            async with asyncio.timeout(timeout_s):
                while not sent:
                    peer = await self._wait_until_ready(device)
                    data = peer.seal(command, number, args or {}, ttl_s, _now())
                    sent = self._publish(peer, Send(command, data))
                    if not sent:  # the connection broke a moment ago
                        await asyncio.sleep(_TICK_S)
                return self._verdict(peer, command, await future)
        except TimeoutError:
            if sent:
                text = f"{device} did not answer in {timeout_s:g} s"
                raise HostError("timed-out", text, "whether it was done is not known") from None
            if not self.connected:
                raise self._unreachable() from None
            text = f"{device} began no session in {timeout_s:g} s; nothing was sent"
            raise HostError("no-session", text, "is it online? `warden devices`") from None
        finally:
            del self._replies[number]

    async def wait_for_session(self, device: str) -> None:
        """Wait until a command can be sent to the device. Raises: device-unknown, quarantined."""
        await self._wait_until_ready(device)

    async def events(self) -> AsyncIterator[Event]:
        """Yield the events of all devices; one of an outbox is acknowledged after its turn.

        So an event that the program has not finished is sent again after a restart. Raises:
        filesystem, where the number of one can't be kept.
        """
        while True:
            event, device, received = await self._events.get()
            yield event
            if received.previous is not None and self._devices.get(device.name) is device:
                for send in device.acknowledge(received.id, _now()):
                    self._publish(device, send)

    def clear(self, device: str) -> None:
        """Lift a device's quarantine: its owner vouches for it. Raises: device-unknown."""
        peer = self._device(device)
        for send in peer.clear(_now()):
            self._publish(peer, send)

    # Commands

    def _device(self, name: str) -> Device:
        found = self._devices.get(name)
        if found is None:
            text = f"no device {name} in {self._file.name}"
            raise HostError("device-unknown", text, "`warden app export` again adds new ones")
        return found

    async def _wait_until_ready(self, name: str) -> Device:
        while True:
            device, now = self._device(name), _now()
            if device.quarantine:
                why = f"{name} is in quarantine: {device.quarantine}"
                raise HostError("quarantined", why)
            if self.connected and device.is_ready(now):
                return device
            if self.connected and now.steady - self._woken.get(name, -_WAKE_S) >= _WAKE_S:
                if not device.is_up:
                    self._wake(device, now)
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._changed.wait()

    def _verdict(self, device: Device, command: str, body: dict[str, Any]) -> Reply:
        if body.get("ok") is True:
            return Reply(device.name, command, True, body.get("result"))
        error = jsontext.slug(body.get("error"))
        if error == "expired":  # its clock counts the session's age otherwise: it may have slept
            self._wake(device, _now())
        return Reply(device.name, command, False, error=error)

    def _wake(self, device: Device, now: Instant) -> None:
        self._woken[device.name] = now.steady
        for send in device.wake(now):
            self._publish(device, send)

    def _unreachable(self) -> HostError:
        return self._failure or HostError("unreachable", "the connection to the broker was lost")

    def _publish(self, device: Device, send: Send) -> bool:
        connection = self._connection
        topic = str(device.topic(send.command))
        return connection is not None and connection.publish(topic, send.data)

    # Messages

    def _on_message(self, message: Message) -> None:
        """Handle a message of the broker: topic and payload are untrusted."""
        if message.topic == self._credentials.list_topic:
            return self._on_list(message)
        try:
            topic = names.parse_topic(message.topic)
        except HostError:
            return
        device = self._devices.get(topic.device)
        if device is None or device.entry.type != topic.type or topic.way != "evt":
            return
        if message.retain:
            return
        if (topic.verb, topic.fmt) == _WILL:
            return device.on_last_will(_now())
        try:
            for outcome in device.receive(topic.verb, topic.fmt, message.payload, _now()):
                self._apply(device, outcome)
        except HostError as error:  # the state file can't be written
            _log.error("%s: %s", device.name, error)

    def _on_list(self, message: Message) -> None:
        """Take what the authority sent of the devices' keys."""
        try:
            if not message.retain and self._updates.receive(message.payload, time.monotonic()):
                self._use(self._updates.current())
        except HostError as error:
            _log.info("a list of keys: %s", error)

    def _ask_for_list(self) -> None:
        ask = self._updates.due_ask(time.monotonic())
        if ask is not None and self._connection is not None:
            self._connection.publish(self._credentials.ask_topic, ask)

    def _apply(self, device: Device, outcome: Outcome) -> None:
        if isinstance(outcome, Send):
            self._publish(device, outcome)
        elif isinstance(outcome, SessionUp):
            device.drop_pending()
            self._changed.set()
        elif isinstance(outcome, Quarantined):
            _log.error("%s is in quarantine: %s", device.name, outcome.reason)
        elif isinstance(outcome, Refused):
            _log.info("%s: %s: %s", device.name, outcome.code, outcome.text)
        elif outcome.event == "reply":
            name, future = self._replies.get(outcome.id, ("", None))
            if future is not None and name == device.name and not future.done():
                future.set_result(outcome.body)
        elif outcome.event not in names.OTP_EVENTS:  # a typed code is for the authority alone
            self._on_event(device, outcome)

    def _on_event(self, device: Device, received: Received) -> None:
        if device.needs_acknowledgement(received):
            for send in device.acknowledge(0, _now()):
                self._publish(device, send)
            return
        if self._events.full():
            if received.previous is None:
                self.dropped += 1
            return  # one of an outbox is sent again
        if device.admit(received):
            event = Event(device.name, device.entry.type, received.event, received.body)
            self._events.put_nowait((event, device, received))

    # The connection

    async def _connect(self) -> None:
        self._lost.clear()
        made = Connection(self._credentials, self._on_message, self._on_lost)
        try:
            await made.open()
        except BaseException:
            await made.close()
            raise
        self._connection, self._failure = made, None
        now = _now()
        self._updates.ask_soon(now.steady)
        self._ask_for_list()
        for device in self._devices.values():
            for send in device.on_link_restored(now):
                self._publish(device, send)

    def _on_lost(self) -> None:
        for device in self._devices.values():
            device.on_link_lost()
        self._lost.set()

    async def _keep_connected(self) -> None:
        """Connect anew whenever the connection is lost, with full-jitter back-off."""
        ceiling, short_ends, since = _LEAST_DELAY_S, 0, time.monotonic()
        while True:
            await self._lost.wait()
            if self._connection is not None:
                await self._connection.close()
                self._connection = None
                short_ends = short_ends + 1 if time.monotonic() - since < _SHORT_S else 0
                if short_ends == _SHORT_ENDS:
                    _log.error(
                        "the broker ends each connection soon: does another program use the "
                        "account of %s?",
                        self._credentials.appid,
                    )
                if not short_ends:
                    ceiling = _LEAST_DELAY_S
            await asyncio.sleep(random.uniform(0, ceiling))  # noqa: S311  no secret
            ceiling = min(2 * ceiling, _MOST_DELAY_S)
            try:
                since = time.monotonic()
                await self._connect()
            except HostError as error:
                self._failure = error
                self._lost.set()
                if not isinstance(error, LinkError):
                    ceiling = _MOST_DELAY_S
                _log.warning("%s", error)

    async def _tick(self) -> None:
        """Repeat wakes, and read the file anew when it changed."""
        while True:
            await asyncio.sleep(_TICK_S)
            now = _now()
            for device in self._devices.values():
                for send in device.tick(now):
                    self._publish(device, send)
            if self._stamp() != self._read:
                try:
                    self._use(self._updates.load(self._read_file()))
                except HostError as error:
                    _log.error("%s; what was read before stays in use", error)
            if self.connected:
                self._ask_for_list()

    # The file

    def _stamp(self) -> tuple[int, int]:
        try:
            status = self._file.stat()
        except OSError:
            return (0, 0)
        return status.st_mtime_ns, status.st_ino

    def _read_file(self) -> Credentials:
        self._read = self._stamp()
        return credentials.read(self._file)

    def _use(self, known: Credentials) -> None:
        """Take these devices; those whose keys are the same keep their sessions."""
        changed = known.login != self._credentials.login
        self._credentials = known
        devices = {}
        for name, entry in known.devices.items():
            device = self._devices.get(name)
            wakes = None if device is None else device.update(entry, _now())
            if device is None or wakes is None:
                device = Device(known.appid, entry, self._memory)
                wakes = device.wake(_now())
            for wake in wakes:
                self._publish(device, wake)
            devices[name] = device
        self._devices = devices
        if changed:
            self._on_lost()  # the new connection uses what holds now


def _now() -> Instant:
    return Instant(int(time.time()), time.monotonic())
