"""Handle every message of the fleet: messages and ticks in, messages and events out.

The engine holds all sessions and the store, knows no network (`publish` and `announce` are passed
in), and is used by one thread at a time, and not always the same.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from warden_client.protocol.plain import UID_REQUEST, PlainPeer
from warden_client.protocol.results import Outcome, Quarantined, Received, Refused, Send, SessionUp
from warden_client.protocol.session import Instant, Session
from warden_client.protocol.strictcbor import MAX_BYTES

from warden_host import names
from warden_host.engine import restriction
from warden_host.engine.clones import CloneWatch
from warden_host.engine.device_state import DeviceState, FactKeeper
from warden_host.engine.events import ACCOUNT, SESSION, FleetEvent
from warden_host.engine.incident_logs import IncidentLogs
from warden_host.engine.jobs import Done, Job, Jobs
from warden_host.engine.presence import Presence
from warden_host.engine.receipts import Receipts
from warden_host.engine.throttle import Throttle
from warden_host.engine.watchers import Watchers
from warden_host.errors import HostError
from warden_host.names import AUTHORITY, Address, Topic
from warden_host.protocol import policy
from warden_host.store.store import Device, Pair, Rotation, Store

Publish = Callable[[str, Topic, bytes], None]
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
        packet_limit: int = MAX_BYTES,
    ) -> None:
        """packet_limit: bytes of the largest packet that the broker takes."""
        self.store = store
        self._publish = publish
        self._announce = announce
        self.clock = clock
        self.packet_limit = packet_limit
        self._states: dict[str, DeviceState] = {}
        # Device → the commands that wait until it is awake, in their order: number → application.
        self.held: dict[str, dict[int, str]] = {}
        self._jobs = Jobs()
        self.event_handlers: dict[str, EventHandler] = {}  # by the event's name
        self.watchers = Watchers()
        self._throttle = Throttle()
        self.presence = Presence(store, self.send, self.notify, self.record_refusal, clock)
        self.event_handlers["offline"] = self.presence.on_goodbye
        self._receipts = Receipts(store, self.send, clock)
        self._incident_logs = IncidentLogs(
            store, self.send, self.notify, self.record_refusal, clock
        )
        self.event_handlers["incident"] = self._incident_logs.receive
        self.clones = CloneWatch(self.send, self.record_refusal, clock)
        self.exported = functools.cache(store.exported)  # to be cleared after a change

    # Devices

    def state(self, device: str) -> DeviceState:
        """Return a device's state, loaded on first use. Raises device-unknown.

        A job asks again after each wait: unload() may have dropped the one that it had.
        """
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
        state.stale_apps = frozenset()
        self.store.clear_quarantine(device)
        state.mark.reset()
        for session in state.sessions.values():
            session.reset_proofs()
            state.numbers.clear()
            state.log = None
            self.send(session.address, session.request_hello(self.clock()))
        return True

    def wake_all(self) -> None:
        """Ask every device for a new hello: a restart ended our side of the sessions."""
        for device in self.store.devices():
            ending = device.ending
            revoked = ending is not None and ending.revoked and not ending.wipe
            if device.mode == "sealed" and not device.mark.quarantine and not revoked:
                state = self.state(device.device)
                for session in state.sessions.values():
                    self.send(session.address, session.request_hello(self.clock()))
                for session in state.new_sessions.values():
                    session.request_hello(self.clock())  # tick() sends it, if it is needed

    def on_link_lost(self, appid: str) -> None:
        """Suspend an application's sessions: it lost its connection to the broker."""
        for session in self._sessions_of(appid):
            session.mark_unconfirmed()

    def on_link_restored(self, appid: str) -> None:
        """Recheck an application's sessions: its connection to the broker is back."""
        for session in self._sessions_of(appid):
            session.schedule_wake(self.clock())

    def _sessions_of(self, appid: str) -> list[Session]:
        held = [
            each
            for state in self._states.values()
            for each in (state.sessions, state.new_sessions)
        ]
        return [each[appid] for each in held if appid in each]

    def presences(self) -> dict[str, tuple[str, float]]:
        """Return the presence of each known device, and until when a sleeper means to sleep."""
        return {name: (each.presence, each.asleep_until) for name, each in self._states.items()}

    def online(self) -> dict[str, list[str]]:
        """Return the applications that each online device has a session with."""
        return {name: state.live for name, state in self._states.items() if state.live}

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
            self.record_refusal(state, appid, Refused(topic.verb, "bad-topic", "another type"))
        elif (why := restriction.refusal(state, appid, topic.verb)) is not None:
            if appid == AUTHORITY:  # every application received it
                self.record_refusal(state, appid, why)
        elif retain:
            self.record_refusal(state, appid, Refused(topic.verb, "retained", "none is kept"))
        elif len(data) > MAX_BYTES:
            refused = Refused(topic.verb, "mqtt-too-large", f"{len(data)} bytes")
            self.record_refusal(state, appid, refused)
        elif (topic.verb, topic.fmt) == _LAST_WILL:
            if appid == AUTHORITY:
                self.presence.record_hint(state)
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
        topic = Topic(address.type, address.device, "cmd", send.command, fmt)
        self._publish(address.appid, topic, send.data)

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
                self.presence.tick(state, now)
            for session in state.sessions_to_wake():
                for wake in session.tick(now):
                    self.send(session.address, wake)
        self._jobs.tick(now.steady)
        self.write_events()  # at the end: a full disk must not stop the deadlines

    def write_events(self) -> None:
        """Commit the events that wait in the store, and acknowledge them; tick() does it too."""
        self._receipts.write()
        self._incident_logs.write()

    def start(self, job: Job, done: Done) -> None:
        """Start a job; done gets its result, or the error that it raised."""
        self._jobs.start(job, done)

    def abandon(self) -> None:
        """End every job with not-serving: the authority stops."""
        self._jobs.abandon()

    def notify(self, fleet_event: FleetEvent) -> None:
        """Pass an event to jobs and watchers, and to screens unless the device floods them."""
        if self._throttle.admit(fleet_event.device, self.clock().steady):
            self._announce(fleet_event.shown())
        for watcher in self.watchers.of(fleet_event.kind):
            watcher(fleet_event)
        self._jobs.dispatch(fleet_event)

    # Results of a message

    def _apply_outcomes(self, state: DeviceState, appid: str, outcomes: list[Outcome]) -> None:
        name = state.device.device
        for outcome in outcomes:
            if isinstance(outcome, Send):
                self.presence.record_contact(state, self.clock())
                self.send(Address(state.device.type, name, appid), outcome)
            elif isinstance(outcome, SessionUp):
                self._on_session(state, appid, outcome)
            elif isinstance(outcome, Received):
                self.presence.record_contact(state, self.clock())
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
        state.clear_stale(appid)
        self.store.set_last_seen(name, time.time())
        text = "boot {}, hello {}, vault {}".format(*session_up.proof)
        self.notify(FleetEvent("session", name, appid, text=text))
        self.clones.on_proof(state, appid)
        if session_up.development:
            self.notify(FleetEvent("development", name, appid, text="its console is open"))
        state.development = session_up.development
        if appid == AUTHORITY:
            self._incident_logs.on_session(state)
            if session_up.diverged != state.device.diverged:
                self.store.set_diverged(name, session_up.diverged)
                state.device = replace(state.device, diverged=session_up.diverged)
            if session_up.diverged:
                self.notify(FleetEvent("diverged", name, appid, text="its policy differs"))

    def _on_received(self, state: DeviceState, appid: str, received: Received) -> None:
        name, event = state.device.device, received.event
        state.clear_stale(appid)
        if event in self.event_handlers:
            return self.event_handlers[event](state, appid, received)
        kind = "reply" if event == "reply" else "event"
        if kind == "event" and not self._receipts.keep(state, appid, received):
            return
        if kind == "reply":
            event = state.command_names.pop(received.id, event)
        fleet_event = FleetEvent(kind, name, appid, event, id=received.id, body=received.body)
        fleet_event.proof = SESSION if state.sealed else ACCOUNT
        if event:
            self.notify(fleet_event)
        else:  # the reply to a quiet command: only the job that waits for it
            self._jobs.dispatch(fleet_event)

    def record_refusal(self, state: DeviceState, appid: str, refused: Refused) -> None:
        """Record a refused message as an incident, once a second for each (code, event)."""
        if refused.code == "wrong-application" and appid != AUTHORITY:
            return  # every application received it: the authority records it
        if refused.code == "stale-hello":
            state.stale_apps |= {appid}
            self.clones.on_stale(state, appid, refused)
        elif refused.code == "no-session":
            self.presence.hurry_wake(state, appid)
        code, event, now = refused.code, refused.event, self.clock().steady
        recent = {old: at for old, at in state.refusals.items() if now - at < _INCIDENT_S}
        if (code, event) in recent or len(recent) >= _INCIDENTS:
            return
        state.refusals = recent | {(code, event): now}
        name = state.device.device
        if code == "wrong-application" and event == "hello":
            if state.is_outdated(self.store.find(name)):
                self.unload(name)  # provisioned anew, without a word to this authority
                return
            if self.store.has_app_changes(name):
                return  # under a key that it is about to lose
        self.store.add_incident(name, "host", code, event, 1)
        self.notify(FleetEvent("refused", name, appid, event, code, text=refused.text))

    def _add_new_sessions(self, state: DeviceState, rotation: Rotation) -> None:
        name = state.device.device
        for pair in self.store.device(name).pairs:
            k = self.store.usable_keys(rotation).get(pair.appid)
            if k is not None and k != pair.k and pair.appid not in state.new_sessions:
                address = Address(state.device.type, name, pair.appid)
                new_pair = replace(pair, k=k)
                state.new_sessions[pair.appid] = self.make_session(state, address, new_pair, k)
        state.old_keys_expire = rotation.expires if state.new_sessions else None

    def _promote(self, state: DeviceState, appid: str, why: str) -> None:
        """Replace an application's session by the one under its new key."""
        state.old_sessions[appid] = (state.sessions[appid], self.clock().steady + _OLD_SESSION_S)
        state.sessions[appid] = state.new_sessions.pop(appid)
        state.renew_key(appid, self.store.find(state.device.device))
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
        self.presence.restore(state)
        state.numbers = {pair.appid: pair.event_number for pair in device.pairs}
        for pair in device.pairs:
            address = Address(device.type, device.device, pair.appid)
            if device.mode == "plain":
                state.plain[pair.appid] = PlainPeer(address, pair.uid)
            else:
                state.sessions[pair.appid] = self.make_session(state, address, pair)
        rotation = self.store.rotation(device.device)
        if rotation is not None and device.mode == "sealed":
            self._add_new_sessions(state, rotation)
        return state

    def make_session(
        self, state: DeviceState, address: Address, pair: Pair, new_key: bytes | None = None
    ) -> Session:
        persist = FactKeeper(self.store, address, state, new_key)
        ours, following = map(policy.policy_hash, (state.device.policy, state.device.next_policy))
        return Session(address, pair.k, ours, state.mark, persist, pair.proven, following)
