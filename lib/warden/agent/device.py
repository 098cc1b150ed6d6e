"""The façade: one object that keeps the link, the sessions and the commands going on asyncio.

    device = Device.from_board()

    @device.command("set_relay")
    def set_relay(args):
        relay.value(args["on"])

    await device.start()
    await device.publish("temperature", {"c": 21.5})

This file and firmware/ are the only ones that join hardware (`hal`) and features.
"""

import asyncio

from micropython import const

from .. import unload
from ..errors import PeerError, ensure
from ..wire.names import JSON
from .agent import Agent, silent

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..vault.secrets import Secrets

_OWN_EVENTS = const(
    (
        "hello",
        "ready",
        "reply",
        "incident",
        "offline",
        "server_uid_request",
        "update",
        "server_otp_request",
        "device_otp_response",
        "gate",
    )
)


class Device(Agent):
    """vault: open. rtc: the clock chip. network: what brings the board online, None where it simply is. floor: unix seconds. log(code, text) hears what
    happens; on_fatal() is called when the agent itself fails, and should start the board anew."""

    @staticmethod
    def from_board(
        log: "Callable[[str, str], None]" = silent, ask: "Callable[[], bytes] | None" = None
    ) -> "Device":
        """Build the device that board.py describes: open its vault, find its hardware. ask: gives the PIN where the root key wants one."""
        from ..board.load import parts

        vault, rtc, network, floor = parts(ask)
        from ..hal import system

        # All of it was used: two kilobytes that a connection needs more.
        for name in ("board", "warden.board.load"):
            unload(name)
        device = Device(vault, rtc, network, floor, log, system.reset)
        if device.policy.otp is not None:
            from ..board.panel import panel

            device.gate = panel()
            for name in ("board", "warden.board.load"):
                unload(name)
        return device

    # -- the application's side ---------------------------------------------------------------

    def command(self, name: str, call: bool = False) -> "Callable[[Any], Any]":
        """Decorator: let this function, sync or async, run the command.

        name: 1 to 32 of a-z 0-9 _. call: it takes the call (session/inbox.py) as a second
        argument. It gets the arguments, a dict, returns the reply's value, and may raise Refused.
        UsageError bad-name.
        """

        def register(handler: "Any") -> "Any":
            self._commands.register(name, handler, call)
            return handler

        return register

    @property
    def secrets(self) -> "Secrets":
        """The application's own secrets, kept in the vault (vault/secrets.py)."""
        from ..vault.secrets import Secrets

        return Secrets(self._vault)

    async def start(self) -> None:
        """Go online. Returns when the first session stands (plain mode: when every application's ID is known), and the gate is open where the policy has
        one. For a gate whose codes the device judges itself no session is waited for."""
        if not self._tasks:
            self._begin()
        gate = self.gate
        if gate is None or not gate.offline:
            await self._standing.wait()
        if gate is not None:
            await gate.wait()

    async def stop(self) -> None:
        """Say goodbye to the broker, end all tasks, wipe the keys. The object can't be started again."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await self._client.disconnect()
        for session in self._sessions:
            session.drop()
        self._vault.close()

    async def publish(self, event: str, body: "dict[str, Any]", to: "str | None" = None) -> None:
        """Send an event, sealed for each application whose session stands (or for `to` alone); waits while there is none.

        The authority gets events only where it is the only application. When the connection breaks meanwhile, the event is sealed and sent
        again after the reconnect. QoS 0: one that the broker never got is lost without a word. Before the gate opens it waits, unless the
        policy lets telemetry out.
        """
        ensure(
            self.names.is_event(event) and event not in _OWN_EVENTS,
            "bad-name",
            "an event's name is 1 to 32 of a-z 0-9 _ and none of Warden's own",
        )
        ensure(isinstance(body, dict), "bad-argument", "an event's body is a dict")
        for key in body:
            ensure(isinstance(key, str), "bad-argument", "a key of the body is no text")
        while True:
            if not self._standing.is_set():
                await self._standing.wait()
            if self.gate is not None:  # after that: before start() there is nothing to wait at
                await self.gate.wait(True)
            try:
                if self._post_event(event, body, to):
                    # As a rule the connection took it all, and no coroutine was made on the way.
                    if self._client.owes:
                        await self._client.flush()
                    return
            except PeerError as error:
                self._log(
                    error.code, error.text
                )  # the connection broke: _keep_connected() sees to it
            await asyncio.sleep_ms(
                100
            )  # only another application's session stands, or the loss has not been seen to yet

    def _post_event(self, event: str, body: "dict[str, Any]", to: "str | None") -> bool:
        """Whether it was for anybody. Nothing waits between sealing and posting: counters reach the broker in their order."""
        if self._plain is not None:
            message = self._plain.event(event, {"body": body})
            self._post(self.names.event(event, JSON).encode(), message)
            return True
        sent = False
        for session in self._sessions:
            if session.stands and (
                session.appid == to if to is not None else (not session.authority or self._alone)
            ):
                self._post(self.names.sealed(event)[0], session.seal(event, 0, body))
                sent = True
        return sent
