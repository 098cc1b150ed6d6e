"""Keep a valid access token as the client's password: fetch, use, store and renew it.

    keeper.start(agent)        sets agent.token; the agent runs its run()

A token is renewed after 70 to 90 % of its life, drawn anew each time, over a connection beside the
broker's; the old one is in use until the new one is there. What the broker accepted is stored,
where it lives half an hour or longer: so no refusal writes to the flash, and a life causes one
write. The times of this boot count on the uptime: the clock may be set meanwhile.

New terms from the authority (`token_new`) take the place of the old ones when a token of theirs
brought the session up, and are dropped when the server or the broker refuses them.

token-failed    new terms were refused, or brought no session: the old ones are in use again
"""

import asyncio
import gc

from micropython import const

from .. import unload
from ..crypto.rand import random_bytes
from ..errors import LinkError, PeerError
from ..net.backoff import Backoff
from ..vault import records
from ..wire import cbor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from ..agent.interface import Agent

_FORMAT = const(1)
_WORTH_S = const(1800)  # least life left of a token that is stored
_MARGIN_MS = const(10000)  # least life left of a token for a log-in
_PROOF_MS = const(120000)  # for the session to come up with a token of new terms
_DAY_MS = const(86400000)
# Between two tries to renew a token while the old one is in use.
_LEAST_MS = const(30000)
_MOST_MS = const(600000)


def start(agent: "Agent") -> "Tokens":
    """Let the agent log in with tokens; return the keeper, whose run() is a task of the agent."""
    agent.token = tokens = Tokens(agent)
    return tokens


