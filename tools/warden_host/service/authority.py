"""Run the authority: a link for each application, one thread that owns the engine and the store.

paho's threads and the control socket only put work into the inbox: tasks before messages, each
device within its quota (fair_inbox.py). A flood costs the messages of its sender alone.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from warden_host.engine import commands
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.jobs import Done
from warden_host.engine.request import Request
from warden_host.engine.throttle import Throttle
from warden_host.errors import HostError, internal_error
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY, TOPIC_LIMIT, Topic
from warden_host.otp.service import OtpService
from warden_host.service.clock_guard import ClockGuard
from warden_host.service.fair_inbox import MAX_TASKS, FairInbox, Sender
from warden_host.service.link import AppLink
from warden_host.service.pending_wipes import PendingWipes, finisher
from warden_host.store.store import App, Store

_TICK_S = 0.2
_REFUSED_S = 1.0
# A welcome takes two key derivations and a publish: 10 hellos a second, of 8 applications at once.
_HELLO_WEIGHT = 20.0
_UP_S = 15.0
Work = Callable[[Engine], None]


class Authority:
    """Serve a fleet while the context lasts. announce: called on the engine's thread."""

    def __init__(
        self,
        fleet: Fleet,
        announce: Callable[[FleetEvent], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """clock: steady seconds, for quotas and for reports of a flood."""
        self._fleet = fleet
        self._announce = announce
        self._clock = clock
        self._inbox: FairInbox[Work] = FairInbox()
        self._changed = threading.Condition()  # guards the inbox
        self._devices: dict[bytes, str] = {}  # name in a topic → device ID
        self._links: dict[str, AppLink] = {}
        self._changing = threading.Lock()
        self._stop = threading.Event()
        self._started = threading.Event()
        self._failure: HostError | None = None
        self._bugs = 0
        self._throttle = Throttle()
        self._ticked = 0.0
        self._refusals_announced = 0.0
        self.codes = OtpService(fleet, self.do)
        self._thread = threading.Thread(target=self._run, name="warden-engine", daemon=True)

    def __enter__(self) -> "Authority":
        with Store(self._fleet.database) as store:
            apps = store.apps()
            self._devices = _topic_names(store)
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

    def alive(self) -> bool:
        """Return whether the engine's thread runs."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Count the messages that wait for the engine."""
        with self._changed:
            return self._inbox.waiting

    def submit(self, request: Request, done: Done) -> None:
        """Start a command; done gets its result or its error, on the engine's thread."""

        def start(engine: Engine) -> None:
            try:
                engine.start(commands.job(engine, request), done)
            except HostError as error:
                done(error)
            except Exception as error:  # noqa: BLE001  as in _attempt
                done(internal_error(error))

        self.do(start)

    def ask(self, question: Callable[[Engine], Any], timeout_s: float = 10.0) -> Any:
        """Call `question` on the engine's thread and return its result.

        Raises: what `question` raised; timed-out.
        """
        answers: queue.Queue[tuple[Any, HostError | None]] = queue.Queue()

        def work(engine: Engine) -> None:
            try:
                answers.put((question(engine), None))
            except HostError as error:
                answers.put((None, error))
            except Exception as error:  # noqa: BLE001  as in _attempt
                answers.put((None, internal_error(error)))

        self.do(work)
        try:
            answer, error = answers.get(timeout=timeout_s)
        except queue.Empty:
            raise HostError("timed-out", "the authority is busy") from None
        if error is not None:
            raise error
        return answer

    def command(self, request: Request) -> dict[str, Any]:
        """Send a command or a forgery and wait for its result. Not for the engine's thread."""
        results: queue.Queue[dict[str, Any] | HostError] = queue.Queue()
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
                    self._drop_messages(device)
                self.pending_wipes.apply(device, done)
            except HostError as error:
                done(error)

        self.do(start)

    def _drop_device(self, device: str) -> None:
        self._drop_messages(device)
        self.do(lambda engine: engine.unload(device))

    def _drop_messages(self, device: str) -> None:
        """Drop the messages of a device that wait."""
        with self._changed:
            self._inbox.remove(lambda sender: sender.device == device)

    def reload(self) -> None:
        """Connect applications and accept devices that were registered since the start."""
        with self._changing, Store(self._fleet.database) as store:
            self._devices = _topic_names(store)
            for app in store.apps():
                if app.appid not in self._links:  # twice, they would kick each other for ever
                    self._connect(app)
                    self._links[app.appid].wait(_UP_S)

    def do(self, work: Work) -> None:
        """Queue work for the engine, ahead of all messages. Raises not-serving if it is full."""
        with self._changed:
            if self._inbox.tasks >= MAX_TASKS:
                raise HostError("not-serving", "the authority is busy: try again")
            self._inbox.put_task(work)
            self._changed.notify()

    def receive(self, appid: str, topic: bytes, payload: memoryview, retain: bool) -> None:
        """Queue a message, or refuse it before it is copied. Called on paho's thread."""
        parts = topic.split(b"/", 7) if len(topic) <= TOPIC_LIMIT else []
        sender = Sender(appid, self._devices.get(parts[4], "") if len(parts) > 4 else "")
        weight = _HELLO_WEIGHT if len(parts) > 6 and parts[6] == b"hello" else 1.0
        size = len(topic) + len(payload)
        with self._changed:
            if not self._inbox.has_room(sender, size):
                return
            text, data = topic.decode(errors="replace"), bytes(payload)
            self._inbox.put(
                sender,
                lambda engine: engine.on_message(appid, text, data, retain),
                size,
                self._clock(),
                weight,
            )
            self._changed.notify()

    def _connect(self, app: App) -> None:
        self._links[app.appid] = AppLink(
            self._fleet, app.appid, app.types, self.receive, self.on_link_change
        )

    def on_link_change(self, appid: str, up: bool) -> None:
        """Queue the loss or the return of a link, ahead of all messages."""

        def change(engine: Engine) -> None:
            if up:
                engine.on_link_restored(appid)
                return
            # Messages from before the loss come first: they must not lift the suspension.
            with self._changed:
                earlier = self._inbox.remove(lambda sender: sender.appid == appid)
            for work in earlier:
                self._attempt(engine, work)
            engine.on_link_lost(appid)

        with self._changed:
            self._inbox.put_task(change)
            self._changed.notify()

    def _publish(self, appid: str, topic: Topic, data: bytes) -> None:
        link = self._links.get(appid)
        if link is not None:
            link.publish(topic, data)

    def _run(self) -> None:
        try:
            store = Store(self._fleet.database)
        except Exception as error:  # noqa: BLE001  __enter__ waits for the result
            self._failure = error if isinstance(error, HostError) else internal_error(error)
            self._started.set()
            return
        with store:
            guard = ClockGuard(store)
            engine = Engine(store, self._publish, self._announce, guard.now)
            self.codes.attach(engine)
            self.pending_wipes = PendingWipes(engine, finisher(self._fleet, self._drop_device))
            self._attempt(engine, Engine.wake_all)
            self._started.set()
            while not self._stop.is_set():
                work = self._next()
                if work is None:  # under load, events are written in batches
                    self._attempt(engine, Engine.write_events)
                    work = self._wait()
                if work is not None:
                    self._attempt(engine, work)
                if self._due(engine):
                    self._attempt(engine, Engine.tick)
                    self._attempt(engine, lambda _: self.check_clock(guard))
                    self._attempt(engine, self.announce_refused)
            engine.abandon()
            self._attempt(engine, Engine.write_events)
            self._attempt(engine, lambda _: guard.close())

    def _next(self) -> Work | None:
        """Return a task or a message that is due; None if there is none."""
        with self._changed:
            return self._inbox.pop_next(self._clock())

    def _wait(self) -> Work | None:
        """Wait for a task or a message that is due; None after a tick's time without one."""
        with self._changed:
            self._changed.wait(min(_TICK_S, self._inbox.seconds_to_next(self._clock())))
            return self._inbox.pop_next(self._clock())

    def _attempt(self, engine: Engine, work: Work) -> None:
        """Run work; announce its error, so that one message can't end the service."""
        try:
            work(engine)
        except HostError as error:
            self._notice(error.code, error.text)
        except Exception as error:  # noqa: BLE001  a bug must cost one message, not the fleet
            self._bugs += 1
            text = (
                f"{internal_error(error).text}, {self._bugs} since the start: report this as a bug"
            )
            self._notice("internal-error", text)

    def check_clock(self, guard: ClockGuard) -> None:
        """Announce a change of the clock's state."""
        text = guard.tick()
        if text:
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
        with self._changed:
            refused = self._inbox.pop_refused()
        counts: dict[str, int] = {}
        for sender, count in refused.items():
            counts[sender.device] = counts.get(sender.device, 0) + count
        for device, count in counts.items():
            text = f"{count} messages dropped: it sends more than its quota"
            engine.notify(FleetEvent("notice", device, code="flooded", text=text))

    def _close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)
        self.codes.__exit__()
        for link in self._links.values():
            link.close()
        self._links.clear()


def _topic_names(store: Store) -> dict[bytes, str]:
    return {name.encode(): name for name in store.names()}
