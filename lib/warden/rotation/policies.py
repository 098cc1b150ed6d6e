"""Authority command `policy`: a new policy record is kept once the authority was reached under it.

Rules: docs/protocol.md, policy. As with the Wi-Fi networks, the vault's record `policy_new` holds
what is tried and how often yet: at every power cut the device has the old record and the pending
one, or the new one alone.
"""

import hashlib

from micropython import const

from .. import unload
from ..errors import LinkError, PeerError, UsageError
from ..vault import records
from ..wire import cbor
from .pending import FORMAT, MAX_ID, TRIES, Pending, reconnect

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..agent.interface import Agent

# What only those who have the device in their hands may change: it could be weakened, or is the
# size of what a start makes (the outbox).
_FIXED = const("mode validate store strict otp development")
# The same of the connection, and what it is in versions that lack it.
_FIXED_TERMS = const(
    (
        ("auth", "password"),
        ("tls", True),
        ("outbox", 0),
        ("outbox_keep", "connection"),
        ("outbox_drop", "oldest"),
    )
)


def run(agent: "Agent", args: "dict[str, Any]") -> "dict[str, Any]":
    """Store a new policy record as pending; return the state, also where args are empty.

    PeerError bad-body, unexpected; not-allowed for a record that changes what is fixed. LinkError
    busy.
    """
    vault = agent.vault
    if args:
        id: "Any" = args.get("id")
        record: "Any" = args.get("policy")
        if (
            len(args) != 2
            or type(id) is not int
            or not 0 < id <= MAX_ID
            or not isinstance(record, bytes)
        ):
            raise PeerError("bad-body")
        if id <= vault.counter("policy"):
            raise PeerError("unexpected")
        if agent.rotation is not None:
            raise LinkError("busy")
        _check(records.load_raw(vault, "policy"), record)
        pending = cbor.encode([FORMAT, id, record, TRIES])
        vault.commit({"policy_new": pending}, {"policy": id})
        start(agent)
        agent.after_reply = reconnect
    return {
        "id": vault.counter("policy"),
        "proved": vault.counter("policy_good"),
        "digest": hashlib.sha256(records.load_raw(vault, "policy")).digest(),
        "pending": "policy_new" in vault.names(),
    }


def _check(old: bytes, new: bytes) -> None:
    """Raise PeerError bad-body for no record that this firmware keeps; not-allowed."""
    from ..policy.policy import Policy

    try:
        before, after = Policy(old), Policy(new)
    except UsageError as error:
        raise PeerError("bad-body", error.text)
    finally:
        del Policy
        for name in ("warden.policy.policy", "warden.policy.otp", "warden.agent.build"):
            unload(name)  # the last one is the file of the first in a board's build
    if _fixed(before) != _fixed(after):
        raise PeerError("not-allowed")
    # An event in the outbox may be as large as the limit is now.
    terms: "Any" = before.connection
    if terms is not None and terms["outbox"] and after.max_message < before.max_message:
        raise PeerError("not-allowed")


def _fixed(policy: "Any") -> "list[Any]":
    terms = policy.connection
    found = [getattr(policy, key) for key in _FIXED.split()]
    for key, default in _FIXED_TERMS:
        found.append(default if terms is None else terms[key])
    return found


def start(agent: "Agent") -> None:
    """Let the agent try the policy that is pending in its vault."""
    agent.rotation = PendingPolicy(agent)


class PendingPolicy(Pending):
    """A policy record that is pending, on this agent's link and sessions."""

    def __init__(self, agent: "Agent") -> None:
        super().__init__(agent, "policy_new", records.load(agent.vault, "policy_new"))
        self._proof_ms: "int | None" = None  # when this session has lasted long enough
        self._in_use = False  # the agent has the new policy

    def choose_secrets(self) -> None:
        """Set the policy for the next connection: the new one, or the old one after three."""
        agent, self._proof_ms = self.agent, None
        if self.count():
            if self._in_use:
                return  # the back-off goes on from try to try, and so does the round of brokers
            try:
                agent.use_policy(agent, self.fields[2])
                self._in_use = True
                return
            except UsageError:
                pass  # of a newer firmware, which an update's trial gave back since
        agent.vault.delete("policy_new")
        agent.use_policy(agent, records.load_raw(agent.vault, "policy"))
        self.end()
        agent.log("policy-failed", "the old policy is in use again")
        agent.report("policy-failed", "policy")

    def check(self) -> None:
        """Do nothing: the session alone proves nothing, due_ms() waits for more."""

    def due_ms(self, now: int) -> "int | None":
        """Replace the old record once the authority's session has lasted under the new one.

        For two stall_ms: what the device sends meanwhile, such as its replies to the authority's
        questions, is followed by a ping, whose answer must come in one. An authority that expects
        another record proves nothing: it would not know this one.
        """
        agent, session = self.agent, self.agent.authority()
        if not self.trying or session is None or session.diverged:
            self._proof_ms = None
            return super().due_ms(now)
        if self._proof_ms is None:
            self._proof_ms = now + 2 * agent.policy.stall_ms
        if now < self._proof_ms:
            return self._proof_ms
        changes: "dict[str, bytes | None]" = {"policy": self.fields[2], "policy_new": None}
        agent.vault.commit(changes, {"policy_good": self.fields[1]})
        self.end()
        agent.log("policy-changed", "policy %d is in use" % self.fields[1])
        return None