class Tokens:
    """The token of an agent. renewing: the connection is closed for a new token alone."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent
        self._token = b""
        self._ends_ms = self._renew_ms = 0  # of the uptime
        self._until = self._renew_at = 0  # of a stored token, unix seconds
        self._settled = True  # nothing is left to be done for this token
        self._is_new = False  # the token is one of the pending terms
        self._next: "tuple[bytes, int] | None" = None  # token and end of one not used yet
        self._alone = False  # renew without a connection to the broker beside it
        self._again = True  # a refused token may be replaced at once
        self._changed = asyncio.Event()
        self._backoff = Backoff(_LEAST_MS, _MOST_MS)
        self.renewing = False
        self._load()

    async def prepare(self) -> None:
        """Give the client a valid token for the next connection.

        Raises what fetching one does: PeerError token-refused, …, LinkError.
        """
        self.renewing = False
        self._agent.client.accepted = False  # of this attempt, which may end here
        if self._next is not None:
            made, self._next = self._next, None
            self._use(*made)
        elif not self._is_new and "token_new" in self._agent.vault.names():
            try:
                self._use(*await self._fetch("token_new"))
                self._is_new = True
            except LinkError as error:
                self._agent.log(error.code, error.text)  # no proof against the new terms
            except PeerError as error:
                self._drop_new(error.code)
        if self._alone and self._is_valid():
            self._alone = False
            try:
                self._use(*await self._fetch(self._name()))
            except PeerError as error:
                self._agent.log(error.code, error.text)  # the old one is as good as before
                self._agent.report(error.code, "token")
                self._renew_ms = self._agent.now_ms() + self._backoff.next_ms()
                self._changed.set()
        if not self._is_valid():
            self._use(*await self._fetch(self._name()))
        self._agent.client.password = self._token

    def failed(self, error: PeerError) -> bool:
        """Note a connection that ended; return whether to try again at once with another token."""
        if self._agent.client.accepted:
            self._again = True
        if error.code != "mqtt-refused":
            return False
        if self._is_new:
            self._drop_new(error.code)
            self._token = b""
            return True
        # A broker whose back end is away refuses a good token, too: one new token, no more.
        if self._agent.client.accepted or not self._again:
            return False
        self._again = False
        self._token = b""
        return True

    async def run(self) -> None:
        """Store a token that proved itself, and renew it in time."""
        agent = self._agent
        while True:
            self._changed.clear()
            if not self._token:
                await self._changed.wait()
            elif not self._settled:
                if await self._session():
                    self._settle()
            elif agent.now_ms() < self._renew_ms:
                await self._wait(self._renew_ms - agent.now_ms())
            elif not await self._renew():
                await self._wait(self._backoff.next_ms())

    async def renew(self, _: "Agent") -> None:
        """Renew the token now: the authority ordered it."""
        self._renew_ms = 0
        self._changed.set()

    # -- one token ----------------------------------------------------------------------------

    def _name(self) -> str:
        return "token_new" if self._is_new else "token"

    def _is_valid(self) -> bool:
        return self._token != b"" and self._agent.now_ms() + _MARGIN_MS < self._ends_ms

    def _use(self, token: bytes, ends_ms: int) -> None:
        """Use a new token from the next connection on."""
        now = self._agent.now_ms()
        share = 700 + int.from_bytes(random_bytes(2), "big") % 200  # a fleet renews at any time
        self._token, self._ends_ms, self._until = token, ends_ms, 0
        self._renew_ms = now + (ends_ms - now) * share // 1000
        self._settled = False
        self._backoff.reset()
        self._changed.set()

    async def _fetch(self, name: str) -> "tuple[bytes, int]":
        """Fetch a token by the terms of this record; return it with its end of the uptime."""
        from ..net.link import Link
        from ..net.verifier import TrustAnchors
        from .fetch import fetch
        from .terms import Terms

        agent = self._agent
        terms = Terms(records.load(agent.vault, name))
        gc.collect()  # a hand-shake needs its buffers in one piece
        threshold = gc.threshold()
        gc.threshold(-1)  # as for the broker's (agent/agent.py)
        # Without the device's own certificate, which is the broker's business.
        trust = terms.trust or TrustAnchors(agent.trust.cas, agent.trust.pins)
        link = Link(trust, agent.clock, agent.policy.stall_ms)
        began = agent.now_ms()
        try:
            token, seconds = await fetch(link, terms)
        finally:
            link.close()
            gc.threshold(threshold)
            agent.clock.undo()  # a tentative time ends with its connection
            del fetch, terms
            unload("warden.token.fetch")
            unload("warden.token.terms")
            unload("warden.net.http")
        agent.log("token", "a new one, for %d s" % seconds)
        return token, began + seconds * 1000

    async def _renew(self) -> bool:
        """Fetch the next token, and close the connection: it proves itself on the next one."""
        agent = self._agent
        if not agent.client.connected:
            return False  # prepare() looks after it
        try:
            self._next = await self._fetch(self._name())
        except MemoryError:
            self._alone = True  # no room for a second connection
        except PeerError as error:
            agent.log(error.code, error.text)
            agent.report(error.code, "token")
            return False
        self._renew_ms = self._ends_ms  # until prepare() uses it
        self.renewing = True
        agent.client.close()
        return True

    async def _session(self) -> bool:
        """Wait until the token brought a session up; False where another token came before."""
        agent = self._agent
        while not agent.session_up.is_set():
            if self._changed.is_set():
                return False
            try:
                await asyncio.wait_for_ms(agent.session_up.wait(), _PROOF_MS)
            except asyncio.TimeoutError:
                if self._is_new and agent.client.connected:
                    self._drop_new("no-session")
                    self._token = b""
                    agent.client.close()
                    return False
        return not self._changed.is_set()

    async def _wait(self, wait_ms: int) -> None:
        """Wait for another token, at most so long, and at most a day."""
        try:
            await asyncio.wait_for_ms(self._changed.wait(), min(wait_ms, _DAY_MS))
        except asyncio.TimeoutError:
            pass

    # -- the vault ----------------------------------------------------------------------------

    def _load(self) -> None:
        """Use the stored token, if it still lives by the clock."""
        vault = self._agent.vault
        if "token_now" not in vault.names():
            return
        fields = records.load(vault, "token_now")
        if fields[0] == _FORMAT and fields[1] == records.load(vault, "token")[1]:
            self._token, self._until, self._renew_at = fields[2:]
            self._rebase()
            self._settled = False

    def _rebase(self) -> None:
        """Count the end of a stored token on the uptime, by the clock of now."""
        now, time = self._agent.now_ms(), self._agent.clock.now()
        self._ends_ms = now + (self._until - time) * 1000
        self._renew_ms = now + (self._renew_at - time) * 1000

    def _settle(self) -> None:
        """Finish a token that brought a session up: the clock is right, and the terms are proven.

        One commit at most.
        """
        self._settled = True
        if self._until:
            self._rebase()
            return
        vault, now, time = self._agent.vault, self._agent.now_ms(), self._agent.clock.now()
        changes: "dict[str, bytes | None]" = {}
        if self._is_new:
            changes["token"] = records.load_raw(vault, "token_new")
            changes["token_new"] = None
        left = (self._ends_ms - now) // 1000
        if left >= _WORTH_S:
            number = records.load(vault, self._name())[1]
            self._until = time + left
            self._renew_at = time + (self._renew_ms - now) // 1000
            changes["token_now"] = cbor.encode(
                [_FORMAT, number, self._token, self._until, self._renew_at]
            )
        elif "token_now" in vault.names():
            changes["token_now"] = None
        if changes:
            vault.commit(changes)
        if self._is_new:
            self._is_new = False
            self._agent.log("rotated", "token")

    def _drop_new(self, why: str) -> None:
        """Go back to the old terms."""
        agent = self._agent
        self._is_new = False
        agent.vault.commit({"token_new": None})
        agent.log("token-failed", why)
        agent.report("token-failed", "token")
