"""All sessions and the store, in one thread's hands: messages and ticks in, messages and news out.

It knows no network: `publish` and `announce` are given. Only the thread that owns it may touch it.
"""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from warden_host import jsontext, names
from warden_host.engine.device_state import Seat, for_another
from warden_host.engine.events import Happening
from warden_host.engine.jobs import Done, Job, Jobs
from warden_host.engine.presence import Presence
from warden_host.engine.throttle import Throttle
from warden_host.errors import HostError
from warden_host.names import AUTHORITY, Address, Topic
from warden_host.protocol import cose, policy
from warden_host.protocol.freshness import Proof
from warden_host.protocol.plain import UID_REQUEST, PlainPeer
from warden_host.protocol.results import Outcome, Quarantined, Received, Refused, Send, Stood
from warden_host.protocol.session import Instant, Session
from warden_host.protocol.strictcbor import MAX_BYTES, is_u32
from warden_host.store.store import Device, Pair, Rotation, Store

Publish = Callable[[str, Topic, bytes], None]
_VERB = re.compile(r"[a-z0-9_]{0,32}\Z")
# The device's last will: plain even from a sealed device, since the broker says it in its stead.
_LAST_WILL = ("offline", names.PLAIN)
_INCIDENT_S = 1.0
_INCIDENTS = 8
_ASKED = 64
_FADING_S = 10.0


# Takes an event that belongs to a feature of its own, such as the code at the keypad: nothing else sees it.
Taker = Callable[[Seat, str, Received], None]


