"""Load the code of updates while there is one, and let go of it afterwards.

    standby = make(agent)              agent/build.py; None on a board without slots
    await standby.command(args)        the authority's `update` (ota/service.py)
    standby.run()                      its task

A board with slots runs for months without an update: of their code this file alone stays in the
heap, and the files of the slot that is mounted (ota/romfs.py).
"""

import asyncio
import gc

from micropython import const

from .. import unload
from ..errors import OutOfMemory, PeerError
from .result import restart

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..agent.interface import Agent
    from .result import BootResult
    from .service import UpdateService


class Standby:
    """Updates of a connected device.

    agent: the device's
    result: of the board's start, with open_slots()
    """

    def __init__(self, agent: "Agent", result: "BootResult") -> None:
        self._agent = agent
        self._result = result
        self._service: "UpdateService | None" = None
        self._last: "dict[str, Any] | None" = None  # what the service said at its end
        self._commands = 0  # that run
        self._wakeup = asyncio.Event()
        if result.reason and result.reason != "trial-failed":  # a slot that this start refused
            agent.report(result.reason, "update")
        if result.trial or result.failed or result.update or result.mode == "recovery":
            self._load()
            self._wakeup.set()

    def _load(self) -> "UpdateService":
        """Return the service. MemoryError."""
        service = self._service
        if service is None:
            gc.collect()
            result = self._result
            slots = result.open_slots(result.slot)  # type: ignore[misc]
            from .service import UpdateService

            self._service = service = UpdateService(self._agent, result, slots, self._last)
        return service

    async def command(self, args: "dict[str, Any]") -> "dict[str, Any]":
        """Run an `update` command, and return the status.

        Where the heap has no room for the code, the next start of the board verifies the manifest,
        before there is an agent (ota/deferred.py).

        Raises: PeerError: refused; its code is reported as an incident.
        """
        self._commands += 1
        try:
            try:
                service = self._load()
            except MemoryError:
                return self._defer(args)
            return await service.command(args)
        finally:
            self._commands -= 1
            self._wakeup.set()

    def _defer(self, args: "dict[str, Any]") -> "dict[str, Any]":
        gc.collect()
        if "envelope" in args:
            try:
                from .deferred import defer

                status = defer(self._agent, args)
                self._agent.after_reply = restart
                return status
            except MemoryError:
                pass
        error = OutOfMemory("out-of-memory", "not enough memory for the update")
        self._agent.report(error.code, "update")
        raise PeerError(error.code, error.text)

    async def run(self) -> None:
        """Do the work of updates that needs no command, while there is any."""
        while True:
            self._wakeup.clear()
            if self._service is not None:
                await self._service.run()
                if not self._commands and not self.busy():
                    self._let_go()
            if not self._wakeup.is_set():
                await self._wakeup.wait()

    def _let_go(self) -> None:
        """Unload the code of updates; what the last one came to is kept."""
        if self._service is not None:
            self._last = self._service.status()
            self._service = None
            for name in ("warden.ota.service", "warden.ota.update", "warden.ota.slots"):
                unload(name)

    def busy(self) -> bool:
        """Return whether an update is under way that is not staged yet."""
        return self._service is not None and self._service.busy()

    def make_room(self) -> None:
        """Let go of an update that waits for a connection, with its code: none comes up, and the
        heap may have no room for both. The authority sends it again.
        """
        if self._service is not None and self._service.waits():
            self.drop()

    def drop(self) -> None:
        """End an update that is not staged yet: the release keys or the policy changed."""
        if self._service is not None:
            self._service.drop()
            self._wakeup.set()


def make(agent: "Agent") -> "Standby | None":
    """Return the updates of a device that connects; None where the board has no slots."""
    from . import result

    found = result.boot_result
    if found is None or found.open_slots is None:
        return None
    return Standby(agent, found)
