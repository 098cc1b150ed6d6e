"""The application's end of one device's sealed session: bytes and time in, bytes and results out.

Nothing here does I/O. What must outlive a restart (the proven boot and connect, a quarantine) goes
through `persist` before the answer that depends on it is returned.
"""

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from warden_client.errors import HostError
from warden_client.names import Address
from warden_client.protocol import cose, handshake
from warden_client.protocol.freshness import NOTHING_PROVEN, DeviceMark, Proof, is_rollback
from warden_client.protocol.keyschedule import pair_keys, session_keys
from warden_client.protocol.results import (
    LIVE,
    OLD,
    REPEATED,
    Outcome,
    Quarantined,
    Received,
    Refused,
    Send,
    SessionUp,
)
from warden_client.protocol.sealing import Channel

MAX_CANDIDATES = 4
WAKE_REPEAT_S = 10.0
WAKE_REPEATS = 3
WAKE_SLOW_S = 60.0  # after the repeats, until a hello arrives
RECHECK_S = 2.0  # a device that lost the broker too sends a hello by itself
CHANGE_S = 5.0
# A device counts an eighth of its sleep more to a command's age, and its clock is wrong as well.
_CLOCK_ERROR = 0.25


class Instant(NamedTuple):
    """A time. unix: sealed into welcomes, seconds. steady: for ages; clock steps don't change it.

    sealable: unix may be sealed into a welcome (clock_guard.py).
    """

    unix: int
    steady: float
    sealable: bool = True


@dataclass(slots=True)
class _Candidate:
    """A session whose welcome was sent and whose ready has not arrived."""

    hello: handshake.Hello
    welcome: bytes
    channel: Channel
    since: Instant
    floor: DeviceMark  # as it was when the welcome was made
    slept: bool = False  # the device slept deeply in this session

    @property
    def proof(self) -> Proof:
        return Proof(self.hello.boot, self.hello.connect, self.hello.vault_gen)


@dataclass(slots=True)
class _Wake:
    data: bytes
    due: float
    left: int


