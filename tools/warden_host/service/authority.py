"""Run the authority: a link for each application, and a thread for the engine and the store.

The links' threads and the control socket put work into the inbox: tasks before messages, each
device within its quota (fair_inbox.py). A flood costs the messages of its sender alone.

The thread that holds the guard uses the engine: the engine's own or, where that has nothing to do,
a caller's or a link's, since a change of threads costs more than a command.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from warden_client.protocol.strictcbor import MAX_BYTES

from warden_host.devices import app_export
from warden_host.engine import commands
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.jobs import Done
from warden_host.engine.request import Request
from warden_host.engine.throttle import Throttle
from warden_host.errors import HostError, internal_error, known_error
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY, PLAIN, TOPIC_LIMIT, Topic
from warden_host.otp.service import OtpService
from warden_host.service.background import notices, round_guard
from warden_host.service.clock_guard import ClockGuard, WorkClock
from warden_host.service.fair_inbox import MAX_TASKS, FairInbox, Load, Sender
from warden_host.service.flood_guard import FloodGuard, record_refused
from warden_host.service.key_lists import Asks, KeyLists
from warden_host.service.known_devices import KnownDevices
from warden_host.service.link import AppLink, outdated
from warden_host.service.pending_apps import PendingApps, rename_finisher
from warden_host.service.pending_wipes import PendingWipes, finisher
from warden_host.store.store import App, Store

_TICK_S, _REFUSED_S = 0.2, 1.0
# A welcome takes two key derivations and a publish: 10 hellos a second, of 8 applications at once.
_HELLO_WEIGHT = 20.0
_UP_S = 15.0
Work = Callable[[Engine], None]


class Authority:
    """Serve a fleet while the context lasts. announce: called by the one who has the engine."""

    def __init__(
        self,
        fleet: Fleet,
        announce: Callable[[FleetEvent], None],
        clock: Callable[[], float] = time.monotonic,
        packet_limit: int = MAX_BYTES,
    ) -> None:
        """clock: steady seconds, for quotas. packet_limit: bytes, of the running broker."""
        self._fleet = fleet
        self._announce = announce
        self._clock = clock
        self._packet_limit = packet_limit
        self._inbox: FairInbox[Work] = FairInbox()
        self._inbox_guard = threading.Lock()
        self._changed = threading.Condition(self._inbox_guard)
        self._engine: Engine | None = None
        self._guard = threading.Lock()  # for the engine and the store
        # A reply that a link received while nothing else waited: no queue is needed for it.
        self._lone_reply: Work | None = None
        self.known = KnownDevices()
        self._links: dict[str, AppLink] = {}
        self._asks = Asks()
        self._changing = threading.Lock()
        self._stop = threading.Event()
        self._started = threading.Event()
        self._failure: HostError | None = None
        self._bugs = 0
        self._throttle = Throttle()
        self._ticked = self._refusals_announced = 0.0
        self.floods = FloodGuard(clock)
        self.codes = OtpService(fleet, self.do, notices(announce))
        self._thread = threading.Thread(target=self._run, name="warden-engine", daemon=True)

    def __enter__(self) -> "Authority":
        with Store(self._fleet.database) as store:
            apps = app_export.served(store)
            self.known.read(store, self.floods.reset)
        self.codes.__enter__()
        try:
            for app in (App(AUTHORITY, (), ()), *apps):
                self._connect(app)
            for link in self._links.values():
                link.wait(_UP_S)
            self._thread.start()
            self._started.wait()
            if self._failure is not None:
                raise self._failure
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def alive(self) -> bool:  # the engine's thread
        return self._thread.is_alive()

    @property
    def load(self) -> Load:
        """Return what waits for the engine, and what came so far."""
        with self._inbox_guard:
            return self._inbox.load

    def submit(self, request: Request, done: Done) -> None:
        """Start a command; done gets its result or its error, from the thread with the engine."""

        def start(engine: Engine) -> None:
            try:
                engine.start(commands.job(engine, request), done)
            except Exception as error:  # noqa: BLE001  as in _attempt
                done(known_error(error))

        self._do_now(start)

    def ask(self, question: Callable[[Engine], Any], timeout_s: float = 10.0) -> Any:
        """Return what `question` does once the engine is free. Raises what it does; timed-out."""
        answers: queue.SimpleQueue[tuple[Any, HostError | None]] = queue.SimpleQueue()

        def work(engine: Engine) -> None:
            try:
                answers.put((question(engine), None))
            except Exception as error:  # noqa: BLE001  as in _attempt
                answers.put((None, known_error(error)))

        self._do_now(work)
        try:
            answer, error = answers.get(timeout=timeout_s)
        except queue.Empty:
            raise HostError("timed-out", "the authority is busy") from None
        if error is not None:
            raise error
        return answer

    def command(self, request: Request) -> dict[str, Any]:
        """Send a command or a forgery and wait for its result. Not for who has the engine."""
        results: queue.SimpleQueue[dict[str, Any] | HostError] = queue.SimpleQueue()
        self.submit(request, results.put)
        result = results.get()
        if isinstance(result, HostError):
            raise result
        return result

    def end_device(self, device: str, done: Done) -> None:
        """Apply the order in fleet.db that ends a device; done: as for PendingWipes.apply()."""

        def start(engine: Engine) -> None:
            try:
                ending = engine.store.ending(device)
                if ending is not None and ending.revoked:
                    self.drop_messages(device)
                self.pending_wipes.apply(device, done)
            except HostError as error:
                done(error)

        self.do(start)

    def _drop_device(self, device: str) -> None:
        self.drop_messages(device)
        self.do(lambda engine: engine.unload(device))

    def drop_messages(self, device: str) -> None:
        """Drop the messages of a device that wait."""
        with self._inbox_guard:
            self._inbox.remove(lambda sender: sender.device == device)

    def reload(self) -> None:
        """Connect and disconnect applications, and accept devices, as fleet.db has them now."""
        with self._changing, Store(self._fleet.database) as store:
            self.known.read(store, self.floods.reset)
            self.do(lambda engine: engine.exported.cache_clear())
            app_export.for_served(store, self._connect_served)

    def _connect_served(self, served: list[App]) -> None:
        for appid in outdated(self._fleet, self._links, served):
            self._links.pop(appid).close()
            self.on_link_change(appid, False)
        for app in served:
            if app.appid not in self._links:  # twice, they would kick each other for ever
                self._connect(app)
                self._links[app.appid].wait(_UP_S)

    def do(self, work: Work) -> None:
        """Queue work for the engine, ahead of all messages. Raises not-serving if it is full."""
        with self._inbox_guard:
            self._put_task(work)
            self._changed.notify()

    def _put_task(self, work: Work) -> None:
        if self._inbox.tasks >= MAX_TASKS:
            raise HostError("not-serving", "the authority is busy: try again")
        self._inbox.put_task(work)

    def _do_now(self, work: Work) -> None:
        """Do work here if the engine is free and no task waits; else queue it as do() does."""
        if self._guard.acquire(blocking=False):
            try:
                engine = self._engine  # None: not yet there, or ended
                if engine is not None and not self._inbox.tasks:
                    return self._attempt(engine, work)
            finally:
                self._guard.release()
        self.do(work)

    def work_off_reply(self) -> None:
        """Handle the reply that a link received alone, or queue it. Called on its thread."""
        if self._lone_reply is None:
            return
        free = self._guard.acquire(blocking=False)
        try:
            with self._inbox_guard:
                engine = self._engine if free and not self._inbox.tasks else None
                if engine is None:
                    self._queue_lone_reply()
                    self._changed.notify()
                work, self._lone_reply = self._lone_reply, None
            if engine is not None and work is not None:
                self._attempt(engine, work)
        finally:
            if free:
                self._guard.release()

    def _queue_lone_reply(self) -> None:
        """Queue it ahead of all messages, since it came before them. The inbox is guarded."""
        if self._lone_reply is not None:
            self._inbox.put_task(self._lone_reply)
            self._lone_reply = None

    def receive(self, appid: str, topic: bytes, payload: memoryview, retain: bool) -> None:
        """Queue a message, or refuse it before it is copied. Called on the link's thread."""
        parts = topic.split(b"/", 7) if len(topic) <= TOPIC_LIMIT else []
        device = self.known.of_topic(parts)
        sender, verb = Sender(appid, device), parts[6] if len(parts) > 6 else b""
        weight = _HELLO_WEIGHT if verb == b"hello" else 1.0
        size = len(topic) + len(payload)
        if device in self.floods.dropped or (
            appid == AUTHORITY and not self.floods.admits(device, size)
        ):
            return
        with self._inbox_guard:
            if not self._inbox.has_room(sender, size):
                return
            text, data, now = topic.decode(errors="replace"), bytes(payload), self._clock()

            def work(engine: Engine) -> None:
                self.floods.handle(device, engine.on_message, appid, text, data, retain)

            if verb == b"reply" and self._lone_reply is None and self._inbox.skip(sender, now):
                self._lone_reply = work
                return
            self._inbox.put(sender, work, size, now, weight)
            self._changed.notify()

    def _connect(self, app: App) -> None:
        sink = self.known.before(self._asks.before(self.receive), self._announce)
        ways = (sink, self.work_off_reply, self.on_link_change, notices(self._announce))
        self._links[app.appid] = AppLink(self._fleet, app.appid, app.types, *ways)

    def on_link_change(self, appid: str, up: bool) -> None:
        """Queue the loss or the return of a link, ahead of all messages."""

        def change(engine: Engine) -> None:
            if up:
                engine.on_link_restored(appid)
                return
            # Messages from before the loss come first: they must not lift the suspension.
            with self._inbox_guard:
                earlier = self._inbox.remove(lambda sender: sender.appid == appid)
            for work in earlier:
                self._attempt(engine, work)
            engine.on_link_lost(appid)

        with self._inbox_guard:
            self._queue_lone_reply()
            self._inbox.put_task(change)
            self._changed.notify()

    def _publish(self, appid: str, topic: Topic, data: bytes) -> None:
        link = self._links.get(appid)
        if link is None and topic.fmt == PLAIN:  # a code's verdict in an exported one's name
            link = self._links.get(AUTHORITY)
        if link is not None:
            link.publish(topic, data)

    def _run(self) -> None:
        """Serve; what is raised here ends the service (Service.check): its state is in doubt."""
        try:
            with Store(self._fleet.database) as store:
                self._serve(store)
        except Exception as error:  # noqa: BLE001
            self._failure = known_error(error)
            if self._started.is_set():
                round_guard("the authority ends", self._announce).note(error)
        finally:
            self._engine = None
            self._started.set()

    def _serve(self, store: Store) -> None:
        guard = ClockGuard(store)
        clock = self._work_clock = WorkClock(guard.now)
        engine = Engine(store, self._publish, self._announce, clock, self._packet_limit)
        self.codes.attach(engine)
        self.pending_wipes = PendingWipes(engine, finisher(self._fleet, self._drop_device))
        self.pending_apps = PendingApps(engine, rename_finisher(self._fleet, self.reload))
        KeyLists(engine, self._asks, lambda *sent: self._links[AUTHORITY].publish(*sent))
        with self._guard:
            self._attempt(engine, Engine.wake_all)
            self._attempt(engine, commands.restore_held)
        self._engine = engine
        self._started.set()
        while not self._stop.is_set():
            with self._guard:
                work = self._next()
                # Under load, events are written in batches.
                self._attempt(engine, work or Engine.write_events)
                if self._due(engine):
                    self._attempt(engine, Engine.tick)
                    self._attempt(engine, lambda _: self.check_clock(guard))
                    self._attempt(engine, self.announce_refused)
            if work is None:
                self._wait()
        with self._guard:
            self._engine = None
            engine.abandon()
            self._attempt(engine, Engine.write_events)
            self._attempt(engine, lambda _: guard.close())

    def _next(self) -> Work | None:
        """Return a task or a message that is due; None if there is none."""
        with self._inbox_guard:
            self._queue_lone_reply()
            return self._inbox.pop_next(self._clock())

    def _wait(self) -> None:
        """Wait until a task or a message is due, or for a tick's time."""
        with self._inbox_guard:
            seconds = min(_TICK_S, self._inbox.seconds_to_next(self._clock()))
            if seconds > 0:
                self._changed.wait(seconds)

    def _attempt(self, engine: Engine, work: Work) -> None:
        """Run work; announce its error, so that one message can't end the service."""
        self._work_clock.renew()
        try:
            work(engine)
        except HostError as error:
            self._notice(error.code, error.text)
        except Exception as error:  # noqa: BLE001  a bug must cost one message, not the fleet
            self._bugs += 1
            bug = internal_error(error).text
            text = f"{bug}, {self._bugs} since the start: report it as a bug"
            self._notice("internal-error", text)

    def check_clock(self, guard: ClockGuard) -> None:
        """Announce a change of the clock's state."""
        if text := guard.tick():
            self._announce(FleetEvent("notice", code="clock-jumped", text=text))

    def _notice(self, code: str, text: str) -> None:
        """Announce an error, at a limited rate: on a full disk every message fails."""
        if self._throttle.admit(code, self._clock()):
            self._announce(FleetEvent("notice", code=code, text=text))

    def _due(self, engine: Engine) -> bool:
        now = engine.clock().steady
        if now - self._ticked < _TICK_S:
            return False
        self._ticked = now
        return True

    def announce_refused(self, engine: Engine) -> None:
        """Announce once a second how many notices were not shown and how many messages refused."""
        now = self._clock()
        for code, missed in self._throttle.due(now):
            self._announce(FleetEvent("notice", code=code, text=f"{missed} more of these"))
        if now - self._refusals_announced < _REFUSED_S:
            return
        self._refusals_announced = now
        with self._inbox_guard:
            refused = self._inbox.pop_refused()
        for fleet_event in record_refused(engine.store, refused):
            # Not by engine.notify(): the flood used up what it shows of this device.
            self._announce(fleet_event)

    def _close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)
        self.codes.__exit__()
        while self._links:
            self._links.popitem()[1].close()
