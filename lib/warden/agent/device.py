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

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..net.clock import Rtc
    from ..vault import Vault
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


def silent(code: str, text: str) -> None:
    """Discard log messages."""


class Device:
    """vault: open. rtc: the clock chip. network: what brings the board online, None where it simply is. floor: unix seconds. log(code, text) hears what
    happens; on_fatal() is called when the agent itself fails, and should start the board anew. panel(): gives what the board has for a gate (board/panel.py)."""

    def __init__(
        self,
        vault: "Vault",
        rtc: "Rtc",
        network: "Any",
        floor: int,
        log: "Callable[[str, str], None]" = silent,
        on_fatal: "Callable[[], None] | None" = None,
        panel: "Callable[[], Any] | None" = None,
    ) -> None:
        from .build import build

        self._agent, apps = build(vault, rtc, network, floor, log, on_fatal)
        otp = self._agent.policy.otp
        self._alone = len(apps) == 1
        # Needed by start() alone.
        self._parts: "Any" = apps, None if otp is None or panel is None else panel()

    @staticmethod
    def from_board(
        log: "Callable[[str, str], None]" = silent, ask: "Callable[[], bytes] | None" = None
    ) -> "Device":
        """Build the device that board.py describes: open its vault, find its hardware. ask: gives the PIN where the root key wants one."""
        from ..board.load import parts

        vault, rtc, network, floor = parts(ask)
        from ..hal import system

        # All of it was used: two kilobytes that a connection needs more.
        _unload("board", "warden.board.load")
        return Device(vault, rtc, network, floor, log, system.reset, _panel)

    @property
    def health(self) -> "Callable[[], Any] | None":
        """Health check of the application, or None: called during the trial of an update, returns True when all is well. May be async."""
        return self._agent.health

    @health.setter
    def health(self, check: "Callable[[], Any] | None") -> None:
        self._agent.health = check

    # -- the application's side ---------------------------------------------------------------

    def command(self, name: str, call: bool = False) -> "Callable[[Any], Any]":
        """Decorator: let this function, sync or async, run the command.

        name: 1 to 32 of a-z 0-9 _. call: it takes the call (session/inbox.py) as a second
        argument. It gets the arguments, a dict, returns the reply's value, and may raise Refused.
        UsageError bad-name.
        """

        def register(handler: "Any") -> "Any":
            self._agent.commands.register(name, handler, call)
            return handler

        return register

    @property
    def secrets(self) -> "Secrets":
        """The application's own secrets, kept in the vault (vault/secrets.py)."""
        from ..vault.secrets import Secrets

        return Secrets(self._agent.vault)

    async def start(self) -> None:
        """Go online. Returns when the first session stands (plain mode: when every application's ID is known), and the gate is open where the policy has
        one. For a gate whose codes the device judges itself no session is waited for."""
        agent = self._agent
        if self._parts is not None:
            from .build import start

            start(agent, *self._parts)
            self._parts = None
            del start
            # All of it was used: kilobytes that a connection needs more.
            _unload("warden.agent.build", "warden.policy.policy", "warden.vault.records")
        gate = agent.gate
        if gate is None or not gate.offline:
            await agent.session_up.wait()
        if gate is not None:
            await gate.wait()

    async def stop(self) -> None:
        """Say goodbye to the broker, end all tasks, wipe the keys. The object can't be started again."""
        await self._agent.stop()

    async def publish(self, event: str, body: "dict[str, Any]", to: "str | None" = None) -> None:
        """Send an event, sealed for each application whose session stands (or for `to` alone); waits while there is none.

        The authority gets events only where it is the only application. When the connection breaks meanwhile, the event is sealed and sent
        again after the reconnect. QoS 0: one that the broker never got is lost without a word. Before the gate opens it waits, unless the
        policy lets telemetry out.
        """
        agent = self._agent
        ensure(
            agent.names.is_event(event) and event not in _OWN_EVENTS,
            "bad-name",
            "an event's name is 1 to 32 of a-z 0-9 _ and none of Warden's own",
        )
        ensure(isinstance(body, dict), "bad-argument", "an event's body is a dict")
        for key in body:
            ensure(isinstance(key, str), "bad-argument", "a key of the body is no text")
        while True:
            if not agent.session_up.is_set():
                await agent.session_up.wait()
            if agent.gate is not None:  # after that: before start() there is nothing to wait at
                await agent.gate.wait(True)
            try:
                if self._post(event, body, to):
                    # As a rule the connection took it all, and no coroutine was made on the way.
                    if agent.client.owes:
                        await agent.client.flush()
                    return
            except PeerError as error:
                agent.log(
                    error.code, error.text
                )  # the connection broke, and the agent makes another
            await asyncio.sleep_ms(
                100
            )  # only another application's session stands, or the loss has not been seen to yet

    def _post(self, event: str, body: "dict[str, Any]", to: "str | None") -> bool:
        """Queue an event for the application `to`, or for all but the authority unless it is alone.

        Return whether a session was up for it. Nothing waits between sealing and posting: counters
        reach the broker in their order.
        """
        agent = self._agent
        if agent.plain is not None:
            message = agent.plain.event(event, {"body": body})
            agent.post(agent.names.event(event, JSON).encode(), message)
            return True
        sent = False
        for session in agent.sessions:
            if session.up and (
                session.appid == to if to is not None else (not session.authority or self._alone)
            ):
                agent.post(agent.names.sealed(event)[0], session.seal(event, 0, body))
                sent = True
        return sent


def _panel() -> "Any":
    from ..board.panel import panel

    found = panel()
    _unload("board", "warden.board.load")
    return found


def _unload(*names: str) -> None:
    for name in names:
        unload(name)
