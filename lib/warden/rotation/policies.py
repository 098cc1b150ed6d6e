"""Authority command `policy`: a new policy is kept once the authority was reached under it.

New brokers come with it, as a rule under the same policy record. Rules: docs/protocol.md, policy.
As with the Wi-Fi networks, the vault's record `policy_new` holds what is tried and how often yet:
at every power cut the device has the old state and the pending one, or the new one alone.
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

_WITH_BROKERS = const(2)  # the format of the record `policy_new` that names brokers
# What only those who have the device in their hands may change: it could be weakened.
_FIXED = const("mode validate store strict otp development")
# The same of the connection, and what it is in versions that lack it.
_FIXED_TERMS = const((("auth", "password"), ("tls", True)))


def run(agent: "Agent", args: "dict[str, Any]") -> "dict[str, Any]":
    """Store a new policy record, and brokers, as pending; return the state, without args too.

    PeerError bad-body, unexpected; not-allowed for a record that changes what is fixed. LinkError
    busy.
    """
    vault = agent.vault
    if args:
        id: "Any" = args.get("id")
        record: "Any" = args.get("policy")
        brokers: "Any" = args.get("brokers")
        if (
            len(args) != (3 if "brokers" in args else 2)
            or type(id) is not int
            or not 0 < id <= MAX_ID
            or not isinstance(record, bytes)
        ):
            raise PeerError("bad-body")
        if id <= vault.counter("policy"):
            raise PeerError("unexpected")
        if agent.rotation is not None:
            raise LinkError("busy")
        auth = _check(records.load_raw(vault, "policy"), record)
        pending: "list[Any]" = [FORMAT, id, record, TRIES]
        if "brokers" in args:
            from .rotation import check_record

            check_record([brokers, auth], "brokers")
            # Two rounds of them: some may be away, and the first ones at that.
            pending = [_WITH_BROKERS, id, record, brokers, max(TRIES, 2 * len(brokers))]
        vault.commit({"policy_new": cbor.encode(pending)}, {"policy": id})
        start(agent)
        agent.after_reply = reconnect
    return {
        "id": vault.counter("policy"),
        "proved": vault.counter("policy_good"),
        "digest": hashlib.sha256(records.load_raw(vault, "policy")).digest(),
        "pending": "policy_new" in vault.names(),
    }


def _check(old: bytes, new: bytes) -> str:
    """Return how both records log in.

    PeerError bad-body for no record that this firmware keeps; not-allowed.
    """
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
    return "password" if terms is None else str(terms["auth"])


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
    """A policy, and brokers, that are pending, on this agent's link and sessions."""

    def __init__(self, agent: "Agent") -> None:
        super().__init__(agent, "policy_new", records.load(agent.vault, "policy_new"))
        self._proof_ms: "int | None" = None  # when this session has lasted long enough
        self._in_use = False  # the agent has the new policy
        self._brokers: "Any" = self.fields[3] if self.fields[0] == _WITH_BROKERS else None

    def choose_secrets(self) -> None:
        """Set the policy for the next connection: the new one, or the old one after all tries."""
        agent, self._proof_ms = self.agent, None
        if self.count():
            if self._in_use:
                return  # the back-off goes on from try to try, and so does the round of brokers
            try:
                agent.use_policy(agent, self.fields[2], self._brokers)
                self._in_use = True
                return
            except UsageError:
                pass  # of a newer firmware, which an update's trial gave back since
        agent.vault.delete("policy_new")
        agent.use_policy(agent, records.load_raw(agent.vault, "policy"), None)
        self.end()
        agent.log("policy-failed", "the old policy is in use again")
        agent.report("policy-failed", "policy")

    def check(self) -> None:
        """Do nothing: the session alone proves nothing, due_ms() waits for more."""

    def due_ms(self, now: int) -> "int | None":
        """Replace the old policy once the authority's session has lasted under the new one.

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
        changes: "dict[str, bytes | None]" = {}
        terms: "Any" = agent.policy.connection
        try:
            if agent.delivery is not None or (terms is not None and terms["outbox"]):
                changes = agent.use_policy(agent, None, None)
        except MemoryError:  # for the outbox: nothing of it has changed
            agent.log("out-of-memory", "not enough memory for the new outbox")
            self.trying, self.fields[-1] = False, 0
            agent.client.close()
            return None
        changes["policy"], changes["policy_new"] = self.fields[2], None
        brokers = self._brokers
        if brokers is not None:
            account = records.load(agent.vault, "broker")[2:]
            changes["broker"] = cbor.encode(brokers[0][:2] + account)
            kept = [len(brokers[0]) - 2, brokers]
            changes["brokers"] = cbor.encode(kept) if len(brokers) > 1 else None
        agent.vault.commit(changes, {"policy_good": self.fields[1]})
        self.end()
        agent.log("policy-changed", "policy %d is in use" % self.fields[1])
        return None
