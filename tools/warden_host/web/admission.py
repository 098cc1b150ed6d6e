"""Keep addresses out that are banned or not allowed: bans and lists hold for browsers, too."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from warden_host.addresses import canonical_address
from warden_host.errors import HostError
from warden_host.web.authority import Authority
from warden_host.web.guard import App, Receive, Scope, Send, answer

KEPT_S = 5.0  # how long an answer of the authority counts
_MOST = 1024  # addresses


class Admission:
    """Ask the authority, and keep its answers for a moment."""

    def __init__(self, authority: Authority, clock: Callable[[], float] = time.monotonic) -> None:
        self._authority = authority
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, bool]] = OrderedDict()

    async def admits(self, address: str) -> bool:
        """Return whether requests of an address are answered.

        Where `warden serve` gives no answer: its page says so, and nothing can be done on it.
        """
        now = self._clock()
        until, admitted = self._known.get(address, (0.0, True))
        if now < until:
            return admitted
        try:
            found = await self._authority.call({"op": "admit", "address": address})
        except HostError:
            return True
        admitted = found.get("admitted") is True
        self._known[address] = now + KEPT_S, admitted
        self._known.move_to_end(address)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return admitted


class AddressGate:
    """Answer addresses that are kept out with 403, and end what they read already."""

    def __init__(self, app: App, admits: Callable[[str], Awaitable[bool]]) -> None:
        self._app = app
        self._admits = admits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = address_of(scope)
        if not await self._admits(address):
            await _refuse(scope, send)
            return
        ended = False

        async def checked(message: MutableMapping[str, Any]) -> None:
            nonlocal ended
            if ended:
                return
            if message.get("more_body") and not await self._admits(address):
                message, ended = {"type": "http.response.body", "body": b""}, True
            if message["type"] == "websocket.send" and not await self._admits(address):
                message, ended = {"type": "websocket.close"}, True
            await send(message)

        await self._app(scope, receive, checked)


def address_of(scope: Scope) -> str:
    """Return a browser's address in its canonical form; "?" where it has none."""
    client = scope.get("client")
    return (canonical_address(client[0]) if client else "") or "?"


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["type"] == "http":
        await answer(send, 403)
    else:
        await send({"type": "websocket.close"})