class Session:
    """One device's sealed session with one application.

    policy_hash: of the device's record. mark: shared by the device's sessions. persist: stores a
    Proof or a Quarantined; it is called before any answer to it. proven: the last proof of this
    pair. next_policy_hash: of a record that the device tries, or b"".
    """

    __slots__ = (  # a fleet has thousands of them
        "_ack",
        "_ack_is_last",
        "_candidates",
        "_challenge",
        "_current",
        "_hellos",
        "_k",
        "_keys",
        "_persist",
        "_proven",
        "_ready",
        "_unconfirmed",
        "_wake",
        "address",
        "mark",
        "next_policy_hash",
        "policy_hash",
        "previous",
    )

    def __init__(
        self,
        address: Address,
        k: bytes,
        policy_hash: bytes,
        mark: DeviceMark,
        persist: Callable[[Proof | Quarantined], None],
        proven: Proof = NOTHING_PROVEN,
        next_policy_hash: bytes = b"",
    ) -> None:
        self.address = address
        self.mark = mark
        self._k = k
        self._keys = pair_keys(address, k)
        self.policy_hash = policy_hash
        self.next_policy_hash = next_policy_hash
        self._persist = persist
        self._proven = proven
        self._candidates: dict[bytes, _Candidate] = {}  # by the hello's bytes, oldest first
        self._current: _Candidate | None = None
        self._ready = b""
        self._ack = b""
        self._ack_is_last = False
        self._wake: _Wake | None = None
        self._unconfirmed = False
        self.previous: Channel | None = None
        self._challenge = b""
        self._hellos: tuple[bytes, ...] = ()  # the last ones that were proven

    @property
    def kid(self) -> bytes:
        return self._keys.kid

    @property
    def is_up(self) -> bool:
        """Return whether commands may be sent in the session."""
        return self._current is not None and not self._unconfirmed and not self.mark.quarantine

    @property
    def exists(self) -> bool:
        """Return whether a device proved a session, be it in doubt by now."""
        return self._current is not None

    def handshake_pending(self, now: Instant) -> bool:
        """Return whether a welcome was sent in the last seconds.

        The device drops its session as soon as the welcome arrives, and then can't open commands
        that were sealed in the old one.
        """
        return any(now.steady - one.since.steady < CHANGE_S for one in self._candidates.values())

    def mark_unconfirmed(self) -> None:
        """Count the session as down until the device sends in it, or starts a new one.

        Called when a connection to the broker broke, ours or the device's: it may have lost its
        session.
        """
        self._unconfirmed = self._current is not None

    def mark_asleep(self) -> None:
        """Count the session as down: the device sleeps deeply, and may resume it."""
        self.mark_unconfirmed()
        if self._current is not None:
            self._current.slept = True

    def clock_error(self, now: Instant) -> float:
        """Return by how many seconds the device may count the age of this session too high.

        A command that is valid for less may be expired for a device that slept.
        """
        current = self._current
        if current is None or not current.slept:
            return 0.0
        return (now.steady - current.since.steady) * _CLOCK_ERROR

    def schedule_wake(self, now: Instant) -> None:
        """Send a wake soon to a device whose session is unconfirmed: it may be there."""
        if self._unconfirmed:
            self._prepare_wake(now.steady + RECHECK_S)

    def receive(self, event: str, data: bytes, now: Instant) -> list[Outcome]:
        """Return the outcomes of a device's event under fmt/cose; its mistakes raise nothing."""
        try:
            if event == "hello":
                return self._on_hello(data, now)
            return self._on_message(event, data)
        except HostError as error:
            return [Refused(event, error.code, error.text)]

    def seal(
        self, command: str, number: int, body: dict[str, Any], ttl_s: int | None, now: Instant
    ) -> bytes:
        """Return a command's bytes. ttl_s: seconds that the command is valid, or None.

        Raises: no-session, quarantined, counter-exhausted, bad-argument, cbor-limit.
        """
        current = self._require_session()
        expiry = None
        if ttl_s is not None:
            expiry = max(0, int(now.steady - current.since.steady)) + ttl_s
        try:
            sealed = current.channel.seal(
                handshake.command_topic(self.address, command), number, expiry, body
            )
        except HostError as error:
            if error.code == "counter-exhausted":
                self._current = None
            raise
        self._ack_is_last = False
        return sealed

    @property
    def channel(self) -> Channel | None:
        """Return the keys and counters of the session that stands, or None."""
        return None if self._current is None else self._current.channel

    def seal_ack(self) -> bytes:
        """Return a sealed ack under the next counter."""
        current = self._require_session()
        topic = handshake.command_topic(self.address, "ack")
        self._ack = current.channel.seal(topic, 0, None, {})
        self._ack_is_last = True
        return self._ack

    def request_hello(self, now: Instant) -> Send:
        """Return a wake, which asks the device for a new hello; tick() repeats it."""
        return Send("wake", self._prepare_wake(now.steady + WAKE_REPEAT_S))

    def tick(self, now: Instant) -> list[Send]:
        """Return the wake that is due now, if any."""
        wake = self._wake
        if wake is None or now.steady < wake.due:
            return []
        # A device that received no wake keeps its old session and has no reason to send:
        # without further wakes no session would start.
        wake.left = max(0, wake.left - 1)
        wake.due = now.steady + (WAKE_REPEAT_S if wake.left else WAKE_SLOW_S)
        return [Send("wake", wake.data)]

    @property
    def pending_wake(self) -> Send | None:
        """Return the wake that no hello has answered yet, while there is no session."""
        if self._wake is None or self._current is not None:
            return None
        return Send("wake", self._wake.data)

    def _prepare_wake(self, due: float) -> bytes:
        nonce = secrets.token_bytes(handshake.NONCE)
        data = handshake.seal_wake(self.address, self._keys, nonce)
        self._wake = _Wake(data, due, WAKE_REPEATS)
        return data

    def reset_proofs(self) -> None:
        """Forget this pair's proof and candidates: the owner cleared the device."""
        self._proven = NOTHING_PROVEN
        self._candidates.clear()

    def _require_session(self) -> _Candidate:
        if self.mark.quarantine:
            raise HostError(
                "quarantined",
                f"{self.address.device} is in quarantine: {self.mark.quarantine}",
            )
        if self._current is None:
            raise HostError("no-session", f"no session with {self.address.device}")
        return self._current

    def _on_hello(self, data: bytes, now: Instant) -> list[Outcome]:
        known = self._candidates.get(data)
        if known is not None:
            return [Send("welcome", known.welcome)]
        hello = handshake.open_hello(self.address, self._keys, data)
        if self.mark.quarantine:
            raise HostError("quarantined", "a hello of a device in quarantine")
        if (hello.boot, hello.connect) <= self._proven.hello:
            return [self._stale(data, hello)]
        if not now.sealable:
            raise HostError("clock-jumped", "no time is sealed until this host's clock is right")
        nonce = secrets.token_bytes(handshake.NONCE)
        welcome = handshake.seal_welcome(
            self.address, self._keys, data, nonce, now.unix, self._expected(hello.policy_hash)
        )
        keys = session_keys(self.address, self._k, data, welcome)
        # vault_gen is not checked here: a hello can be replayed, only a ready is live.
        self._candidates[data] = _Candidate(
            hello, welcome, Channel(self.kid, keys), now, replace(self.mark)
        )
        if len(self._candidates) > MAX_CANDIDATES:
            del self._candidates[next(iter(self._candidates))]
        self._wake = None
        return [Send("welcome", welcome)]

    def challenge(self) -> Send:
        """Return a wake that asks the device which is there for a hello with our nonce."""
        self._challenge = secrets.token_bytes(handshake.NONCE)
        return Send("wake", handshake.seal_wake(self.address, self._keys, self._challenge))

    def _stale(self, data: bytes, hello: handshake.Hello) -> Refused:
        kind = REPEATED if data in self._hellos else OLD
        answers = bool(self._challenge) and hello.wake_nonce == self._challenge
        # No device makes two hellos with the same counters: a second one is no recording.
        twin = (hello.boot, hello.connect) == self._proven.hello and bool(self._hellos)
        if kind == OLD and (answers or twin):
            kind, self._challenge = LIVE, b""
        text = "not above the last hello that was proven"
        return Refused("hello", "stale-hello", text, kind)

    def _expected(self, told: bytes) -> bytes:
        """Return the policy's hash that a device should have which has told us this one."""
        return told if told == self.next_policy_hash else self.policy_hash

    def _on_message(self, event: str, data: bytes) -> list[Outcome]:
        message = cose.parse_encrypt0(data)
        if message.kid != self.kid:
            raise HostError("wrong-application", "sealed for another application")
        current = self._current
        if current is not None and hmac.compare_digest(message.sid, current.channel.sid):
            if event == "ready" and hmac.compare_digest(data, self._ready):
                return self._repeat_ack()
            if current.channel.is_repeat(data):
                return []
            number, previous, body = current.channel.open(
                handshake.event_topic(self.address, event), message
            )
            if event == "reply":
                current.channel.note_reply(data)
            if self._unconfirmed:
                self._unconfirmed = False
                self._wake = None
            if event == "ready":
                raise HostError("bad-body", "a second ready in one session")
            return [Received(event, number, body, previous)]
        for candidate in self._candidates.values():
            if hmac.compare_digest(message.sid, candidate.channel.sid):
                if event != "ready":
                    raise HostError("no-session", "the session is not proven yet")
                return self._on_ready(data, message, candidate)
        if self.previous is not None and hmac.compare_digest(message.sid, self.previous.sid):
            raise HostError("old-session", "sealed in the session before this one")
        raise HostError("no-session", "sealed in a session that we don't hold")

    def _on_ready(
        self, data: bytes, message: cose.Encrypt0, candidate: _Candidate
    ) -> list[Outcome]:
        if message.counter != 0:
            raise HostError("bad-body", "a ready whose counter is not 0")
        topic = handshake.event_topic(self.address, "ready")
        if candidate.channel.open(topic, message) != (0, None, {}):
            raise HostError("bad-body", "a ready that says something")
        if self.mark.quarantine:
            raise HostError("quarantined", "a ready of a device in quarantine")
        proof = candidate.proof  # above what was proven: no other candidate is kept
        if is_rollback(proof, self._proven, candidate.floor):
            return self._to_quarantine(proof)
        if proof.boot < self.mark.boot:
            raise HostError("stale-hello", "the device has started again in the meantime")
        self.mark.raise_to(proof)
        self._persist(proof)
        self._proven = proof
        # Else an answer that was held back on its way would be one below, made now.
        self._challenge = b""
        if self._current is not None:
            self.previous = self._current.channel
        self._current = candidate
        self._unconfirmed = False
        self._ready = data
        for key, other in list(self._candidates.items()):
            if other is candidate:
                self._hellos = (*self._hellos[-1:], key)
            if other.proof.hello <= proof.hello:
                del self._candidates[key]  # it could take us back; that of a newer hello stays
        told = candidate.hello.policy_hash
        diverged = not hmac.compare_digest(told, self._expected(told))
        return [
            Send("ack", self.seal_ack()),
            SessionUp(proof, diverged, candidate.hello.development),
        ]

    def _repeat_ack(self) -> list[Outcome]:
        """Answer a repeated ready: the device has not seen the ack.

        The same bytes again, unless a command was sent since: its counter is higher, and the
        device would refuse the old ack as replayed for ever.
        """
        self._require_session()
        return [Send("ack", self._ack if self._ack_is_last else self.seal_ack())]

    def _to_quarantine(self, proof: Proof) -> list[Outcome]:
        what = "boot" if proof.boot < self.mark.boot else "vault generation"
        verdict = Quarantined(f"its {what} went back: its flash was played back")
        self._persist(verdict)
        self.mark.quarantine = verdict.reason
        self._current = None
        self._candidates.clear()
        return [verdict]
