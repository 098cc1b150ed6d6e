"""Try a change on a connection: count the tries in the vault, give each a time to prove itself."""

import asyncio

from micropython import const

from .. import unload
from ..wire import cbor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..agent.interface import Agent
    from ..errors import PeerError

FORMAT = const(1)
MAX_ID = const((1 << 32) - 1)
TRIES = const(3)  # connections, in all starts together
_PROOF_MS = const(120000)  # for the authority's session to come up
_REPLY_MS = const(500)  # for the reply to arrive before the connection is closed


async def reconnect(agent: "Agent") -> None:
    """Close the connection: the change proves itself on the next one."""
    await asyncio.sleep_ms(_REPLY_MS)
    agent.client.close()


class Pending:
    """A change that takes the place of a rotation on its agent.

    name: the vault's record of it, whose last item is how often it may still be tried. fields: the
    record, decoded. A subclass adds choose_secrets() and check().
    """

    def __init__(self, agent: "Agent", name: str, fields: "list[Any]") -> None:
        self.agent = agent
        self.name = name
        self.fields = fields
        self.trying = False
        self._due_ms: "int | None" = None  # once this try has its connection

    def count(self) -> bool:
        """Count a try in the vault before it begins; return False where none is left."""
        fields = self.fields
        if not fields[-1]:
            return False
        # Counted first: a power cut is a try, too.
        fields[-1] -= 1
        self.agent.vault.commit({self.name: cbor.encode(fields)})
        self.trying, self._due_ms = True, None
        return True

    def failed(self, error: "PeerError") -> bool:
        """Return False: the next try has the usual wait before it."""
        self.trying = False
        return False

    def end(self) -> None:
        """Let go of this change, and of the code for it: few devices need it again."""
        self.agent.rotation = None
        unload("warden.rotation.networks")
        unload("warden.rotation.policies")
        unload("warden.rotation.pending")
        unload("warden.rotation.commands")
        unload("warden.vault.records")

    def due_ms(self, now: int) -> "int | None":
        """Close a connection on which no session came up in time; return when it is due."""
        if not self.trying:
            return None
        due = self._due_ms
        if due is None:
            self._due_ms = due = now + _PROOF_MS
        if now < due:
            return due
        self.trying = False
        self.agent.client.close()
        return None
