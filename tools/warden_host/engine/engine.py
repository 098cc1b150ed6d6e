"""Handle every message of the fleet: messages and ticks in, messages and events out.

The engine holds all sessions and the store, knows no network (`publish` and `announce` are passed
in), and is used by one thread alone.
"""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from warden_host import jsontext, names
from warden_host.engine.device_state import DeviceState
from warden_host.engine.events import FleetEvent
from warden_host.engine.jobs import Done, Job, Jobs
from warden_host.engine.presence import Presence
from warden_host.engine.throttle import Throttle
from warden_host.errors import HostError
from warden_host.names import AUTHORITY, Address, Topic
from warden_host.protocol import policy
from warden_host.protocol.freshness import Proof
from warden_host.protocol.plain import UID_REQUEST, PlainPeer
from warden_host.protocol.results import Outcome, Quarantined, Received, Refused, Send, SessionUp
from warden_host.protocol.session import Instant, Session
from warden_host.protocol.strictcbor import MAX_BYTES, is_u32
from warden_host.store.store import Device, Pair, Rotation, Store

Publish = Callable[[str, Topic, bytes], None]
_VERB = re.compile(r"[a-z0-9_]{0,32}\Z")
# A device's last will is plain even in sealed mode, because the broker sends it.
_LAST_WILL = ("offline", names.PLAIN)
_INCIDENT_S = 1.0
_INCIDENTS = 8  # kinds that a flood of one device adds in _INCIDENT_S at most
_COMMAND_NAMES = 64
_OLD_SESSION_S = 10.0

# Handles an event of a feature of its own, such as the code at the keypad; nothing else sees it.
EventHandler = Callable[[DeviceState, str, Received], None]