class Engine:
    def __init__(
        self,
        store: Store,
        publish: Publish,
        announce: Callable[[Happening], None],
        clock: Callable[[], Instant] = lambda: Instant(int(time.time()), time.monotonic()),
    ) -> None:
        self.store = store
        self._publish = publish
        self._announce = announce
        self.clock = clock
        self._seats: dict[str, Seat] = {}
        self._jobs = Jobs()
        self.takers: dict[str, Taker] = {}  # by the event's name
        self.watchers: list[Callable[[Happening], None]] = []
        self._throttle = Throttle()
        self._presence = Presence(store, self.send, self.tell)

    # Devices

    def seat(self, device: str) -> Seat:
        """Raises device-unknown."""
        known = self._seats.get(device)
        if known is None:
            known = self._seats[device] = self._sit(self.store.device(device))
        return known

    def forget(self, device: str) -> None:
        """It was provisioned again: its keys here are worth nothing."""
        self._seats.pop(device, None)

    def end(self, device: str) -> None:
        """fleet.db holds an order that ends it: from now on it is heard for that alone, whatever it had proved."""
        seat, ending = self.seat(device), self.store.ending(device)
        if ending is None or ending.revoked or seat.mark.quarantine or seat.stale:
            self.forget(device)
            seat = self.seat(device)
            session = seat.sessions.get(AUTHORITY)
            if ending is not None and ending.wipe and session is not None:
                self.send(session.address, session.wake(self.clock()))
        else:
            seat.device = replace(seat.device, ending=ending)

    def rise(self, device: str) -> dict[str, Any]:
        """A rotation was begun: hear the device under its new keys as well. Returns the command's body; raises not-applicable."""
        seat = self.seat(device)
        rotation = self.store.rotation(device)
        if rotation is None or not seat.sealed:
            raise HostError("not-applicable", f"no rotation of {device} is under way")
        self._rise(seat, rotation)
        return rotation.body

    def clear(self, device: str) -> bool:
        """Lifts a quarantine, or takes back a mute device, and asks it for a new hello.

        False, and what the device proved stays, when it is neither.
        """
        seat = self.seat(device)
        if not seat.mark.quarantine and not seat.stale:
            return False
        seat.stale.clear()
        self.store.clear(device)
        seat.mark.clear()
        for session in seat.sessions.values():
            session.lift()
            self.send(session.address, session.wake(self.clock()))
        return True

    def wake_all(self) -> None:
        """After a restart no session is left at our end; the devices still hold theirs."""
        for device in self.store.devices():
            cut = device.ending is not None and device.ending.revoked and not device.ending.wipe
            if device.mode == "sealed" and not device.mark.quarantine and not cut:
                seat = self.seat(device.device)
                for session in (*seat.sessions.values(), *seat.rising.values()):
                    self.send(session.address, session.wake(self.clock()))

    def lost(self, appid: str) -> None:
        """This application's line to the broker broke: its sessions are in doubt, and carry no command."""
        for session in self._sessions_of(appid):
            session.doubt()

    def back(self, appid: str) -> None:
        """The line stands again."""
        for session in self._sessions_of(appid):
            session.recheck(self.clock())

    def _sessions_of(self, appid: str) -> list[Session]:
        found = []
        for seat in self._seats.values():
            found += [held[appid] for held in (seat.sessions, seat.rising) if appid in held]
        return found

    def online(self) -> dict[str, list[str]]:
        """The applications that each device speaks with, for devices that speak with any."""
        result = {}
        for name, seat in self._seats.items():
            sealed = [appid for appid, session in seat.sessions.items() if session.stands]
            apps = sealed if seat.sealed else list(seat.plain)
            if apps and seat.came:
                result[name] = apps
        return result

    # Messages

    def on_message(self, appid: str, text: str, data: bytes, retain: bool) -> None:
        """What the broker handed to this application. Nothing in it is trusted, the topic neither."""
        try:
            topic = names.parse_topic(text)
            if topic.way != "evt":
                raise HostError("bad-topic", "not an event")
            seat = self.seat(topic.device)
        except HostError as error:
            self.tell(Happening("refused", app=appid, code=error.code, text=error.text))
            return
        if seat.device.type != topic.type:
            self.refuse(seat, appid, Refused(topic.verb, "bad-topic", "the type is another"))
        elif seat.ending is not None and seat.ending.revoked and appid != AUTHORITY:
            return  # the authority's complaint is the one kept
        elif seat.ending is not None and seat.ending.revoked and not seat.ending.wipe:
            self.refuse(seat, appid, Refused(topic.verb, "revoked", "it was cut off"))
        elif retain:
            self.refuse(seat, appid, Refused(topic.verb, "retained", "nothing is retained"))
        elif len(data) > MAX_BYTES:
            self.refuse(seat, appid, Refused(topic.verb, "mqtt-too-large", f"{len(data)} bytes"))
        elif (topic.verb, topic.fmt) == _LAST_WILL:
            if appid == AUTHORITY:  # a hint, no more: the broker's owner can forge it
                self._presence.left(seat, "it said goodbye, or the broker lost it")
        elif (topic.fmt == names.SEALED) != seat.sealed:
            code = "plain-refused" if seat.sealed else "sealed-refused"
            self.refuse(seat, appid, Refused(topic.verb, code, "not this device's mode"))
        elif seat.sealed:
            session = self._addressed(seat, appid, topic.verb, data)
            # Every application of a type hears all of it: what another can open is its business.
            if session is not None and not for_another(seat, session, data):
                self._carry_out(seat, appid, session.receive(topic.verb, data, self.clock()))
        elif appid == AUTHORITY or topic.verb == UID_REQUEST:
            # A plain message reaches every application alike: the authority reads it for all.
            peer = seat.plain.get(appid)
            if peer is not None:
                self._carry_out(seat, appid, peer.receive(topic.verb, data))

    def send(self, address: Address, send: Send) -> None:
        fmt = names.SEALED if self.seat(address.device).sealed else names.PLAIN
        self._publish(
            address.appid, Topic(address.type, address.device, "cmd", send.command, fmt), send.data
        )

    def gave(self, given: Happening, quiet: bool = False) -> None:
        """A command is under way: its reply will name it. quiet: one of a thousand, that nobody is told of."""
        seat = self.seat(given.device)
        seat.asked[given.id] = "" if quiet else given.name
        while len(seat.asked) > _ASKED:
            del seat.asked[next(iter(seat.asked))]
        if not quiet:
            self.tell(given)

    def publish(self, topic: Topic, appid: str, data: bytes) -> None:
        """Any bytes on any topic: what a forger does."""
        self._publish(appid, topic, data)

    # Time and jobs

    def tick(self) -> None:
        """Call it a few times a second: wakes are repeated and jobs' deadlines kept."""
        now = self.clock()
        for device, missed in self._throttle.due(now.steady):
            self._announce(Happening("notice", device, text=f"{missed} more, not shown: a flood"))
        for seat in list(self._seats.values()):
            if now.sealable:
                self._expire(seat, now.unix)
                self._presence.tick(seat, now)
            for session in (*seat.sessions.values(), *seat.rising.values()):
                for wake in session.tick(now):
                    self.send(session.address, wake)
        self._jobs.tick(now.steady)

    def start(self, job: Job, done: Done) -> None:
        """Runs the job up to its end; done gets its result, or what it raised."""
        self._jobs.start(job, done)

    def abandon(self) -> None:
        """We stop serving: nobody waits for ever."""
        self._jobs.abandon()

    def tell(self, happening: Happening) -> None:
        """Jobs and watchers hear all of it; of a flood the screens get the beginning and a count."""
        if self._throttle.admit(happening.device, self.clock().steady):
            self._announce(happening)
        for watcher in self.watchers:
            watcher(happening)
        self._jobs.hear(happening)

    # What came of a message

    def _carry_out(self, seat: Seat, appid: str, outcomes: list[Outcome]) -> None:
        name = seat.device.device
        for outcome in outcomes:
            if isinstance(outcome, Send):
                self._presence.arrived(seat, self.clock())
                self.send(Address(seat.device.type, name, appid), outcome)
            elif isinstance(outcome, Stood):
                self._stood(seat, appid, outcome)
            elif isinstance(outcome, Received):
                self._presence.arrived(seat, self.clock())
                self._received(seat, appid, outcome)
            elif isinstance(outcome, Quarantined):
                self.tell(Happening("quarantined", name, appid, text=outcome.reason))
            else:
                self.refuse(seat, appid, outcome)

    def _stood(self, seat: Seat, appid: str, stood: Stood) -> None:
        name = seat.device.device
        rising = seat.rising.get(appid)
        if rising is not None and rising.stands:
            self._promoted(seat, appid, "proved itself")
        seat.stale.discard(appid)
        self.store.seen(name, time.time())
        proof = stood.proof
        text = f"boot {proof.boot}, hello {proof.connect}, vault {proof.vault_gen}"
        self.tell(Happening("session", name, appid, text=text))
        if appid == AUTHORITY:
            self.store.set_diverged(name, stood.diverged)
            if stood.diverged:
                self.tell(Happening("diverged", name, appid, text="its policy is another"))

    def _received(self, seat: Seat, appid: str, received: Received) -> None:
        name, event = seat.device.device, received.event
        seat.stale.discard(appid)
        if event in self.takers:
            self.takers[event](seat, appid, received)
            return
        if event == "incident":
            if appid == AUTHORITY:
                self._incident(seat, received.body)
            return
        kind = "reply" if event == "reply" else "event"
        if kind == "event":
            body = jsontext.dump(received.body)
            with self.store.transaction(durable=False):
                self.store.add_event(name, appid, event, body)
                self.store.seen(name, time.time())
        if kind == "reply":
            event = seat.asked.pop(received.id, event)
        news = Happening(kind, name, appid, event, id=received.id, body=received.body)
        (self.tell if event else self._jobs.hear)(news)

    def _incident(self, seat: Seat, body: dict[str, Any]) -> None:
        name = seat.device.device
        code, count, at = body.get("code"), body.get("n"), body.get("at")
        if (
            not isinstance(code, str)
            or not jsontext.SLUG.match(code)
            or not isinstance(at, str)
            or not _VERB.match(at)
            or not is_u32(count)
            or count == 0
        ):
            self.refuse(seat, AUTHORITY, Refused("incident", "bad-body", "not an incident"))
            return
        self.store.add_incident(name, "device", code, at, count)
        self.tell(Happening("incident", name, AUTHORITY, at, code, body={"n": count}))

    def refuse(self, seat: Seat, appid: str, refused: Refused) -> None:
        """Kept once a second for each (code, event): a flood must not push out what matters."""
        if refused.code == "wrong-application" and appid != AUTHORITY:
            return  # all of them heard it: the authority's complaint is the one kept
        if refused.code == "stale-hello":
            seat.stale.add(appid)
        key, now = (refused.code, refused.event), self.clock().steady
        recent = {old: at for old, at in seat.refusals.items() if now - at < _INCIDENT_S}
        if key in recent or len(recent) >= _INCIDENTS:
            return
        seat.refusals = recent | {key: now}
        name = seat.device.device
        # No attack: a repeated hello that crossed our answer, and this host's own fault.
        if refused.code not in ("stale-hello", "clock-jumped"):
            self.store.add_incident(name, "host", refused.code, refused.event, 1)
        self.tell(
            Happening("refused", name, appid, refused.event, refused.code, text=refused.text)
        )

    def _rise(self, seat: Seat, rotation: Rotation) -> None:
        name = seat.device.device
        for pair in self.store.device(name).pairs:
            k = rotation.apps.get(pair.appid)
            if k is not None and k != pair.k and pair.appid not in seat.rising:
                address = Address(seat.device.type, name, pair.appid)
                risen = replace(pair, k=k)
                seat.rising[pair.appid] = self._session(seat, address, risen, k)
        seat.expires = rotation.expires if seat.rising else None

    def _addressed(self, seat: Seat, appid: str, verb: str, data: bytes) -> Session | None:
        """The session of this application that the message names by its key."""
        kid = cose.claimed_kid(data) if appid in seat.rising or appid in seat.fading else None
        rising = seat.rising.get(appid)
        if rising is not None and kid == rising.kid:
            return rising
        faded, until = seat.fading.get(appid, (None, 0.0))
        if faded is not None and kid == faded.kid:
            # A reply or an event that crossed the change; nothing begins under the old key any more.
            late = verb in ("hello", "ready") or self.clock().steady > until
            return None if late else faded
        return seat.sessions.get(appid)

    def _promoted(self, seat: Seat, appid: str, why: str) -> None:
        """The session under the new key is the only one."""
        seat.fading[appid] = (seat.sessions[appid], self.clock().steady + _FADING_S)
        seat.sessions[appid] = seat.rising.pop(appid)
        self.tell(Happening("notice", seat.device.device, appid, text=f"its new key {why}"))

    def _expire(self, seat: Seat, now: int) -> None:
        """After the deadline an old key counts no more, at this end either."""
        if seat.expires is None or now < seat.expires:
            return
        rotation = self.store.rotation(seat.device.device)
        for appid in list(seat.rising):
            if rotation is not None and appid in rotation.apps:
                self.store.promote(seat.device.device, appid, rotation.apps[appid])
            self._promoted(seat, appid, "replaces the old one: the deadline is over")
        seat.expires = None

    def _sit(self, device: Device) -> Seat:
        seat = Seat(device)
        for pair in device.pairs:
            address = Address(device.type, device.device, pair.appid)
            if device.mode == "plain":
                seat.plain[pair.appid] = PlainPeer(address, pair.uid)
            else:
                seat.sessions[pair.appid] = self._session(seat, address, pair)
        rotation = self.store.rotation(device.device)
        if rotation is not None and device.mode == "sealed":
            self._rise(seat, rotation)
        return seat

    def _session(
        self, seat: Seat, address: Address, pair: Pair, new_key: bytes | None = None
    ) -> Session:
        def persist(fact: Proof | Quarantined) -> None:
            if isinstance(fact, Proof):
                # A new key proves itself by its first ready; the old one is forgotten with the same write.
                self.store.prove(address.device, address.appid, fact, seat.mark, new_key)
            else:
                self.store.quarantine(address.device, fact.reason)

        digest = policy.policy_hash(seat.device.policy)
        return Session(address, pair.k, digest, seat.mark, persist, pair.proven)
