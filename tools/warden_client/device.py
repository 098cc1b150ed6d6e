"""One device as its application sees it: sessions, replies, events. No I/O."""

from dataclasses import replace
from typing import Any

from warden_client.credentials import DeviceEntry
from warden_client.errors import HostError
from warden_client.memory import Known, Memory
from warden_client.names import PLAIN, SEALED, Address, Topic
from warden_client.protocol import cose
from warden_client.protocol.freshness import DeviceMark, Proof
from warden_client.protocol.plain import PlainPeer
from warden_client.protocol.results import Outcome, Quarantined, Received, Send
from warden_client.protocol.session import Instant, Session

_PACKET_OVERHEAD = 16  # fixed header, topic length, packet id


class Device:
    """The sessions with one device: one a key, and two while a rotation is under way."""

    def __init__(self, appid: str, entry: DeviceEntry, memory: Memory) -> None:
        self.entry = entry
        self.address = Address(entry.type, entry.device, appid)
        self.number = 0  # of the last event of the device's outbox that was taken
        self.acknowledged = 0  # of the last one that the application is done with
        self._memory = memory
        self._mark = DeviceMark()
        self._sessions: list[Session] = []
        self._by_key: dict[bytes, Session] = {}
        self._plain = None if entry.sealed else PlainPeer(self.address, entry.uid)
        self._exported: dict[bytes, Known] = {}  # of the first key, by its ID
        for key in entry.keys:
            self._add_session(key)
        self.acknowledged = self.number

    def _add_session(self, key: bytes) -> None:
        policies = (*self.entry.policies, b"")
        # Its kid names what was kept of it, so it is made before its proof is known.
        kid = Session(self.address, key, policies[0], self._mark, _ignore).kid
        if not self._sessions:
            self._exported[kid] = Known(self.entry.proven, self.entry.event_number)
        known = self._known(kid)
        proven = known.proven
        self._mark.raise_to(Proof(max(0, proven.boot), max(0, proven.connect), proven.vault_gen))
        self._mark.quarantine = self._mark.quarantine or known.quarantine
        self.number = max(self.number, known.event_number)

        def persist(fact: Proof | Quarantined) -> None:
            self._persist(kid, fact)

        made = Session(self.address, key, policies[0], self._mark, persist, proven, policies[1])
        self._sessions.append(made)
        self._by_key[key] = made

    def _known(self, kid: bytes) -> Known:
        """Return what was kept of a key; where nothing was, what the file has of the first one.

        The file never outranks it: the owner may have cleared the device since the export.
        """
        return self._memory.known(kid) or self._exported.get(kid, Known())

    def _persist(self, kid: bytes, fact: Proof | Quarantined) -> None:
        known = self._known(kid)
        if isinstance(fact, Proof):
            number = max(known.event_number, self.acknowledged)
            self._memory.keep(kid, Known(fact, number, ""))
            if kid == self._sessions[-1].kid:  # the new key is proven: the old one has no use
                del self._sessions[:-1]
        else:
            self._memory.keep(kid, known._replace(quarantine=fact.reason))

    @property
    def name(self) -> str:
        return self.entry.device

    @property
    def quarantine(self) -> str:
        """Return why the device is in quarantine, or ""."""
        return self._mark.quarantine

    @property
    def is_up(self) -> bool:
        """Return whether a command can be sent now; of a plain device it is not known."""
        return self._plain is not None or self._session_up() is not None

    def is_ready(self, now: Instant) -> bool:
        """Return whether a command can be sent now, and no new session is about to replace it."""
        session = self._session_up()
        return self._plain is not None or (
            session is not None and not session.handshake_pending(now)
        )

    def _session_up(self) -> Session | None:
        return next((one for one in reversed(self._sessions) if one.is_up), None)

    def receive(self, verb: str, fmt: str, data: bytes, now: Instant) -> list[Outcome]:
        """Return the outcomes of an event; the device's mistakes raise nothing."""
        if self._plain is not None:
            return self._plain.receive(verb, data) if fmt == PLAIN else []
        if fmt != SEALED:
            return []
        kid = cose.claimed_kid(data)
        for session in self._sessions:
            if session.kid == kid:
                return session.receive(verb, data, now)
        return []  # sealed for another application

    def seal(
        self, command: str, number: int, args: dict[str, Any], ttl_s: int, now: Instant
    ) -> bytes:
        """Return a command's bytes. Raises: no-session, quarantined, bad-argument, cbor-limit,
        counter-exhausted, mqtt-too-large.
        """
        if self._plain is not None:
            data = self._plain.command(command, number, args)
        else:
            session = self._session_up()
            if session is None:
                why = f"{self.name} is in quarantine: {self.quarantine}"
                if self.quarantine:
                    raise HostError("quarantined", why)
                raise HostError("no-session", f"no session with {self.name}")
            data = session.seal(command, number, args, ttl_s, now)
        size = len(data) + len(str(self.topic(command))) + _PACKET_OVERHEAD
        if size > self.entry.max_message:
            limit = self.entry.max_message
            text = f"{self.name} takes packets of {limit} bytes at most, and this has {size}"
            raise HostError("mqtt-too-large", text)
        return data

    def topic(self, command: str) -> Topic:
        """Return the topic of a command to the device."""
        fmt = SEALED if self._plain is None else PLAIN
        return Topic(self.address.type, self.name, "cmd", command, fmt)

    def wake(self, now: Instant) -> list[Send]:
        """Return what asks the device for a new hello."""
        return [session.request_hello(now) for session in self._sessions]

    def tick(self, now: Instant) -> list[Send]:
        """Return the wakes that are due."""
        return [wake for session in self._sessions for wake in session.tick(now)]

    def on_link_lost(self) -> None:
        """Count the sessions as down: the broker may have died, and the device's with it."""
        for session in self._sessions:
            session.mark_unconfirmed()

    def on_link_restored(self, now: Instant) -> list[Send]:
        """Return wakes for a device without a session; one with a session may speak first."""
        for session in self._sessions:
            session.schedule_wake(now)
        return [] if any(one.exists for one in self._sessions) else self.wake(now)

    def on_last_will(self, now: Instant) -> None:
        """Doubt the sessions: the broker says that the device left, which is not authenticated."""
        self.on_link_lost()
        for session in self._sessions:
            session.schedule_wake(now)

    def clear(self, now: Instant) -> list[Send]:
        """Lift the quarantine and forget what the device proved: its owner vouches for it."""
        self._mark.reset()
        self.number = self.acknowledged = 0
        for session in self._sessions:
            session.reset_proofs()
            self._memory.keep(session.kid, Known())
        return self.wake(now)

    def admit(self, received: Received) -> bool:
        """Return whether an event is new, and none of the outbox before it is missing."""
        if received.previous is None:
            return True
        if received.previous > self.number or received.id <= self.number:
            return False
        self.number = received.id
        return True

    def needs_acknowledgement(self, received: Received) -> bool:
        """Return whether a repeated event was acknowledged: the device has not seen that."""
        return received.previous is not None and received.id <= self.acknowledged

    def acknowledge(self, number: int, now: Instant) -> list[Send]:
        """Keep the number of an event of the outbox, durably, and return what acknowledges it."""
        self.acknowledged = max(self.acknowledged, number)
        session = self._session_up()
        if session is None:
            return []
        known = self._known(session.kid)
        self._memory.keep(session.kid, known._replace(event_number=self.acknowledged))
        return [Send("ack", session.seal("ack", self.acknowledged, {}, None, now))]

    def drop_pending(self) -> None:
        """Expect again the events that were taken and never acknowledged."""
        self.number = self.acknowledged

    def update(self, entry: DeviceEntry, now: Instant) -> list[Send] | None:
        """Take a new entry: sessions under keys that it has as well stay.

        Returns: wakes for keys that are new; None where it is another device by all keys.
        """
        if (self.entry.uid, self.entry.type) != (entry.uid, entry.type):
            return None
        lasting = {key: one for key, one in self._by_key.items() if key in entry.keys}
        sessions = [one for one in self._sessions if one in lasting.values()]
        if entry.sealed and not sessions:
            return None
        new = [key for key in entry.keys if key not in lasting]
        self.entry, self._by_key, self._sessions = replace(entry), lasting, sessions
        for session in sessions:
            session.policy_hash, session.next_policy_hash = (*entry.policies, b"")[:2]
        for key in new:
            self._add_session(key)
        return [self._by_key[key].request_hello(now) for key in new]


def _ignore(_: Proof | Quarantined) -> None:
    raise AssertionError("a session that receives nothing proves nothing")