class Engine:
    """The authority's core: devices, messages, jobs."""

    def __init__(
        self,
        store: Store,
        publish: Publish,
        announce: Callable[[FleetEvent], None],
        clock: Callable[[], Instant] = lambda: Instant(int(time.time()), time.monotonic()),
    ) -> None:
        self.store = store
        self._publish = publish
        self._announce = announce
        self.clock = clock
        self._states: dict[str, DeviceState] = {}
        self._jobs = Jobs()
        self.event_handlers: dict[str, EventHandler] = {}  # by the event's name
        self.watchers: list[Callable[[FleetEvent], None]] = []
        self._throttle = Throttle()
        self._presence = Presence(store, self.send, self.notify)

    # Devices

    def state(self, device: str) -> DeviceState:
        """Return a device's state, loaded on first use. Raises device-unknown."""
        known = self._states.get(device)
        if known is None:
            known = self._states[device] = self._load_state(self.store.device(device))
        return known

    def unload(self, device: str) -> None:
        """Drop a device's state: the store has other keys for it, or it is gone."""
        self._states.pop(device, None)

    def apply_ending(self, device: str) -> None:
        """Apply the order in fleet.db that revokes or wipes a device."""
        state, ending = self.state(device), self.store.ending(device)
        if ending is None or ending.revoked or state.mark.quarantine or state.stale_apps:
            self.unload(device)
            state = self.state(device)
            session = state.sessions.get(AUTHORITY)
            if ending is not None and ending.wipe and session is not None:
                self.send(session.address, session.request_hello(self.clock()))
        else:
            state.device = replace(state.device, ending=ending)

    def start_rotation(self, device: str) -> dict[str, Any]:
        """Accept a device under the new keys of its rotation too.

        Returns: the body of the `rotate` command. Raises: not-applicable.
        """
        state = self.state(device)
        rotation = self.store.rotation(device)
        if rotation is None or not state.sealed:
            raise HostError("not-applicable", f"no rotation of {device} is under way")
        self._add_new_sessions(state, rotation)
        return rotation.body

    def clear(self, device: str) -> bool:
        """Lift a quarantine or the refusal of stale hellos, and ask the device for a new hello.

        Returns: False if the device has neither; its proofs stay then.
        """
        state = self.state(device)
        if not state.mark.quarantine and not state.stale_apps:
            return False
        state.stale_apps.clear()
        self.store.clear_quarantine(device)
        state.mark.reset()
        for session in state.sessions.values():
            session.reset_proofs()
            self.send(session.address, session.request_hello(self.clock()))
        return True

    def wake_all(self) -> None:
        """Ask every device for a new hello: a restart ended our side of the sessions."""
        for device in self.store.devices():
            revoked = (
                device.ending is not None and device.ending.revoked and not device.ending.wipe
            )
            if device.mode == "sealed" and not device.mark.quarantine and not revoked:
                state = self.state(device.device)
                for session in (*state.sessions.values(), *state.new_sessions.values()):
                    self.send(session.address, session.request_hello(self.clock()))

    def on_link_lost(self, appid: str) -> None:
        """Suspend an application's sessions: it lost its connection to the broker."""
        for session in self._sessions_of(appid):
            session.mark_unconfirmed()

    def on_link_restored(self, appid: str) -> None:
        """Recheck an application's sessions: its connection to the broker is back."""
        for session in self._sessions_of(appid):
            session.schedule_wake(self.clock())

    def _sessions_of(self, appid: str) -> list[Session]:
        found = []
        for state in self._states.values():
            found += [
                held[appid] for held in (state.sessions, state.new_sessions) if appid in held
            ]
        return found

    def online(self) -> dict[str, list[str]]:
        """Return the applications that each online device has a session with."""
        result = {}
        for name, state in self._states.items():
            sealed = [appid for appid, session in state.sessions.items() if session.is_up]
            apps = sealed if state.sealed else list(state.plain)
            if apps and state.online:
                result[name] = apps
        return result

    # Messages

    def on_message(self, appid: str, text: str, data: bytes, retain: bool) -> None:
        """Handle a message from the broker to an application; topic and data are untrusted."""
        try:
            topic = names.parse_topic(text)
            if topic.way != "evt":
                raise HostError("bad-topic", "not an event")
            state = self.state(topic.device)
        except HostError as error:
            self.notify(FleetEvent("refused", app=appid, code=error.code, text=error.text))
            return
        if state.device.type != topic.type:
            self.record_refusal(
                state, appid, Refused(topic.verb, "bad-topic", "the type is another")
            )
        elif state.ending is not None and state.ending.revoked and appid != AUTHORITY:
            return  # the authority records it
        elif state.ending is not None and state.ending.revoked and not state.ending.wipe:
            self.record_refusal(state, appid, Refused(topic.verb, "revoked", "it was cut off"))
        elif retain:
            self.record_refusal(
                state, appid, Refused(topic.verb, "retained", "nothing is retained")
            )
        elif len(data) > MAX_BYTES:
            self.record_refusal(
                state, appid, Refused(topic.verb, "mqtt-too-large", f"{len(data)} bytes")
            )
        elif (topic.verb, topic.fmt) == _LAST_WILL:
            if appid == AUTHORITY:  # only a hint: the broker can forge it
                self._presence.record_departure(state, "it said goodbye, or its connection broke")
        elif (topic.fmt == names.SEALED) != state.sealed:
            code = "plain-refused" if state.sealed else "sealed-refused"
            self.record_refusal(state, appid, Refused(topic.verb, code, "not this device's mode"))
        elif state.sealed:
            session = state.find_session(appid, topic.verb, data, self.clock().steady)
            # Every application of a type receives it, also what is sealed for another one.
            if session is not None and not state.is_for_other_app(session, data):
                self._apply_outcomes(state, appid, session.receive(topic.verb, data, self.clock()))
        elif appid == AUTHORITY or topic.verb == UID_REQUEST:
            # A plain message reaches every application; the authority handles it for all.
            peer = state.plain.get(appid)
            if peer is not None:
                self._apply_outcomes(state, appid, peer.receive(topic.verb, data))

    def send(self, address: Address, send: Send) -> None:
        fmt = names.SEALED if self.state(address.device).sealed else names.PLAIN
        self._publish(
            address.appid, Topic(address.type, address.device, "cmd", send.command, fmt), send.data
        )

    def register_command(self, command: FleetEvent, quiet: bool = False) -> None:
        """Keep a command's name for its reply. quiet: don't announce the command."""
        state = self.state(command.device)
        state.command_names[command.id] = "" if quiet else command.name
        while len(state.command_names) > _COMMAND_NAMES:
            del state.command_names[next(iter(state.command_names))]
        if not quiet:
            self.notify(command)

    def publish(self, topic: Topic, appid: str, data: bytes) -> None:
        """Publish any bytes on any topic, as a forgery needs."""
        self._publish(appid, topic, data)

    # Time and jobs

    def tick(self) -> None:
        """Repeat wakes, apply deadlines; call it a few times a second."""
        now = self.clock()
        for device, missed in self._throttle.due(now.steady):
            self._announce(FleetEvent("notice", device, text=f"{missed} more, not shown: a flood"))
        for state in list(self._states.values()):
            if now.sealable:
                self._expire_old_keys(state, now.unix)
                self._presence.tick(state, now)
            for session in (*state.sessions.values(), *state.new_sessions.values()):
                for wake in session.tick(now):
                    self.send(session.address, wake)
        self._jobs.tick(now.steady)
        self.write_events()  # at the end: a full disk must not stop the deadlines

    def write_events(self) -> None:
        """Commit the events that wait in the store; tick() does it too."""
        self.store.write_events()

    def start(self, job: Job, done: Done) -> None:
        """Start a job; done gets its result, or the error that it raised."""
        self._jobs.start(job, done)

    def abandon(self) -> None:
        """End every job with not-serving: the authority stops."""
        self._jobs.abandon()

    def notify(self, fleet_event: FleetEvent) -> None:
        """Pass an event to jobs and watchers, and to screens unless the device floods them."""
        if self._throttle.admit(fleet_event.device, self.clock().steady):
            self._announce(fleet_event)
        for watcher in self.watchers:
            watcher(fleet_event)
        self._jobs.dispatch(fleet_event)

    # Results of a message

    def _apply_outcomes(self, state: DeviceState, appid: str, outcomes: list[Outcome]) -> None:
        name = state.device.device
        for outcome in outcomes:
            if isinstance(outcome, Send):
                self._presence.record_contact(state, self.clock())
                self.send(Address(state.device.type, name, appid), outcome)
            elif isinstance(outcome, SessionUp):
                self._on_session(state, appid, outcome)
            elif isinstance(outcome, Received):
                self._presence.record_contact(state, self.clock())
                self._on_received(state, appid, outcome)
            elif isinstance(outcome, Quarantined):
                self.notify(FleetEvent("quarantined", name, appid, text=outcome.reason))
            else:
                self.record_refusal(state, appid, outcome)

    def _on_session(self, state: DeviceState, appid: str, session_up: SessionUp) -> None:
        name = state.device.device
        new_session = state.new_sessions.get(appid)
        if new_session is not None and new_session.is_up:
            self._promote(state, appid, "proved itself")
        state.stale_apps.discard(appid)
        self.store.set_last_seen(name, time.time())
        proof = session_up.proof
        text = f"boot {proof.boot}, hello {proof.connect}, vault {proof.vault_gen}"
        self.notify(FleetEvent("session", name, appid, text=text))
        if appid == AUTHORITY:
            if session_up.diverged != state.device.diverged:
                self.store.set_diverged(name, session_up.diverged)
                state.device = replace(state.device, diverged=session_up.diverged)
            if session_up.diverged:
                self.notify(FleetEvent("diverged", name, appid, text="its policy differs"))

    def _on_received(self, state: DeviceState, appid: str, received: Received) -> None:
        name, event = state.device.device, received.event
        state.stale_apps.discard(appid)
        if event in self.event_handlers:
            self.event_handlers[event](state, appid, received)
            return
        if event == "incident":
            if appid == AUTHORITY:
                self._on_incident(state, received.body)
            return
        kind = "reply" if event == "reply" else "event"
        if kind == "event":
            self.store.add_event(name, appid, event, jsontext.dump(received.body))
        if kind == "reply":
            event = state.command_names.pop(received.id, event)
        fleet_event = FleetEvent(kind, name, appid, event, id=received.id, body=received.body)
        if event:
            self.notify(fleet_event)
        else:  # the reply to a quiet command: the job that waits for it, and nobody else
            self._jobs.dispatch(fleet_event)

    def _on_incident(self, state: DeviceState, body: dict[str, Any]) -> None:
        name = state.device.device
        code, count, at = body.get("code"), body.get("n"), body.get("at")
        if (
            not isinstance(code, str)
            or not jsontext.SLUG.match(code)
            or not isinstance(at, str)
            or not _VERB.match(at)
            or not is_u32(count)
            or count == 0
        ):
            self.record_refusal(
                state, AUTHORITY, Refused("incident", "bad-body", "not an incident")
            )
            return
        self.store.add_incident(name, "device", code, at, count)
        self.notify(FleetEvent("incident", name, AUTHORITY, at, code, body={"n": count}))

    def record_refusal(self, state: DeviceState, appid: str, refused: Refused) -> None:
        """Record a refused message as an incident, once a second for each (code, event)."""
        if refused.code == "wrong-application" and appid != AUTHORITY:
            return  # every application received it: the authority records it
        if refused.code == "stale-hello":
            state.stale_apps.add(appid)
        key, now = (refused.code, refused.event), self.clock().steady
        recent = {old: at for old, at in state.refusals.items() if now - at < _INCIDENT_S}
        if key in recent or len(recent) >= _INCIDENTS:
            return
        state.refusals = recent | {key: now}
        name = state.device.device
        # Not an attack: a repeated hello that crossed our answer, or a fault of this host.
        if refused.code not in ("stale-hello", "clock-jumped"):
            self.store.add_incident(name, "host", refused.code, refused.event, 1)
        self.notify(
            FleetEvent("refused", name, appid, refused.event, refused.code, text=refused.text)
        )

    def _add_new_sessions(self, state: DeviceState, rotation: Rotation) -> None:
        name = state.device.device
        for pair in self.store.device(name).pairs:
            k = rotation.apps.get(pair.appid)
            if k is not None and k != pair.k and pair.appid not in state.new_sessions:
                address = Address(state.device.type, name, pair.appid)
                new_pair = replace(pair, k=k)
                state.new_sessions[pair.appid] = self._session(state, address, new_pair, k)
        state.old_keys_expire = rotation.expires if state.new_sessions else None

    def _promote(self, state: DeviceState, appid: str, why: str) -> None:
        """Replace an application's session by the one under its new key."""
        state.old_sessions[appid] = (state.sessions[appid], self.clock().steady + _OLD_SESSION_S)
        state.sessions[appid] = state.new_sessions.pop(appid)
        self.notify(FleetEvent("notice", state.device.device, appid, text=f"its new key {why}"))

    def _expire_old_keys(self, state: DeviceState, now: int) -> None:
        """Drop the old keys of a rotation whose deadline is over. now: unix seconds."""
        if state.old_keys_expire is None or now < state.old_keys_expire:
            return
        rotation = self.store.rotation(state.device.device)
        for appid in list(state.new_sessions):
            if rotation is not None and appid in rotation.apps:
                self.store.promote_key(state.device.device, appid, rotation.apps[appid])
            self._promote(state, appid, "replaces the old one: the deadline is over")
        state.old_keys_expire = None

    def _load_state(self, device: Device) -> DeviceState:
        state = DeviceState(device)
        for pair in device.pairs:
            address = Address(device.type, device.device, pair.appid)
            if device.mode == "plain":
                state.plain[pair.appid] = PlainPeer(address, pair.uid)
            else:
                state.sessions[pair.appid] = self._session(state, address, pair)
        rotation = self.store.rotation(device.device)
        if rotation is not None and device.mode == "sealed":
            self._add_new_sessions(state, rotation)
        return state

    def _session(
        self, state: DeviceState, address: Address, pair: Pair, new_key: bytes | None = None
    ) -> Session:
        def persist(fact: Proof | Quarantined) -> None:
            if isinstance(fact, Proof):
                # The first ready under a new key deletes the old key, in the same write.
                self.store.record_proof(address.device, address.appid, fact, state.mark, new_key)
            else:
                self.store.quarantine(address.device, fact.reason)

        digest = policy.policy_hash(state.device.policy)
        return Session(address, pair.k, digest, state.mark, persist, pair.proven)
