"""React to floods, clones and incidents by the fleet's rules: alert, quarantine, de-register.

What decides is called on the links' and the engine's threads and waits for nothing. A thread of
its own changes fleet.db and the broker; the account of a flooder is disabled before that.

A flood in a device's name that a gateway sends costs the gateway its right to relay for it, and
the device nothing: anyone at the gateway's site can send in a listed device's name.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from warden_host import names
from warden_host.broker.backend import Broker, Guard, Places
from warden_host.broker.rabbitmq import management
from warden_host.devices import account_access, gateways, quarantine
from warden_host.engine import restriction
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError, internal_error
from warden_host.fleet.fleet import Fleet
from warden_host.reactions import settings
from warden_host.reactions.settings import (
    ACCOUNT_FLOOD,
    ALERT,
    DEREGISTER,
    FLOOD,
    IGNORE,
    QUARANTINE,
    SHARED,
    Budget,
    Rules,
)
from warden_host.service.authority import Authority
from warden_host.service.background import notices
from warden_host.service.control import Caller, Handler, Line
from warden_host.service.rabbitmq_traffic import RabbitTraffic
from warden_host.service.request_fields import read_text
from warden_host.service.traffic_watch import TrafficWatch
from warden_host.store.reactions import Reaction
from warden_host.store.store import Store

_WHO = "fleet"  # in the audit log
_REPEAT_S = 600.0  # one alert of a device and a code in this time
_MOST_ALERTS = 4096
_WATCHED = ("incident", "refused")
LOST = "messages-lost"
_UNLIST = "revoke-gateway"  # what is done instead of a device's reaction
_BACKLOG_S = 5.0  # what a gateway sent before its right ended may take so long to come


class _Job(NamedTuple):
    """account: of the gateway or the application that is to blame; "": the device is."""

    device: str
    kind: str
    code: str
    text: str
    account: str = ""


class Reactor:
    """Run while it is entered."""

    def __init__(
        self,
        fleet: Fleet,
        authority: Authority,
        announce: Callable[[FleetEvent], None],
        disable: Callable[[str], None],
        revoked: Callable[[], None] = lambda: None,
    ) -> None:
        """announce: shows an event. disable(username): drops an account, at once and unconfirmed.

        revoked: called after a device was de-registered, for the revocation list.
        Raises: config-malformed.
        """
        self._fleet = fleet
        self._authority = authority
        self._announce = announce
        self._disable = disable
        self._revoked = revoked
        self._settings = settings.load(fleet)
        # Returns which of these clients sends most now, or "" (service/traffic_watch.py).
        self.busiest: Callable[[Collection[str]], str] = lambda _: ""
        self._timers: list[threading.Timer] = []
        self._alerts: dict[tuple[str, str], float] = {}
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # Restrictions that wait: (device, kind, code). A flood of incidents is one of them.
        self._waiting: set[tuple[str, str, str]] = set()
        self._thread = threading.Thread(target=self._run, name="warden-reactions", daemon=True)

    def __enter__(self) -> "Reactor":
        self._thread.start()
        self._authority.floods.watch(self.budget, self.on_flood)
        self._authority.ask(lambda engine: engine.watchers.add(self.on_event, *_WATCHED))
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.put(None)
        self._thread.join()
        for timer in self._timers:
            timer.cancel()

    def on_event(self, fleet_event: FleetEvent) -> None:
        """React to an incident or to a refused message. Called by the one who has the engine."""
        self.react(fleet_event.device, fleet_event.code, fleet_event.text)

    def watch_places(self, places: Places) -> None:
        """Use what the broker's log tells of addresses."""
        places.on_shared = self._on_shared
        places.on_dropped = self._on_dropped

        def changed(device: str, since: float) -> bool:
            return places.changed(names.device_client(self._type(device), device), since)

        def watch(engine: Engine) -> None:
            engine.clones.changed_place = changed

        self._authority.ask(watch)

    def _on_shared(self, client: str, hosts: tuple[str, str]) -> None:
        """React to a client that two addresses use by turns. Called on the log's thread."""
        if names.is_device_client(client):
            text = f"{hosts[0]} and {hosts[1]} log in by turns, and end each other's connections"
            self.react(names.parse_device_client(client)[1], SHARED, text)

    def _on_dropped(self, client: str) -> None:
        """Tell that the broker drops messages to a client. Called on the log's thread."""
        if self._is_due(client, ALERT, LOST):
            text = f"the broker drops messages to {client}, which takes them too slowly"
            self._announce(FleetEvent("notice", code=LOST, text=text))

    def on_flood(self, device: str, why: str) -> None:
        """Cut a flooder off at once, as far as its rules say. Called on any thread."""
        kind = self._rules(device).reaction(FLOOD)
        if kind in (QUARANTINE, DEREGISTER):
            if device in self._authority.floods.dropped:
                return  # two meters find the same flood: it is none in quarantine
            self._authority.floods.drop(device)
            self._authority.drop_messages(device)
            user = names.device_client(self._type(device), device)
            gateway = self._flooding_gateway(user, device)
            if gateway:
                self._jobs.put(_Job(device, _UNLIST, FLOOD, why, gateway))
                return
            self._disable(user)
        self.react(device, FLOOD, why)

    def on_traffic(self, client: str, why: str) -> None:
        """Cut off an account that sends the broker too much. Called on any thread."""
        if not names.is_other_client(client):
            self.on_flood(names.parse_device_client(client)[1], why)
            return
        kind = self._settings.default.reaction(ACCOUNT_FLOOD)
        if kind == IGNORE or not self._is_due(client, kind, ACCOUNT_FLOOD):
            return
        if kind != ALERT:
            self._disable(client)
        self._jobs.put(_Job("", kind, ACCOUNT_FLOOD, why, client))

    def _flooding_gateway(self, user: str, device: str) -> str:
        """Return the account of the gateway that sends what is in the device's name, or ""."""
        with contextlib.suppress(HostError), Store(self._fleet.database) as store:
            listing = [name for name, listed in store.gateways().items() if device in listed]
            if listing:
                found = self.busiest([user, *map(names.gateway_client, listing)])
                return "" if found == user else found
        return ""

    def react(self, device: str, code: str, text: str) -> None:
        """Have a code's reaction carried out. Called on any thread."""
        kind = self._rules(device).reaction(code)
        if kind != IGNORE and device and self._is_due(device, kind, code):
            self._jobs.put(_Job(device, kind, code, text))

    def _is_due(self, name: str, kind: str, code: str) -> bool:
        """Note a reaction; return whether it is to be carried out. name: device or account."""
        if kind == ALERT:
            now = time.monotonic()
            if now - self._alerts.get((name, code), float("-inf")) < _REPEAT_S:
                return False
            if len(self._alerts) >= _MOST_ALERTS:
                self._alerts.clear()
            self._alerts[name, code] = now
        elif (name, kind, code) in self._waiting:
            return False
        else:
            self._waiting.add((name, kind, code))
        return True

    @property
    def operations(self) -> dict[str, Handler]:
        """Return the operations of the control socket that belong here."""
        return {"readmitted": self._on_readmitted}

    def _on_readmitted(self, line: Line, caller: Caller) -> None:
        device = read_text(line, "device")
        self._authority.floods.reset(device)

        def follow_store(engine: Engine) -> None:
            restriction.follow(engine.state(device), engine.store.device(device))

        self._authority.ask(follow_store)
        caller.finish({"ok": True})

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            failure: HostError | None = None
            try:
                self._carry_out(job)
            except HostError as error:
                failure = error
            except Exception as error:  # noqa: BLE001  a bug must not end all later reactions
                failure = internal_error(error)
            self._end_wait(job)
            if failure is not None:
                self._failed(job, failure)

    def _end_wait(self, job: _Job) -> None:
        """Let the same reaction be due again."""
        self._waiting.discard((job.device or job.account, job.kind, job.code))

    def _carry_out(self, job: _Job) -> None:
        if job.kind == _UNLIST:
            self._end_relaying(job)
        elif job.account:
            self._cut_account(job)
        else:
            self._restrict(job)

    def _end_relaying(self, job: _Job) -> None:
        """Take its right to relay for a device from the gateway that floods in its name."""
        device, gateway = job.device, job.account.partition(":")[2]
        try:
            with Store(self._fleet.database) as store:
                store.add_incident(device, "host", FLOOD, "", 1, job.account)
                with self._audited(store, f"{_UNLIST} {gateway} {device} for {FLOOD}"):
                    gateways.change(self._fleet, store, gateway, (), (device,))
        except Exception:
            self._disable(names.device_client(self._type(device), device))
            raise
        self._show(job._replace(text=f"gateway {gateway}: {job.text}"))
        self._later(_BACKLOG_S, lambda: self._authority.floods.reset(device))

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, work)
        timer.daemon = True
        self._timers = [one for one in self._timers if one.is_alive()] + [timer]
        timer.start()

    def _refuse_again(self, user: str) -> None:
        """Close what RabbitMQ had not listed yet when the user was refused."""

        def refuse() -> None:
            with contextlib.suppress(HostError):  # it was told the first time
                # No limit again: the account may have been let in since.
                management.close_users(self._fleet, [user])

        if management.is_used(self._fleet):
            self._later(management.LISTED_S, refuse)

    def _cut_account(self, job: _Job) -> None:
        if job.kind != ALERT:
            with (
                Store(self._fleet.database) as store,
                self._audited(store, f"{job.kind} {job.account} for {job.code}"),
            ):
                account_access.disable(self._fleet, job.account)
            self._refuse_again(job.account)
        self._show(job._replace(text=f"{job.account}: {job.text}"))

    @contextlib.contextmanager
    def _audited(self, store: Store, action: str) -> Iterator[None]:
        """Write what is done into the audit log, and then how it ended."""
        started = store.add_audit(_WHO, action)
        outcome = "internal-error"
        try:
            yield
            outcome = "ok"
        except HostError as error:
            outcome = error.code
            raise
        finally:
            store.add_audit(_WHO, action, outcome, started)

    def _restrict(self, job: _Job) -> None:
        device = job.device
        with Store(self._fleet.database) as store:
            if job.code in (FLOOD, SHARED) and store.find(device) is not None:
                store.add_incident(device, "host", job.code, "", 1)
            if job.kind == ALERT:
                self._show(job)
                return
            kind = job.kind
            if job.code == FLOOD and store.reaction(device) is not None:
                kind = DEREGISTER  # it floods in quarantine, too
            if not quarantine.is_due(store, device, kind):
                return  # no row of the audit log: what repeats would fill it
            started = store.add_audit(_WHO, f"{kind} {device} for {job.code}")
            outcome = "not-applicable"
            try:
                reaction = Reaction(kind, job.code, job.text, time.time())
                if quarantine.apply(self._fleet, store, device, reaction):
                    outcome = "ok"
                    self._show(job._replace(kind=kind))
            except HostError as error:
                outcome = error.code
                raise
            finally:
                store.add_audit(_WHO, f"{kind} {device} for {job.code}", outcome, started)
                self._follow(job, kind)

    def _follow(self, job: _Job, kind: str) -> None:
        """Have the authority follow fleet.db, also where a broker did not answer."""
        device = job.device
        self._authority.ask(lambda engine: _unload(engine, device))
        if kind == DEREGISTER:
            self._revoked()
        else:
            self._end_wait(job)  # first: a flood that is found from the reset on is another one
            self._authority.floods.reset(device)

    def _failed(self, job: _Job, error: HostError) -> None:
        text = f"{job.kind} for {job.code} failed: {error.text}"
        self._announce(FleetEvent("notice", job.device, code=error.code, text=text))

    def _show(self, job: _Job) -> None:
        self._announce(
            FleetEvent("reaction", job.device, name=job.kind, code=job.code, text=job.text)
        )

    def budget(self, device: str) -> Budget:
        """Return what the device may cost. Called on any thread."""
        return self._rules(device).budget

    def _rules(self, device: str) -> Rules:
        return self._settings.rules(self._type(device), device)

    def traffic_budget(self, client: str) -> Budget | None:
        """Return what an account's connection may send, None for any. Called on any thread."""
        if names.is_open_client(client):
            return self._settings.default.budget  # a device's: anyone can send by it
        if names.is_other_client(client):
            return self._settings.account_budget
        try:
            device = names.parse_device_client(client)[1]
        except HostError:
            return None
        return self.budget(device)

    def _type(self, device: str) -> str:
        """Return a device's type, "" of one that is not in the fleet."""
        return self._authority.known.types.get(device, "")


def _unload(engine: Engine, device: str) -> None:
    ending = engine.store.ending(device)
    if ending is not None:
        engine.apply_ending(device)
    else:
        engine.unload(device)


@contextlib.contextmanager
def reacting(
    fleet: Fleet,
    authority: Authority,
    broker: Broker,
    announce: Callable[[FleetEvent], None],
    revoked: Callable[[], None],
) -> Iterator[Reactor]:
    """Run a Reactor beside a broker and an authority while the context lasts."""
    guard = Guard(fleet)
    try:
        with Reactor(fleet, authority, announce, guard.disable, revoked) as made:
            made.watch_places(broker.places)
            places = broker.places
            watch = TrafficWatch(
                broker.ports,
                places.client_at,
                made.traffic_budget,
                made.on_traffic,
                notices(announce),
            )
            at_rabbitmq = RabbitTraffic(fleet, made.traffic_budget, made.on_traffic, announce)
            with watch, at_rabbitmq.running():
                made.busiest = watch.busiest
                yield made
    finally:
        guard.close()
